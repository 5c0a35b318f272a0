// SPDX-License-Identifier: MIT
// Whose adapters these are, and how many.
#include "adapters/store.hpp"

#include <doctest/doctest.h>

#include <memory>

namespace m4::test {

namespace {

using adapters::Quota;
using adapters::Report;
using adapters::Store;

Report report(std::uint8_t name, std::uint64_t bytes = 100) {
    Report made;
    made.digest.fill(name);
    made.accepted = true;
    made.bytes = bytes;
    return made;
}

Store::Source source() {
    return std::make_shared<sched::AdapterSource>();
}

Store::User user(uid_t uid, sched::ClientId client, std::uint64_t now_s = 0) {
    return {uid, client, now_s};
}

}  // namespace

TEST_CASE("adapter store: of another user there is none, unless it is published") {
    Store store(Quota{});
    const Report one = report(1);
    REQUIRE(!store.add(user(1000, 1), one, source(), true));
    CHECK(store.find(user(1000, 2), one.digest) != nullptr);
    CHECK(store.find(user(1001, 3), one.digest) == nullptr);
    CHECK(store.list(user(1001, 3)).empty());
    CHECK(!store.remove(user(1001, 3), one.digest));
    CHECK(store.list(user(0, 4)).size() == 1);

    CHECK(store.publish(one.digest, true));
    CHECK(store.find(user(1001, 3), one.digest) != nullptr);
    CHECK(store.list(user(1001, 3)).at(0).published);
    CHECK(!store.remove(user(1001, 3), one.digest));
    CHECK(store.publish(one.digest, false));
    CHECK(store.find(user(1001, 3), one.digest) == nullptr);
    CHECK(!store.publish(report(9).digest, true));
}

TEST_CASE("adapter store: two users bring one file; each lets go of his own") {
    Store store(Quota{});
    const Report one = report(1);
    REQUIRE(!store.add(user(1000, 1), one, source(), true));
    const auto first = store.find(user(1000, 1), one.digest);
    REQUIRE(!store.add(user(1001, 2), one, source(), true));
    CHECK(store.count() == 1);
    CHECK(store.find(user(1001, 2), one.digest) == first);
    CHECK(store.remove(user(1000, 1), one.digest));
    CHECK(store.find(user(1000, 1), one.digest) == nullptr);
    CHECK(store.find(user(1001, 2), one.digest) != nullptr);
    CHECK(store.remove(user(0, 3), one.digest));
    CHECK(store.count() == 0);
}

TEST_CASE("adapter store: what is not kept goes with its connection") {
    Store store(Quota{.count_per_client = 1});
    const Report one = report(1);
    REQUIRE(!store.add(user(1000, 1), one, source(), false));
    CHECK(store.find(user(1000, 1), one.digest) != nullptr);
    CHECK(store.find(user(1000, 2), one.digest) == nullptr);
    CHECK(store.add(user(1000, 1), report(2), source(), false).has_value());
    CHECK(!store.add(user(1000, 1), one, source(), false));  // it has that one
    store.forget(1);
    CHECK(store.count() == 0);

    // Kept and lent: the connection's end leaves what is kept.
    REQUIRE(!store.add(user(1000, 1), one, source(), false));
    REQUIRE(!store.add(user(1000, 1), one, source(), true));
    store.forget(1);
    CHECK(store.find(user(1000, 2), one.digest) != nullptr);
}

TEST_CASE("adapter store: quotas by uid tell how much there is and may be") {
    Store store(Quota{.bytes_per_uid = 250, .count_per_uid = 3});
    REQUIRE(!store.add(user(1000, 1), report(1), source(), true));
    REQUIRE(!store.add(user(1000, 1), report(2), source(), true));
    const auto refusal = store.add(user(1000, 1), report(3), source(), true);
    REQUIRE(refusal.has_value());
    CHECK(refusal->find("200 of the 250") != std::string::npos);
    CHECK(!store.add(user(1000, 1), report(1), source(), true));  // there already
    CHECK(!store.add(user(1001, 2), report(3), source(), true));
    REQUIRE(!store.add(user(1000, 1), report(4, 10), source(), true));
    CHECK(store.add(user(1000, 1), report(5, 10), source(), true)->find("keep 3") !=
          std::string::npos);
    CHECK(store.bytes_of(1000) == 210);
    CHECK(store.bytes() == 310);

    // What connections have counts for their uid, too: once, whoever has it.
    CHECK(store.add(user(1000, 1), report(6, 41), source(), false).has_value());
    CHECK(!store.add(user(1000, 1), report(6, 40), source(), false));
    CHECK(!store.add(user(1000, 7), report(6, 40), source(), false));
    CHECK(store.bytes_of(1000) == 250);
    CHECK(store.list(user(0, 9)).size() == 5);
    CHECK(store.list(user(0, 9)).back().uid == 1000);
    store.forget(1);
    CHECK(store.bytes_of(1000) == 250);
    store.forget(7);
    CHECK(store.bytes_of(1000) == 210);
}

TEST_CASE("adapter store: collecting takes what is unused for so long, and the caller's own") {
    Store store(Quota{});
    REQUIRE(!store.add(user(1000, 1, 0), report(1), source(), true));
    REQUIRE(!store.add(user(1000, 1, 0), report(2), source(), true));
    REQUIRE(!store.add(user(1001, 2, 0), report(3), source(), true));
    REQUIRE(!store.add(user(1001, 2, 0), report(4), source(), true));
    CHECK(store.publish(report(4).digest, true));
    (void)store.find(user(1000, 1, 90), report(2).digest);
    CHECK(store.list(user(1000, 1, 100)).at(0).unused_s == 100);
    const auto removed = store.collect(user(1000, 1, 100), 50);
    CHECK(removed.count == 1);
    CHECK(removed.bytes == 100);
    CHECK(store.find(user(1000, 1, 100), report(1).digest) == nullptr);
    CHECK(store.find(user(1000, 1, 100), report(2).digest) != nullptr);
    CHECK(store.collect(user(0, 9, 1000), 500).count == 2);  // not the published one
    CHECK(store.count() == 1);
}

}  // namespace m4::test
