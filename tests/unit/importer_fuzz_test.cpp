// SPDX-License-Identifier: MIT
// What the fuzzer does, a little of it, with the same bytes every time.
#include <doctest/doctest.h>

#include <random>

#include "importer_target.hpp"

using namespace m4::fuzz;

TEST_CASE("importer fuzz: seeds are accepted, what is changed is read or refused") {
    const auto seeds = importer_seeds();
    for (std::size_t i = 0; i < seeds.size(); ++i) {
        CAPTURE(i);
        CHECK(check_importer(seeds[i]));
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
            switch (random() % 4) {
                case 0:
                    bytes[at] = static_cast<std::uint8_t>(random());
                    break;
                case 1:
                    bytes[at] ^= static_cast<std::uint8_t>(1U << random() % 8);
                    break;
                case 2:
                    bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                                 static_cast<std::uint8_t>("0123456789{}[],\"-e"[random() % 18]));
                    break;
                default:
                    bytes.erase(bytes.begin() + static_cast<std::ptrdiff_t>(at));
            }
        }
        accepted += check_importer(bytes) ? 1 : 0;
    }
    CHECK(accepted > kMutations / 100);
    CHECK(accepted < kMutations / 2);
}
