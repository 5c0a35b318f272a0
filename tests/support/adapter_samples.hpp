// SPDX-License-Identifier: MIT
#pragma once

#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "adapters/adapter.hpp"
#include "lib/half.hpp"

/// Adapters for tests, with the bytes that they view.
namespace m4::test {

inline std::vector<std::byte> stored(const std::vector<float>& values, m4_dtype dtype) {
    std::vector<std::byte> bytes(values.size() * firmware::element_bytes(dtype));
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (dtype == M4_DTYPE_F16) {
            const std::uint16_t half = firmware::to_half(values[i]);
            std::memcpy(bytes.data() + i * sizeof(half), &half, sizeof(half));
        } else {
            std::memcpy(bytes.data() + i * sizeof(float), &values[i], sizeof(float));
        }
    }
    return bytes;
}

/// Pairs of random factors, a head of `linear`. Not copied: the adapter has views.
struct AdapterSample {
    firmware::Adapter adapter;
    std::deque<std::vector<std::byte>> storage;

    explicit AdapterSample(std::string name = "sample") { adapter.name = std::move(name); }
    AdapterSample(const AdapterSample&) = delete;
    AdapterSample& operator=(const AdapterSample&) = delete;

    std::span<const std::byte> keep(std::vector<std::byte> bytes) {
        return storage.emplace_back(std::move(bytes));
    }

    firmware::LowRankPair& add(const std::string& tensor, std::uint32_t rows, std::uint32_t columns,
                               std::uint32_t rank, m4_dtype dtype = M4_DTYPE_F32) {
        std::mt19937 engine(static_cast<std::uint32_t>(adapter.pairs.size() + 1));
        std::uniform_real_distribution<float> uniform(-1, 1);
        const auto random = [&](std::uint64_t count) {
            std::vector<float> values(count);
            for (float& value : values) {
                value = uniform(engine);
            }
            return keep(stored(values, dtype));
        };
        const auto a = random(std::uint64_t{rank} * columns);
        const auto b = random(std::uint64_t{rows} * rank);
        adapter.pairs.push_back(
            {tensor, rank, rows, columns, 0.5F, dtype, M4_ROW_ORDER_HALF_SPLIT, a, b});
        return adapter.pairs.back();
    }

    /// scores = weight x + bias over `role`, which is an embedding or, with one row an
    /// item, hidden.
    firmware::AdapterHead& add_head(std::uint32_t width, const std::vector<std::string>& labels,
                                    firmware::Role role = firmware::Role::embedding) {
        using namespace firmware;
        const auto count = static_cast<std::uint32_t>(labels.size());
        Program program;
        program.name = "score";
        program.values = {
            {M4_DTYPE_F32, {{1, Symbol::items}, {width, Symbol::none}}},
            {M4_DTYPE_F32, {{1, Symbol::items}, {count, Symbol::none}}},
        };
        program.inputs = {{role, 0}};
        program.outputs = {{Role::scores, 1}};
        Op op;
        op.code = OpCode::linear;
        op.inputs = {{OperandKind::value, 0}, {OperandKind::tensor, 0}, {OperandKind::tensor, 1}};
        op.outputs = {1};
        program.ops.push_back(op);
        AdapterHead head;
        head.part.name = "scores";
        head.part.kind = PartKind::head;
        head.part.labels = labels;
        head.part.programs.push_back(std::move(program));
        const std::uint64_t padded = (count + 15) / 16 * 16 * ((width + 3) / 4 * 4);
        add_tensor(head, "weight", M4_LAYOUT_ROWS16, {count, width}, padded);
        add_tensor(head, "bias", M4_LAYOUT_PLAIN, {count}, count);
        adapter.head = std::move(head);
        return *adapter.head;
    }

   private:
    void add_tensor(firmware::AdapterHead& head, const char* name, m4_layout layout,
                    const std::vector<std::uint64_t>& shape, std::uint64_t elements) {
        firmware::Tensor tensor;
        tensor.name = name;
        tensor.dtype = M4_DTYPE_F32;
        tensor.layout = layout;
        tensor.rank = static_cast<std::uint32_t>(shape.size());
        tensor.shape.fill(1);
        std::copy(shape.begin(), shape.end(), tensor.shape.begin());
        tensor.size_bytes = elements * sizeof(float);
        head.tensors.push_back(tensor);
        head.bytes.push_back(keep(stored(std::vector<float>(elements, 0.25F), M4_DTYPE_F32)));
    }
};

}  // namespace m4::test
