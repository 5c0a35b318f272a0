// SPDX-License-Identifier: MIT
// The fuzzer's target over its seeds and plain mutations of them, without a fuzzer.
#include <doctest/doctest.h>

#include <random>

#include "adapter_target.hpp"

TEST_CASE("adapter: seeds are accepted, and mutations refused or kept to their promises") {
    std::mt19937 engine(11);
    std::size_t accepted = 0;
    std::size_t refused = 0;
    for (const auto& seed : m4::fuzz::adapter_seeds()) {
        CHECK(m4::fuzz::check_adapter(seed));
        for (int round = 0; round < 3000; ++round) {
            auto bytes = seed;
            for (int change = 0; change < 1 + round % 4; ++change) {
                const std::size_t at = engine() % bytes.size();
                bytes[at] = round % 3 == 0 ? static_cast<std::uint8_t>(engine())
                                           : static_cast<std::uint8_t>(bytes[at] + 1 - round % 3);
            }
            if (round % 10 == 0) {
                bytes.resize(engine() % (bytes.size() + 100));
            }
            ++(m4::fuzz::check_adapter(bytes) ? accepted : refused);
        }
    }
    CHECK(accepted > 100);
    CHECK(refused > 1000);
}
