// SPDX-License-Identifier: MIT
// Adapters as apps bring them: imported, checked in their own process, served many in
// a batch, refused with a reason.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "reference_data.hpp"
#include "service.hpp"

using namespace m4::test;
using nlohmann::json;

namespace {

constexpr std::array kNames = {"adapter-r4",  "adapter-r8",      "adapter-r16",
                               "adapter-r32", "adapter-partial", "adapter-rslora"};
const std::vector<std::string> kExact = {"--kv-cache", "f32"};

std::string stories() {
    return shared_data() + "/stories260K";
}

json read_json(const std::string& path) {
    std::ifstream file(path);
    return json::parse(file);
}

std::string read_bytes(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}

/// m4ctl adapter import; no service is needed.
Finished import(const std::string& from, const std::string& out,
                const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {
        M4_BUILD_ROOT "/bin/m4ctl", "adapter", "import", from, "--out", out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
}

/// Of one of the reference adapters, bound to the base.
std::string imported(const Service& service, const std::string& name) {
    const std::string out = service.scratch() / (name + ".m4ad");
    const Finished finished =
        import(stories() + "/adapters/" + name, out, {"--base", stories() + "/hf"});
    INFO(finished.err);
    REQUIRE(finished.status == 0);
    return out;
}

json check(const Service& service, const std::string& file) {
    const Finished finished = service.ctl({"adapter", "check", file, "--json"});
    INFO(finished.err);
    return json::parse(finished.out);
}

m4_adapter_id add(m4_client* client, const std::string& file, bool keep = false) {
    const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    m4_adapter_add_options options = M4_INIT(struct m4_adapter_add_options);
    options.keep = keep ? 1 : 0;
    m4_adapter_report* report = nullptr;
    const int status = m4_adapter_add(client, fd, &options, &report);
    ::close(fd);
    INFO(last_error(client));
    REQUIRE(status == M4_OK);
    const m4_adapter_id id = report->id;
    m4_adapter_report_free(report);
    return id;
}

/// Greedy ids after a prompt, as many as the golden has.
std::vector<std::uint32_t> continued(m4_session* session, const json& story,
                                     const m4_adapter_id* adapter) {
    const auto prompt = story.at("prompt_ids").get<std::vector<std::uint32_t>>();
    m4_generate_options options = M4_INIT(struct m4_generate_options);
    options.max_tokens = static_cast<std::uint32_t>(story.at("ids").size() - prompt.size());
    options.ignore_eos = 1;
    options.adapter = adapter;
    std::vector<std::uint32_t> ids = prompt;
    const Generated generated = generate(session, options);
    ids.insert(ids.end(), generated.ids.begin(), generated.ids.end());
    return ids;
}

Session holding(m4_client* client, const json& story) {
    Session session = open_session(client);
    const auto prompt = story.at("prompt_ids").get<std::vector<std::uint32_t>>();
    REQUIRE(m4_session_append_tokens(session.get(), prompt.data(), prompt.size()) == M4_OK);
    return session;
}

/// The largest distance of log-probabilities from the golden logits.
double worst_logits(m4_client* client, const m4_adapter_id& adapter, const json& story,
                    const std::vector<float>& logits) {
    const auto ids = story.at("ids").get<std::vector<std::uint32_t>>();
    const auto vocabulary = static_cast<std::uint32_t>(logits.size() / ids.size());
    m4_score_options options = M4_INIT(struct m4_score_options);
    options.top_n = vocabulary;
    options.adapter = &adapter;
    m4_score* score = nullptr;
    REQUIRE(m4_score_tokens(client, ids.data(), ids.size(), &options, &score) == M4_OK);
    double worst = 0;
    for (std::size_t row = 0; row < ids.size(); ++row) {
        const float* wanted = logits.data() + row * vocabulary;
        double sum = 0;
        for (std::uint32_t i = 0; i < vocabulary; ++i) {
            sum += std::exp(static_cast<double>(wanted[i]));
        }
        for (std::uint32_t i = 0; i < vocabulary; ++i) {
            const std::size_t at = row * vocabulary + i;
            const double is = score->top_logprobs[at];
            worst = std::max(worst, std::abs(is - (static_cast<double>(wanted[score->top_ids[at]]) -
                                                   std::log(sum))));
        }
    }
    m4_score_free(score);
    return worst;
}

#define NEEDS_STORIES()                            \
    if (shared_data().empty()) {                   \
        M4_SKIP("the reference data is not here"); \
    }

}  // namespace

TEST_CASE("adapters: all six give their golden ids and logits, on either base") {
    NEEDS_STORIES();
    for (const char* source : {"hf", "stories260K.f32.gguf"}) {
        CAPTURE(source);
        const Service service(packed(stories() + "/" + source, "f32"), kExact);
        const Client client = connect(service.socket());
        for (const char* name : kNames) {
            CAPTURE(name);
            const m4_adapter_id id = add(client.get(), imported(service, name));
            const std::string folder = stories() + "/adapters/" + name;
            const json golden = read_json(folder + "/golden.json");
            REQUIRE(golden.size() >= 2);
            for (const auto& [story, entry] : golden.items()) {
                CAPTURE(story);
                const Session session = holding(client.get(), entry);
                CHECK(continued(session.get(), entry, &id) ==
                      entry.at("ids").get<std::vector<std::uint32_t>>());
                CHECK(worst_logits(client.get(), id, entry,
                                   reference(folder + "/golden_logits.safetensors", story)) < 1e-2);
            }
        }
    }
}

TEST_CASE("adapters: together with each other and with the bare base as alone") {
    NEEDS_STORIES();
    const Service service(packed(stories() + "/hf", "f32"), kExact);
    const Client client = connect(service.socket());
    struct One {
        json story;
        m4_adapter_id id{};
        Session session;
        m4_stream* stream = nullptr;
    };
    std::vector<One> all;
    for (const char* name : kNames) {
        const json golden = read_json(stories() + "/adapters/" + name + "/golden.json");
        One& one = all.emplace_back();
        one.story = golden.begin().value();
        one.id = add(client.get(), imported(service, name));
    }
    const json bare = read_json(stories() + "/golden.json").begin().value();
    all.emplace_back().story = bare;
    for (One& one : all) {
        one.session = holding(client.get(), one.story);
        m4_generate_options options = M4_INIT(struct m4_generate_options);
        options.max_tokens = static_cast<std::uint32_t>(one.story.at("ids").size() -
                                                        one.story.at("prompt_ids").size());
        options.ignore_eos = 1;
        options.adapter = &one == &all.back() ? nullptr : &one.id;
        REQUIRE(m4_generate(one.session.get(), &options, &one.stream) == M4_OK);
    }
    for (One& one : all) {
        auto ids = one.story.at("prompt_ids").get<std::vector<std::uint32_t>>();
        const Generated generated = drain(one.stream);
        ids.insert(ids.end(), generated.ids.begin(), generated.ids.end());
        CHECK(ids == one.story.at("ids").get<std::vector<std::uint32_t>>());
    }
    struct m4_status figures = M4_INIT(struct m4_status);
    REQUIRE(m4_status(client.get(), &figures) == M4_OK);
    CHECK(figures.adapters == 6);
    CHECK(figures.adapters_resident == 6);
    CHECK(figures.adapter_loads == 6);
}

TEST_CASE("adapters: a prompt's keys are not reused under another") {
    NEEDS_STORIES();
    const Service service(packed(stories() + "/hf", "f32"), kExact);
    const Client client = connect(service.socket());
    const m4_adapter_id first = add(client.get(), imported(service, "adapter-r8"));
    const m4_adapter_id second = add(client.get(), imported(service, "adapter-r16"));
    const json of_first = read_json(stories() + "/adapters/adapter-r8/golden.json").at("dog");
    const json of_second = read_json(stories() + "/adapters/adapter-r16/golden.json").at("dog");
    REQUIRE(of_first.at("prompt_ids") == of_second.at("prompt_ids"));
    const Session session = holding(client.get(), of_first);
    const auto prompt = static_cast<std::uint32_t>(of_first.at("prompt_ids").size());
    for (int round = 0; round < 2; ++round) {
        CHECK(continued(session.get(), of_first, &first) ==
              of_first.at("ids").get<std::vector<std::uint32_t>>());
        REQUIRE(m4_session_truncate(session.get(), prompt) == M4_OK);
        CHECK(continued(session.get(), of_second, &second) ==
              of_second.at("ids").get<std::vector<std::uint32_t>>());
        REQUIRE(m4_session_truncate(session.get(), prompt) == M4_OK);
    }
}

TEST_CASE("adapters: the same file name with other bytes is another adapter") {
    NEEDS_STORIES();
    const Service service(packed(stories() + "/hf", "f32"), kExact);
    const Client client = connect(service.socket());
    const std::string name = service.scratch() / "mine.m4ad";
    const json of_first = read_json(stories() + "/adapters/adapter-r8/golden.json").at("sun");
    const json of_second = read_json(stories() + "/adapters/adapter-r32/golden.json").at("sun");
    write_bytes(name, read_bytes(imported(service, "adapter-r8")));
    const m4_adapter_id first = add(client.get(), name, true);
    write_bytes(name, read_bytes(imported(service, "adapter-r32")));
    const m4_adapter_id second = add(client.get(), name, true);
    CHECK(std::memcmp(&first, &second, sizeof first) != 0);
    const Session session = holding(client.get(), of_second);
    CHECK(continued(session.get(), of_second, &second) ==
          of_second.at("ids").get<std::vector<std::uint32_t>>());
    // And the first is still what it was.
    const Session other = holding(client.get(), of_first);
    CHECK(continued(other.get(), of_first, &first) ==
          of_first.at("ids").get<std::vector<std::uint32_t>>());
    CHECK(service.ctl_json({"adapter", "list"}).at("adapters").size() == 2);
}

TEST_CASE("adapters: what is wrong with one is told, and the service goes on") {
    NEEDS_STORIES();
    const Service service(packed(stories() + "/hf", "f32"), kExact);
    const std::string good = imported(service, "adapter-r8");
    CHECK(check(service, good).at("accepted") == true);
    const auto refused = [&](const std::string& file, const std::string& says) {
        CAPTURE(file);
        const Finished finished = service.ctl({"adapter", "check", file});
        CHECK(finished.status != 0);
        const std::string told = finished.out + finished.err;
        INFO(told);
        CHECK(told.find(says) != std::string::npos);
        CHECK(service.ctl({"adapter", "add", file}).status != 0);
    };

    // For another model.
    const std::string tigrinya = service.scratch() / "tigrinya.m4ad";
    REQUIRE(import(shared_data() + "/peft/gpt2-tigrinya", tigrinya).status == 0);
    refused(tigrinya, "c_attn");

    // For another checkpoint of the same shape.
    std::string bytes = read_bytes(good);
    const json report = check(service, good);
    const std::string wanted = report.at("base").get<std::string>();

    // A bit of a factor; one of the metadata; an end too soon; nothing at all.
    const std::string flipped = service.scratch() / "flipped.m4ad";
    std::string altered = bytes;
    altered[altered.size() - 5] = static_cast<char>(altered[altered.size() - 5] ^ 0x7f);
    altered[altered.size() - 6] = static_cast<char>(0xff);
    write_bytes(flipped, altered);
    const Finished other = service.ctl({"adapter", "check", flipped, "--json"});
    const json other_report = json::parse(other.out);
    CHECK((other.status != 0 ||
           other_report.at("digest").get<std::string>() != report.at("digest").get<std::string>()));
    for (const std::size_t at : {std::size_t{0}, std::size_t{9}, std::size_t{40}}) {
        altered = bytes;
        altered[at] = static_cast<char>(altered[at] ^ 0x55);
        write_bytes(flipped, altered);
        refused(flipped, "");
    }
    write_bytes(flipped, bytes.substr(0, bytes.size() / 2));
    refused(flipped, "");
    write_bytes(flipped, "");
    CHECK(service.ctl({"adapter", "check", flipped}).status != 0);

    // One that does nothing.
    const std::string folder = service.scratch() / "zero";
    ::mkdir(folder.c_str(), 0700);
    json config = read_json(stories() + "/adapters/adapter-r4/adapter_config.json");
    write_bytes(folder + "/adapter_config.json", config.dump());
    std::string weights = read_bytes(stories() + "/adapters/adapter-r4/adapter_model.safetensors");
    std::uint64_t header = 0;
    std::memcpy(&header, weights.data(), sizeof header);
    std::fill(weights.begin() + static_cast<std::ptrdiff_t>(8 + header), weights.end(), '\0');
    write_bytes(folder + "/adapter_model.safetensors", weights);
    const std::string zero = service.scratch() / "zero.m4ad";
    if (import(folder, zero).status == 0) {
        refused(zero, "nothing");
    }

    CHECK(check(service, good).at("accepted") == true);
    CHECK(wanted.size() == 64);
}

TEST_CASE("adapters: one of another base names the digest wanted and the one present") {
    NEEDS_STORIES();
    const Service stories_service(packed(stories() + "/hf", "f32"), kExact);
    const std::string good = imported(stories_service, "adapter-r8");
    const std::string wanted = check(stories_service, good).at("base").get<std::string>();
    NEEDS_NANO();
    const Service nano(nano_image());
    const Finished finished = nano.ctl({"adapter", "check", good, "--json"});
    CHECK(finished.status != 0);
    const json report = json::parse(finished.out);
    CHECK(report.at("accepted") == false);
    CHECK(report.at("base") == wanted);
    CHECK(report.at("present") != wanted);
    CHECK(report.at("present").get<std::string>().size() == 64);
    CHECK(report.at("reason").get<std::string>().find(wanted.substr(0, 12)) != std::string::npos);
}

TEST_CASE("adapters: kept ones are listed, named by a piece of their digest, removed") {
    NEEDS_STORIES();
    const Service service(packed(stories() + "/hf", "f32"), kExact);
    const std::string file = imported(service, "adapter-r8");
    const json golden = read_json(stories() + "/adapters/adapter-r8/golden.json").at("sun");
    CHECK(service.ctl_json({"adapter", "list"}).at("adapters").empty());
    const json added = service.ctl_json({"adapter", "add", file});
    const std::string digest = added.at("digest");
    const json listed = service.ctl_json({"adapter", "list"});
    REQUIRE(listed.at("adapters").size() == 1);
    CHECK(listed.at("adapters")[0].at("digest") == digest);

    const json run = service.ctl_json(
        {"run", "--adapter", digest.substr(0, 10), "--greedy", "--max-tokens", "3", "Once"});
    const json plain = service.ctl_json({"run", "--greedy", "--max-tokens", "3", "Once"});
    CHECK(run != plain);

    CHECK(service.ctl({"adapter", "rm", digest.substr(0, 10)}).status == 0);
    CHECK(service.ctl_json({"adapter", "list"}).at("adapters").empty());
    const Finished gone = service.ctl({"run", "--adapter", digest, "Once"});
    CHECK(gone.status != 0);

    // One that is not kept goes with its connection.
    const Client client = connect(service.socket());
    const m4_adapter_id id = add(client.get(), file);
    const Client other = connect(service.socket());
    const Session session = holding(other.get(), golden);
    m4_generate_options options = M4_INIT(struct m4_generate_options);
    options.adapter = &id;
    m4_stream* stream = nullptr;
    const int status = m4_generate(session.get(), &options, &stream);
    if (status == M4_OK) {
        m4_event event = M4_INIT(struct m4_event);
        CHECK(m4_stream_next(stream, 10'000, &event) == M4_E_NOT_FOUND);
        m4_stream_close(stream);
    } else {
        CHECK(status == M4_E_NOT_FOUND);
    }
}
