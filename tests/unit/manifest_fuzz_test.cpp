// SPDX-License-Identifier: MIT
// What the fuzzer does, a little of it, with the same bytes every time: its
// seeds, and mutations of them by its own mutator.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>

#include "manifest_mutator.hpp"
#include "manifest_seeds.hpp"
#include "manifest_target.hpp"

using namespace m4::fuzz;

namespace {

constexpr int kMutations = 20'000;
constexpr std::size_t kRoom = 4096;

}  // namespace

TEST_CASE("manifest fuzz: seeds are accepted, mutations are refused or keep their promises") {
    const auto seeds = manifest_seeds();
    for (const auto& seed : seeds) {
        CHECK(check_manifest(seed) == Depth::kAccepted);
    }
    std::minstd_rand random(1);
    const ByteMutator flip = [&](std::uint8_t* data, std::size_t size, std::size_t max) {
        data[random() % size] ^= static_cast<std::uint8_t>(1U << (random() % 8));
        switch (random() % 8) {
            case 0:
                return size - 1;
            case 1:
                if (size < max) {
                    data[size] = static_cast<std::uint8_t>(random());
                    return size + 1;
                }
                return size;
            default:
                return size;
        }
    };
    std::map<Depth, int> reached;
    for (int i = 0; i < kMutations; ++i) {
        auto bytes = seeds.at(random() % seeds.size());
        const std::size_t size = bytes.size();
        bytes.resize(size + kRoom);
        bytes.resize(mutate_manifest(bytes.data(), size, bytes.size(),
                                     static_cast<std::uint32_t>(random()), flip));
        bytes.shrink_to_fit();  // the sanitizer sees the first byte past the end
        ++reached[check_manifest(bytes)];
    }
    // The mutator gets everywhere, or it would test only the first rule.
    CHECK(reached[Depth::kStructure] > kMutations / 20);
    CHECK(reached[Depth::kDigests] > kMutations / 50);
    CHECK(reached[Depth::kPrograms] > kMutations / 50);
    CHECK(reached[Depth::kAccepted] > 10);
}
