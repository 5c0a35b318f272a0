// SPDX-License-Identifier: MIT
// m4ctl embed, classify, similar, parts: the model's senses.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "adapter_args.hpp"
#include "commands.hpp"
#include "media_args.hpp"
#include "print.hpp"

namespace m4ctl {

namespace {

using Embedding = std::unique_ptr<m4_embedding, Closer<m4_embedding_free>>;
using Classes = std::unique_ptr<m4_classes, Closer<m4_classes_free>>;

constexpr std::size_t kInputColumns = 34;
constexpr std::size_t kValuesShown = 4;

struct SenseOptions {
    std::vector<MediaArg> inputs;
    std::string part;
    bool hidden = false;
    std::vector<std::string> labels;
    std::string adapter;
    uint32_t top_n = 5;
    std::vector<MediaArg> queries;
};

const char* part_or_null(const SenseOptions& options) {
    return options.part.empty() ? nullptr : options.part.c_str();
}

void require_inputs(const std::vector<MediaArg>& inputs, const char* what) {
    if (inputs.empty()) {
        throw Failure(kExitUsage,
                      std::string(what) + " is needed: --image, --audio, --imu or --text");
    }
}

std::string shown(const MediaArg& arg) {
    return clip(printable(arg.value, true), kInputColumns);
}

// ---- embed

int embed(const Global& global, const SenseOptions& options) {
    require_inputs(options.inputs, "an input");
    const std::vector<MediaGroup> groups = load_groups(options.inputs);
    const Client client = connect(global);
    nlohmann::json all = nlohmann::json::array();
    std::vector<std::vector<std::string>> rows;
    for (const MediaGroup& group : groups) {
        const auto views = group.views();
        const auto inputs = pointers(views);
        m4_encode_options encode = M4_INIT(m4_encode_options);
        encode.part = part_or_null(options);
        m4_embedding* raw = nullptr;
        const auto call = options.hidden ? m4_encode_hidden : m4_embed;
        check(call(client.get(), inputs.data(), inputs.size(), &encode, &raw), client.get());
        const Embedding embedding(raw);
        for (std::size_t i = 0; i < embedding->count; ++i) {
            const float* values = embedding->values + i * embedding->dim;
            const MediaArg& arg = group.loaded[i].arg();
            if (global.json) {
                all.push_back({{"input", arg.value},
                               {"sense", name_of(arg.sense)},
                               {"part", embedding->part},
                               {"dim", embedding->dim},
                               {options.hidden ? "hidden" : "embedding",
                                std::vector<float>(values, values + embedding->dim)}});
                continue;
            }
            std::string beginning;
            for (std::size_t d = 0; d < std::min(embedding->dim, kValuesShown); ++d) {
                beginning += fixed(values[d], 4) + " ";
            }
            rows.push_back({shown(arg), clip(embedding->part, 12), std::to_string(embedding->dim),
                            beginning + (embedding->dim > kValuesShown ? "..." : "")});
        }
    }
    if (global.json) {
        print_json({{"embeddings", std::move(all)}});
    } else {
        print_table({{"INPUT"}, {"PART"}, {"DIM", true}, {"VALUES"}}, rows);
    }
    return kExitOk;
}

// ---- classify

int classify(const Global& global, const SenseOptions& options) {
    require_inputs(options.inputs, "an input");
    const std::vector<MediaGroup> groups = load_groups(options.inputs);
    const Client client = connect(global);
    std::vector<const char*> labels;
    for (const std::string& label : options.labels) {
        labels.push_back(label.c_str());
    }
    const auto adapter = choose_adapter(client, options.adapter);
    nlohmann::json all = nlohmann::json::array();
    std::vector<std::vector<std::string>> rows;
    for (const MediaGroup& group : groups) {
        const auto views = group.views();
        const auto inputs = pointers(views);
        m4_classify_options how = M4_INIT(m4_classify_options);
        how.part = part_or_null(options);
        how.labels = labels.empty() ? nullptr : labels.data();
        how.label_count = labels.size();
        how.top_n = options.top_n;
        how.adapter = id_or_null(adapter);
        m4_classes* raw = nullptr;
        check(m4_classify(client.get(), inputs.data(), inputs.size(), &how, &raw), client.get());
        const Classes classes(raw);
        for (std::size_t i = 0; i < classes->count; ++i) {
            const MediaArg& arg = group.loaded[i].arg();
            nlohmann::json best = nlohmann::json::array();
            for (std::size_t j = 0; j < classes->top_n; ++j) {
                const m4_class& one = classes->classes[i * classes->top_n + j];
                best.push_back({{"id", one.id},
                                {"label", one.label},
                                {"score", one.score},
                                {"probability", one.probability}});
                rows.push_back(
                    {j == 0 ? shown(arg) : "",
                     clip(*one.label == '\0' ? std::to_string(one.id) : printable(one.label, true),
                          24),
                     fixed(100.0 * one.probability, 1) + " %", fixed(one.score, 4)});
            }
            all.push_back({{"input", arg.value},
                           {"sense", name_of(arg.sense)},
                           {"class_count", classes->class_count},
                           {"classes", std::move(best)}});
        }
    }
    if (global.json) {
        print_json({{"results", std::move(all)}});
    } else {
        print_table({{"INPUT"}, {"CLASS"}, {"PROBABILITY", true}, {"SCORE", true}}, rows);
    }
    return kExitOk;
}

// ---- similar

MediaGroup only_group(const std::vector<MediaArg>& args, const char* what) {
    require_inputs(args, what);
    std::vector<MediaGroup> groups = load_groups(args);
    if (groups.size() != 1) {
        throw Failure(kExitUsage, std::string(what) + " is of one kind: not --" +
                                      name_of(groups[0].sense) + " and --" +
                                      name_of(groups[1].sense) + " together");
    }
    return std::move(groups.front());
}

int similar(const Global& global, const SenseOptions& options) {
    const MediaGroup queries = only_group(options.queries, "what to look for (--query-...)");
    const MediaGroup items = only_group(options.inputs, "what to look among");
    const Client client = connect(global);
    const auto query_views = queries.views();
    const auto item_views = items.views();
    const auto query_inputs = pointers(query_views);
    const auto item_inputs = pointers(item_views);
    std::vector<float> cosines(query_inputs.size() * item_inputs.size());
    check(m4_similarity(client.get(), query_inputs.data(), query_inputs.size(), item_inputs.data(),
                        item_inputs.size(), cosines.data()),
          client.get());
    nlohmann::json all = nlohmann::json::array();
    std::vector<std::vector<std::string>> rows;
    for (std::size_t q = 0; q < query_inputs.size(); ++q) {
        const float* own = &cosines[q * item_inputs.size()];
        std::vector<std::size_t> order(item_inputs.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::stable_sort(order.begin(), order.end(),
                         [&](std::size_t a, std::size_t b) { return own[a] > own[b]; });
        nlohmann::json ranked = nlohmann::json::array();
        for (const std::size_t item : order) {
            const MediaArg& arg = items.loaded[item].arg();
            ranked.push_back({{"input", arg.value}, {"index", item}, {"cosine", own[item]}});
            rows.push_back({item == order.front() ? shown(queries.loaded[q].arg()) : "", shown(arg),
                            fixed(own[item], 4)});
        }
        all.push_back({{"query", queries.loaded[q].arg().value}, {"items", std::move(ranked)}});
    }
    if (global.json) {
        print_json({{"results", std::move(all)}});
    } else {
        print_table({{"QUERY"}, {"ITEM"}, {"COSINE", true}}, rows);
    }
    return kExitOk;
}

// ---- parts

int parts(const Global& global) {
    const Client client = connect(global);
    m4_part* raw = nullptr;
    std::size_t count = 0;
    check(m4_parts(client.get(), &raw, &count), client.get());
    const Array<m4_part> owned(raw);
    nlohmann::json all = nlohmann::json::array();
    std::vector<std::vector<std::string>> rows;
    for (std::size_t i = 0; i < count; ++i) {
        const m4_part& part = raw[i];
        all.push_back({{"name", part.name},
                       {"kind", part.kind},
                       {"architecture", part.architecture},
                       {"takes", part.modality},
                       {"space", part.space},
                       {"parameters", part.parameters},
                       {"embedding", part.embedding},
                       {"scores", part.scores},
                       {"labels", part.labels},
                       {"hidden_rows", part.hidden_rows},
                       {"hidden_columns", part.hidden_columns},
                       {"feature_rows", part.feature_rows},
                       {"feature_columns", part.feature_columns},
                       {"rate_hz", part.rate_hz}});
        std::string gives;
        const auto add = [&](const std::string& what) {
            gives += (gives.empty() ? "" : ", ") + what;
        };
        if (part.embedding != 0) {
            add(std::to_string(part.embedding));
        }
        if (part.scores != 0) {
            add(std::to_string(part.scores) + " classes");
        }
        if (part.hidden_rows != 0) {
            add(std::to_string(part.hidden_rows) + " x " + std::to_string(part.hidden_columns));
        }
        rows.push_back({clip(part.name, 16), part.kind, clip(part.architecture, 10), part.modality,
                        gives, clip(part.space, 10), count_text(part.parameters)});
    }
    if (global.json) {
        print_json({{"parts", std::move(all)}});
    } else {
        print_table(
            {{"NAME"}, {"KIND"}, {"MODEL"}, {"TAKES"}, {"GIVES"}, {"SPACE"}, {"PARAMETERS", true}},
            rows);
    }
    return kExitOk;
}

}  // namespace

void add_senses(CLI::App& app, const Global& global, Action& action) {
    auto options = std::make_shared<SenseOptions>();
    const auto add_part = [&](CLI::App* command) {
        command->add_option("--part", options->part, "Part of the model; else the first that fits")
            ->type_name("NAME");
    };

    CLI::App* command = app.add_subcommand("embed", "Embeddings of images, sounds, motion, texts");
    add_media_options(*command, options->inputs, true);
    add_part(command);
    command->add_flag("--hidden", options->hidden, "The states of all rows instead");
    command->callback([&, options] { action = [&, options] { return embed(global, *options); }; });

    command =
        app.add_subcommand("classify", "What an input shows, by labels of the model or yours");
    add_media_options(*command, options->inputs, true);
    add_part(command);
    command->add_option("--label", options->labels, "Choose among these texts; repeatable")
        ->type_name("TEXT")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false)
        ->excludes(add_adapter_option(*command, options->adapter));
    command->add_option("--top", options->top_n, "Classes to tell of each; 0: all")
        ->type_name("N")
        ->capture_default_str();
    command->callback(
        [&, options] { action = [&, options] { return classify(global, *options); }; });

    command = app.add_subcommand("similar", "Which inputs are nearest to another, by cosine");
    add_media_options(*command, options->queries, true, "query-");
    add_media_options(*command, options->inputs, true);
    command->callback(
        [&, options] { action = [&, options] { return similar(global, *options); }; });

    command = app.add_subcommand("parts", "The parts of the model, what each takes and gives");
    command->callback([&] { action = [&] { return parts(global); }; });
}

}  // namespace m4ctl
