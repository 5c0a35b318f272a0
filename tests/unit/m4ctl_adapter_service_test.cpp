// SPDX-License-Identifier: MIT
// m4ctl adapter, and --adapter of other commands, against a scripted service.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "fake_service.hpp"
#include "run_tool.hpp"

using namespace m4;
using namespace m4::test;
using nlohmann::json;
using protocol::Encoder;

namespace {

const std::vector<std::uint8_t> kWanted(32, 0xaa);
const std::vector<std::uint8_t> kPresent(32, 0xbb);

std::string hex(const char* byte) {
    std::string text;
    for (int i = 0; i < 32; ++i) {
        text += byte;
    }
    return text;
}

/// m4ctl with these arguments, over a script that begins after hello.
Ran ctl(const std::string& arguments, const FakeService::Script& script) {
    FakeService service(
        [&](Conversation& talk) {
            (void)talk.expect<wire::Hello>();
            talk.send(talk.id, [](Encoder& e) {
                return wire::CreateHelloReplyDirect(e.builder(), protocol::kVersionMajor,
                                                    protocol::kVersionMinor, 0, "0.1.0");
            });
            script(talk);
        },
        false);
    Ran ran = run_tool("m4ctl", "--socket " + service.path() + " " + arguments);
    service.join();
    return ran;
}

/// Answers one file with the sample's report.
void accept(Conversation& talk, bool keep) {
    const auto& asked = talk.expect<wire::AdapterAddRequest>();
    CHECK(asked.keep() == keep);
    CHECK(asked.file()->size_bytes() == 6);
    talk.send_sample(talk.id, wire::Body::AdapterReply);
}

void refuse(Conversation& talk, const char* reason) {
    (void)talk.expect<wire::AdapterAddRequest>();
    talk.send(talk.id, [&](Encoder& e) {
        return wire::CreateAdapterReplyDirect(e.builder(), &kWanted, false, false, reason, "tone",
                                              "", "", "llama-7b", "llama", "peft", &kWanted,
                                              &kPresent);
    });
}

void send_list(Conversation& talk) {
    (void)talk.expect<wire::AdapterListRequest>();
    talk.send(talk.id, [](Encoder& e) {
        std::vector<std::uint8_t> near = kWanted;
        near.back() = 0;
        const std::string name(64, 'n');
        const std::vector<flatbuffers::Offset<wire::AdapterEntry>> entries{
            wire::CreateAdapterEntryDirect(e.builder(), &kWanted, name.c_str(), name.c_str(),
                                           name.c_str(), 4'000'000'000, 1'073'741'000, 256, 4096,
                                           true, true, 4'000'000'000, true, 90),
            wire::CreateAdapterEntryDirect(e.builder(), &near, "near", "", "backbone", 7, 5, 1, 1,
                                           false, false, 0, false, UINT64_MAX),
            wire::CreateAdapterEntryDirect(e.builder(), &kPresent, "\x1b[2J", "", "", 1000, 700, 8,
                                           1, false, false, 0, false, 7200)};
        return wire::CreateAdapterListReplyDirect(e.builder(), &entries, false, 2048, 1U << 30U);
    });
}

bool fits_width(const std::string& text) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (line.size() > 80) {
            return false;
        }
    }
    return true;
}

struct File {
    TempFolder temp;
    std::string path = temp / "tone.m4ad";
    File() { write_file(path, std::as_bytes(std::span("a file", 6))); }
};

bool is(const flatbuffers::Vector<std::uint8_t>* digest, std::uint8_t byte) {
    const auto bytes = protocol::span_of(digest);
    return bytes.size() == 32 && bytes.front() == byte && bytes.back() == byte;
}

/// One generation over a session; tells the prompt.
std::string serve_run(Conversation& talk, std::uint8_t adapter) {
    CHECK(is(talk.expect<wire::SessionCreateRequest>().adapter(), adapter));
    talk.send_session(talk.id, 4);
    const std::string prompt(
        protocol::text_of(talk.expect<wire::SessionAppendRequest>().text()->bytes()));
    talk.send_session(talk.id, 4);
    CHECK(talk.expect<wire::GenerateRequest>().adapter() == nullptr);
    talk.send_done(talk.id, wire::Finish::eos, "words");
    return prompt;
}

}  // namespace

TEST_CASE("m4ctl adapter check and add: the report, for people and for scripts") {
    const File file;
    const Ran check =
        ctl("adapter check " + file.path, [](Conversation& talk) { accept(talk, false); });
    CAPTURE(check.err);
    CHECK(check.status == 0);
    CHECK(check.err.empty());
    CHECK(contains(check.out, "accepted       changes 2 matrices\n"));
    CHECK(contains(check.out, hex("d1")));
    CHECK(contains(check.out, "4, 2 in the image, 2 changed; rank 8"));
    CHECK(contains(check.out, "3 labels"));
    CHECK(contains(check.out, "a.weight: no such tensor"));
    CHECK(fits_width(check.out));

    const Ran add =
        ctl("adapter add --json " + file.path, [](Conversation& talk) { accept(talk, true); });
    CHECK(add.status == 0);
    const json report = json::parse(add.out);
    CHECK(report.at("accepted") == true);
    CHECK(report.at("kept") == true);
    CHECK(report.at("digest") == hex("d1"));
    CHECK(report.at("prompt_template") == "Q: {prompt}");
    CHECK(report.at("base") == hex("d1"));
    CHECK(report.at("part") == "backbone");
    CHECK(report.at("device_bytes") == 8192);
    CHECK(report.at("unmatched").size() == 2);
}

