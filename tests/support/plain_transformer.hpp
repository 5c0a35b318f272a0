// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "checkpoint_writer.hpp"

/// Transformers computed plainly, in double, over named tensors: what encoders are
/// held against.
namespace m4::test {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

/// Random tensors under names, and the same as a checkpoint.
class PlainTensors {
   public:
    explicit PlainTensors(std::uint32_t seed) : random_(seed) {}

    void add(const std::string& name, const std::vector<std::uint64_t>& shape,
             float deviation = 0.2F, float mean = 0);
    /// `name`.weight of rows x columns, and .bias.
    void add_linear(const std::string& name, std::uint64_t rows, std::uint64_t columns);
    void add_norm(const std::string& name, std::uint64_t width);
    /// A tensor whose values another has in another order.
    void set(const std::string& name, const std::vector<std::uint64_t>& shape,
             std::vector<float> values);
    void erase(const std::string& name) { tensors_.erase(name); }

    [[nodiscard]] const std::vector<float>& at(const std::string& name) const {
        return tensors_.at(name).values;
    }
    [[nodiscard]] std::map<std::string, SafeTensor> checkpoint() const;

    /// Row by row; the bias may be empty.
    [[nodiscard]] Rows linear(const Rows& x, const std::string& weight,
                              const std::string& bias) const;
    [[nodiscard]] Rows norm(const Rows& x, const std::string& name, double eps) const;
    /// Rows of a table.
    [[nodiscard]] Rows rows(const std::string& name, std::size_t width) const;

   private:
    struct Tensor {
        std::vector<std::uint64_t> shape;
        std::vector<float> values;
    };
    std::map<std::string, Tensor> tensors_;
    std::mt19937 random_;
};

[[nodiscard]] Rows plain_attention(const Rows& q, const Rows& k, const Rows& v, std::size_t heads,
                                   bool causal);
[[nodiscard]] Rows plain_sum(const Rows& a, const Rows& b);
[[nodiscard]] Rows plain_map(Rows x, double (*function)(double));
[[nodiscard]] double plain_gelu(double x);
[[nodiscard]] double plain_quick_gelu(double x);
/// Windows of `patch` x `patch` over planes of side x side, by rows; each by planes.
[[nodiscard]] Rows plain_patches(const std::vector<float>& planes, std::size_t channels,
                                 std::size_t side, std::size_t patch);
[[nodiscard]] std::vector<float> plain_floats(const Rows& x);

}  // namespace m4::test
