// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>

#include "encoder_tensors.hpp"

namespace m4::firmware {

/// What encoders are built of. Names of tensors are what their architecture's
/// file gives; here are the sums.
class Transformer {
   public:
    using Ref = ProgramBuilder::Ref;

    Transformer(EncoderTensors& tensors, ProgramBuilder& program, std::uint32_t width)
        : tensors_(tensors), program_(program), width_(width) {}

    /// `weight` and `bias` of a norm of this width.
    Ref norm(Ref x, const std::string& weight, const std::string& bias, double eps);
    /// y = x weight^T + bias; `bias` may be empty.
    Ref linear(Ref x, const std::string& weight, const std::string& bias, std::uint64_t rows,
               std::uint64_t columns);

    struct Attention {
        std::string weight;  ///< of q, k and v, one behind the other
        std::string bias;
        std::string out_weight;
        std::string out_bias;
        std::string key_row = {};  ///< a learned key and value beside the rows' own, or empty
        std::string value_row = {};
        std::uint32_t heads = 1;
        bool causal = false;
    };
    Ref attention(Ref x, const Attention& names);

    /// Without ".weight" and ".bias".
    struct SplitAttention {
        std::string query;
        std::string key;
        std::string value;
        std::string out;
        std::uint32_t heads = 1;
        bool causal = false;
        bool biases = true;  ///< of query, key and value
    };
    Ref attention(Ref x, const SplitAttention& names);

    struct FeedForward {
        std::string in_weight;
        std::string in_bias;
        std::string out_weight;
        std::string out_bias;
        std::uint64_t width = 0;
        Activation function = Activation::gelu;
    };
    Ref feed_forward(Ref x, const FeedForward& names);

   private:
    EncoderTensors& tensors_;
    ProgramBuilder& program_;
    std::uint32_t width_;
};

}  // namespace m4::firmware
