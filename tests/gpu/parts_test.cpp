// SPDX-License-Identifier: MIT
// The parts of the engine that need no device: choice, windows, placement,
// pages.
#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "engine/kv_pool.hpp"
#include "engine/kv_sequence.hpp"
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

TEST_CASE("KvPool: whole pages, counted by who holds them") {
    engine::KvPool pool(64 * 3 * 10 + 5, 10, 64);
    CHECK(pool.pages() == 3);
    CHECK(pool.page_units() == 640);
    CHECK(pool.pages_of(0) == 0);
    CHECK(pool.pages_of(64) == 1);
    CHECK(pool.pages_of(65) == 2);
    const auto a = pool.take();
    const auto b = pool.take();
    CHECK(a == 0);
    CHECK(b == 1);
    pool.share(a);
    pool.share(a);
    CHECK(pool.used() == 2);
    CHECK(pool.shared_pages() == 1);
    pool.release(a);
    CHECK(pool.shared(a));
    pool.release(a);
    CHECK_FALSE(pool.shared(a));
    CHECK(pool.shared_pages() == 0);
    CHECK(pool.used() == 2);
    pool.release(a);
    CHECK(pool.free() == 2);
    CHECK(pool.take(b) == 2);  // its neighbour
    CHECK(pool.take(b) == a);
    CHECK_THROWS_AS((void)pool.take(), std::logic_error);
    // What kernels cannot address is not handed out.
    const engine::KvPool huge(std::uint64_t{1} << 40, 1U << 20, 64);
    CHECK(huge.pages() == 31);
}

TEST_CASE("KvSequence: clones hold pages together and part where they differ") {
    using engine::KvSequence;
    engine::KvPool pool(6 * 8, 1, 8);
    std::vector<engine::PageCopy> copies;
    KvSequence first(pool, 40);
    const auto append = [&](KvSequence& sequence, std::uint32_t count) {
        copies.clear();
        const std::uint32_t before = pool.free();
        const std::uint32_t most = sequence.pages_needed(count);
        sequence.take_pages(count, copies);
        sequence.grow(count);
        CHECK(before - pool.free() <= most);
        return most;
    };
    CHECK(append(first, 12) == 2);
    CHECK(copies.empty());
    const auto owned = first.clone();
    auto& second = dynamic_cast<KvSequence&>(*owned);
    CHECK(second.length() == 12);
    CHECK(second.capacity() == 40);
    CHECK(pool.used() == 2);
    CHECK(pool.shared_pages() == 2);
    CHECK(second.last_page_shared());

    CHECK(append(second, 1) == 1);  // a copy of the second page
    REQUIRE(copies.size() == 1);
    CHECK(copies[0].from == first.pages()[1]);
    CHECK(copies[0].to == second.pages()[1]);
    CHECK(second.pages()[0] == first.pages()[0]);
    CHECK_FALSE(first.last_page_shared());
    CHECK(append(first, 1) == 0);  // now its own
    CHECK(copies.empty());

    // Back into the page they share.
    second.rewind(5);
    CHECK(pool.used() == 2);
    CHECK(append(second, 9) == 2);  // a copy, and one more
    CHECK(copies.size() == 1);
    CHECK(pool.shared_pages() == 0);
    CHECK(pool.used() == 4);

    // To the end of a full page: nothing to copy.
    first.rewind(8);
    const auto third = first.clone();
    CHECK(third->pages_needed(1) == 1);
    CHECK(append(dynamic_cast<KvSequence&>(*third), 1) == 1);
    CHECK(copies.empty());
    // What a step took and did not use goes back.
    const std::uint32_t used = pool.used();
    first.take_pages(9, copies);
    CHECK(pool.used() == used + 2);
    first.trim();
    CHECK(pool.used() == used);
    CHECK_THROWS_AS(first.rewind(9), std::invalid_argument);
}

}  // namespace m4::test
