// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "adapter.hpp"
#include "boundary.hpp"
#include "embed.hpp"
#include "options.hpp"

using namespace m4::client;
namespace wire = m4::wire;
using m4::protocol::Encoder;

namespace {

/// What the caller gets, with the memory its pointers lead to.
struct OwnedClasses : m4_classes {
    std::vector<m4_class> owned;
    std::vector<std::string> labels;
};

/// Scores of inputs, and what their columns mean.
struct Scores {
    std::vector<float> values;
    std::vector<std::string> labels;  ///< by column, or none
    std::size_t columns = 0;
};

std::vector<std::string> labels_of(Connection& connection, const std::string& part,
                                   const m4_adapter_id* adapter) {
    const auto& reply = connection.call<wire::TextReply>([&](Encoder& encoder) {
        const auto name = encoder.builder().CreateString(part);
        const auto named = put_adapter(connection, encoder, adapter);
        return wire::CreateLabelsRequest(encoder.builder(), name, named);
    });
    const auto bulk = reply_text(connection, reply.text());
    std::vector<std::string> labels;
    std::string_view text = bulk.text();
    for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
        labels.emplace_back(text.substr(0, end));
        text.remove_prefix(end + 1);
    }
    return labels;
}

/// By the part's own classifier, or the adapter's.
Scores own_scores(Connection& connection, const m4_media* const* inputs, std::size_t count,
                  const std::string& part, const m4_adapter_id* adapter) {
    Encoded encoded = encode(connection, inputs, count, part, wire::EncodeOutput::scores, adapter);
    Scores scores{std::move(encoded.values), labels_of(connection, encoded.part, adapter),
                  encoded.dim};
    if (!scores.labels.empty() && scores.labels.size() != scores.columns) {
        connection.fail(M4_E_PROTOCOL, "the service sent labels of other classes");
    }
    return scores;
}

/// The encoder of texts whose embeddings may be compared with those of `part`.
std::string text_part_of(Connection& connection, const std::string& part) {
    const auto parts = parts_of(connection);
    const m4_part& own = part_named(connection, parts, part);
    for (const m4_part& other : parts) {
        if (own.space[0] != '\0' && std::strcmp(other.space, own.space) == 0 &&
            std::strcmp(other.modality, "text") == 0) {
            return other.name;
        }
    }
    throw Error(M4_E_UNSUPPORTED,
                "the model has no encoder of texts for the space of part " + part);
}

/// By comparing with texts: the scales of the embeddings are part of them.
Scores label_scores(Connection& connection, const m4_media* const* inputs, std::size_t count,
                    const std::string& part, const m4_classify_options& options) {
    const Encoded encoded = encode(connection, inputs, count, part, wire::EncodeOutput::embedding);
    const std::string text_part = options.text_part != nullptr
                                      ? std::string(options.text_part)
                                      : text_part_of(connection, encoded.part);
    const Encoded texts = encode_texts(connection, options.labels, options.label_count, text_part);
    if (texts.dim != encoded.dim) {
        throw invalid("parts " + encoded.part + " and " + texts.part +
                      " give embeddings of different lengths");
    }
    Scores scores;
    scores.columns = options.label_count;
    scores.labels.assign(options.labels, options.labels + options.label_count);
    for (std::size_t i = 0; i < count; ++i) {
        for (std::size_t j = 0; j < options.label_count; ++j) {
            scores.values.push_back(static_cast<float>(std::inner_product(
                encoded.row(i), encoded.row(i) + encoded.dim, texts.row(j), 0.0)));
        }
    }
    return scores;
}

/// The `top_n` most probable classes of one input.
void add_best(const float* scores, std::size_t columns, std::size_t top_n, OwnedClasses& out) {
    std::vector<std::uint32_t> order(columns);
    std::iota(order.begin(), order.end(), 0U);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return scores[a] > scores[b]; });
    double sum = 0;
    for (std::size_t i = 0; i < columns; ++i) {
        sum += std::exp(double{scores[i]} - scores[order[0]]);
    }
    for (std::size_t i = 0; i < top_n; ++i) {
        m4_class one = {};
        one.id = order[i];
        one.score = scores[order[i]];
        one.probability =
            static_cast<float>(std::exp(double{scores[order[i]]} - scores[order[0]]) / sum);
        one.label = out.labels.empty() ? "" : out.labels[order[i]].c_str();
        out.owned.push_back(one);
    }
}

}  // namespace

int m4_classify(m4_client* client, const struct m4_media* const* inputs, size_t count,
                const struct m4_classify_options* options, struct m4_classes** classes) {
    return guarded(client, [&] {
        const m4_classify_options known = read_options(options, "m4_classify_options");
        check_pointer(classes, "classes");
        if ((known.labels == nullptr) != (known.label_count == 0)) {
            throw invalid("m4_classify_options: labels and label_count contradict each other");
        }
        if (known.labels != nullptr && known.adapter != nullptr) {
            throw invalid("m4_classify_options has both labels and an adapter");
        }
        Connection& connection = *client->connection;
        const std::string part = known.part == nullptr ? "" : known.part;
        Scores scores = known.labels == nullptr
                            ? own_scores(connection, inputs, count, part, known.adapter)
                            : label_scores(connection, inputs, count, part, known);
        auto made = std::make_unique<OwnedClasses>();
        made->size = sizeof(m4_classes);
        made->count = count;
        made->class_count = scores.columns;
        made->top_n =
            known.top_n == 0 ? scores.columns : std::min<std::size_t>(known.top_n, scores.columns);
        made->labels = std::move(scores.labels);
        for (std::size_t i = 0; i < count; ++i) {
            add_best(&scores.values[i * scores.columns], scores.columns, made->top_n, *made);
        }
        made->classes = made->owned.data();
        *classes = made.release();
        return M4_OK;
    });
}

void m4_classes_free(struct m4_classes* classes) {
    delete static_cast<OwnedClasses*>(classes);
}
