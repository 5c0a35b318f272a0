// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "lib/program.hpp"
#include "ops/operator.hpp"

namespace m4::test {

struct Matrix {
    std::uint32_t rows = 0;
    std::uint32_t columns = 0;
    std::vector<float> data;

    [[nodiscard]] float at(std::uint32_t row, std::uint32_t column) const {
        return data[std::size_t{row} * columns + column];
    }
};

/// Uniform in [-1, 1), the same everywhere.
[[nodiscard]] Matrix random_matrix(std::uint32_t rows, std::uint32_t columns, std::uint64_t seed);
/// Each number as F16 keeps it.
[[nodiscard]] Matrix as_half(Matrix matrix);
/// Each number as a tensor of this type keeps it; quantised: rows of whole
/// blocks.
[[nodiscard]] Matrix as_stored(Matrix matrix, m4_dtype dtype);

/// Which of the ways to run operators is tried.
struct Setup {
    bool storage = false;     ///< storage buffers instead of texel buffers
    bool gpu_tuning = false;  ///< workgroups as on a GPU, else as on this device
    bool address = false;     ///< weights of linear by device address
    bool alone = false;       ///< without subgroups' operations
    engine::KvType kv_type = engine::KvType::f32;
    std::uint32_t slices = 0;        ///< of attention; 0: as tuned
    bool staging = false;            ///< weights copied instead of imported
    std::uint64_t window_bytes = 0;  ///< of weights; 0: as the device allows
    std::uint64_t slice_bytes = 0;   ///< that a kernel binds of them; likewise

    [[nodiscard]] std::string name() const;
};

/// All of storage x gpu_tuning, and address x gpu_tuning.
[[nodiscard]] std::vector<Setup> all_setups();

/// Runs a few operators on the device, each result kept for reading. The arena
/// is filled with NaN before a run; read() checks that padding is zero, and
/// run() that nothing was written past the values.
class OpBench {
   public:
    OpBench(const Setup& setup, std::uint32_t max_rows);
    ~OpBench();
    OpBench(const OpBench&) = delete;
    OpBench& operator=(const OpBench&) = delete;

    firmware::Operand value(std::uint32_t columns, firmware::Symbol symbol);
    /// A value of an encoder: `rows` rows an item.
    firmware::Operand items(std::uint32_t rows, std::uint32_t columns);
    /// The input of a role: u32 per token, or per output.
    firmware::Operand words(firmware::Role role);
    /// A matrix as ROWS16, or a vector or table as PLAIN.
    firmware::Operand tensor(const Matrix& data, m4_dtype dtype, m4_layout layout);
    firmware::Operand state(std::uint32_t kv_heads, std::uint32_t head_dim);

    /// Append an operator; the result has `columns` (0: it has no result).
    firmware::Operand op(firmware::OpCode code, std::vector<firmware::Operand> inputs,
                         std::uint32_t columns, firmware::Symbol symbol = firmware::Symbol::tokens);
    /// The same, the result of `rows` rows an item.
    firmware::Operand item_op(firmware::OpCode code, std::vector<firmware::Operand> inputs,
                              std::uint32_t rows, std::uint32_t columns);
    /// Attributes of the operator added last.
    void set(firmware::AttrId id, double real);
    void set(firmware::AttrId id, std::int64_t integer);

    /// Before a run.
    void fill(firmware::Operand value, const Matrix& data);
    void fill_words(firmware::Role role, const std::vector<std::uint32_t>& words);
    /// Page tables, in pages of the KV pool, and which of them each row uses.
    void fill_kv(const std::vector<std::vector<std::uint32_t>>& tables,
                 const std::vector<std::uint32_t>& rows);
    static constexpr std::uint32_t kPagePositions = 16;

    void run(std::uint32_t tokens, std::uint32_t outputs = 0);
    void run_items(std::uint32_t items);
    /// The engine's argmax kernel over rows of logits; nothing else is run.
    [[nodiscard]] std::vector<std::uint32_t> argmax(const Matrix& rows);
    /// The engine's top_logits likewise: `count` tokens of each row, best first.
    [[nodiscard]] std::vector<std::vector<engine::Candidate>> top(const Matrix& rows,
                                                                  std::uint32_t count);
    [[nodiscard]] Matrix read(firmware::Operand value) const;
    /// "host_pointer" or "staging"; after the first run.
    [[nodiscard]] std::string import_name() const;
    [[nodiscard]] std::size_t window_count() const;
    [[nodiscard]] std::size_t slice_count(firmware::Operand tensor) const;

   private:
    void run(const ops::StepShape& shape);
    using MakeDispatch = std::function<ops::Dispatch(const ops::ValuePlace& logits)>;
    void run_on_logits(const Matrix& rows, const MakeDispatch& make);

    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// The largest of |a - b| / (1 + |b|); infinite where the shapes differ or
/// where either is not a number.
[[nodiscard]] double distance(const Matrix& a, const Matrix& b);

}  // namespace m4::test
