// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>

#include "fd_leak.hpp"
#include "protocol/codec.hpp"
#include "wire_samples.hpp"

using namespace m4;
using namespace m4::protocol;

namespace {

struct Pair {
    Pair() {
        int fds[2] = {-1, -1};
        REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
        a.reset(fds[0]);
        b.reset(fds[1]);
    }
    UniqueFd a;
    UniqueFd b;
};

/// A message whose payload claims a memfd of `size_bytes`, beside `fd`.
Packet bulk_packet(UniqueFd fd, std::uint64_t size_bytes, bool in_fd = true) {
    Encoder encoder;
    const auto bulk = wire::CreateBulk(encoder.builder(), 0, in_fd, size_bytes);
    Packet packet = encoder.finish(1, wire::CreateTokenizeRequest(encoder.builder(), bulk, false));
    packet.fd = std::move(fd);
    return packet;
}

/// Sends the packet, receives it and takes its payload.
Fault take_sent(const Packet& packet, std::size_t max_bytes = kMaxBulkBytes,
                std::string* text = nullptr) {
    Pair pair;
    Inbox inbox;
    REQUIRE(send_packet(pair.a.get(), packet) == Fault::kNone);
    REQUIRE(receive_packet(pair.b.get(), inbox) == Fault::kNone);
    const Decoded decoded = decode(inbox.bytes());
    REQUIRE(decoded.frame != nullptr);
    BulkBytes payload;
    const Fault fault =
        take_bulk(decoded.frame->body_as_TokenizeRequest()->text(), inbox.fd(), max_bytes, payload);
    if (fault != Fault::kBulkMissing) {
        CHECK_FALSE(inbox.fd());
    }
    if (text != nullptr) {
        *text = payload.text();
    }
    return fault;
}

UniqueFd memfd_with(std::size_t size_bytes, int seals) {
    UniqueFd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(fd);
    REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) == 0);
    REQUIRE(::fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
    return fd;
}

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

/// Decodes from a block of exactly this size, so that a sanitizer sees any
/// read past it, and reads all a good frame leads to.
void decode_and_read(std::span<const std::byte> bytes) {
    const auto exact = std::make_unique_for_overwrite<std::byte[]>(bytes.size());
    if (!bytes.empty()) {
        std::memcpy(exact.get(), bytes.data(), bytes.size());
    }
    const Decoded decoded = decode({exact.get(), bytes.size()});
    CHECK((decoded.frame == nullptr) == (decoded.fault != Fault::kNone));
    if (decoded.frame != nullptr) {
        // Compared, so that the reads are not optimised away.
        CHECK(test::read_every_field(*decoded.frame) != 0);
    }
}

}  // namespace

TEST_CASE("every message of the schema survives the socket") {
    const test::FdLeakCheck leaks;
    Pair pair;
    Inbox inbox;
    std::size_t seen = 0;
    for (const wire::Body type : wire::EnumValuesBody()) {
        if (type == wire::Body::NONE) {
            continue;
        }
        CAPTURE(wire::EnumNameBody(type));
        REQUIRE(test::wire_samples().count(type) == 1);
        const Packet packet = test::wire_samples().at(type)(77);
        REQUIRE(send_packet(pair.a.get(), packet) == Fault::kNone);
        REQUIRE(receive_packet(pair.b.get(), inbox) == Fault::kNone);
        CHECK(inbox.bytes().size() == packet.bytes.size());
        const Decoded decoded = decode(inbox.bytes());
        REQUIRE(decoded.frame != nullptr);
        CHECK(decoded.frame->id() == 77);
        CHECK(decoded.frame->body_type() == type);
        CHECK(decoded.frame->body() != nullptr);
        const Decoded sent = decode(packet.bytes);
        REQUIRE(sent.frame != nullptr);
        CHECK(test::read_every_field(*decoded.frame) == test::read_every_field(*sent.frame));
        ++seen;
    }
    CHECK(seen == test::wire_samples().size());
}

