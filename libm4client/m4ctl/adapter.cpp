// SPDX-License-Identifier: MIT
// m4ctl adapter: what its commands share. docs/adapter-format.md
#include "adapter.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "adapter_service.hpp"
#include "print.hpp"

namespace m4ctl {

namespace {

using m4::firmware::Adapter;
using m4::firmware::Digest;
using m4::firmware::is_set;
using m4::firmware::LowRankPair;
using m4::firmware::to_hex;
using nlohmann::json;

json digest_json(const Digest& digest) {
    return is_set(digest) ? json(to_hex(digest)) : json();
}

const char* order_name(m4_row_order order) {
    switch (order) {
        case M4_ROW_ORDER_INTERLEAVED:
            return "interleaved";
        case M4_ROW_ORDER_HALF_SPLIT:
            return "half-split";
        default:
            return "none";
    }
}

json pair_json(const AdapterReport& report, std::size_t index) {
    const LowRankPair& pair = report.adapter.pairs[index];
    json out = {{"tensor", pair.tensor},
                {"rows", pair.rows},
                {"columns", pair.columns},
                {"rank", pair.rank},
                {"scale", pair.scale},
                {"dtype", pair.dtype == M4_DTYPE_F16 ? "f16" : "f32"},
                {"row_order", order_name(pair.order)},
                {"bytes", pair.a.size() + pair.b.size()},
                {"effect", report.norms[index]}};
    if (report.match != nullptr) {
        const auto& found = report.match->pairs[index];
        out["fault"] = found.tensor ? json() : json(found.fault);
    }
    return out;
}

json head_json(const Adapter& adapter) {
    if (!adapter.head) {
        return {};
    }
    const auto& program = adapter.head->part.programs.front();
    std::uint64_t bytes = 0;
    for (const auto& tensor : adapter.head->bytes) {
        bytes += tensor.size();
    }
    const bool whole = program.inputs.front().role == m4::firmware::Role::embedding;
    return {{"input", whole ? "embedding" : "hidden"},
            {"labels", adapter.head->part.labels},
            {"operators", program.ops.size()},
            {"bytes", bytes}};
}

}  // namespace

json to_json(const AdapterReport& report) {
    const Adapter& adapter = report.adapter;
    json pairs = json::array();
    for (std::size_t i = 0; i < adapter.pairs.size(); ++i) {
        pairs.push_back(pair_json(report, i));
    }
    json out = {{"name", adapter.name},
                {"digest", to_hex(adapter.digest)},
                {"task", adapter.task},
                {"prompt_template", adapter.prompt_template},
                {"base_name", adapter.base_name},
                {"architecture", adapter.architecture},
                {"source", adapter.source},
                {"base", digest_json(adapter.base)},
                {"probed", digest_json(adapter.probed)},
                {"pairs", std::move(pairs)},
                {"head", head_json(adapter)},
                {"file_bytes", report.file_bytes},
                {"data_bytes", m4::firmware::data_bytes(adapter)}};
    if (report.match != nullptr) {
        out["match"] = {{"complete", report.match->complete()},
                        {"matched", report.match->matched},
                        {"summary", report.match->summary},
                        {"base_bytes", report.base_bytes}};
    }
    return out;
}

std::string pairs_text(const Adapter& adapter) {
    if (adapter.pairs.empty()) {
        return "none";
    }
    const auto [least, most] = std::minmax_element(
        adapter.pairs.begin(), adapter.pairs.end(),
        [](const LowRankPair& a, const LowRankPair& b) { return a.rank < b.rank; });
    std::string text =
        std::to_string(adapter.pairs.size()) + ", rank " + std::to_string(least->rank);
    if (most->rank != least->rank) {
        text += " to " + std::to_string(most->rank);
    }
    return text;
}

std::string share_text(const AdapterReport& report) {
    std::string text = size_text(report.file_bytes);
    if (report.base_bytes != 0) {
        text += ", " +
                fixed(100.0 * static_cast<double>(report.file_bytes) /
                          static_cast<double>(report.base_bytes),
                      2) +
                " % of its base";
    }
    return text;
}

std::string base_text(const Adapter& adapter) {
    return is_bound(adapter) ? to_hex(adapter.base)
                             : "unbound: import it with --base IMAGE-OR-CHECKPOINT to bind it";
}

void add_adapter(CLI::App& app, const Global& global, Action& action) {
    CLI::App* command = app.add_subcommand("adapter", "Adapters: what an app adds to the model");
    command->require_subcommand(1);
    command->fallthrough();
    add_adapter_import(command, global, action);
    add_adapter_inspect(command, global, action);
    add_adapter_service(command, global, action);
}

}  // namespace m4ctl
