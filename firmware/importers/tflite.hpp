// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace m4::firmware {

/// Codes of TensorFlow Lite's operators, as far as importers know them.
enum class TfliteCode : std::int32_t {
    add = 0,
    concatenation = 2,
    fully_connected = 9,
    mul = 18,
    reshape = 22,
    softmax = 25,
    tanh = 28,
    gather = 36,
    transpose = 39,
    mean = 40,
    sub = 41,
    strided_slice = 45,
    maximum = 55,
    log = 73,
    sqrt = 75,
    rsqrt = 76,
    pow = 78,
    squared_difference = 99,
};

struct TfliteTensor {
    std::string name;
    std::vector<std::uint64_t> shape;
    bool is_f32 = false;
    std::span<const std::byte> bytes;  ///< of a constant; empty: computed, or the input
};

struct TfliteOperator {
    TfliteCode code{};
    std::vector<std::int32_t> inputs;  ///< indices of tensors, -1: none
    std::vector<std::int32_t> outputs;
    bool activates = false;  ///< an activation is fused into it
};

/// The one graph of a TensorFlow Lite model. Indices are in range; a constant of F32 has
/// as many elements as its shape.
struct TfliteGraph {
    std::string place;
    std::vector<TfliteTensor> tensors;
    std::vector<TfliteOperator> operators;  ///< in execution order
    std::vector<std::int32_t> inputs;
    std::vector<std::int32_t> outputs;
};

/// Reads a model where it lies: the bytes must outlive the graph. Throws Error naming
/// `place`.
[[nodiscard]] TfliteGraph read_tflite(std::span<const std::byte> bytes, const std::string& place);

}  // namespace m4::firmware
