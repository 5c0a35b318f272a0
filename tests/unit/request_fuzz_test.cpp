// SPDX-License-Identifier: MIT
// What the fuzzer does, a little of it, with the same bytes every time.
#include <doctest/doctest.h>

#include <random>

#include "fd_leak.hpp"
#include "request_target.hpp"

using namespace m4::fuzz;

TEST_CASE("request fuzz: requests are known, what is changed is a command or refused") {
    const m4::test::FdLeakCheck leaks;
    const auto seeds = request_seeds();
    int requests = 0;
    for (const auto& seed : seeds) {
        requests += check_request(seed) ? 1 : 0;
    }
    // Of clients; the service's replies are none.
    CHECK(requests >= 21);
    CHECK(requests < static_cast<int>(seeds.size()));
    CHECK(check_request(seeds.back()));
    std::minstd_rand random(1);
    int accepted = 0;
    constexpr int kMutations = 20'000;
    for (int i = 0; i < kMutations; ++i) {
        auto bytes = seeds.at(random() % seeds.size());
        for (auto count = 1 + random() % 3; count > 0; --count) {
            bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random());
        }
        accepted += check_request(bytes) ? 1 : 0;
    }
    CHECK(accepted > kMutations / 50);
    CHECK(accepted < kMutations * 3 / 4);
}
