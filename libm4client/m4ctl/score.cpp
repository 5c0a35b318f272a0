// SPDX-License-Identifier: MIT
// m4ctl score: what the model expected after each token of a given sequence.
#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "adapter_args.hpp"
#include "commands.hpp"
#include "print.hpp"

namespace m4ctl {

namespace {

constexpr std::size_t kPieceColumns = 14;

struct ScoreOptions {
    std::string ids;
    std::string text;
    bool text_given = false;
    uint32_t top_n = 1;
    std::string adapter;
};

std::vector<uint32_t> parse_ids(const std::string& list) {
    std::vector<uint32_t> ids;
    const char* at = list.data();
    const char* const end = at + list.size();
    for (;;) {
        uint32_t id = 0;
        const auto [rest, error] = std::from_chars(at, end, id);
        if (error != std::errc{} || (rest != end && *rest != ',')) {
            throw Failure(kExitUsage, "--ids takes token ids separated by commas");
        }
        ids.push_back(id);
        if (rest == end) {
            return ids;
        }
        at = rest + 1;
    }
}

nlohmann::json number(float value) {
    return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr);
}

nlohmann::json to_json(const std::vector<uint32_t>& ids, const m4_score& score) {
    nlohmann::json positions = nlohmann::json::array();
    for (std::size_t row = 0; row < score.row_count; ++row) {
        nlohmann::json top = nlohmann::json::array();
        for (std::size_t i = row * score.top_n; i < (row + 1) * score.top_n; ++i) {
            top.push_back({{"id", score.top_ids[i]}, {"logprob", number(score.top_logprobs[i])}});
        }
        positions.push_back({{"id", ids[row]},
                             {"top", std::move(top)},
                             {"logprob", number(score.token_logprobs[row])}});
    }
    return {{"positions", std::move(positions)}};
}

/// What an id stands for when it is alone, asked once an id.
class Pieces {
   public:
    explicit Pieces(const Client& client) : client_(&client) {}
    const std::string& of(uint32_t id) {
        const auto [entry, is_new] = known_.try_emplace(id);
        if (is_new) {
            entry->second = clip(printable(detokenize(*client_, &id, 1), true), kPieceColumns);
        }
        return entry->second;
    }

   private:
    const Client* client_;
    std::map<uint32_t, std::string> known_;
};

void print(const Client& client, const std::vector<uint32_t>& ids, const m4_score& score) {
    Pieces pieces(client);
    std::vector<std::vector<std::string>> rows;
    double sum = 0;
    for (std::size_t row = 0; row < score.row_count; ++row) {
        const float given = score.token_logprobs[row];
        const bool last = row + 1 == score.row_count;
        sum += last ? 0.0 : given;
        rows.push_back({std::to_string(row), std::to_string(ids[row]), pieces.of(ids[row]),
                        last ? "" : fixed(given, 4), "", "", ""});
        for (std::size_t i = 0; i < score.top_n; ++i) {
            const std::size_t at = row * score.top_n + i;
            if (i > 0) {
                rows.emplace_back(7);
            }
            rows.back()[4] = std::to_string(score.top_ids[at]);
            rows.back()[5] = pieces.of(score.top_ids[at]);
            rows.back()[6] = fixed(score.top_logprobs[at], 4);
        }
    }
    print_table({{"ROW", true},
                 {"ID", true},
                 {"TOKEN"},
                 {"NEXT", true},
                 {"BEST", true},
                 {"TOKEN"},
                 {"LOGPROB", true}},
                rows);
    if (score.row_count > 1) {
        const double mean = sum / static_cast<double>(score.row_count - 1);
        print_raw("mean " + fixed(mean, 4) + ", perplexity " + fixed(std::exp(-mean), 3) +
                  " over " + std::to_string(score.row_count - 1) + " predicted tokens\n");
    }
}

int run(const Global& global, const ScoreOptions& options) {
    std::vector<uint32_t> ids;
    std::string text;
    if (options.ids.empty()) {
        text = text_or_stdin(options.text, options.text_given, "a text");
    } else {
        ids = parse_ids(options.ids);
    }
    const Client client = connect(global);
    if (options.ids.empty()) {
        ids = tokenize(client, text, true);
    }
    const auto adapter = choose_adapter(client, options.adapter);
    m4_score_options score_options = M4_INIT(m4_score_options);
    score_options.top_n = options.top_n;
    score_options.adapter = id_or_null(adapter);
    m4_score* raw = nullptr;
    check(m4_score_tokens(client.get(), ids.data(), ids.size(), &score_options, &raw),
          client.get());
    const Score score(raw);
    if (global.json) {
        print_json(to_json(ids, *score));
    } else {
        print(client, ids, *score);
    }
    return kExitOk;
}

}  // namespace

void add_score(CLI::App& app, const Global& global, Action& action) {
    CLI::App* command = app.add_subcommand("score", "How likely the model finds a sequence");
    auto options = std::make_shared<ScoreOptions>();
    CLI::Option* text =
        command->add_option("text", options->text, "The text, BOS added; - or none: stdin")
            ->type_name("TEXT");
    command->add_option("--ids", options->ids, "Token ids as they are, instead of a text")
        ->type_name("ID,ID,...")
        ->excludes(text);
    command->add_option("--top", options->top_n, "Likeliest next tokens to tell at each row")
        ->type_name("N")
        ->capture_default_str();
    add_adapter_option(*command, options->adapter);
    command->callback([&global, &action, options, text] {
        options->text_given = text->count() > 0;
        action = [&global, options] { return run(global, *options); };
    });
}

}  // namespace m4ctl
