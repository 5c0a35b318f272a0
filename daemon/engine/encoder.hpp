// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "engine.hpp"
#include "lib/image.hpp"
#include "senses.hpp"
#include "vk/pipelines.hpp"
#include "weights/store.hpp"

namespace m4::engine {

/// Runs the `encode` program of an encoder, or a projector's `project`. Device, kernels and weights
/// are shared with others, and outlive it. One thread constructs, uses and destroys it, the one
/// that they belong to.
class Encoder {
   public:
    struct Options {
        std::uint32_t max_items = 8;  ///< in one run, 1 to 64
        bool force_storage = false;   ///< as on a device whose texel buffers are small (tests)
    };

    /// `weights` hold all tensors of the part's program. Throws DeviceError where
    /// the device cannot run it.
    Encoder(vk::Device& device, vk::Pipelines& pipelines, weights::Store& weights,
            const firmware::Image& image, const firmware::Part& part, const Options& options);
    ~Encoder();
    Encoder(const Encoder&) = delete;
    Encoder& operator=(const Encoder&) = delete;

    [[nodiscard]] ItemShape features() const;
    [[nodiscard]] ItemShape embedding() const;
    [[nodiscard]] ItemShape hidden() const;
    [[nodiscard]] ItemShape scores() const;
    [[nodiscard]] std::uint32_t max_items() const;

    /// What it holds beside the weights.
    [[nodiscard]] std::uint64_t memory_bytes() const;

    /// Tokens of an input of a text encoder, and how many there are; 0: it takes
    /// features.
    [[nodiscard]] std::uint32_t token_rows() const;
    [[nodiscard]] std::uint32_t vocabulary() const;

    /// Of a text encoder: `tokens`, token_rows() an input, and for each input the
    /// one that stands for it. Throws as run() does, and std::invalid_argument
    /// for a token that is not below vocabulary().
    Encoded run_text(std::span<const std::uint32_t> tokens, std::span<const std::uint32_t> picked);
    /// `data`: the features of as many items as it holds, 1 to max_items(). Throws
    /// DeviceError on loss of the device (it is then unusable), and
    /// std::invalid_argument where `data` is not whole items or too many.
    Encoded run(std::span<const float> data);
    /// run(), recorded anew with each kernel timed by itself, as Engine::profile() does.
    [[nodiscard]] Profile profile(std::span<const float> data);

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace m4::engine