TEST_CASE("a file is copied, piece by piece, to where nobody changes it") {
    const test::FdLeakCheck leaks;
    std::string content(3'000'001, 'x');
    for (std::size_t i = 0; i < content.size(); ++i) {
        content[i] = static_cast<char>(i * 31 + i / 4096);
    }
    UniqueFd file(::memfd_create("test", MFD_CLOEXEC));
    REQUIRE(file);
    REQUIRE(::write(file.get(), content.data(), content.size()) ==
            static_cast<ssize_t>(content.size()));
    CHECK(!is_sealed(file.get()));
    CHECK(!is_sealed(-1));
    const UniqueFd copy = copy_to_sealed_memfd(file.get(), content.size());
    CHECK(is_sealed(copy.get()));
    CHECK(::write(copy.get(), "x", 1) < 0);
    std::string read(content.size() + 1, '\0');
    CHECK(::pread(copy.get(), read.data(), read.size(), 0) == static_cast<ssize_t>(content.size()));
    CHECK(read.compare(0, content.size(), content) == 0);
    CHECK(::lseek(file.get(), 0, SEEK_CUR) == static_cast<off_t>(content.size()));
    CHECK_THROWS_AS((void)copy_to_sealed_memfd(file.get(), content.size() + 1), std::system_error);
    CHECK_THROWS_AS((void)copy_to_sealed_memfd(-1, 1), std::system_error);
    CHECK(is_sealed(copy_to_sealed_memfd(file.get(), 0).get()));
}

TEST_CASE("fields arrive as they were sent") {
    const Packet packet = test::wire_samples().at(wire::Body::GenerateRequest)(5);
    const Decoded decoded = decode(packet.bytes);
    REQUIRE(decoded.frame != nullptr);
    const auto* request = decoded.frame->body_as_GenerateRequest();
    REQUIRE(request != nullptr);
    CHECK(decoded.frame->body_as_ScoreRequest() == nullptr);
    CHECK(request->session() == 9);
    CHECK(request->temperature() == 0.8F);
    CHECK(request->seed() == 1234);
    CHECK(request->ignore_eos());
    REQUIRE(request->stop() != nullptr);
    REQUIRE(request->stop()->size() == 2);
    CHECK(text_of(request->stop()->Get(1)) == "END");
}

TEST_CASE("absent strings and vectors read as empty") {
    Encoder encoder;
    const auto body = wire::CreateGenerateDone(encoder.builder());
    const Packet packet = encoder.finish(1, body);
    const Decoded decoded = decode(packet.bytes);
    REQUIRE(decoded.frame != nullptr);
    const auto* done = decoded.frame->body_as_GenerateDone();
    REQUIRE(done != nullptr);
    CHECK(text_of(done->text()).empty());
    CHECK(span_of(done->ids()).empty());
    CHECK(done->usage() == nullptr);
}

TEST_CASE("truncated and corrupted messages are refused or harmless") {
    std::mt19937 random(20261121);
    for (const auto& [type, make] : test::wire_samples()) {
        CAPTURE(wire::EnumNameBody(type));
        const std::vector<std::byte> good = make(3).bytes;
        for (std::size_t size = 0; size < good.size(); ++size) {
            decode_and_read({good.data(), size});
        }
        for (std::size_t at = 0; at < good.size(); ++at) {
            for (const unsigned value : {0x00U, 0x01U, 0x7fU, 0x80U, 0xffU}) {
                auto bad = good;
                bad[at] = static_cast<std::byte>(value);
                decode_and_read(bad);
            }
        }
        for (int round = 0; round < 2000; ++round) {
            auto bad = good;
            const auto changes = 1 + random() % 8;
            for (unsigned i = 0; i < changes; ++i) {
                bad[random() % bad.size()] = static_cast<std::byte>(random());
            }
            decode_and_read(bad);
        }
    }
}

