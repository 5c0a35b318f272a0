// SPDX-License-Identifier: MIT
#include "adapter_target.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "adapter_samples.hpp"
#include "adapters/effect.hpp"
#include "adapters/file_layout.hpp"
#include "adapters/limits.hpp"
#include "adapters/match.hpp"
#include "lib/error.hpp"

namespace m4::fuzz {

namespace {

using namespace firmware;

void require(bool holds, const char* promise) {
    if (!holds) {
        (void)std::fprintf(stderr, "promise broken: %s\n", promise);
        std::abort();
    }
}

/// An image's tables, of a backbone with two matrices, one of them rotated.
struct Target {
    Package package;
    std::vector<Tensor> tensors;

    Target() {
        for (const char* name : {"layer.0.q.weight", "layer.0.v.weight"}) {
            Tensor tensor;
            tensor.name = name;
            tensor.dtype = M4_DTYPE_F16;
            tensor.layout = M4_LAYOUT_ROWS16;
            tensor.rank = 2;
            tensor.shape = {16, 16, 1, 1};
            tensors.push_back(tensor);
        }
        tensors[0].row_order = M4_ROW_ORDER_INTERLEAVED;
        tensors[0].head_dim = 8;
        Program program;
        program.name = "forward";
        program.values.resize(1);
        for (const std::uint32_t i : {0U, 1U}) {
            Op op;
            op.code = OpCode::linear;
            op.inputs = {{OperandKind::value, 0}, {OperandKind::tensor, i}, {}};
            program.ops.push_back(op);
        }
        Part part;
        part.name = "backbone";
        part.kind = PartKind::backbone;
        part.source_digest.fill(7);
        part.programs.push_back(std::move(program));
        package.parts.push_back(std::move(part));
    }
};

void check_pair_promises(const LowRankPair& pair, std::span<const std::byte> file) {
    require(pair.rank >= 1 && pair.rank <= kMaxRank && pair.rank <= pair.rows &&
                pair.rank <= pair.columns,
            "ranks are bounded");
    const std::uint64_t row = std::uint64_t{pair.rank} * element_bytes(pair.dtype);
    require(pair.a.size() == row * pair.columns && pair.b.size() == row * pair.rows,
            "factors have their sizes");
    require(pair.a.data() >= file.data() && pair.b.data() > pair.a.data() &&
                pair.b.data() + pair.b.size() <= file.data() + file.size(),
            "factors lie in the file, a before b");
    require(std::isfinite(pair.scale), "the scale is finite");
}

bool check_file(std::span<const std::byte> file) {
    static const Target target;
    Adapter adapter;
    try {
        adapter = read_adapter(file);
    } catch (const Error&) {
        return false;
    }
    require(!adapter.pairs.empty() || adapter.head, "an adapter holds something");
    for (const LowRankPair& pair : adapter.pairs) {
        check_pair_promises(pair, file);
    }
    const std::vector<double> norms = delta_norms(adapter);
    for (const double norm : norms) {
        require(std::isfinite(norm) && norm >= 0, "effects are finite");
    }
    const AdapterMatch match = match_adapter(adapter, target.package, target.tensors);
    require(!match.summary.empty() && match.pairs.size() == adapter.pairs.size(),
            "a match says what came of each pair");
    (void)effect_fault(adapter, match, norms);
    const auto again = encode_adapter(adapter);
    const Adapter copy = read_adapter(again);
    require(copy.name == adapter.name && copy.base == adapter.base &&
                copy.pairs.size() == adapter.pairs.size() &&
                copy.head.has_value() == adapter.head.has_value(),
            "what was read can be written");
    require(encode_adapter(copy) == again, "writing has one form");
    return true;
}

}  // namespace

std::vector<std::vector<std::uint8_t>> adapter_seeds() {
    std::vector<std::vector<std::uint8_t>> seeds;
    const auto add = [&](const Adapter& adapter) {
        const auto file = encode_adapter(adapter);
        const auto* from = reinterpret_cast<const std::uint8_t*>(file.data());
        seeds.emplace_back(from, from + file.size());
    };
    test::AdapterSample pairs("pairs");
    pairs.add("layer.0.q.weight", 16, 16, 2);
    pairs.add("layer.0.v.weight", 16, 16, 1, M4_DTYPE_F16).order = M4_ROW_ORDER_INTERLEAVED;
    add(pairs.adapter);
    pairs.adapter.base.fill(7);
    pairs.adapter.probed.fill(8);
    pairs.adapter.task = "SEQ_CLS";
    pairs.adapter.prompt_template = "### {prompt}\n\u00e4";
    pairs.adapter.base_name = "base";
    pairs.adapter.architecture = "llama";
    pairs.adapter.source = "peft";
    pairs.add_head(8, {"a", "b"});
    add(pairs.adapter);
    test::AdapterSample head("head");
    head.add_head(4, {"x"}, Role::hidden);
    add(head.adapter);
    return seeds;
}

bool check_adapter(std::span<const std::uint8_t> bytes) {
    const auto file = std::as_bytes(bytes);
    bool accepted = check_file(file);
    AdapterHeader header;
    if (file.size() >= sizeof(header)) {
        std::vector<std::byte> repaired(file.begin(), file.end());
        std::memcpy(&header, repaired.data(), sizeof(header));
        header.file_bytes = file.size();
        header.metadata_offset = sizeof(header);
        header.metadata_bytes %= file.size() - sizeof(header) + 1;
        header.data_offset = align_data(sizeof(header) + header.metadata_bytes);
        if (header.data_offset <= file.size()) {
            header.data_bytes = file.size() - header.data_offset;
            std::memcpy(repaired.data(), &header, sizeof(header));
            accepted = check_file(repaired) || accepted;
        }
    }
    return accepted;
}

}  // namespace m4::fuzz
