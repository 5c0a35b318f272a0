// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "operator.hpp"

namespace m4::ops {

/// What linear.comp computes in one dispatch: matrices that share x, and what
/// comes before and after them.
struct LinearJob {
    enum class Epilogue : std::uint32_t { plain, add, gate, rotate };  // as in linear.comp
    struct Part {
        std::uint32_t weight_unit = 0;  ///< of the matrix, from the begin of `weight`'s buffer
        ValuePlace y;
        bool turns = false;  ///< RoPE
    };

    ValuePlace x;
    std::uint32_t first_linear = 0;  ///< of the program's linears, the first part
    /// The only part may be a slice of y's columns: `quads` units from
    /// `first_quad` on (0: all of them).
    std::uint32_t first_quad = 0;
    std::uint32_t quads = 0;
    TensorPlace weight;       ///< shape and type of all parts' matrices, and where they lie
    std::vector<Part> parts;  ///< 1 to 3; gate: two of a shape, and the second's y is not written
    const TensorPlace* norm = nullptr;
    std::uint32_t eps = 0;              ///< bits of a float
    const TensorPlace* bias = nullptr;  ///< one part, no norm
    Epilogue epilogue = Epilogue::plain;
    std::uint32_t added_unit = 0;        ///< add: of a value like y
    const TensorPlace* table = nullptr;  ///< rotate, as the three below
    std::uint32_t positions_word = 0;
    std::uint32_t head_dim = 0;
    std::uint32_t fine_rows = 0;
    /// Parts that go to the KV pool as keys and as values, and whose y is not written.
    struct Kept {
        std::uint32_t keys = 0;
        std::uint32_t values = 0;
        std::uint32_t layer_units = 0;  ///< as in StatePlace
    };
    std::optional<Kept> kept;  ///< can_keep(); several parts; head_dim and positions_word are set
};

/// Whether the job's keys and values may go to their pages at once: heads of
/// whole units of an F32 or F16 cache, which is read as all else is. A scale of Q8
/// belongs to 32 elements, of which a lane has four.
[[nodiscard]] bool can_keep(const Context& context, const LinearJob& job, const StatePlace& state);

/// Null where no way of reading serves all tensors of the job.
[[nodiscard]] std::unique_ptr<Operator> make_linear_job(const Context& context,
                                                        const LinearJob& job);

}  // namespace m4::ops
