// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "ipc/limits.hpp"
#include "protocol/codec.hpp"
#include "sched/completion.hpp"
#include "sched/parts.hpp"
#include "sched/request.hpp"
#include "sched/speech.hpp"

/// Bytes to typed requests. No bytes past here.
namespace m4::ipc {

struct Greeting {
    std::uint16_t version_major = 0;
    std::uint16_t version_minor = 0;
    std::uint64_t features = 0;
    std::string client_name;  ///< shortened, printable
};

struct AskStatus {};
struct AskModel {};

/// Tokenise; for a session: and append.
struct EncodeText {
    std::string text;
    bool add_special = false;
    std::optional<sched::SessionId> session;
};

struct DecodeIds {
    std::vector<std::uint32_t> ids;
};

struct AskParts {};

struct AskLabels {
    std::string part;
};

/// Encode; the data lies where the client put it until it is prepared.
struct EncodeMedia {
    sched::EncodeInputs inputs;
    std::shared_ptr<const protocol::BulkView> data;
};

/// Write down; likewise.
struct TranscribeMedia {
    sched::TranscribeInputs inputs;
    std::shared_ptr<const protocol::BulkView> data;
};

/// Check, and keep where that is wanted; the file lies where the client put it.
struct AddAdapter {
    std::shared_ptr<const protocol::BulkView> file;
    bool keep = false;
};

struct ListAdapters {};

struct RemoveAdapter {
    sched::AdapterDigest digest{};
};

struct PublishAdapter {
    sched::AdapterDigest digest{};
    bool published = false;
};

struct CollectAdapters {
    std::uint64_t unused_s = 0;
};

struct Cancel {
    sched::RequestId target = 0;
};

/// The message is not one a client sends, or its parts contradict each other.
struct Violation {
    std::string what;
};

using Command = std::variant<Greeting, AskStatus, AskModel, AskParts, AskLabels, EncodeText,
                             DecodeIds, EncodeMedia, TranscribeMedia, AddAdapter, ListAdapters,
                             RemoveAdapter, PublishAdapter, CollectAdapters, sched::Request, Cancel,
                             sched::Failure, Violation>;

/// What a checked frame asks for; a Failure where it asks for too much. `fd`
/// came with it: taken where the frame's payload is in it, else a violation.
[[nodiscard]] Command dispatch(const wire::Frame& frame, UniqueFd& fd, const Limits& limits);

}  // namespace m4::ipc
