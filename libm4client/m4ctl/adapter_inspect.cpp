// SPDX-License-Identifier: MIT
// m4ctl adapter inspect: what a file holds and does, every byte of it checked. It needs
// no service.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "adapter.hpp"
#include "adapters/effect.hpp"
#include "adapters/limits.hpp"
#include "importers/adapter_base.hpp"
#include "lib/places.hpp"
#include "lib/small_file.hpp"
#include "print.hpp"

namespace m4ctl {

namespace {

namespace firmware = m4::firmware;
using firmware::is_set;
using firmware::to_hex;

constexpr std::size_t kNameColumns = 36;

/// Names end alike; what is before tells them apart.
std::string short_name(const std::string& tensor) {
    constexpr std::string_view kEnd = ".weight";
    return clip(tensor.ends_with(kEnd) ? tensor.substr(0, tensor.size() - kEnd.size()) : tensor,
                kNameColumns);
}

std::string number_text(double value) {
    char text[32];
    (void)std::snprintf(text, sizeof(text), "%.4g", value);
    return text;
}

std::string head_text(const firmware::Adapter& adapter) {
    if (!adapter.head) {
        return "none";
    }
    std::string text;
    for (const std::string& label : adapter.head->part.labels) {
        text += (text.empty() ? "" : ", ") + printable(label, true);
    }
    return text.empty() ? "scores without labels" : text;
}

void print_report(const AdapterReport& report) {
    const firmware::Adapter& adapter = report.adapter;
    const auto given = [](const std::string& text) {
        return text.empty() ? std::string("not told") : printable(text, true);
    };
    std::vector<std::pair<std::string, std::string>> lines = {
        {"adapter", adapter.name},
        {"digest", to_hex(adapter.digest)},
        {"task", given(adapter.task)},
        {"template", given(adapter.prompt_template)},
        {"from", given(adapter.source)},
        {"for", given(adapter.base_name)},
        {"architecture", given(adapter.architecture)},
        {"base", base_text(adapter)},
        {"probed", is_set(adapter.probed) ? "image " + to_hex(adapter.probed) : "no"},
        {"pairs", pairs_text(adapter)},
        {"head", head_text(adapter)},
        {"size", share_text(report)}};
    if (report.match != nullptr) {
        lines.emplace_back("match", report.match->summary);
    }
    print_pairs(lines);
    if (adapter.pairs.empty()) {
        return;
    }
    std::vector<std::vector<std::string>> rows;
    for (std::size_t i = 0; i < adapter.pairs.size(); ++i) {
        const firmware::LowRankPair& pair = adapter.pairs[i];
        const bool missing = report.match != nullptr && !report.match->pairs[i].tensor;
        rows.push_back({short_name(pair.tensor),
                        std::to_string(pair.rows) + "x" + std::to_string(pair.columns),
                        std::to_string(pair.rank), number_text(pair.scale),
                        size_text(pair.a.size() + pair.b.size()),
                        missing ? "no match" : number_text(report.norms[i])});
    }
    print_raw("\n");
    print_table({{"TENSOR"},
                 {"SHAPE", true},
                 {"RANK", true},
                 {"SCALE", true},
                 {"SIZE", true},
                 {"EFFECT", true}},
                rows);
}

int run_inspect(const Global& global, const std::string& path, const std::string& base_path) {
    const auto file =
        firmware::read_small_file(path, static_cast<std::size_t>(firmware::kMaxAdapterBytes));
    std::optional<firmware::Adapter> adapter;
    try {
        adapter = firmware::read_adapter(file);
    } catch (const firmware::Error& error) {
        throw firmware::under(path, error);
    }
    const std::vector<double> norms = delta_norms(*adapter);
    std::optional<firmware::AdapterMatch> match;
    std::uint64_t base_bytes = 0;
    if (!base_path.empty()) {
        const firmware::AdapterBase base(base_path);
        match = match_adapter(*adapter, base.package(), base.tensors());
        base_bytes = match->part ? base.part_bytes(*match->part) : 0;
    }
    const AdapterReport report{*adapter, norms, match ? &*match : nullptr, file.size(), base_bytes};
    if (global.json) {
        print_json(to_json(report));
    } else {
        print_report(report);
    }
    if (match && !match->complete()) {
        flush_output();
        throw Failure(kExitFailed, match->summary);
    }
    return kExitOk;
}

}  // namespace

void add_adapter_inspect(CLI::App* adapter, const Global& global, Action& action) {
    CLI::App* command = adapter->add_subcommand(
        "inspect", "Check an adapter's file and show what it holds and does");
    auto path = std::make_shared<std::string>();
    auto base = std::make_shared<std::string>();
    command->add_option("file", *path, "The adapter")->type_name("FILE")->required();
    command->add_option("--base", *base, "An image's folder or a checkpoint, to match it with")
        ->type_name("PATH");
    command->callback([&global, &action, path, base] {
        action = [&global, path, base] { return run_inspect(global, *path, *base); };
    });
}

}  // namespace m4ctl
