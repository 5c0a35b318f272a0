// SPDX-License-Identifier: MIT
#include "check.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "adapters/adapter.hpp"
#include "adapters/effect.hpp"
#include "adapters/limits.hpp"
#include "adapters/match.hpp"
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

/// Of an accepted adapter.
std::vector<PlacedPair> placed(const firmware::Adapter& adapter,
                               const firmware::AdapterMatch& match,
                               std::span<const std::byte> file) {
    std::vector<PlacedPair> pairs;
    for (std::size_t i = 0; i < adapter.pairs.size(); ++i) {
        const firmware::LowRankPair& pair = adapter.pairs[i];
        pairs.push_back({*match.pairs[i].tensor, pair.rank, pair.scale,
                         static_cast<std::uint16_t>(pair.dtype),
                         static_cast<std::uint16_t>(pair.order),
                         static_cast<std::uint64_t>(pair.a.data() - file.data()),
                         static_cast<std::uint64_t>(pair.b.data() - file.data())});
    }
    return pairs;
}

void judge(const firmware::Adapter& adapter, const firmware::Image& image,
           std::span<const std::byte> file, Verdict& verdict) {
    Report& report = verdict.report;
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
        return;
    }
    verdict.pairs = placed(adapter, match, file);
}

/// A factor's bytes in the file.
std::span<const std::byte> piece(std::span<const std::byte> file, std::uint64_t offset,
                                 std::uint64_t bytes) {
    if (offset > file.size() || bytes > file.size() - offset) {
        throw firmware::Error("adapter", "a pair lies outside the file");
    }
    return file.subspan(offset, bytes);
}

}  // namespace

Verdict check(std::span<const std::byte> file, const firmware::Image& image) {
    Verdict verdict;
    Report& report = verdict.report;
    report.bytes = file.size();
    report.image = image.digest();
    report.digest = firmware::sha256(file);
    try {
        const firmware::Adapter adapter = firmware::read_adapter(file);
        describe(adapter, report);
        judge(adapter, image, file, verdict);
    } catch (const firmware::Error& error) {
        report.accepted = false;
        report.reason = shortened(error.what());
    }
    return verdict;
}

std::shared_ptr<const sched::AdapterSource> open(std::shared_ptr<const File> file,
                                                 const firmware::Image& image,
                                                 const Verdict& verdict) {
    auto source = std::make_shared<sched::AdapterSource>();
    source->digest = verdict.report.digest;
    source->name = verdict.report.name;
    for (const PlacedPair& pair : verdict.pairs) {
        if (pair.tensor >= image.tensors().size() || image.tensors()[pair.tensor].rank != 2 ||
            pair.rank == 0 || pair.rank > firmware::kMaxRank ||
            (pair.dtype != M4_DTYPE_F32 && pair.dtype != M4_DTYPE_F16) ||
            pair.order > M4_ROW_ORDER_HALF_SPLIT) {
            throw firmware::Error("adapter", "a pair fits no matrix");
        }
        const firmware::Tensor& tensor = image.tensors()[pair.tensor];
        const auto dtype = static_cast<m4_dtype>(pair.dtype);
        const std::uint64_t row = pair.rank * firmware::element_bytes(dtype);
        source->pairs.push_back({pair.tensor, pair.rank, pair.scale, dtype,
                                 static_cast<m4_row_order>(pair.order),
                                 piece(file->bytes(), pair.a_offset, row * tensor.shape[1]),
                                 piece(file->bytes(), pair.b_offset, row * tensor.shape[0])});
    }
    source->keep = std::move(file);
    return source;
}

}  // namespace m4::adapters
