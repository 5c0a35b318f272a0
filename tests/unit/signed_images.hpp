// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <string>

#include "image_samples.hpp"
#include "lib/builder.hpp"
#include "lib/image.hpp"
#include "lib/signature.hpp"
#include "tiny_model.hpp"

namespace m4::test {

/// Signs an image folder by one of two keys, made once a process.
inline void sign_folder(const std::filesystem::path& folder, int which = 0) {
    static const firmware::KeyPair pairs[] = {firmware::generate_key({"first", 30, 3072}),
                                              firmware::generate_key({"second", 30, 3072})};
    const auto bytes_of = [](const std::string& text) { return std::as_bytes(std::span(text)); };
    const auto der =
        firmware::sign(read_file(folder / "manifest.m4m"),
                       firmware::SigningKey::parse(bytes_of(pairs[which].key), "key"),
                       firmware::Certificate::parse(bytes_of(pairs[which].certificate), "crt"));
    write_file(folder / firmware::kSignatureName, der);
}

/// A small signed image named "tiny" in one shard, or two; returns its digest.
/// Images of different versions differ.
inline std::string write_signed_image(const std::filesystem::path& folder,
                                      const std::string& version, std::uint64_t rollback_index = 0,
                                      bool two_shards = false) {
    const TinyModel model = make_tiny_model({}, 1);
    firmware::ImageBuilder builder("tiny", version, rollback_index, M4_IMAGE_CHUNK_BYTES);
    build_tiny_model(model, builder);
    if (two_shards) {
        builder.add_section("bulk", 0, std::vector<std::byte>(M4_IMAGE_CHUNK_BYTES, std::byte{7}));
    }
    builder.write(folder, false);
    sign_folder(folder);
    return firmware::to_hex(firmware::MappedImage::open_folder(folder).image().digest());
}

}  // namespace m4::test