TEST_CASE("m4ctl adapter check: a refusal has its own exit code and names both bases") {
    const File file;
    const Ran plain = ctl("adapter check " + file.path,
                          [](Conversation& talk) { refuse(talk, "it is for another base"); });
    check_failure_of("m4ctl", plain, 4, "tone.m4ad: it is for another base");
    CHECK(contains(plain.err, "it is for the base with source digest " + hex("aa")));
    CHECK(contains(plain.err, "the image's part has " + hex("bb")));
    CHECK(contains(plain.out, "REFUSED"));
    CHECK(contains(plain.out, "llama-7b"));
    CHECK(fits_width(plain.out));
    const std::string reason = "it wants " + hex("aa") + ", the image has " + hex("bb");
    const Ran named = ctl("adapter add --json " + file.path,
                          [&](Conversation& talk) { refuse(talk, reason.c_str()); });
    check_failure_of("m4ctl", named, 4, reason + "\n");  // what is said is not said again
    CHECK(json::parse(named.out).at("accepted") == false);
    CHECK(json::parse(named.out).at("part") == "");

    // What is no refusal of the file has another code.
    const auto quota = [](Conversation& talk) {
        (void)talk.expect<wire::AdapterAddRequest>();
        talk.send_error(talk.id, M4_E_QUOTA, "1.0 GiB is used");
    };
    check_failure_of("m4ctl", ctl("adapter add " + file.path, quota), 1, "1.0 GiB is used");
    const auto nothing = [](Conversation& talk) { talk.await_hangup(); };
    check_failure_of("m4ctl", ctl("adapter check /nonexistent.m4ad", nothing), 1,
                     "/nonexistent.m4ad: No such file");
    check_failure_of("m4ctl", ctl("adapter check /tmp", nothing), 1, "no regular file");
}

