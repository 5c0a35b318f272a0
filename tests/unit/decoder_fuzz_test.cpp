// SPDX-License-Identifier: MIT
// What the fuzzer does, a little of it, with the same bytes every time.
#include <doctest/doctest.h>

#include <random>

#include "decoder_target.hpp"

using namespace m4::fuzz;

TEST_CASE("decoder fuzz: seeds are accepted, what is changed is decoded or refused") {
    const auto seeds = decoder_seeds();
    for (std::size_t i = 0; i < seeds.size(); ++i) {
        CAPTURE(i);
        CHECK(check_decoder(seeds[i]));
    }
    std::minstd_rand random(1);
    int accepted = 0;
    constexpr int kMutations = 6000;
    for (int i = 0; i < kMutations; ++i) {
        auto bytes = seeds.at(random() % seeds.size());
        for (auto count = 1 + random() % 3; count > 0; --count) {
            // Mostly near the front, where headers are.
            const std::size_t reach = random() % 2 == 0 ? bytes.size() : 1 + bytes.size() / 16;
            const std::size_t at = 1 + random() % reach % (bytes.size() - 1);
            if (random() % 3 == 0) {
                bytes.resize(at + 1);
            } else {
                bytes[at] = static_cast<std::uint8_t>(random());
            }
        }
        if (decoder_input(bytes[0]) == DecoderInput::image) {
            tame_image({bytes.data() + 1, bytes.size() - 1});
        }
        accepted += check_decoder(bytes) ? 1 : 0;
    }
    CHECK(accepted > kMutations / 50);
    CHECK(accepted < kMutations * 3 / 4);
}
