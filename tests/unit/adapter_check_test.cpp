// SPDX-License-Identifier: MIT
// The check of an adapter, and what m4d makes of its verdict, which nobody vouches for.
#include "adapters/check.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "adapters/adapter.hpp"
#include "lib/error.hpp"
#include "temp_folder.hpp"
#include "tiny_model.hpp"

namespace m4::test {

namespace {

class Fixture {
   public:
    Fixture()
        : model_(make_tiny_model({}, 3)), mapped_([&] {
              write_tiny_model(model_, folder_ / "image");
              return firmware::MappedImage::open_folder(folder_ / "image");
          }()) {}

    [[nodiscard]] const firmware::Image& image() const { return mapped_.image(); }

    /// A file of one pair for the first layer's q, of rank 2, its factors `value`.
    [[nodiscard]] std::vector<std::byte> file(float value) const {
        const std::vector<float> a(std::size_t{2} * model_.dims.hidden, value);
        const std::vector<float> b(std::size_t{2} * model_.dims.heads * model_.dims.head_dim,
                                   value);
        firmware::Adapter adapter;
        adapter.name = "mine";
        firmware::LowRankPair pair;
        pair.tensor = "layer.0.q.weight";
        pair.rank = 2;
        pair.rows = model_.dims.heads * model_.dims.head_dim;
        pair.columns = model_.dims.hidden;
        pair.scale = 0.5F;
        pair.order = M4_ROW_ORDER_HALF_SPLIT;
        pair.a = std::as_bytes(std::span(a));
        pair.b = std::as_bytes(std::span(b));
        adapter.pairs.push_back(pair);
        return firmware::encode_adapter(adapter);
    }

   private:
    TempFolder folder_;
    TinyModel model_;
    firmware::MappedImage mapped_;
};

}  // namespace

TEST_CASE("adapter check: what is accepted tells what it is and where its pairs lie") {
    const Fixture fixture;
    const auto file = std::make_shared<const adapters::File>(fixture.file(0.25F));
    const adapters::Verdict verdict = adapters::check(file->bytes(), fixture.image());
    CAPTURE(verdict.report.reason);
    CHECK(verdict.report.accepted);
    CHECK(verdict.report.name == "mine");
    CHECK(verdict.report.part == "backbone");
    CHECK(verdict.report.pairs == 1);
    CHECK(verdict.report.matched == 1);
    CHECK(verdict.report.acting == 1);
    CHECK(verdict.report.rank == 2);
    CHECK(verdict.report.image == fixture.image().digest());
    CHECK(verdict.report.device_bytes > 0);

    const auto source = adapters::open(file, fixture.image(), verdict);
    REQUIRE(source->pairs.size() == 1);
    CHECK(source->digest == verdict.report.digest);
    CHECK(fixture.image().tensors()[source->pairs[0].tensor].name == "layer.0.q.weight");
    float first = 0;
    std::memcpy(&first, source->pairs[0].b.data(), sizeof first);
    CHECK(first == 0.25F);

    // The same through a packet.
    const auto packet = adapters::report_packet(1, verdict.report);
    CHECK(adapters::parse_report(packet.bytes).digest == verdict.report.digest);
}

TEST_CASE("adapter check: one that changes nothing, and one that is no adapter") {
    const Fixture fixture;
    const adapters::Verdict zero = adapters::check(fixture.file(0), fixture.image());
    CHECK(!zero.report.accepted);
    CHECK(zero.report.acting == 0);
    CHECK(zero.pairs.empty());
    CHECK(!zero.report.reason.empty());
    const std::vector<std::byte> noise(1000, std::byte{7});
    const adapters::Verdict none = adapters::check(noise, fixture.image());
    CHECK(!none.report.accepted);
    CHECK(!none.report.reason.empty());
    CHECK(!adapters::check({}, fixture.image()).report.accepted);
}

TEST_CASE("adapter check: a verdict that lies is held against file and image") {
    const Fixture fixture;
    const auto file = std::make_shared<const adapters::File>(fixture.file(0.25F));
    const adapters::Verdict good = adapters::check(file->bytes(), fixture.image());
    REQUIRE(good.pairs.size() == 1);
    const auto refused = [&](auto&& lie) {
        adapters::Verdict verdict = good;
        lie(verdict.pairs[0]);
        CHECK_THROWS_AS((void)adapters::open(file, fixture.image(), verdict), firmware::Error);
    };
    using adapters::PlacedPair;
    constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
    refused([](PlacedPair& pair) { pair.tensor = 1'000'000; });
    refused([](PlacedPair& pair) { pair.rank = 0; });
    refused([](PlacedPair& pair) { pair.rank = 257; });
    refused([](PlacedPair& pair) { pair.rank = 255; });  // of fewer bytes than that
    refused([](PlacedPair& pair) { pair.dtype = 99; });
    refused([](PlacedPair& pair) { pair.order = 3; });
    refused([&](PlacedPair& pair) { pair.a_offset = kMost; });
    refused([&](PlacedPair& pair) { pair.b_offset = kMost - 8; });
    refused([&](PlacedPair& pair) { pair.b_offset = file->bytes().size() - 4; });
    // A vector is no matrix.
    std::uint32_t vector = 0;
    while (fixture.image().tensors()[vector].rank != 1) {
        ++vector;
    }
    refused([&](PlacedPair& pair) { pair.tensor = vector; });

    CHECK_THROWS((void)adapters::parse_report({}));
    const std::vector<std::byte> noise(100, std::byte{3});
    CHECK_THROWS((void)adapters::parse_report(noise));
}

TEST_CASE("adapter check: a report's words cannot move a terminal") {
    adapters::Report report;
    report.reason = "bell \a and escape \x1b[2J";
    report.unmatched = {"a\nb"};
    const auto packet = adapters::report_packet(1, report);
    const adapters::Report got = adapters::parse_report(packet.bytes);
    CHECK(got.reason == "bell ? and escape ?[2J");
    CHECK(got.unmatched.at(0) == "a?b");
}

}  // namespace m4::test
