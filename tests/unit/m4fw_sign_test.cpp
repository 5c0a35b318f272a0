// SPDX-License-Identifier: MIT
// keygen, sign and verify --cert as a user runs them.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "run_tool.hpp"
#include "tiny_model.hpp"

using namespace m4::test;

namespace {

Ran m4fw(const std::string& arguments) {
    return run_tool("m4fw", arguments);
}

void check_failure(const Ran& ran, const std::string& part) {
    check_failure_of("m4fw", ran, 1, part);
}

/// A signed image, its key and another key, made once for all cases here.
struct Signed {
    TempFolder temp;
    std::string image = (temp / "image").string();
    std::string key = (temp / "keys/m4.key").string();
    std::string certificate = (temp / "keys/m4.crt").string();
    std::string other_certificate = (temp / "other/m4.crt").string();
    std::string sign = "sign " + image + " --key " + key + " --cert " + certificate;

    Signed() {
        write_tiny_model(make_tiny_model({}, 1), image);
        REQUIRE(m4fw("keygen --out " + (temp / "keys").string()).status == 0);
        REQUIRE(
            m4fw("keygen --common-name other --days 1 --out " + (temp / "other").string()).status ==
            0);
        REQUIRE(m4fw(sign).status == 0);
    }
};

const Signed& sample() {
    static const Signed made;
    return made;
}

}  // namespace

TEST_CASE("m4fw keygen: a key nobody else reads, and never over another") {
    const Signed& s = sample();
    struct stat info {};
    REQUIRE(::stat(s.key.c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0600);
    const std::string before = file_text(s.key);
    const std::string folder = (s.temp / "keys").string();
    check_failure(m4fw("keygen --out " + folder), "m4.key: exists already");
    CHECK(file_text(s.key) == before);
    check_failure(m4fw("keygen --common-name '' --out " + (s.temp / "new").string()),
                  "keygen: the common name");
    CHECK_FALSE(std::filesystem::exists(s.temp / "new"));
    CHECK(m4fw("keygen --bits 2048 --out " + folder).status == 2);
}

TEST_CASE("m4fw verify: what is said of the author") {
    const Signed& s = sample();
    const auto json = [&](const std::string& more) {
        return nlohmann::json::parse(m4fw("verify --json " + s.image + more).out).at("signature");
    };
    CHECK(json("").at("present") == true);
    CHECK(json("").at("checked") == false);
    CHECK(contains(m4fw("verify " + s.image).out, "its author was not checked"));
    const auto checked = json(" --cert " + s.other_certificate + " --cert " + s.certificate);
    CHECK(checked.at("checked") == true);
    CHECK(checked.at("signer") == "CN=M4 development");
    CHECK(checked.at("certificate") == s.certificate);
    check_failure(m4fw("verify " + s.image + " --cert " + s.other_certificate),
                  "manifest.m4m.p7s: names CN=M4 development, serial");
    CHECK(nlohmann::json::parse(m4fw("inspect --json " + s.image).out).at("signature_bytes") > 400);
}

TEST_CASE("m4fw verify: no signature, a bad one, one of another manifest") {
    const Signed& s = sample();
    const TempFolder temp;
    const auto copy = temp / "copy";
    std::filesystem::copy(s.image, copy);
    const auto p7s = copy / "manifest.m4m.p7s";
    const std::string with_cert = "verify " + copy.string() + " --cert " + s.certificate;
    CHECK(m4fw(with_cert).status == 0);

    auto bytes = read_file(p7s);
    bytes.resize(200);
    write_file(p7s, bytes);
    check_failure(m4fw("verify " + copy.string()), "manifest.m4m.p7s: is no signature");
    write_file(p7s, std::vector<std::byte>(65537));
    check_failure(m4fw("verify " + copy.string()), "manifest.m4m.p7s: has more than 65536 bytes");
    write_file(p7s, {});
    check_failure(m4fw("verify " + copy.string()), "manifest.m4m.p7s: is empty");

    std::filesystem::remove(p7s);
    CHECK(contains(m4fw("verify " + copy.string()).out, "nobody signed it"));
    CHECK(contains(m4fw("inspect " + copy.string()).out, "signature      none"));
    check_failure(m4fw(with_cert), "manifest.m4m.p7s: is absent");

    const auto second = temp / "second";
    write_tiny_model(make_tiny_model({}, 2), second);
    std::filesystem::copy(s.temp / "image/manifest.m4m.p7s", second / "manifest.m4m.p7s");
    check_failure(m4fw("verify " + second.string() + " --cert " + s.certificate),
                  "does not match the manifest");
}

TEST_CASE("m4fw sign: refuses what it may not sign, and leaves the old signature") {
    const Signed& s = sample();
    const auto p7s = std::filesystem::path(s.image) / "manifest.m4m.p7s";
    const auto before = read_file(p7s);
    CHECK(m4fw(s.sign + " --json").status == 0);
    CHECK(read_file(p7s) == before);
    check_failure(m4fw("sign " + s.image + " --key " + s.key + " --cert " + s.other_certificate),
                  "m4.key: is not the key of " + s.other_certificate);
    check_failure(m4fw("sign " + s.image + " --key /nonexistent --cert " + s.certificate),
                  "/nonexistent: cannot open");
    CHECK(read_file(p7s) == before);

    const TempFolder temp;
    const auto copy = temp / "copy";
    std::filesystem::copy(s.image, copy);
    auto manifest = read_file(copy / "manifest.m4m");
    manifest.at(130) ^= std::byte{1};
    write_file(copy / "manifest.m4m", manifest);
    check_failure(m4fw("sign " + copy.string() + " --key " + s.key + " --cert " + s.certificate),
                  "manifest.m4m: header");
}
