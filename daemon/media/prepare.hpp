// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "lib/recipe.hpp"

/// What an app sends, pixels or samples, becomes what an encoder takes, as the image's
/// recipe says (docs/programs.md, *Recipes*). Pure: no state, any thread.
namespace m4::media {

enum class Kind : std::uint8_t {
    gray8 = 1,
    rgb8 = 2,
    rgba8 = 3,         ///< alpha is dropped, the colours stay as they are
    nv12 = 4,          ///< BT.601, limited range; a chroma pair counts for its 2 x 2 pixels
    pcm16 = 5,         ///< little-endian; 32768 is 1
    pcm_f32 = 6,       ///< little-endian, as are the next two
    motion_f32 = 7,    ///< a row a sample
    features_f32 = 8,  ///< as the program takes them: any recipe, and none
};

// Limits of what is read.
inline constexpr std::uint32_t kMaxSide = 16'384;
inline constexpr std::uint64_t kMaxPixels = 1ULL << 26U;
inline constexpr std::uint32_t kMaxSoundChannels = 8;
inline constexpr float kMinRate = 1;
inline constexpr float kMaxRate = 768'000;
/// Samples on either side of resampling where clips are cut out of all of a recording.
inline constexpr std::uint64_t kMaxResampled = 1ULL << 27U;
inline constexpr std::uint64_t kMaxWindows = 64;            ///< of motion; more are cut off
inline constexpr std::uint64_t kMaxFeatures = 1ULL << 26U;  ///< of all items

/// What an app says of its bytes. Not trusted.
struct Descriptor {
    Kind kind{};
    std::uint64_t offset = 0;         ///< of the first byte, in the file
    std::uint32_t width = 0;          ///< of images, in pixels
    std::uint32_t height = 0;         ///< the same
    std::uint32_t stride = 0;         ///< bytes a row; nv12: of both planes
    std::uint64_t chroma_offset = 0;  ///< nv12: of the second plane, in the file
    std::uint32_t channels = 0;       ///< interleaved; of features: columns
    std::uint64_t samples = 0;        ///< of each channel; of features: rows
    float rate_hz = 0;                ///< of sound and motion; motion 0: the recipe's
};

/// One sentence that names the field and the cause.
class MediaError : public std::runtime_error {
   public:
    using std::runtime_error::runtime_error;
};

struct Prepared {
    std::uint32_t items = 0;      ///< clips of sound, windows of motion, else mostly 1
    std::vector<float> features;  ///< items x shape.rows x shape.columns, all finite
};

/// `shape`: what the program takes. Throws MediaError; never reads outside `file`.
[[nodiscard]] Prepared prepare(const firmware::Recipe& recipe, firmware::FeatureShape shape,
                               const Descriptor& media, std::span<const std::byte> file);

}  // namespace m4::media
