// SPDX-License-Identifier: MIT
#include "check.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "adapters/effect.hpp"
#include "lib/error.hpp"
#include "lib/sha256.hpp"

namespace m4::adapters {

namespace {

constexpr std::size_t kMostUnmatched = 16;
constexpr std::size_t kMostTextBytes = 1024;

std::string shortened(std::string text) {
    if (text.size() > kMostTextBytes) {
        text.resize(kMostTextBytes);
        text += " ...";
    }
    return text;
}

/// Why this service has no use for it, though it fits; empty: it has.
std::string service_fault(const firmware::Adapter& adapter, const firmware::Part& part) {
    if (adapter.head) {
        return "it has a head, and this service runs low-rank pairs only";
    }
    if (part.kind != firmware::PartKind::backbone) {
        return "it is for part '" + part.name +
               "', and this service runs adapters of the backbone only";
    }
    return {};
}

void describe(const firmware::Adapter& adapter, Report& report) {
    report.name = adapter.name;
    report.task = adapter.task;
    report.prompt_template = adapter.prompt_template;
    report.base_name = adapter.base_name;
    report.architecture = adapter.architecture;
    report.source = adapter.source;
    report.base = adapter.base;
    report.probed = adapter.probed;
    report.pairs = static_cast<std::uint32_t>(adapter.pairs.size());
    report.head = adapter.head.has_value();
    report.labels = adapter.head ? static_cast<std::uint32_t>(adapter.head->part.labels.size()) : 0;
    for (const firmware::LowRankPair& pair : adapter.pairs) {
        report.rank = std::max(report.rank, pair.rank);
        report.device_bytes +=
            engine::low_rank_bytes(pair.rows, pair.columns, pair.rank, pair.dtype);
    }
}

/// The part it is held against: its own, else the backbone.
const firmware::Part* part_for(const firmware::AdapterMatch& match,
                               const firmware::Package& package) {
    if (match.part) {
        return &package.parts[*match.part];
    }
    const auto found = std::find_if(
        package.parts.begin(), package.parts.end(),
        [](const firmware::Part& part) { return part.kind == firmware::PartKind::backbone; });
    return found == package.parts.end() ? nullptr : &*found;
}

void judge(const firmware::Adapter& adapter, const firmware::Image& image, Report& report) {
    const firmware::AdapterMatch match = firmware::match_adapter(adapter, image);
    const firmware::Part* part = part_for(match, image.package());
    if (part != nullptr) {
        report.present = part->source_digest;
        report.part = match.part ? part->name : "";
    }
    report.matched = static_cast<std::uint32_t>(match.matched);
    for (std::size_t i = 0; i < match.pairs.size() && report.unmatched.size() < kMostUnmatched;
         ++i) {
        if (!match.pairs[i].tensor) {
            report.unmatched.push_back(adapter.pairs[i].tensor + ": " + match.pairs[i].fault);
        }
    }
    const std::vector<double> norms = firmware::delta_norms(adapter);
    report.acting = static_cast<std::uint32_t>(
        std::count_if(norms.begin(), norms.end(), [](double norm) { return norm > 0; }));
    report.reason = shortened(match.summary);
    if (!match.complete()) {
        return;
    }
    std::string fault = firmware::effect_fault(adapter, match, norms);
    if (fault.empty()) {
        fault = service_fault(adapter, *part);
    }
    report.accepted = fault.empty();
    if (!fault.empty()) {
        report.reason = shortened(std::move(fault));
    }
}

}  // namespace

Report check(std::span<const std::byte> file, const firmware::Image& image) {
    Report report;
    report.bytes = file.size();
    report.image = image.digest();
    report.digest = firmware::sha256(file);
    try {
        const firmware::Adapter adapter = firmware::read_adapter(file);
        describe(adapter, report);
        judge(adapter, image, report);
    } catch (const firmware::Error& error) {
        report.accepted = false;
        report.reason = shortened(error.what());
    }
    return report;
}

std::shared_ptr<const sched::AdapterSource> open(std::shared_ptr<const File> file,
                                                 const firmware::Image& image) {
    const firmware::Adapter adapter = firmware::read_adapter(file->bytes());
    const firmware::AdapterMatch match = firmware::match_adapter(adapter, image);
    if (!match.complete()) {
        throw firmware::Error("adapter", match.summary);
    }
    auto source = std::make_shared<sched::AdapterSource>();
    source->digest = adapter.digest;
    source->name = adapter.name;
    for (std::size_t i = 0; i < adapter.pairs.size(); ++i) {
        const firmware::LowRankPair& pair = adapter.pairs[i];
        source->pairs.push_back({*match.pairs[i].tensor, pair.rank, pair.scale, pair.dtype,
                                 pair.order, pair.a, pair.b});
    }
    source->keep = std::move(file);
    return source;
}

}  // namespace m4::adapters
