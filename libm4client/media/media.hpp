// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/error.hpp"

/// Files of images, sound and tensors to what m4d takes: decoded here, on the client's
/// side, with the client's rights; the daemon reads no format. All throw
/// firmware::Error, "<place>: <cause>": of what the system refused an OsError, of what is
/// over a limit a TooLarge. Any thread may call any of them.
namespace m4::client_media {

using firmware::TooLarge;

/// As the daemon's media::Kind.
enum class Kind : std::uint8_t {
    gray8 = 1,
    rgb8 = 2,
    rgba8 = 3,
    nv12 = 4,
    pcm16 = 5,
    pcm_f32 = 6,
    motion_f32 = 7,
    features_f32 = 8,
    tokens_u32 = 10,
};

/// What may be decoded; the daemon takes no larger images.
inline constexpr std::uint32_t kMaxSide = 16'384;
inline constexpr std::uint64_t kMaxPixels = 1ULL << 26U;
inline constexpr std::uint64_t kMaxBytes = 1ULL << 28U;  ///< of any result; the daemon's limit
inline constexpr std::size_t kMaxImageFile = 256UL << 20U;

/// Decoded bytes, and what a descriptor says of them.
struct Media {
    Kind kind{};
    std::uint64_t offset = 0;
    std::uint32_t width = 0;
    std::uint32_t height = 0;
    std::uint32_t stride = 0;
    std::uint64_t chroma_offset = 0;
    std::uint32_t channels = 0;
    std::uint64_t samples = 0;
    float rate_hz = 0;
    std::vector<std::byte> bytes;
};

/// PNG or JPEG. Gray is gray8, all else rgb8: 16 bits become 8, alpha is dropped, no
/// colour profile and no orientation is applied.
[[nodiscard]] Media load_image(const std::string& path);
/// The same of a file's bytes; `place` names them in messages.
[[nodiscard]] Media decode_image(std::span<const std::byte> file, const std::string& place);

/// WAV or FLAC. 16 bits are pcm16, all else pcm_f32.
[[nodiscard]] Media load_audio(const std::string& path);
[[nodiscard]] Media decode_audio(std::span<const std::byte> file, const std::string& place);

/// Of what a tensor of floats is an example.
enum class Floats : std::uint8_t { features, motion };

/// `FILE.safetensors#NAME[i]`: a tensor, or what is at i of its first dimension. F32 and
/// F16: rows of the last dimension, as features or as motion at the recipe's rate. U8,
/// h x w, or with 1 or 3 channels before or behind these: gray8 or rgb8. I32 and I64, of
/// one dimension: tokens.
[[nodiscard]] Media load_tensor(const std::string& reference, Floats floats = Floats::features);
/// The same of any file; `tensor` is NAME or NAME[i].
[[nodiscard]] Media load_tensor(const std::string& file, const std::string& tensor, Floats floats);
[[nodiscard]] Media decode_tensor(std::span<const std::byte> file, const std::string& place,
                                  const std::string& tensor, Floats floats = Floats::features);

/// Whether an argument names a tensor: ".safetensors#" is in it.
[[nodiscard]] bool names_tensor(const std::string& reference);

}  // namespace m4::client_media
