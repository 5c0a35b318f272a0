// SPDX-License-Identifier: MIT
// The image store: what each operation does, and refuses.
#include <doctest/doctest.h>

#include "signed_images.hpp"
#include "store/store.hpp"
#include "temp_folder.hpp"

using namespace m4::test;
using m4::store::FirmwareStore;
using m4::store::Links;
using m4::store::Staged;
using m4::store::StoredImage;
namespace fs = std::filesystem;

namespace {

/// Three images to choose from, made once.
struct Sources {
    TempFolder temp;
    std::string one = write_signed_image(temp / "one", "1", 3, true);
    std::string two = write_signed_image(temp / "two", "2", 3);
    std::string old = write_signed_image(temp / "old", "0", 2);

    [[nodiscard]] static std::string id(const std::string& digest) { return digest.substr(0, 16); }
};

const Sources& sources() {
    static const Sources made;
    return made;
}

/// A store with images one and two, one current.
struct Stocked {
    TempFolder temp;
    fs::path root = temp / "m4";
    FirmwareStore store{root, "tiny"};
    std::string one = Sources::id(sources().one);
    std::string two = Sources::id(sources().two);

    Stocked() {
        store.lock();
        store.stage(sources().temp / "one");
        store.stage(sources().temp / "two");
        store.activate(one);
    }
};

std::string digest_of(const fs::path& folder) {
    return m4::firmware::to_hex(m4::firmware::MappedImage::open_folder(folder).image().digest());
}

}  // namespace

TEST_CASE("store: stage copies every byte, and only once") {
    const TempFolder temp;
    FirmwareStore store(temp / "m4", "tiny");
    CHECK(store.list().empty());
    store.lock();
    std::uint64_t last = 0;
    const Staged staged = store.stage(sources().temp / "one",
                                      [&](std::uint64_t done, std::uint64_t) { last = done; });
    CHECK_FALSE(staged.was_there);
    CHECK(staged.author.starts_with("CN=first"));
    CHECK(staged.image.digest == sources().one);
    CHECK(staged.image.rollback_index == 3);
    CHECK(last == 2 * M4_IMAGE_CHUNK_BYTES);
    const fs::path folder = temp / "m4/.images/tiny" / Sources::id(sources().one);
    CHECK(digest_of(folder) == sources().one);
    for (const char* name : {"manifest.m4m", "manifest.m4m.p7s", "seg-000.m4w", "seg-001.m4w"}) {
        CHECK(read_file(folder / name) == read_file(sources().temp / "one" / name));
    }
    CHECK(store.stage(sources().temp / "one").was_there);
    CHECK(store.list().size() == 1);
    CHECK(store.links().current.empty());  // staging activates nothing
}

TEST_CASE("store: stage refuses, and leaves nothing behind") {
    const TempFolder temp;
    FirmwareStore store(temp / "m4", "tiny");
    FirmwareStore other(temp / "other", "backbone");
    store.lock();
    other.lock();
    const auto copy = temp / "copy";
    const auto fresh = [&] {
        fs::remove_all(copy);
        fs::copy(sources().temp / "one", copy);
    };
    const auto refused = [&](const char* part) {
        const std::string text = refusal([&] { store.stage(copy); });
        CAPTURE(text);
        CHECK(contains(text, part));
        CHECK(std::distance(fs::directory_iterator(temp / "m4/.images/tiny"), {}) == 1);  // .lock
    };
    fresh();
    CHECK(contains(refusal([&] { other.stage(copy); }), "image named 'tiny', not 'backbone'"));
    fs::remove(copy / "manifest.m4m.p7s");
    refused("manifest.m4m.p7s: is absent");
    write_file(copy / "manifest.m4m.p7s", std::vector<std::byte>(9));
    refused("is no signature");
    fresh();
    auto bytes = read_file(copy / "seg-001.m4w");
    bytes.at(5) ^= std::byte{1};
    write_file(copy / "seg-001.m4w", bytes);
    refused("seg-001.m4w: chunk 0 (bytes 0..2097151): digest does not match");
    bytes.resize(4096);
    write_file(copy / "seg-001.m4w", bytes);
    refused("seg-001.m4w: 4096 bytes instead of 2097152");
    fs::remove(copy / "seg-001.m4w");
    refused("seg-001.m4w: cannot open");
    fs::create_symlink(sources().temp / "one/seg-001.m4w", copy / "seg-001.m4w");
    refused("symbolic link");
    fresh();
    fs::remove(copy / "manifest.m4m");
    refused("manifest.m4m: is absent");
    fs::remove_all(copy);
    refused("copy: cannot open");
}

