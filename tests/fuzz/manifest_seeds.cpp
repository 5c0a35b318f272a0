// SPDX-License-Identifier: MIT
#include "manifest_seeds.hpp"

#include <m4/image.h>

#include <fstream>
#include <iterator>

#include "temp_folder.hpp"
#include "tiny_model.hpp"

namespace m4::fuzz {

std::vector<std::vector<std::uint8_t>> manifest_seeds() {
    test::TinyDims smallest;
    smallest.layers = 1;
    smallest.hidden = 32;
    smallest.heads = 2;
    smallest.kv_heads = 1;
    smallest.feed_forward = 32;
    test::TinyDims tied = smallest;
    tied.tied = true;
    tied.stored = M4_DTYPE_F16;
    test::TinyDims biased = smallest;
    biased.query_bias = true;
    biased.rotated = 8;
    test::TinyDims wide;
    wide.vocabulary = 4096;
    wide.hidden = 128;
    wide.heads = 8;

    std::vector<std::vector<std::uint8_t>> seeds;
    for (const test::TinyDims& dims : {smallest, tied, biased, wide}) {
        const test::TempFolder temp;
        test::write_tiny_model(test::make_tiny_model(dims, 1), temp / "image");
        std::ifstream file(temp / "image" / M4_IMAGE_MANIFEST_NAME, std::ios::binary);
        const std::string text{std::istreambuf_iterator<char>(file), {}};
        seeds.emplace_back(text.begin(), text.end());
    }
    return seeds;
}

}  // namespace m4::fuzz
