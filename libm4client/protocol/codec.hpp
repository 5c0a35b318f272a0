// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "m4_generated.h"
#include "protocol/unique_fd.hpp"
#include "protocol/version.hpp"

/// The one codec of the wire, linked by the service and by libm4client.
/// Nothing here keeps state between calls or blocks; objects belong to one
/// thread at a time. Received bytes are untrusted until decode() passed them,
/// and a bulk payload until take_bulk() did.
namespace m4::protocol {

/// Why a message or payload was refused, or did not move.
enum class Fault : std::uint8_t {
    kNone,
    kWouldBlock,     ///< not now: poll the socket
    kClosed,         ///< the peer hung up (or sent an empty message)
    kSystem,         ///< a system call failed; errno still tells how
    kTooLarge,       ///< a message over kMaxMessageBytes
    kTooManyFds,     ///< more than one descriptor; all were closed
    kMalformed,      ///< the verifier or a rule of the frame refused it
    kBulkMissing,    ///< a payload is required and absent
    kBulkInvalid,    ///< in_fd, bytes and the descriptor contradict each other
    kBulkUnsealed,   ///< not a memfd sealed against shrink, grow and write
    kBulkSize,       ///< size_bytes is not the memfd's size
    kBulkTooLarge,   ///< over the reader's limit
    kBulkMisshapen,  ///< not a whole number of elements
    kBulkSparse,     ///< a memfd with holes
};

/// An English phrase; never null.
[[nodiscard]] const char* fault_text(Fault fault);

/// One message ready to send, with the descriptor that travels beside it.
struct Packet {
    std::vector<std::byte> bytes;
    UniqueFd fd;
};

/// Builds one message. Not reusable after finish().
///
/// Throws std::length_error when the payload or the finished message is over
/// its limit, std::logic_error on a second memfd in one message, and
/// std::system_error when the memfd cannot be made.
class Encoder {
   public:
    using Builder = flatbuffers::FlatBufferBuilder;

    [[nodiscard]] Builder& builder() { return builder_; }

    /// Inline up to kMaxInlineBytes, else in a sealed memfd.
    [[nodiscard]] flatbuffers::Offset<wire::Bulk> put_bulk(std::span<const std::byte> bytes);
    [[nodiscard]] flatbuffers::Offset<wire::Bulk> put_text(std::string_view text);
    [[nodiscard]] flatbuffers::Offset<wire::Bulk> put_ids(std::span<const std::uint32_t> ids);

    /// Pieces one behind the other, inline or in a memfd of up to kMaxMediaBytes.
    [[nodiscard]] flatbuffers::Offset<wire::Bulk> put_pieces(
        std::span<const std::span<const std::byte>> pieces);
    /// A memfd of the caller's, sealed, of `bytes` bytes.
    [[nodiscard]] flatbuffers::Offset<wire::Bulk> put_memfd(UniqueFd fd, std::uint64_t bytes);

    [[nodiscard]] flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> put_bytes(
        std::string_view bytes);

    template <typename T>
    [[nodiscard]] Packet finish(std::uint64_t id, flatbuffers::Offset<T> body) {
        static_assert(wire::BodyTraits<T>::enum_value != wire::Body::NONE);
        return finish_frame(id, wire::BodyTraits<T>::enum_value, body.Union());
    }

   private:
    Packet finish_frame(std::uint64_t id, wire::Body type, flatbuffers::Offset<void> body);

