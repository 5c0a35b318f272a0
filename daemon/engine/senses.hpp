// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace m4::engine {

class Runtime;

/// A value of an encoder: rows an item, and columns. None: rows are 0.
struct ItemShape {
    std::uint32_t rows = 0;
    std::uint32_t columns = 0;

    [[nodiscard]] std::uint64_t floats(std::uint32_t items) const {
        return std::uint64_t{items} * rows * columns;
    }
};

/// What an encoder gave: floats, item by item, row-major. Empty where it has no
/// such output. Until its next run.
struct Encoded {
    std::span<const float> embedding;
    std::span<const float> hidden;
    std::span<const float> scores;
};

/// The encoders and projectors of an image, by their place in its package. Each takes
/// its memory when it is first run. Engine thread only.
class Senses {
   public:
    /// Inputs of a part that run together, at most.
    static constexpr std::uint32_t kMaxItems = 8;

    /// `runtime` must outlive it.
    explicit Senses(Runtime& runtime);
    ~Senses();
    Senses(const Senses&) = delete;
    Senses& operator=(const Senses&) = delete;

    /// Features of 1 to kMaxItems inputs; `part` is an encoder without tokens or a
    /// projector. Throws DeviceError on loss of the device or where it cannot run the
    /// part, trust::RevokedError where the image was lost, and std::invalid_argument
    /// on a broken precondition.
    Encoded encode(std::size_t part, std::span<const float> features);
    /// Tokens of 1 to kMaxItems texts, as many as the part's context each, and of each
    /// the row that stands for it. Throws as encode() does.
    Encoded encode_text(std::size_t part, std::span<const std::uint32_t> tokens,
                        std::span<const std::uint32_t> picked);
    /// What those that ran hold beside the weights.
    [[nodiscard]] std::uint64_t memory_bytes() const;

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace m4::engine