TEST_CASE("store: a damaged copy is replaced, a new signature taken over") {
    Stocked s;
    const fs::path folder = s.root / ".images/tiny" / s.one;
    const fs::path shard = folder / "seg-000.m4w";
    auto bytes = read_file(shard);
    bytes.at(7) ^= std::byte{1};
    write_file(shard, bytes);
    CHECK_FALSE(s.store.stage(sources().temp / "one").was_there);
    CHECK(digest_of(s.root / "tiny") == sources().one);

    const TempFolder temp;
    fs::copy(sources().temp / "one", temp / "again");
    sign_folder(temp / "again", 1);
    const Staged again = s.store.stage(temp / "again");
    CHECK(again.was_there);
    CHECK(again.signature_replaced);
    CHECK(read_file(folder / "manifest.m4m.p7s") == read_file(temp / "again/manifest.m4m.p7s"));
    CHECK(s.store.list().size() == 2);
}

TEST_CASE("store: activate, restore, and what previous names") {
    Stocked s;
    CHECK(s.store.links().current == s.one);
    CHECK(s.store.links().previous.empty());
    CHECK(fs::read_symlink(s.root / "tiny") == ".images/tiny/" + s.one);
    CHECK(digest_of(s.root / "tiny") == sources().one);

    const Links former = s.store.activate(s.two);
    CHECK(former.current == s.one);
    CHECK(s.store.links().current == s.two);
    CHECK(s.store.links().previous == s.one);
    CHECK(digest_of(s.root / "tiny") == sources().two);
    s.store.restore(former);
    CHECK(s.store.links().current == s.one);
    CHECK(s.store.links().previous.empty());

    s.store.activate(s.two);
    s.store.activate(s.two);  // no change: previous stays a way back
    CHECK(s.store.links().previous == s.one);
    s.store.activate(s.store.links().previous);
    CHECK(s.store.links().current == s.one);
    CHECK(s.store.links().previous == s.two);

    fs::remove(s.root / ".images/tiny" / s.two / "manifest.m4m.p7s");
    CHECK(contains(refusal([&] { s.store.activate(s.two); }), "has no signature"));
    fs::remove(s.root / ".images/tiny" / s.two / "manifest.m4m");
    CHECK(contains(refusal([&] { s.store.activate(s.two); }), "manifest.m4m: is absent"));
    CHECK(s.store.links().current == s.one);
}

TEST_CASE("store: an image by digest, version or as the latest") {
    Stocked s;
    CHECK(s.store.find(sources().two).id == s.two);
    CHECK(s.store.find(s.two.substr(0, 8)).id == s.two);
    CHECK(s.store.find("1").id == s.one);
    CHECK(contains(refusal([&] { (void)s.store.find(s.two.substr(0, 7)); }), "holds no image"));
    CHECK(contains(refusal([&] { (void)s.store.find("3"); }), "holds no image '3'"));
    const auto now = fs::file_time_type::clock::now();
    fs::last_write_time(s.root / ".images/tiny" / s.one, now - std::chrono::hours(1));
    fs::last_write_time(s.root / ".images/tiny" / s.two, now);
    CHECK(s.store.find("latest").id == s.two);
    s.store.stage(sources().temp / "old");
    CHECK(s.store.find("latest").id == s.two);  // a lower rollback index is no later
    CHECK(s.store.list().size() == 3);

    const TempFolder temp;
    const std::string twin = write_signed_image(temp / "twin", "1", 9);
    s.store.stage(temp / "twin");
    CHECK(contains(refusal([&] { (void)s.store.find("1"); }), "may be any of"));
    CHECK(s.store.find("latest").digest == twin);
    FirmwareStore empty(temp / "none", "tiny");
    CHECK(contains(refusal([&] { (void)empty.find("latest"); }), "holds no image"));
}

