// SPDX-License-Identifier: MIT
// m4ctl firmware over a store of its own and a kernel that is played.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "fake_kernel.hpp"
#include "fake_service.hpp"
#include "handles.hpp"
#include "kernel_image.hpp"
#include "run_tool.hpp"
#include "signed_images.hpp"

using namespace m4::test;
namespace fs = std::filesystem;
namespace wire = m4::wire;
using nlohmann::json;

namespace {

struct Sources {
    TempFolder temp;
    std::string one = write_signed_image(temp / "one", "1", 1);
    std::string two = write_signed_image(temp / "two", "2", 2);
};

const Sources& sources() {
    static const Sources made;
    return made;
}

std::string id_of(const std::string& digest) {
    return digest.substr(0, 16);
}

/// A store, a kernel, and m4ctl told of both.
struct Machine {
    TempFolder temp;
    fs::path root = temp / "m4";
    FakeKernel kernel{temp / "sys", root / "tiny"};

    [[nodiscard]] Ran ctl(const std::string& arguments) const {
        return run_tool("m4ctl", "firmware " + arguments + " --name tiny --store " + root.string() +
                                     " --sysfs " + (temp / "sys").string());
    }
    [[nodiscard]] json ctl_json(const std::string& arguments) const {
        const Ran ran = ctl(arguments + " --json");
        CAPTURE(ran.err);
        REQUIRE(ran.status == 0);
        return json::parse(ran.out);
    }
    void refused(const std::string& arguments, const std::string& part) const {
        check_failure_of("m4ctl", ctl(arguments), 1, part);
    }
    void stock() const {
        for (const char* source : {"one", "two"}) {
            REQUIRE(ctl("stage " + (sources().temp / source).string()).status == 0);
        }
    }
    [[nodiscard]] std::string current() const {
        return fs::read_symlink(root / "tiny").filename().string();
    }
};

void answer_model(Conversation& conversation, const std::string& digest, const std::string& source,
                  bool development = false) {
    conversation.expect<wire::ModelInfoRequest>();
    conversation.send(conversation.id, [&](m4::protocol::Encoder& e) {
        std::vector<std::uint8_t> bytes;
        for (std::size_t i = 0; i + 1 < digest.size(); i += 2) {
            bytes.push_back(static_cast<std::uint8_t>(std::stoi(digest.substr(i, 2), nullptr, 16)));
        }
        auto& b = e.builder();
        const auto name = b.CreateString("tiny");
        const auto sum = b.CreateVector(bytes);
        const auto from = b.CreateString(source);
        const auto signer = b.CreateString(source == "device" ? "CN=x: 01ab" : "");
        const auto state = b.CreateString("ready");
        wire::ModelInfoReplyBuilder reply(b);
        reply.add_name(name);
        reply.add_digest(sum);
        reply.add_source(from);
        reply.add_signer(signer);
        reply.add_generation(source == "device" ? 1 : 0);
        reply.add_development(development);
        reply.add_state(state);
        return reply.Finish();
    });
    conversation.await_hangup();
}

}  // namespace

TEST_CASE("m4ctl firmware: stage, list, activate, rollback, remove") {
    const Machine m;
    CHECK(m.ctl_json("list").at("images").empty());
    m.refused("activate latest", "holds no image: stage one");
    const json staged = m.ctl_json("stage " + (sources().temp / "one").string());
    CHECK(staged.at("digest") == sources().one);
    CHECK(staged.at("already_staged") == false);
    CHECK(contains(m.ctl("stage " + (sources().temp / "one").string()).out, "there already"));
    m.stock();

    const json first = m.ctl_json("activate 1");
    CHECK(first.at("current") == id_of(sources().one));
    CHECK(first.at("generation") == 1);
    CHECK(m.kernel.get("digest") == sources().one);
    const json second = m.ctl_json("activate " + sources().two);
    CHECK(second.at("generation") == 2);
    CHECK(second.at("previous") == id_of(sources().one));
    CHECK(m.ctl("activate latest").status == 0);
    CHECK(m.kernel.loads == 2);  // the last was served already

    const json list = m.ctl_json("list");
    CHECK(list.at("serving_digest") == sources().two);
    for (const json& image : list.at("images")) {
        const bool is_two = image.at("digest") == sources().two;
        CHECK(image.at("current") == is_two);
        CHECK(image.at("serving") == is_two);
        CHECK(image.at("previous") == !is_two);
        CHECK(image.at("signature") == true);
    }
    CHECK(contains(m.ctl("list").out, "current, serving"));
    CHECK(contains(m.ctl("list").out, "previous"));
    m.refused("remove 2", "is the image that is served");
    m.refused("remove 1", "rollback needs it");

    CHECK(m.ctl_json("rollback").at("generation") == 3);
    CHECK(m.current() == id_of(sources().one));
    CHECK(m.kernel.get("digest") == sources().one);
    CHECK(m.ctl_json("rollback").at("current") == id_of(sources().two));
}