    Builder builder_{1024};
    UniqueFd fd_;
};

/// A memfd that holds `bytes`, sealed against every change. Throws
/// std::length_error over kMaxBulkBytes and std::system_error.
[[nodiscard]] UniqueFd make_sealed_memfd(std::span<const std::byte> bytes);
/// The same of pieces, one behind the other, up to `max_bytes` together.
[[nodiscard]] UniqueFd make_sealed_memfd(std::span<const std::span<const std::byte>> pieces,
                                         std::size_t max_bytes);
/// Whether the kernel keeps everybody from changing or shrinking what is behind it.
[[nodiscard]] bool is_sealed(int fd);
/// A sealed memfd with the first `size_bytes` of a file, which stays where it was. Throws
/// std::system_error, also where the file has fewer.
[[nodiscard]] UniqueFd copy_to_sealed_memfd(int file, std::uint64_t size_bytes);

/// Checks a received message. The frame points into `bytes`, which must stay
/// and be aligned to 8 (operator new is), and is null with any fault.
///
/// A decoded frame's body is of the type body_type() tells and not null, or of
/// a type this code does not know (a newer peer: every body_as is null).
/// Strings and vectors in it may be null: read them through text_of() and
/// bytes_of(). Text is not checked to be UTF-8.
struct Decoded {
    const wire::Frame* frame = nullptr;
    Fault fault = Fault::kNone;
};
[[nodiscard]] Decoded decode(std::span<const std::byte> bytes);

[[nodiscard]] inline std::string_view text_of(const flatbuffers::String* text) {
    return text == nullptr ? std::string_view{} : std::string_view{text->c_str(), text->size()};
}

/// A byte vector as text.
[[nodiscard]] std::string_view text_of(const flatbuffers::Vector<std::uint8_t>* bytes);

template <typename T>
[[nodiscard]] std::span<const T> span_of(const flatbuffers::Vector<T>* values) {
    static_assert(FLATBUFFERS_LITTLEENDIAN, "vectors are read in place");
    return values == nullptr ? std::span<const T>{}
                             : std::span<const T>{values->data(), values->size()};
}

/// A bulk payload: a view into its message, or an own copy of a memfd's
/// content. Valid while the message is.
class BulkBytes {
   public:
    [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
    [[nodiscard]] std::string_view text() const {
        return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
    }

   private:
    friend Fault take_bulk(const wire::Bulk*, UniqueFd&, std::size_t, BulkBytes&);
    std::span<const std::byte> bytes_;
    std::unique_ptr<std::byte[]> copy_;
};

/// Reads a payload of at most `max_bytes` (never over kMaxBulkBytes). `fd` is
/// the descriptor that came with the message; it is consumed when the payload
/// is in it and closed in every case but kBulkMissing. A memfd is copied, not
/// mapped: a hole in it then costs the reader no page, and a failed page no
/// SIGBUS. `out` is untouched on a fault.
[[nodiscard]] Fault take_bulk(const wire::Bulk* bulk, UniqueFd& fd, std::size_t max_bytes,
                              BulkBytes& out);

/// A bulk payload that is read where it lies: in its message, or in a memfd that is
/// mapped. For what is too large to copy; the mapping is the object's.
class BulkView {
   public:
    BulkView() = default;
    ~BulkView();
    BulkView(BulkView&& other) noexcept { *this = std::move(other); }
    BulkView& operator=(BulkView&& other) noexcept;
    BulkView(const BulkView&) = delete;
    BulkView& operator=(const BulkView&) = delete;

    [[nodiscard]] std::span<const std::byte> bytes() const {
        return mapped_.empty() ? std::span<const std::byte>(copy_) : mapped_;
    }

   private:
    friend Fault take_view(const wire::Bulk*, UniqueFd&, std::size_t, BulkView&);
    std::span<const std::byte> mapped_;
    std::vector<std::byte> copy_;  ///< of what was in the message, which goes
};

/// As take_bulk(), for at most kMaxViewBytes, but a memfd is mapped. Its pages are
/// all there: a hole, which would cost the reader memory, is kBulkSparse.
[[nodiscard]] Fault take_view(const wire::Bulk* bulk, UniqueFd& fd, std::size_t max_bytes,
                              BulkView& out);

/// The same for u32 values; `max_count` bounds their number.
[[nodiscard]] Fault take_ids(const wire::Bulk* bulk, UniqueFd& fd, std::size_t max_count,
                             std::vector<std::uint32_t>& out);

/// Receives into one reused buffer.
class Inbox {
   public:
    Inbox();

    /// The last message, until the next receive.
    [[nodiscard]] std::span<const std::byte> bytes() const { return {buffer_.get(), size_bytes_}; }
    /// The descriptor that came with it, if any; closed by the next receive
    /// unless moved away.
    [[nodiscard]] UniqueFd& fd() { return fd_; }

   private:
    friend Fault receive_packet(int, Inbox&);
    std::unique_ptr<std::byte[]> buffer_;
    std::size_t size_bytes_ = 0;
    UniqueFd fd_;
};

/// One whole message from a SOCK_SEQPACKET socket, without blocking.
/// Descriptors are close-on-exec. After a fault other than kWouldBlock the
/// connection is of no further use.
[[nodiscard]] Fault receive_packet(int socket_fd, Inbox& inbox);

/// One whole message to the socket, without blocking or SIGPIPE. The packet
/// stays the caller's: send it again after kWouldBlock.
[[nodiscard]] Fault send_packet(int socket_fd, const Packet& packet);

}  // namespace m4::protocol