TEST_CASE("store: remove keeps what is needed") {
    Stocked s;
    s.store.activate(s.two);
    CHECK(contains(refusal([&] { s.store.remove(s.two); }), "is the current image"));
    CHECK(contains(refusal([&] { s.store.remove(s.one); }), "rollback needs it"));
    s.store.stage(sources().temp / "old");
    s.store.remove(Sources::id(sources().old));
    CHECK(s.store.list().size() == 2);
    CHECK(contains(refusal([&] { s.store.remove(Sources::id(sources().old)); }), "rename"));
}

TEST_CASE("store: one at a time") {
    Stocked s;
    FirmwareStore second(s.root, "tiny");
    CHECK(contains(refusal([&] { second.lock(); }), "being changed by another process"));
    CHECK(second.list().size() == 2);  // looking needs no lock
    CHECK_THROWS_AS(second.activate(s.two), std::logic_error);
    FirmwareStore other(s.root, "other");
    CHECK_NOTHROW(other.lock());
}

TEST_CASE("store: what stands in the link's place") {
    Stocked s;
    fs::remove(s.root / "tiny");
    fs::copy(sources().temp / "two", s.root / "tiny");
    CHECK(contains(refusal([&] { s.store.activate(s.one); }), "--adopt"));
    CHECK(s.store.list().size() == 2);
    CHECK(contains(refusal([&] { s.store.adopt(); }), "is in the store already"));
    s.store.remove(s.two);
    CHECK(s.store.adopt() == s.two);
    CHECK(s.store.links().current == s.two);
    CHECK(digest_of(s.root / "tiny") == sources().two);
    CHECK(contains(refusal([&] { s.store.adopt(); }), "is no plain folder"));

    fs::remove(s.root / "tiny");
    fs::create_symlink(sources().temp / "one", s.root / "tiny");
    CHECK(contains(refusal([&] { s.store.activate(s.one); }), "which is not in the store"));
    fs::remove(s.root / "tiny");
    write_file(s.root / "tiny", {});
    CHECK(contains(refusal([&] { s.store.activate(s.one); }), "neither a folder nor a link"));
}

TEST_CASE("store: the rollback floor is a number or an error") {
    Stocked s;
    CHECK_FALSE(s.store.rollback_floor().has_value());
    s.store.set_rollback_floor(18'446'744'073'709'551'615U);
    CHECK(s.store.rollback_floor() == 18'446'744'073'709'551'615U);
    s.store.set_rollback_floor(2);
    CHECK(s.store.rollback_floor() == 2);
    for (const char* text : {"", "\n", "-1", "2x", "99999999999999999999"}) {
        CAPTURE(text);
        write_file(s.root / ".images/tiny/rollback_floor",
                   std::as_bytes(std::span(std::string_view(text))));
        CHECK(contains(refusal([&] { (void)s.store.rollback_floor(); }), "not hold a number"));
    }
}

TEST_CASE("store: a name that could leave the store") {
    for (const char* name :
         {"", "..", "a/b", ".images", "-a", "A", "a23456789012345678901234567890123"}) {
        CAPTURE(name);
        CHECK(contains(refusal([&] { FirmwareStore("/nonexistent", name); }), "no name"));
    }
}