TEST_CASE("m4ctl firmware: what the kernel refuses changes nothing") {
    Machine m;
    m.stock();
    m.kernel.refuses_version_2 = true;
    m.refused("activate 2", "no key for this signature (-126); nothing was changed");
    CHECK_FALSE(fs::exists(fs::symlink_status(m.root / "tiny")));
    CHECK(m.kernel.get("state") == "error");
    REQUIRE(m.ctl("activate 1").status == 0);
    m.refused("activate 2", "no key for this signature (-126); nothing was changed");
    CHECK(m.current() == id_of(sources().one));
    CHECK(m.kernel.get("state") == "ready");
    m.refused("rollback", "no previous image is known");

    m.kernel.set("generations", "2");
    m.refused("activate 2", "an older generation is still in use");
    CHECK(m.current() == id_of(sources().one));
}

TEST_CASE("m4ctl firmware: a load that does not end is told, and the link stays") {
    Machine m;
    m.stock();
    m.kernel.never_ends = true;
    m.refused("activate 1 --timeout 0.3", "is still loading " + id_of(sources().one));
    CHECK(m.current() == id_of(sources().one));
    m.refused("activate 2", "a load is under way already");
    CHECK(m.current() == id_of(sources().one));
}

TEST_CASE("m4ctl firmware: load, and the previous image where it is refused") {
    Machine m;
    m.stock();
    REQUIRE(m.ctl("activate 1 --no-load").status == 0);
    REQUIRE(m.ctl("activate 2 --no-load").status == 0);
    CHECK(m.kernel.loads == 0);
    m.kernel.refuses_version_2 = true;
    m.refused("load", "the kernel refused tiny: manifest.m4m.p7s");
    CHECK(m.current() == id_of(sources().two));
    const Ran fallback = m.ctl("load --or-previous --json");
    CHECK(fallback.status == 0);
    CHECK(contains(fallback.err, "m4ctl: warning: the kernel refused tiny"));
    CHECK(json::parse(fallback.out).at("current") == id_of(sources().one));
    CHECK(m.kernel.get("digest") == sources().one);
    const int loads = m.kernel.loads;
    CHECK(m.ctl("load").status == 0);  // served already
    CHECK(m.kernel.loads == loads);
}

TEST_CASE("m4ctl firmware: the rollback floor is raised for good") {
    Machine m;
    m.stock();
    REQUIRE(m.ctl("activate 1").status == 0);
    REQUIRE(m.ctl("activate 2").status == 0);
    CHECK(m.ctl_json("floor").at("store").is_null());
    m.refused("floor --raise 3", "current image has the rollback index 2");
    CHECK(m.ctl_json("floor --raise 2").at("store") == 2);
    CHECK(m.kernel.get("rollback_floor") == "2");
    m.refused("floor --raise 1", "is 2 already, and is never lowered");
    m.refused("rollback", "below the floor");
    CHECK(m.current() == id_of(sources().two));

    // The module is loaded anew: the next load tells it again.
    m.kernel.set("rollback_floor", "0");
    m.kernel.set("state", "empty");
    CHECK(m.ctl("load").status == 0);
    CHECK(m.kernel.get("rollback_floor") == "2");
}

