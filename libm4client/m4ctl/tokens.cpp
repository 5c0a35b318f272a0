// SPDX-License-Identifier: MIT
// m4ctl tokenize and detokenize.
#include <iostream>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "print.hpp"

namespace m4ctl {

namespace {

struct TokenizeOptions {
    std::string text;
    bool text_given = false;
    bool no_special = false;
};

int run_tokenize(const Global& global, const TokenizeOptions& options) {
    const std::string text = text_or_stdin(options.text, options.text_given, "a text");
    const Client client = connect(global);
    const std::vector<uint32_t> ids = tokenize(client, text, !options.no_special);
    if (global.json) {
        nlohmann::json pieces = nlohmann::json::array();
        for (const uint32_t id : ids) {
            pieces.push_back(detokenize(client, &id, 1));
        }
        print_json({{"ids", ids}, {"pieces", pieces}});
        return kExitOk;
    }
    std::string line;
    for (const uint32_t id : ids) {
        line += (line.empty() ? "" : " ") + std::to_string(id);
    }
    print_raw(line + "\n");
    return kExitOk;
}

int run_detokenize(const Global& global, std::vector<uint32_t> ids, bool given) {
    if (!given) {
        uint32_t id = 0;
        while (std::cin >> id) {
            ids.push_back(id);
        }
        if (!std::cin.eof()) {
            throw Failure(kExitUsage, "stdin holds something that is no token id");
        }
    }
    const Client client = connect(global);
    const std::string text = detokenize(client, ids.data(), ids.size());
    if (global.json) {
        print_json({{"text", text}});
    } else {
        const TextPrinter printer;
        printer.print(text);
        printer.finish();
    }
    return kExitOk;
}

}  // namespace

void add_tokens(CLI::App& app, const Global& global, Action& action) {
    CLI::App* tokenize = app.add_subcommand("tokenize", "Token ids of a text");
    auto options = std::make_shared<TokenizeOptions>();
    CLI::Option* text = tokenize->add_option("text", options->text, "The text; - or none: stdin")
                            ->type_name("TEXT");
    tokenize->add_flag("--no-special", options->no_special, "Do not add BOS or EOS");
    tokenize->callback([&global, &action, options, text] {
        options->text_given = text->count() > 0;
        action = [&global, options] { return run_tokenize(global, *options); };
    });

    CLI::App* detokenize = app.add_subcommand("detokenize", "Text of token ids");
    auto ids = std::make_shared<std::vector<uint32_t>>();
    CLI::Option* list =
        detokenize->add_option("id", *ids, "Token ids; none: from stdin")->type_name("ID");
    detokenize->callback([&global, &action, ids, list] {
        action = [&global, ids, given = list->count() > 0] {
            return run_detokenize(global, *ids, given);
        };
    });
}

}  // namespace m4ctl
