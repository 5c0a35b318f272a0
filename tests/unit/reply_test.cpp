// SPDX-License-Identifier: MIT
// Messages made of outcomes, at sizes no fake engine reaches.
#include <doctest/doctest.h>
#include <m4client.h>

#include <string>
#include <vector>

#include "ipc/reply.hpp"

using namespace m4;

namespace {

sched::ScoreRows rows_of(std::uint32_t rows, std::uint32_t top_n) {
    sched::ScoreRows made;
    made.first = 10;
    made.top_n = top_n;
    for (std::uint32_t i = 0; i < rows; ++i) {
        made.token_logprobs.push_back(-static_cast<float>(i));
    }
    for (std::uint32_t i = 0; i < rows * top_n; ++i) {
        made.top_ids.push_back(i);
        made.top_logprobs.push_back(-1.0F);
    }
    return made;
}

/// Puts the chunks together as a client does; every one decodes and is next.
void check_whole(const sched::ScoreRows& rows) {
    std::size_t row_count = 0;
    std::vector<std::uint32_t> ids;
    for (const auto& packet : ipc::outcome_packets(5, rows)) {
        const auto decoded = protocol::decode(packet.bytes);
        REQUIRE(decoded.frame != nullptr);
        const auto* chunk = decoded.frame->body_as_ScoreChunk();
        REQUIRE(chunk != nullptr);
        const auto logprobs = protocol::span_of(chunk->token_logprobs());
        const auto top_ids = protocol::span_of(chunk->top_ids());
        CHECK((logprobs.empty() || chunk->first() == rows.first + row_count));
        CHECK((chunk->first() - rows.first) * std::size_t{rows.top_n} + chunk->top_offset() ==
              ids.size());
        CHECK(protocol::span_of(chunk->top_logprobs()).size() == top_ids.size());
        row_count += logprobs.size();
        ids.insert(ids.end(), top_ids.begin(), top_ids.end());
    }
    CHECK(row_count == rows.token_logprobs.size());
    CHECK(ids == rows.top_ids);
}

}  // namespace

TEST_CASE("score rows of any width fit their messages") {
    check_whole(rows_of(5000, 0));
    check_whole(rows_of(64, 3));
    check_whole(rows_of(7, 4999));
    check_whole(rows_of(2, 5000));
    check_whole(rows_of(3, 5001));
    check_whole(rows_of(2, 150'000));
}

TEST_CASE("a long session list is cut, and says so") {
    sched::SessionTable table;
    table.rows.resize(1000, {1, 2, 3, 4, 5, 6, true, std::string(31, 'n')});
    const auto packets = ipc::outcome_packets(1, table);
    REQUIRE(packets.size() == 1);
    const auto decoded = protocol::decode(packets[0].bytes);
    REQUIRE(decoded.frame != nullptr);
    const auto* list = decoded.frame->body_as_SessionListReply();
    CHECK(list->truncated());
    CHECK(list->entries()->size() >= 256);
}

TEST_CASE("whose the image is, how it stands, and the device's node reach the client") {
    ipc::ServiceInfo info;
    info.signer = "CN=M4 release 0123abcd";
    info.generation = 3;
    info.development = true;
    info.model_state = "draining";
    info.device.render_node = "/dev/dri/renderD128";
    info.device.drm_driver = "msm 1.12.0";
    const auto model = ipc::model_packet(7, info);
    const auto decoded_model = protocol::decode(model.bytes);
    REQUIRE(decoded_model.frame != nullptr);
    const auto* reply = decoded_model.frame->body_as_ModelInfoReply();
    CHECK(protocol::text_of(reply->signer()) == info.signer);
    CHECK(reply->generation() == 3);
    CHECK(reply->development());
    CHECK(protocol::text_of(reply->state()) == "draining");

    const auto packet = ipc::status_packet(8, info, {}, {});
    const auto decoded = protocol::decode(packet.bytes);
    REQUIRE(decoded.frame != nullptr);
    const auto* status = decoded.frame->body_as_StatusReply();
    CHECK(protocol::text_of(status->model_state()) == "draining");
    CHECK(status->development());
    CHECK(protocol::text_of(status->render_node()) == "/dev/dri/renderD128");
    CHECK(protocol::text_of(status->drm_driver()) == "msm 1.12.0");
}

TEST_CASE("an error's text is cut to fit") {
    const auto packet = ipc::error_packet(0, M4_E_BUSY, std::string(200'000, 'e'), 250);
    const auto decoded = protocol::decode(packet.bytes);
    REQUIRE(decoded.frame != nullptr);
    CHECK(decoded.frame->body_as_ErrorReply()->retry_after_ms() == 250);
}