TEST_CASE("frames without a body, an id or the identifier are refused") {
    CHECK(decode({}).fault == Fault::kMalformed);

    flatbuffers::FlatBufferBuilder empty;
    wire::FinishFrameBuffer(empty, wire::CreateFrame(empty, 1));
    CHECK(decode(std::as_bytes(std::span(empty.GetBufferPointer(), empty.GetSize()))).fault ==
          Fault::kMalformed);

    flatbuffers::FlatBufferBuilder bodiless;
    wire::FinishFrameBuffer(bodiless, wire::CreateFrame(bodiless, 1, wire::Body::Hello));
    CHECK(decode(std::as_bytes(std::span(bodiless.GetBufferPointer(), bodiless.GetSize()))).fault ==
          Fault::kMalformed);

    CHECK(decode(test::wire_samples().at(wire::Body::Hello)(0).bytes).fault == Fault::kMalformed);
    CHECK(decode(test::wire_samples().at(wire::Body::ErrorReply)(0).bytes).fault == Fault::kNone);

    flatbuffers::FlatBufferBuilder unnamed;
    unnamed.Finish(
        wire::CreateFrame(unnamed, 1, wire::Body::OkReply, wire::CreateOkReply(unnamed).Union()));
    CHECK(decode(std::as_bytes(std::span(unnamed.GetBufferPointer(), unnamed.GetSize()))).fault ==
          Fault::kMalformed);
}

TEST_CASE("a message type of a later version decodes and matches no known type") {
    flatbuffers::FlatBufferBuilder builder;
    const auto body = wire::CreateOkReply(builder).Union();
    const auto later = static_cast<wire::Body>(static_cast<std::uint8_t>(wire::Body::MAX) + 40);
    wire::FinishFrameBuffer(builder, wire::CreateFrame(builder, 6, later, body));
    const Decoded decoded =
        decode(std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize())));
    REQUIRE(decoded.frame != nullptr);
    CHECK(decoded.frame->id() == 6);
    CHECK(decoded.frame->body_as_OkReply() == nullptr);
}

TEST_CASE("messages over the limit are refused by both ends") {
    const test::FdLeakCheck leaks;
    Encoder encoder;
    const std::string text(kMaxMessageBytes, 'x');
    const auto body = wire::CreateGenerateChunk(encoder.builder(), 0, encoder.put_bytes(text));
    CHECK_THROWS_AS((void)encoder.finish(1, body), std::length_error);

    Pair pair;
    Packet packet;
    packet.bytes.resize(kMaxMessageBytes + 1);
    CHECK(send_packet(pair.a.get(), packet) == Fault::kTooLarge);
    REQUIRE(::send(pair.a.get(), packet.bytes.data(), packet.bytes.size(), 0) ==
            static_cast<ssize_t>(packet.bytes.size()));
    Inbox inbox;
    CHECK(receive_packet(pair.b.get(), inbox) == Fault::kTooLarge);
    CHECK(inbox.bytes().empty());
    CHECK(decode(packet.bytes).fault == Fault::kTooLarge);
}

TEST_CASE("the largest inline payload fits a message") {
    Encoder encoder;
    const std::string text(kMaxInlineBytes, 'x');
    const auto bulk = encoder.put_text(text);
    const Packet packet =
        encoder.finish(1, wire::CreateTokenizeRequest(encoder.builder(), bulk, true));
    CHECK_FALSE(packet.fd);
    std::string got;
    CHECK(take_sent(packet, kMaxBulkBytes, &got) == Fault::kNone);
    CHECK(got.size() == text.size());
}

TEST_CASE("an empty socket, a hang-up and an empty message") {
    Pair pair;
    Inbox inbox;
    CHECK(receive_packet(pair.b.get(), inbox) == Fault::kWouldBlock);
    pair.a.reset();
    CHECK(receive_packet(pair.b.get(), inbox) == Fault::kClosed);
    CHECK(send_packet(pair.b.get(), test::wire_samples().at(wire::Body::OkReply)(1)) ==
          Fault::kClosed);
}

