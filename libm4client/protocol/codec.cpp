// SPDX-License-Identifier: MIT
#include "protocol/codec.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace m4::protocol {

namespace {

// A frame nests Frame > body > entry or usage; a session list has the most
// tables, and no message has room for more than this.
constexpr flatbuffers::uoffset_t kMaxDepth = 8;
constexpr flatbuffers::uoffset_t kMaxTables = 4096;

}  // namespace

const char* fault_text(Fault fault) {
    switch (fault) {
        case Fault::kNone:
            return "no fault";
        case Fault::kWouldBlock:
            return "the socket is not ready";
        case Fault::kClosed:
            return "the peer closed the connection";
        case Fault::kSystem:
            return "a system call failed";
        case Fault::kTooLarge:
            return "the message is over 65536 bytes";
        case Fault::kTooManyFds:
            return "the message carries more than one descriptor";
        case Fault::kMalformed:
            return "the message is malformed";
        case Fault::kBulkMissing:
            return "the message lacks its payload";
        case Fault::kBulkInvalid:
            return "the payload's fields contradict each other";
        case Fault::kBulkUnsealed:
            return "the payload is not a memfd sealed against shrink, grow and write";
        case Fault::kBulkSize:
            return "the payload's size is not the memfd's";
        case Fault::kBulkTooLarge:
            return "the payload is over the limit";
        case Fault::kBulkMisshapen:
            return "the payload is not a whole number of elements";
        case Fault::kBulkSparse:
            return "the payload's memfd has holes";
    }
    return "unknown fault";
}

flatbuffers::Offset<wire::Bulk> Encoder::put_bulk(std::span<const std::byte> bytes) {
    if (bytes.size() <= kMaxInlineBytes) {
        const auto vector = builder_.CreateVector(
            reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
        return wire::CreateBulk(builder_, vector, false, 0);
    }
    if (fd_) {
        throw std::logic_error("a message carries one memfd at most");
    }
    fd_ = make_sealed_memfd(bytes);
    return wire::CreateBulk(builder_, 0, true, bytes.size());
}

flatbuffers::Offset<wire::Bulk> Encoder::put_pieces(
    std::span<const std::span<const std::byte>> pieces) {
    std::size_t total = 0;
    for (const auto piece : pieces) {
        total += piece.size();
    }
    if (total > kMaxInlineBytes) {
        return put_memfd(make_sealed_memfd(pieces, kMaxMediaBytes), total);
    }
    std::vector<std::byte> all;
    for (const auto piece : pieces) {
        all.insert(all.end(), piece.begin(), piece.end());
    }
    return put_bulk(all);
}

flatbuffers::Offset<wire::Bulk> Encoder::put_memfd(UniqueFd fd, std::uint64_t bytes) {
    if (fd_) {
        throw std::logic_error("a message carries one memfd at most");
    }
    fd_ = std::move(fd);
    return wire::CreateBulk(builder_, 0, true, bytes);
}

flatbuffers::Offset<wire::Bulk> Encoder::put_text(std::string_view text) {
    return put_bulk(std::as_bytes(std::span(text)));
}

flatbuffers::Offset<wire::Bulk> Encoder::put_ids(std::span<const std::uint32_t> ids) {
    static_assert(FLATBUFFERS_LITTLEENDIAN, "ids travel little-endian");
    return put_bulk(std::as_bytes(ids));
}

flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> Encoder::put_bytes(std::string_view bytes) {
    return builder_.CreateVector(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

Packet Encoder::finish_frame(std::uint64_t id, wire::Body type, flatbuffers::Offset<void> body) {
    wire::FinishFrameBuffer(builder_, wire::CreateFrame(builder_, id, type, body));
    const std::span<const std::byte> bytes{
        reinterpret_cast<const std::byte*>(builder_.GetBufferPointer()), builder_.GetSize()};
    if (bytes.size() > kMaxMessageBytes) {
        throw std::length_error("message of " + std::to_string(bytes.size()) + " bytes");
    }
    return Packet{{bytes.begin(), bytes.end()}, std::move(fd_)};
}

Decoded decode(std::span<const std::byte> bytes) {
    if (bytes.size() > kMaxMessageBytes) {
        return {nullptr, Fault::kTooLarge};
    }
    const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    if (bytes.empty() || reinterpret_cast<std::uintptr_t>(data) % alignof(std::uint64_t) != 0) {
        return {nullptr, Fault::kMalformed};
    }
    flatbuffers::Verifier verifier(data, bytes.size(), kMaxDepth, kMaxTables);
    if (!wire::VerifyFrameBuffer(verifier)) {
        return {nullptr, Fault::kMalformed};
    }
    const wire::Frame* frame = wire::GetFrame(data);
    // The verifier lets an absent body pass; handlers must not meet one.
    const bool has_body = frame->body_type() != wire::Body::NONE && frame->body() != nullptr;
    // Id 0 names no request: only an error about the connection has it.
    const bool has_id = frame->id() != 0 || frame->body_type() == wire::Body::ErrorReply;
    if (!has_body || !has_id) {
        return {nullptr, Fault::kMalformed};
    }
    return {frame, Fault::kNone};
}

std::string_view text_of(const flatbuffers::Vector<std::uint8_t>* bytes) {
    return bytes == nullptr
               ? std::string_view{}
               : std::string_view{reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

Fault take_ids(const wire::Bulk* bulk, UniqueFd& fd, std::size_t max_count,
               std::vector<std::uint32_t>& out) {
    constexpr std::size_t kIdBytes = sizeof(std::uint32_t);
    BulkBytes payload;
    const std::size_t max_bytes = std::min(max_count, kMaxBulkBytes / kIdBytes) * kIdBytes;
    if (const Fault fault = take_bulk(bulk, fd, max_bytes, payload); fault != Fault::kNone) {
        return fault;
    }
    const auto bytes = payload.bytes();
    if (bytes.size() % kIdBytes != 0) {
        return Fault::kBulkMisshapen;
    }
    std::vector<std::uint32_t> ids(bytes.size() / kIdBytes);
    if (!ids.empty()) {
        std::memcpy(ids.data(), bytes.data(), bytes.size());
    }
    out = std::move(ids);
    return Fault::kNone;
}

}  // namespace m4::protocol
