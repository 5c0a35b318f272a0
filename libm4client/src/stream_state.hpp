// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "error.hpp"
#include "protocol/codec.hpp"

namespace m4::client {

/// Above this much unread data of any stream m4_client_dispatch() leaves
/// messages in the socket, so that the service feels the reader's pace.
inline constexpr std::size_t kPauseBytes = 256UL * 1024;
/// A blocking call for something else must go on reading; a stream that gets
/// over this meanwhile is cancelled and ends with M4_E_TOO_LARGE.
inline constexpr std::size_t kPendingLimitBytes = 4UL * 1024 * 1024;

/// What is known of one generate request: shared by the connection, which
/// fills it until the request ends, the app's stream handle, which empties it,
/// and the session, which asks whether it is still busy.
class StreamState {
   public:
    explicit StreamState(std::uint64_t id) : id_(id) {}

    [[nodiscard]] std::uint64_t id() const { return id_; }

    // --- filled by the connection ---

    /// False when the frame is no answer to a generate request.
    [[nodiscard]] bool take(const wire::Frame& frame);
    /// The request ends here with this error; what waits is still delivered.
    void fail(Error error) {
        error_ = std::move(error);
        ended_ = true;
    }
    /// No more messages will come for this request.
    [[nodiscard]] bool ended() const { return ended_; }
    [[nodiscard]] std::size_t pending_bytes() const {
        return pending_.text.size() + pending_.ids.size() * sizeof(std::uint32_t);
    }

    // --- emptied by the app ---

    [[nodiscard]] bool has_event() const {
        return !pending_.text.empty() || !pending_.ids.empty() || (ended_ && !error_ && !taken_);
    }
    /// The event; its pointers live until the next call. The last one of a
    /// finished request carries how it finished.
    [[nodiscard]] m4_event take_event();
    /// The last event was taken.
    [[nodiscard]] bool taken() const { return taken_; }
    /// The error the stream ended with, once everything before it was taken.
    [[nodiscard]] const Error* error() const { return error_ ? &*error_ : nullptr; }
    [[nodiscard]] const m4_usage& usage() const { return usage_; }
    /// The app has seen the end, be it an error: the session is free again.
    void mark_error_seen() { error_seen_ = true; }

    /// The handle is closed: what still comes is dropped.
    void abandon() {
        abandoned_ = true;
        pending_ = {};
        current_ = {};
    }
    [[nodiscard]] bool abandoned() const { return abandoned_; }
    [[nodiscard]] bool open_for_app() const { return !abandoned_ && !taken_ && !error_seen_; }

    /// A cancel was sent already.
    bool cancelled = false;

   private:
    struct Piece {
        std::string text;
        std::vector<std::uint32_t> ids;
    };

    void append(std::string_view text, std::span<const std::uint32_t> ids);

    std::uint64_t id_;
    Piece pending_;  // what has arrived and not been taken
    Piece current_;  // what the app's last event points into
    m4_finish finish_ = M4_FINISH_NONE;
    m4_usage usage_ = {};
    std::optional<Error> error_;
    bool ended_ = false;
    bool taken_ = false;
    bool error_seen_ = false;
    bool abandoned_ = false;
};

/// The service's words for a request's failure.
[[nodiscard]] Error error_of(const wire::ErrorReply& reply);

/// Zeroes for an absent table.
[[nodiscard]] m4_usage usage_of(const wire::Usage* usage);

}  // namespace m4::client