TEST_CASE("m4ctl adapter list fits a terminal, whatever the figures") {
    const Ran table = ctl("adapter list", send_list);
    CHECK(table.status == 0);
    CHECK(fits_width(table.out));
    CHECK(contains(table.out, "aaaaaaaa  nnnnnnnnnnn~"));
    CHECK(contains(table.out, "public"));
    CHECK(contains(table.out, "orphan"));
    CHECK(contains(table.out, "\\x1b[2J"));
    CHECK(contains(table.out, "2.0 KiB kept, of 1.0 GiB for each user\n"));
    const json all = json::parse(ctl("adapter list --json", send_list).out);
    REQUIRE(all.at("adapters").size() == 3);
    const json& first = all.at("adapters").at(0);
    CHECK(first.at("digest") == hex("aa"));
    CHECK(first.at("sessions") == 4'000'000'000);
    CHECK(first.at("published") == true);
    CHECK(first.at("unused_s") == 90);
    CHECK(all.at("quota_bytes") == 1U << 30U);
    CHECK(all.at("truncated") == false);
}

TEST_CASE("m4ctl adapter rm, publish: a digest's begin is enough where it is alone") {
    const auto remove = [](Conversation& talk) {
        send_list(talk);
        CHECK(is(talk.expect<wire::AdapterRemoveRequest>().digest(), 0xbb));
        talk.send_ok(talk.id);
    };
    const Ran ran = ctl("adapter rm BBBBbbbb", remove);
    CAPTURE(ran.err);
    CHECK(ran.status == 0);
    CHECK(ran.out == hex("bb") + " is kept no more\n");

    check_failure_of("m4ctl", ctl("adapter rm aaaaaaaaaaaa", send_list), 1,
                     "several adapters' digests begin with aaaaaaaaaaaa");
    check_failure_of("m4ctl", ctl("adapter rm cccccccc", send_list), 1,
                     "no adapter's digest begins with cccccccc");
    const auto nothing = [](Conversation& talk) { talk.await_hangup(); };
    check_failure_of("m4ctl", ctl("adapter rm aaaaaaa", nothing), 2, "8 to 64 hex digits");
    check_failure_of("m4ctl", ctl("adapter rm aaaaaaag", nothing), 2, "8 to 64 hex digits");

    // All of it needs no list.
    const auto publish = [](bool published) {
        return [published](Conversation& talk) {
            const auto& asked = talk.expect<wire::AdapterPublishRequest>();
            CHECK(is(asked.digest(), 0xaa));
            CHECK(asked.published() == published);
            talk.send_ok(talk.id);
        };
    };
    CHECK(json::parse(ctl("adapter publish --json " + hex("aa"), publish(true)).out)
              .at("published") == true);
    CHECK(ctl("adapter unpublish " + hex("aa"), publish(false)).status == 0);
}

TEST_CASE("m4ctl adapter gc") {
    const auto collect = [](std::uint64_t unused_s) {
        return [unused_s](Conversation& talk) {
            CHECK(talk.expect<wire::AdapterCollectRequest>().unused_s() == unused_s);
            talk.send_sample(talk.id, wire::Body::AdapterCollectReply);
        };
    };
    CHECK(ctl("adapter gc", collect(UINT64_MAX)).out == "2 removed, 5.6 KiB\n");
    CHECK(
        json::parse(ctl("adapter gc --unused 30d --json", collect(2'592'000)).out).at("removed") ==
        2);
    CHECK(ctl("adapter gc --unused 0", collect(0)).status == 0);
    CHECK(ctl("adapter gc --unused 90m", collect(5400)).status == 0);
    for (const char* bad : {"d", "3x", "-1", "1.5d", "99999999999999999999d", "3 d"}) {
        CAPTURE(bad);
        const Ran ran = run_tool("m4ctl", std::string("adapter gc '--unused=") + bad + "'");
        check_failure_of("m4ctl", ran, 2, "--unused takes a number");
    }
}

TEST_CASE("m4ctl run --adapter: a file with its template, or a digest") {
    const File file;
    std::string prompt;
    const auto with_file = [&](Conversation& talk) {
        accept(talk, false);
        prompt = serve_run(talk, 0xd1);
    };
    const Ran ran = ctl("run --json --adapter " + file.path + " who", with_file);
    CAPTURE(ran.err);
    CHECK(ran.status == 0);
    CHECK(prompt == "Q: who");
    CHECK(json::parse(ran.out).at("adapter") == hex("d1"));
    CHECK(json::parse(ran.out).at("text") == "words");
    CHECK(ctl("run --no-template --adapter " + file.path + " who", with_file).out == "words");
    CHECK(prompt == "who");

    const auto with_digest = [&](Conversation& talk) {
        send_list(talk);
        prompt = serve_run(talk, 0xbb);
    };
    CHECK(ctl("run --adapter bbbbbbbb who", with_digest).status == 0);
    CHECK(prompt == "who");

    const auto refused = [](Conversation& talk) { refuse(talk, "it changes nothing"); };
    const Ran none = ctl("run --adapter " + file.path + " who", refused);
    check_failure_of("m4ctl", none, 4, "it changes nothing");
    CHECK(none.out.empty());
    CHECK(run_tool("m4ctl", "run --no-template who").status == 2);
}

TEST_CASE("m4ctl score and classify --adapter") {
    const auto score = [](Conversation& talk) {
        CHECK(is(talk.expect<wire::ScoreRequest>().adapter(), 0xaa));
        talk.send_error(talk.id, M4_E_NOT_FOUND, "no such adapter");
    };
    check_failure_of("m4ctl", ctl("score --ids 1,2 --adapter " + hex("aa"), score), 1,
                     "no such adapter");
    const File file;
    const auto classify = [](Conversation& talk) {
        accept(talk, false);
        CHECK(is(talk.expect<wire::EncodeRequest>().adapter(), 0xd1));
        talk.send(talk.id, [](Encoder& e) {
            const auto part = e.builder().CreateString("eye");
            const float scores[] = {1, 3};
            const auto values = e.put_bulk(std::as_bytes(std::span(scores)));
            return wire::CreateEncodeReply(e.builder(), part, 1, values);
        });
        CHECK(is(talk.expect<wire::LabelsRequest>().adapter(), 0xd1));
        talk.send(talk.id, [](Encoder& e) {
            return wire::CreateTextReply(e.builder(), e.put_text("calm\nangry\n"));
        });
    };
    const Ran ran = ctl("classify --text hey --adapter " + file.path, classify);
    CAPTURE(ran.err);
    CHECK(ran.status == 0);
    CHECK(ran.out.find("angry") < ran.out.find("calm"));
    CHECK(run_tool("m4ctl", "classify --text a --label b --adapter cccccccc").status == 2);
}

TEST_CASE("m4ctl status tells of adapters") {
    const auto status = [](Conversation& talk) {
        (void)talk.expect<wire::StatusRequest>();
        talk.send(talk.id, [](Encoder& e) {
            wire::StatusReplyBuilder reply(e.builder());
            reply.add_adapters(5);
            reply.add_adapters_resident(3);
            reply.add_adapter_pool_bytes(1U << 20U);
            reply.add_adapter_used_bytes(2048);
            reply.add_adapter_loads(4);
            reply.add_adapter_evictions(1);
            reply.add_adapter_load_us(20'000);
            return reply.Finish();
        });
    };
    const Ran plain = ctl("status", status);
    CHECK(contains(plain.out, "5 kept, 3 ready in 2.0 KiB of 1.0 MiB"));
    CHECK(contains(plain.out, "4 loads of 5.0 ms, 1 made room"));
    CHECK(fits_width(plain.out));
    CHECK(json::parse(ctl("status --json", status).out).at("adapter_load_us") == 20'000);
}
