// SPDX-License-Identifier: MIT
// The parts of the engine that need no device: choice, windows, placement,
// pool.
#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "engine/kv_pool.hpp"
#include "engine/placement.hpp"
#include "vk/device_choice.hpp"
#include "vk/error.hpp"
#include "weights/windows.hpp"

namespace m4::test {

namespace {

std::string refusal(const std::vector<vk::Candidate>& candidates, const char* wanted) {
    try {
        (void)vk::choose_device(candidates, wanted);
    } catch (const vk::DeviceError& error) {
        return error.what();
    }
    return {};
}

}  // namespace

TEST_CASE("choose_device: best type, index, part of a name") {
    using vk::DeviceType;
    const std::vector<vk::Candidate> candidates = {
        {"llvmpipe (LLVM 15)", DeviceType::cpu, ""},
        {"Old Discrete", DeviceType::discrete, "Vulkan 1.0 is older than 1.2"},
        {"Adreno 740", DeviceType::integrated, ""},
        {"Mali-G720", DeviceType::integrated, ""}};
    CHECK(vk::choose_device(candidates, "") == 2);
    CHECK(vk::choose_device(candidates, "0") == 0);
    CHECK(vk::choose_device(candidates, "mali") == 3);
    CHECK(vk::choose_device(candidates, "LLVMPIPE") == 0);
    CHECK(refusal(candidates, "nvidia") ==
          "no Vulkan device 'nvidia'; the Vulkan devices here are: 0 = llvmpipe (LLVM 15) (CPU); "
          "1 = Old Discrete (discrete GPU, unusable: Vulkan 1.0 is older than 1.2); "
          "2 = Adreno 740 (integrated GPU); 3 = Mali-G720 (integrated GPU)");
    CHECK(refusal(candidates, "7").starts_with("no Vulkan device '7'; "));
    CHECK(refusal(candidates, "1").starts_with("Vulkan device '1' cannot be used; "));
    CHECK(refusal({}, "") == "no usable Vulkan device; this machine has no Vulkan device");
}

TEST_CASE("plan_windows: every tensor whole in a window") {
    using weights::Wanted;
    constexpr std::uint64_t kPage = 4096;
    const std::vector<Wanted> wanted = {
        {"a", {0, 6000}}, {"b", {6144, 10000}}, {"c", {16384, 4096}}, {"d", {40960, 300}}};
    const auto whole = weights::plan_windows(wanted, 16 * kPage, 16 * kPage, kPage);
    REQUIRE(whole.windows.size() == 1);
    CHECK(whole.windows[0].size_bytes == 16 * kPage);

    const auto cut = weights::plan_windows(wanted, 16 * kPage, 4 * kPage, kPage);
    REQUIRE(cut.window_of.size() == wanted.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        const weights::Extent& window = cut.windows[cut.window_of[i]];
        const weights::Extent& extent = wanted[i].extent;
        CHECK(window.offset % kPage == 0);
        CHECK(window.size_bytes % kPage == 0);
        CHECK(window.size_bytes <= 4 * kPage);
        CHECK(window.offset <= extent.offset);
        CHECK(window.offset + window.size_bytes >= extent.offset + extent.size_bytes);
    }
    CHECK(cut.windows.size() == 3);  // a b | c (beginning on b's last page or later) | d

    CHECK_THROWS_WITH_AS(
        (void)weights::plan_windows(wanted, 16 * kPage, 2 * kPage, kPage),
        "tensor 'b' of 10000 bytes is larger than the device's largest buffer, 8192 bytes",
        vk::DeviceError);
}

TEST_CASE("place_values: live values never overlap, dead ones make room") {
    using engine::Lifetime;
    const std::vector<Lifetime> chain = {{100, 0, 1}, {100, 1, 2}, {100, 2, 3}, {100, 3, 4}};
    CHECK(engine::place_values(chain, 256).size_bytes == 256 + 100);

    std::mt19937_64 random(3);
    std::vector<Lifetime> values(200);
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = {random() % 5000, i, i + random() % 9};
    }
    const auto placement = engine::place_values(values, 256);
    for (std::size_t a = 0; a < values.size(); ++a) {
        CHECK(placement.offsets[a] % 256 == 0);
        CHECK(placement.offsets[a] + values[a].size_bytes <= placement.size_bytes);
        for (std::size_t b = 0; b < a; ++b) {
            const bool together =
                values[a].first <= values[b].last && values[b].first <= values[a].last;
            const bool apart =
                placement.offsets[a] + values[a].size_bytes <= placement.offsets[b] ||
                placement.offsets[b] + values[b].size_bytes <= placement.offsets[a] ||
                values[a].size_bytes == 0 || values[b].size_bytes == 0;
            CHECK((!together || apart));
        }
    }
}

TEST_CASE("KvPool: first fit, rounding, joining of neighbours") {
    engine::KvPool pool(64 * 3 * 10 + 5, 10);
    const auto a = pool.allocate(1);
    const auto b = pool.allocate(64);
    const auto c = pool.allocate(10);
    REQUIRE((a && b && c));
    CHECK(a->positions == 64);
    CHECK(b->first_unit == 640);
    CHECK(pool.used_units() == 1920);
    CHECK_FALSE(pool.allocate(1));
    pool.free(*a);
    pool.free(*c);
    CHECK_FALSE(pool.allocate(65));  // two gaps, neither wide enough
    pool.free(*b);
    CHECK(pool.used_units() == 0);
    const auto all = pool.allocate(192);
    REQUIRE(all);
    CHECK(all->first_unit == 0);
    CHECK_FALSE(pool.allocate(0));
}

}  // namespace m4::test
