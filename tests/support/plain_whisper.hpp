// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "plain_transformer.hpp"

/// A Whisper, random or of a checkpoint, and its decoder computed plainly.
namespace m4::test {

struct WhisperDims {
    std::uint32_t width = 24;
    std::uint32_t heads = 2;
    std::uint32_t layers = 2;  ///< of the encoder and of the decoder
    std::uint32_t inner = 40;
    std::uint32_t bins = 4;
    std::uint32_t rows = 100;  ///< that the encoder gives
    std::uint32_t context = 70;
    std::uint32_t vocabulary = 50;
};

[[nodiscard]] PlainTensors random_whisper(const WhisperDims& dims, std::uint32_t seed);

/// config.json; `extra` is put in as it is (", \"a\": 1").
[[nodiscard]] std::string whisper_config(const WhisperDims& dims, const std::string& extra = {});

/// The decoder over one input's hidden states.
class PlainDecoder {
   public:
    /// `tensors` must outlive it.
    PlainDecoder(const PlainTensors& tensors, const WhisperDims& dims, const Rows& hidden);

    /// Of every token.
    [[nodiscard]] Rows logits(std::span<const std::uint32_t> tokens) const;

    struct Continuation {
        std::vector<std::uint32_t> ids;
        double margin = 0;  ///< the least lead that one of them had
    };
    [[nodiscard]] Continuation greedy(std::vector<std::uint32_t> begin, std::size_t count) const;

   private:
    const PlainTensors& tensors_;
    WhisperDims dims_;
    std::vector<Rows> keys_;  // of the hidden states, by layer
    std::vector<Rows> values_;
};

}  // namespace m4::test