TEST_CASE("m4ctl firmware: without the module the store still changes") {
    const TempFolder temp;
    const std::string options =
        " --name tiny --store " + (temp / "m4").string() + " --sysfs " + (temp / "sys").string();
    const auto ctl = [&](const std::string& arguments) {
        return run_tool("m4ctl", "firmware " + arguments + options);
    };
    REQUIRE(ctl("stage " + (sources().temp / "one").string()).status == 0);
    CHECK(contains(ctl("activate latest").out, "not loaded"));
    check_failure_of("m4ctl", ctl("load"), 1, "m4.ko is not loaded");
    CHECK(contains(ctl("floor").out, "not loaded"));
    CHECK(contains(ctl("list").out, "current"));
    check_failure_of("m4ctl", ctl("activate"), 2, "image is required");
    fs::remove(temp / "m4/tiny");
    fs::copy(sources().temp / "two", temp / "m4/tiny");
    check_failure_of("m4ctl", ctl("activate 1"), 1, "--adopt");
    CHECK(ctl("activate --adopt 2").status == 0);
    CHECK(fs::is_symlink(temp / "m4/tiny"));
    CHECK(ctl("activate 1").status == 0);
}

TEST_CASE("m4ctl firmware verify: the kernel hashes, and is compared with m4d") {
    Machine m;
    m.stock();
    REQUIRE(m.ctl("activate 1").status == 0);
    const std::string sysfs = " --sysfs " + (m.temp / "sys").string();
    const auto verify = [&](const std::string& digest, const std::string& source) {
        FakeService service([&](Conversation& c) { answer_model(c, digest, source); });
        const Ran ran =
            run_tool("m4ctl", "--socket " + service.path() + " firmware verify --json" + sysfs);
        service.join();
        return ran;
    };
    const Ran good = verify(sources().one, "device");
    CAPTURE(good.err);
    CHECK(good.status == 0);
    CHECK(json::parse(good.out).at("passes") == 1);
    CHECK(json::parse(good.out).at("match") == true);
    check_failure_of("m4ctl", verify(sources().two, "device"), 1, "m4d serves " + sources().two);
    check_failure_of("m4ctl", verify(sources().one, "folder"), 1, "no kernel is behind it");
    m.kernel.finds_altered = true;
    const Ran altered = verify(sources().one, "device");
    check_failure_of("m4ctl", altered, 1, "found 1 chunks altered");
    CHECK(json::parse(altered.out).at("state") == "revoked");
    check_failure_of("m4ctl", verify(sources().one, "device"), 1, "no image is ready (revoked)");
}

TEST_CASE("m4ctl firmware show: a development key is said first, and loudly") {
    const auto show = [](bool development, const char* more) {
        FakeService service([&](Conversation& c) { answer_model(c, "ab", "device", development); });
        const Ran ran = run_tool("m4ctl", "--socket " + service.path() + " firmware show" + more);
        service.join();
        return ran;
    };
    const Ran loud = show(true, "");
    CHECK(loud.status == 0);
    CHECK(contains(loud.err, "SIGNED BY A DEVELOPMENT KEY"));
    CHECK(contains(loud.out, "CN=x: 01ab, a DEVELOPMENT key"));
    CHECK(json::parse(show(true, " --json").out).at("development") == true);
    const Ran quiet = show(false, " --json");
    CHECK(quiet.err.empty());
    CHECK(json::parse(quiet.out).at("signer") == "CN=x: 01ab");
    CHECK(json::parse(quiet.out).at("generation") == 1);
}

TEST_CASE("kernel image: files that cannot be read or written") {
    const TempFolder temp;
    const m4ctl::KernelImage absent((temp / "sys").string(), "tiny");
    CHECK_FALSE(absent.present());
    for (const char* name : {"", "..", "../x", "a/b", "A"}) {
        CHECK_THROWS_AS(m4ctl::KernelImage("/sys/class/m4", name), m4ctl::Failure);
    }
    CHECK_THROWS_WITH_AS((void)absent.text("state"), doctest::Contains("No such file"),
                         m4ctl::Failure);
    CHECK_THROWS_WITH_AS((void)absent.load({}), doctest::Contains("m4.ko is not loaded"),
                         m4ctl::Failure);
}