TEST_CASE("a full socket says so and takes the packet later") {
    Pair pair;
    const Packet packet = test::wire_samples().at(wire::Body::OkReply)(1);
    std::size_t sent = 0;
    Fault fault = Fault::kNone;
    while ((fault = send_packet(pair.a.get(), packet)) == Fault::kNone) {
        REQUIRE(++sent < 1000000);
    }
    CHECK(fault == Fault::kWouldBlock);
    Inbox inbox;
    for (std::size_t i = 0; i < sent; ++i) {
        REQUIRE(receive_packet(pair.b.get(), inbox) == Fault::kNone);
    }
    CHECK(send_packet(pair.a.get(), packet) == Fault::kNone);
}

TEST_CASE("a large payload travels as a sealed memfd") {
    const test::FdLeakCheck leaks;
    std::vector<std::uint32_t> ids(100000);
    std::iota(ids.begin(), ids.end(), 5U);
    Encoder encoder;
    const auto bulk = encoder.put_ids(ids);
    const Packet packet = encoder.finish(4, wire::CreateScoreRequest(encoder.builder(), bulk, 2));
    REQUIRE(packet.fd);
    CHECK(packet.bytes.size() < 256);

    Pair pair;
    Inbox inbox;
    REQUIRE(send_packet(pair.a.get(), packet) == Fault::kNone);
    REQUIRE(receive_packet(pair.b.get(), inbox) == Fault::kNone);
    REQUIRE(inbox.fd());
    CHECK((::fcntl(inbox.fd().get(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(::ftruncate(inbox.fd().get(), 10) != 0);
    CHECK(::ftruncate(packet.fd.get(), 1 << 20) != 0);
    CHECK(::pwrite(packet.fd.get(), "x", 1, 0) < 0);
    CHECK(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, packet.fd.get(), 0) ==
          MAP_FAILED);
    CHECK(::fcntl(packet.fd.get(), F_ADD_SEALS, 0x0010) != 0);

    const Decoded decoded = decode(inbox.bytes());
    REQUIRE(decoded.frame != nullptr);
    std::vector<std::uint32_t> got;
    CHECK(take_ids(decoded.frame->body_as_ScoreRequest()->ids(), inbox.fd(), 100000, got) ==
          Fault::kNone);
    CHECK(got == ids);
    CHECK_FALSE(inbox.fd());
}

TEST_CASE("two memfds in one message and a payload over 64 MiB are refused") {
    const test::FdLeakCheck leaks;
    const std::string text(kMaxInlineBytes + 1, 'x');
    Encoder encoder;
    (void)encoder.put_text(text);
    CHECK_THROWS_AS((void)encoder.put_text(text), std::logic_error);
    const std::vector<std::byte> huge(kMaxBulkBytes + 1);
    CHECK_THROWS_AS((void)make_sealed_memfd(huge), std::length_error);
}

TEST_CASE("payload descriptors that are not what they claim") {
    const test::FdLeakCheck leaks;
    CHECK(take_sent(bulk_packet(memfd_with(4096, kSeals), 4096)) == Fault::kNone);
    SUBCASE("without any seal") {
        CHECK(take_sent(bulk_packet(memfd_with(4096, 0), 4096)) == Fault::kBulkUnsealed);
    }
    SUBCASE("open to shrinking") {
        CHECK(take_sent(bulk_packet(memfd_with(4096, F_SEAL_GROW | F_SEAL_WRITE), 4096)) ==
              Fault::kBulkUnsealed);
    }
    SUBCASE("open to writing") {
        CHECK(take_sent(bulk_packet(memfd_with(4096, F_SEAL_GROW | F_SEAL_SHRINK), 4096)) ==
              Fault::kBulkUnsealed);
    }
    SUBCASE("a plain file, a pipe, a socket") {
        char path[] = "/tmp/m4-codec-XXXXXX";
        UniqueFd file(::mkostemp(path, O_CLOEXEC));
        REQUIRE(file);
        ::unlink(path);
        REQUIRE(::ftruncate(file.get(), 4096) == 0);
        CHECK(take_sent(bulk_packet(std::move(file), 4096)) == Fault::kBulkUnsealed);
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        UniqueFd read_end(ends[0]);
        CHECK(take_sent(bulk_packet(UniqueFd(ends[1]), 4096)) == Fault::kBulkUnsealed);
    }
    SUBCASE("larger or smaller than told") {
        CHECK(take_sent(bulk_packet(memfd_with(4096, kSeals), 4097)) == Fault::kBulkSize);
        CHECK(take_sent(bulk_packet(memfd_with(4096, kSeals), 4095)) == Fault::kBulkSize);
        CHECK(take_sent(bulk_packet(memfd_with(4096, kSeals), 0)) == Fault::kBulkSize);
    }
    SUBCASE("over the reader's limit, also by a lie") {
        CHECK(take_sent(bulk_packet(memfd_with(4096, kSeals), 4096), 4095) == Fault::kBulkTooLarge);
        CHECK(take_sent(bulk_packet(memfd_with(4096, kSeals), ~0ULL)) == Fault::kBulkTooLarge);
        CHECK(take_sent(bulk_packet(memfd_with(kMaxBulkBytes + 1, kSeals), kMaxBulkBytes + 1),
                        SIZE_MAX) == Fault::kBulkTooLarge);
    }
    SUBCASE("absent, or present and not named") {
        CHECK(take_sent(bulk_packet(UniqueFd(), 4096)) == Fault::kBulkInvalid);
        CHECK(take_sent(bulk_packet(memfd_with(8, kSeals), 0, false)) == Fault::kBulkInvalid);
        CHECK(take_sent(bulk_packet(UniqueFd(), 8, false)) == Fault::kBulkInvalid);
    }
}

TEST_CASE("an absent payload and ids that are no whole number") {
    UniqueFd none;
    BulkBytes payload;
    CHECK(take_bulk(nullptr, none, 10, payload) == Fault::kBulkMissing);

    Encoder encoder;
    const auto bulk = encoder.put_text("12345");
    const Packet packet =
        encoder.finish(1, wire::CreateTokenizeRequest(encoder.builder(), bulk, true));
    const auto* text = decode(packet.bytes).frame->body_as_TokenizeRequest()->text();
    std::vector<std::uint32_t> ids{7};
    CHECK(take_ids(text, none, 10, ids) == Fault::kBulkMisshapen);
    CHECK(take_ids(text, none, 1, ids) == Fault::kBulkTooLarge);
    CHECK(ids == std::vector<std::uint32_t>{7});
}

TEST_CASE("more than one descriptor is refused and none stays open") {
    for (const std::size_t count : {2U, 3U, 4U, 60U}) {
        CAPTURE(count);
        const test::FdLeakCheck leaks;
        Pair pair;
        std::vector<char> control(CMSG_SPACE(count * sizeof(int)));
        const std::vector<int> fds(count, pair.a.get());
        const Packet packet = test::wire_samples().at(wire::Body::OkReply)(1);
        iovec part = {const_cast<std::byte*>(packet.bytes.data()), packet.bytes.size()};
        msghdr message = {};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        std::memcpy(CMSG_DATA(header), fds.data(), count * sizeof(int));
        REQUIRE(::sendmsg(pair.a.get(), &message, MSG_NOSIGNAL) > 0);
        Inbox inbox;
        CHECK(receive_packet(pair.b.get(), inbox) == Fault::kTooManyFds);
        CHECK_FALSE(inbox.fd());
    }
}

TEST_CASE("a descriptor nobody takes is closed by the next receive") {
    const test::FdLeakCheck leaks;
    Pair pair;
    Inbox inbox;
    Packet packet = test::wire_samples().at(wire::Body::OkReply)(1);
    packet.fd = memfd_with(1, kSeals);
    REQUIRE(send_packet(pair.a.get(), packet) == Fault::kNone);
    REQUIRE(receive_packet(pair.b.get(), inbox) == Fault::kNone);
    CHECK(inbox.fd());
    CHECK(receive_packet(pair.b.get(), inbox) == Fault::kWouldBlock);
    CHECK_FALSE(inbox.fd());
}
