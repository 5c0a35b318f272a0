// SPDX-License-Identifier: MIT
// Adapters' calls against a scripted service.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <m4client.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "fake_service.hpp"
#include "fd_leak.hpp"

using namespace m4;
using namespace m4::test;
using protocol::Encoder;

namespace {

using Report = struct m4_adapter_report;

void greet(Conversation& talk, std::uint16_t minor = protocol::kVersionMinor) {
    (void)talk.expect<wire::Hello>();
    talk.send(talk.id, [&](Encoder& e) {
        return wire::CreateHelloReplyDirect(e.builder(), protocol::kVersionMajor, minor, 0,
                                            "0.1.0");
    });
}

/// A service that knows adapters.
FakeService::Script greeted(FakeService::Script script) {
    return [script = std::move(script)](Conversation& talk) {
        greet(talk);
        script(talk);
    };
}

UniqueFd file_of(const std::string& content, bool seal) {
    UniqueFd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(fd);
    REQUIRE(::write(fd.get(), content.data(), content.size()) ==
            static_cast<ssize_t>(content.size()));
    if (seal) {
        REQUIRE(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
    }
    return fd;
}

/// The file that a request brought.
std::string brought(Conversation& talk, const wire::AdapterAddRequest& asked) {
    protocol::BulkView view;
    CHECK(protocol::take_view(asked.file(), talk.received_fd(), protocol::kMaxAdapterBytes, view) ==
          protocol::Fault::kNone);
    return {reinterpret_cast<const char*>(view.bytes().data()), view.bytes().size()};
}

m4_adapter_id id_of(std::uint8_t byte) {
    m4_adapter_id id;
    std::memset(id.sha256, byte, sizeof id.sha256);
    return id;
}

bool is(const flatbuffers::Vector<std::uint8_t>* digest, std::uint8_t byte) {
    const auto bytes = protocol::span_of(digest);
    return bytes.size() == 32 &&
           std::all_of(bytes.begin(), bytes.end(), [&](std::uint8_t b) { return b == byte; });
}

bool is(const m4_adapter_id* id, std::uint8_t byte) {
    const m4_adapter_id wanted = id_of(byte);
    return id != nullptr && std::memcmp(id->sha256, wanted.sha256, sizeof wanted.sha256) == 0;
}

const std::vector<std::uint8_t> kOnes(32, 1);
const std::vector<std::uint8_t> kTwos(32, 2);

}  // namespace

TEST_CASE("an adapter travels sealed, and the report tells all of it") {
    const FdLeakCheck leaks;
    const std::string content(100'000, 'a');
    FakeService service(greeted([&](Conversation& talk) {
                            for (const bool keep : {true, false}) {
                                const auto& asked = talk.expect<wire::AdapterAddRequest>();
                                CHECK(asked.keep() == keep);
                                CHECK(brought(talk, asked) == content);
                                talk.send_sample(talk.id, wire::Body::AdapterReply);
                            }
                        }),
                        false);
    const ClientHandle client = connect_to(service);
    for (const bool own_seals : {true, false}) {
        const UniqueFd file = file_of(content, own_seals);
        m4_adapter_add_options options = M4_INIT(m4_adapter_add_options);
        options.keep = own_seals ? 1 : 0;
        Report* report = nullptr;
        REQUIRE(m4_adapter_add(client.get(), file.get(), &options, &report) == M4_OK);
        // The caller's descriptor is where it was, and still there.
        CHECK(::lseek(file.get(), 0, SEEK_CUR) == 100'000);
        CHECK(is(&report->id, 0xd1));
        CHECK(report->accepted == 1);
        CHECK(report->kept == 1);
        CHECK(report->head == 1);
        CHECK(report->labels == 3);
        CHECK(report->pairs == 4);
        CHECK(report->matched == 2);
        CHECK(report->acting == 2);
        CHECK(report->rank == 8);
        CHECK(report->bytes == 5000);
        CHECK(report->device_bytes == 8192);
        CHECK(std::string(report->reason) == "changes 2 matrices");
        CHECK(std::string(report->name) == "tone");
        CHECK(std::string(report->task) == "rewrite");
        CHECK(std::string(report->prompt_template) == "Q: {prompt}");
        CHECK(std::string(report->base_name) == "nano-base");
        CHECK(std::string(report->architecture) == "llama");
        CHECK(std::string(report->source) == "peft");
        CHECK(std::string(report->part) == "backbone");
        CHECK(is(report->base, 0xd1));
        CHECK(is(report->image, 0xd1));
        REQUIRE(report->unmatched_count == 2);
        CHECK(std::string(report->unmatched[0]) == "a.weight: no such tensor");
        m4_adapter_report_free(report);
    }
    m4_adapter_report_free(nullptr);
}

TEST_CASE("a refused adapter is an error that has its report") {
    const FdLeakCheck leaks;
    FakeService service(greeted([](Conversation& talk) {
                            (void)talk.expect<wire::AdapterAddRequest>();
                            talk.send(talk.id, [](Encoder& e) {
                                return wire::CreateAdapterReplyDirect(
                                    e.builder(), &kOnes, false, false, "it is for another base",
                                    nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, &kTwos);
                            });
                            (void)talk.expect<wire::AdapterAddRequest>();
                            talk.send_error(talk.id, M4_E_QUOTA, "all is used", 0);
                            (void)talk.expect<wire::AdapterAddRequest>();
                            talk.send(talk.id, [](Encoder& e) {
                                const std::vector<std::uint8_t> odd(31, 1);
                                return wire::CreateAdapterReplyDirect(e.builder(), &kOnes, true,
                                                                      true, "", "", "", "", "", "",
                                                                      "", &odd);
                            });
                            talk.await_hangup();
                        }),
                        false);
    const ClientHandle client = connect_to(service);
    const UniqueFd file = file_of("x", false);
    Report* report = nullptr;
    REQUIRE(m4_adapter_add(client.get(), file.get(), nullptr, &report) == M4_E_ADAPTER);
    REQUIRE(report != nullptr);
    CHECK(error_text(client.get()) == "it is for another base");
    CHECK(is(&report->id, 1));
    CHECK(report->accepted == 0);
    CHECK(is(report->base, 2));
    CHECK(report->present == nullptr);
    CHECK(std::string(report->name).empty());
    CHECK(std::string(report->part).empty());
    CHECK(report->unmatched_count == 0);
    m4_adapter_report_free(report);

    report = nullptr;
    CHECK(m4_adapter_add(client.get(), file.get(), nullptr, &report) == M4_E_QUOTA);
    CHECK(report == nullptr);
    // A digest of another length is no digest.
    CHECK(m4_adapter_add(client.get(), file.get(), nullptr, &report) == M4_E_PROTOCOL);
    CHECK(report == nullptr);
    CHECK(error_text(client.get()).find("32 bytes") != std::string::npos);
}

TEST_CASE("what is no adapter file is refused before anything is sent") {
    const FdLeakCheck leaks;
    FakeService service(greeted([](Conversation& talk) { talk.await_hangup(); }), false);
    {
        const ClientHandle client = connect_to(service);
        Report* report = nullptr;
        const UniqueFd file = file_of("x", false);
        CHECK(m4_adapter_add(client.get(), file.get(), nullptr, nullptr) == M4_E_INVALID);
        CHECK(m4_adapter_add(nullptr, file.get(), nullptr, &report) == M4_E_INVALID);
        CHECK(m4_adapter_add(client.get(), -1, nullptr, &report) == M4_E_INVALID);
        const UniqueFd folder(::open("/tmp", O_RDONLY | O_CLOEXEC | O_DIRECTORY));
        CHECK(m4_adapter_add(client.get(), folder.get(), nullptr, &report) == M4_E_INVALID);
        CHECK(error_text(client.get()).find("no regular file") != std::string::npos);
        m4_adapter_add_options options = M4_INIT(m4_adapter_add_options);
        options.keep = 2;
        CHECK(m4_adapter_add(client.get(), file.get(), &options, &report) == M4_E_INVALID);

        const UniqueFd large(::memfd_create("test", MFD_CLOEXEC));
        REQUIRE(::ftruncate(large.get(), (1LL << 30) + 1) == 0);
        CHECK(m4_adapter_add(client.get(), large.get(), nullptr, &report) == M4_E_TOO_LARGE);
        // One that cannot be read.
        const std::string path = "/proc/self/fd/" + std::to_string(file.get());
        const UniqueFd blind(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
        REQUIRE(blind);
        CHECK(m4_adapter_add(client.get(), blind.get(), nullptr, &report) == M4_E_SYSTEM);
        CHECK(error_text(client.get()).find("pread") != std::string::npos);
        CHECK(report == nullptr);
    }
}

TEST_CASE("adapters are listed, removed, published and collected") {
    const FdLeakCheck leaks;
    FakeService service(greeted([](Conversation& talk) {
                            for (int i = 0; i < 2; ++i) {
                                (void)talk.expect<wire::AdapterListRequest>();
                                talk.send_sample(talk.id, wire::Body::AdapterListReply);
                            }
                            CHECK(is(talk.expect<wire::AdapterRemoveRequest>().digest(), 7));
                            talk.send_ok(talk.id);
                            const auto& publish = talk.expect<wire::AdapterPublishRequest>();
                            CHECK(is(publish.digest(), 8));
                            CHECK(publish.published());
                            talk.send_error(talk.id, M4_E_PERMISSION, "only root publishes");
                            CHECK(talk.expect<wire::AdapterCollectRequest>().unused_s() == 3600);
                            talk.send_sample(talk.id, wire::Body::AdapterCollectReply);
                            (void)talk.expect<wire::AdapterCollectRequest>();
                            talk.send_sample(talk.id, wire::Body::AdapterCollectReply);
                        }),
                        false);
    const ClientHandle client = connect_to(service);
    m4_adapter_entry* entries = nullptr;
    std::size_t count = 0;
    m4_adapter_usage usage = M4_INIT(m4_adapter_usage);
    REQUIRE(m4_adapter_list(client.get(), &entries, &count, &usage) == M4_OK);
    REQUIRE(count == 2);
    CHECK(is(&entries[0].id, 0xd1));
    CHECK(std::string(entries[0].name) == "tone");
    CHECK(std::string(entries[0].task) == "rewrite");
    CHECK(std::string(entries[0].part) == "backbone");
    CHECK(entries[0].uid == 1000);
    CHECK(entries[0].bytes == 5000);
    CHECK(entries[0].rank == 8);
    CHECK(entries[0].pairs == 4);
    CHECK(entries[0].head == 0);
    CHECK(entries[0].published == 1);
    CHECK(entries[0].sessions == 2);
    CHECK(entries[0].resident == 1);
    CHECK(entries[0].unused_s == 90);
    CHECK(std::string(entries[1].part).empty());
    CHECK(entries[1].head == 1);
    CHECK(usage.size == sizeof usage);
    CHECK(usage.used_bytes == 5700);
    CHECK(usage.quota_bytes == 1U << 30U);
    CHECK(usage.truncated == 1);
    m4_free(entries);
    REQUIRE(m4_adapter_list(client.get(), &entries, &count, nullptr) == M4_OK);
    m4_free(entries);

    const m4_adapter_id seven = id_of(7);
    const m4_adapter_id eight = id_of(8);
    CHECK(m4_adapter_remove(client.get(), &seven) == M4_OK);
    CHECK(m4_adapter_publish(client.get(), &eight, 1) == M4_E_PERMISSION);
    std::uint32_t removed = 0;
    std::uint64_t bytes = 0;
    CHECK(m4_adapter_collect(client.get(), 3600, &removed, &bytes) == M4_OK);
    CHECK(removed == 2);
    CHECK(bytes == 5700);
    CHECK(m4_adapter_collect(client.get(), 0, nullptr, nullptr) == M4_OK);

    CHECK(m4_adapter_remove(client.get(), nullptr) == M4_E_INVALID);
    CHECK(m4_adapter_publish(client.get(), &eight, 2) == M4_E_INVALID);
    CHECK(m4_adapter_list(client.get(), nullptr, &count, nullptr) == M4_E_INVALID);
    usage.size = 1;
    CHECK(m4_adapter_list(client.get(), &entries, &count, &usage) == M4_E_INVALID);
}

TEST_CASE("requests name an adapter, the bare model, or nothing") {
    const FdLeakCheck leaks;
    FakeService service(
        greeted([](Conversation& talk) {
            CHECK(is(talk.expect<wire::SessionCreateRequest>().adapter(), 1));
            talk.send_session(talk.id, 4);
            for (const int adapter : {2, 0, -1}) {
                const auto* named = talk.expect<wire::GenerateRequest>().adapter();
                CHECK((adapter < 0 ? named == nullptr
                                   : is(named, static_cast<std::uint8_t>(adapter))));
                talk.send_done(talk.id, wire::Finish::eos);
            }
            CHECK(is(talk.expect<wire::ScoreRequest>().adapter(), 3));
            talk.send_error(talk.id, M4_E_NOT_FOUND, "no such adapter");
            const auto& encode = talk.expect<wire::EncodeRequest>();
            CHECK(encode.output() == wire::EncodeOutput::scores);
            CHECK(is(encode.adapter(), 4));
            talk.send(talk.id, [](Encoder& e) {
                const auto part = e.builder().CreateString("eye");
                const float scores[] = {1, 3};
                const auto values = e.put_bulk(std::as_bytes(std::span(scores)));
                return wire::CreateEncodeReply(e.builder(), part, 1, values);
            });
            const auto& labels = talk.expect<wire::LabelsRequest>();
            CHECK(protocol::text_of(labels.part()) == "eye");
            CHECK(is(labels.adapter(), 4));
            talk.send(talk.id, [](Encoder& e) {
                return wire::CreateTextReply(e.builder(), e.put_text("calm\nangry\n"));
            });
            (void)talk.expect<wire::SessionCloseRequest>();
        }),
        false);
    const ClientHandle client = connect_to(service);
    const m4_adapter_id one = id_of(1);
    const m4_adapter_id two = id_of(2);
    const m4_adapter_id bare = id_of(0);
    m4_session_options session_options = M4_INIT(m4_session_options);
    session_options.adapter = &one;
    m4_session* raw = nullptr;
    REQUIRE(m4_session_create(client.get(), &session_options, &raw) == M4_OK);
    const SessionHandle session(raw);
    const m4_adapter_id* const choices[] = {&two, &bare, nullptr};
    for (const m4_adapter_id* const choice : choices) {
        m4_generate_options options = M4_INIT(m4_generate_options);
        options.adapter = choice;
        m4_stream* stream = nullptr;
        REQUIRE(m4_generate(session.get(), &options, &stream) == M4_OK);
        const StreamHandle owned(stream);
        CHECK(drain(owned).finish == M4_FINISH_EOS);
    }
    const m4_adapter_id three = id_of(3);
    m4_score_options score_options = M4_INIT(m4_score_options);
    score_options.adapter = &three;
    m4_score* score = nullptr;
    const std::uint32_t ids[] = {1, 2};
    CHECK(m4_score_tokens(client.get(), ids, 2, &score_options, &score) == M4_E_NOT_FOUND);

    const m4_adapter_id four = id_of(4);
    m4_media media = M4_INIT(struct m4_media);
    media.kind = M4_MEDIA_TEXT;
    media.data = "words";
    media.bytes = 5;
    const m4_media* const input = &media;
    m4_classify_options classify = M4_INIT(m4_classify_options);
    classify.adapter = &four;
    const char* const label = "calm";
    classify.labels = &label;
    classify.label_count = 1;
    m4_classes* classes = nullptr;
    CHECK(m4_classify(client.get(), &input, 1, &classify, &classes) == M4_E_INVALID);
    classify.labels = nullptr;
    classify.label_count = 0;
    REQUIRE(m4_classify(client.get(), &input, 1, &classify, &classes) == M4_OK);
    CHECK(classes->class_count == 2);
    CHECK(std::string(classes->classes[0].label) == "angry");
    m4_classes_free(classes);
}

TEST_CASE("status tells what adapters take") {
    FakeService service([](Conversation& talk) {
        (void)talk.expect<wire::StatusRequest>();
        talk.send(talk.id, [](Encoder& e) {
            wire::StatusReplyBuilder reply(e.builder());
            reply.add_adapters(5);
            reply.add_adapters_resident(3);
            reply.add_adapter_pool_bytes(1000);
            reply.add_adapter_used_bytes(600);
            reply.add_adapter_loads(12);
            reply.add_adapter_evictions(9);
            reply.add_adapter_load_us(34'000);
            return reply.Finish();
        });
    });
    const ClientHandle client = connect_to(service);
    struct m4_status status = M4_INIT(struct m4_status);
    REQUIRE(m4_status(client.get(), &status) == M4_OK);
    CHECK(status.adapters == 5);
    CHECK(status.adapters_resident == 3);
    CHECK(status.adapter_pool_bytes == 1000);
    CHECK(status.adapter_used_bytes == 600);
    CHECK(status.adapter_loads == 12);
    CHECK(status.adapter_evictions == 9);
    CHECK(status.adapter_load_us == 34'000);
}

TEST_CASE("a service older than adapters is never asked about one") {
    const FdLeakCheck leaks;
    FakeService service(
        [](Conversation& talk) {
            greet(talk, protocol::kMinorOfAdapters - 1);
            CHECK(talk.expect<wire::SessionCreateRequest>().adapter() == nullptr);
            talk.send_session(talk.id, 4);
            (void)talk.expect<wire::SessionCloseRequest>();
            talk.await_hangup();
        },
        false);
    {
        const ClientHandle client = connect_to(service);
        const m4_adapter_id one = id_of(1);
        const UniqueFd file = file_of("x", false);
        Report* report = nullptr;
        CHECK(m4_adapter_add(client.get(), file.get(), nullptr, &report) == M4_E_VERSION);
        m4_adapter_entry* entries = nullptr;
        std::size_t count = 0;
        CHECK(m4_adapter_list(client.get(), &entries, &count, nullptr) == M4_E_VERSION);
        CHECK(m4_adapter_remove(client.get(), &one) == M4_E_VERSION);
        CHECK(m4_adapter_publish(client.get(), &one, 1) == M4_E_VERSION);
        CHECK(m4_adapter_collect(client.get(), 0, nullptr, nullptr) == M4_E_VERSION);
        m4_session_options session_options = M4_INIT(m4_session_options);
        session_options.adapter = &one;
        m4_session* raw = nullptr;
        CHECK(m4_session_create(client.get(), &session_options, &raw) == M4_E_VERSION);
        CHECK(raw == nullptr);

        const SessionHandle session = make_session(client);
        m4_generate_options generate = M4_INIT(m4_generate_options);
        generate.adapter = &one;
        m4_stream* stream = nullptr;
        CHECK(m4_generate(session.get(), &generate, &stream) == M4_E_VERSION);
        CHECK(error_text(client.get()) == "an adapter needs protocol 1.5, the service speaks 1.4");
        const std::uint32_t id = 1;
        m4_score_options score_options = M4_INIT(m4_score_options);
        score_options.adapter = &one;
        m4_score* score = nullptr;
        CHECK(m4_score_tokens(client.get(), &id, 1, &score_options, &score) == M4_E_VERSION);
    }
}
