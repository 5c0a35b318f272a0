// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "engine/sampler.hpp"
#include "lib/program.hpp"
#include "lib/tokenizer.hpp"
#include "media/prepare.hpp"
#include "sched/adapter.hpp"

/// Typed requests: what ipc/dispatch makes of bytes. Values, moved to the
/// engine thread.
namespace m4::sched {

using ClientId = std::uint64_t;   ///< one per connection, never reused
using SessionId = std::uint64_t;  ///< one per session, never reused
using RequestId = std::uint64_t;  ///< chosen by the client, unique while it runs

/// Who asks, from the socket's peer credentials.
struct Client {
    ClientId id = 0;
    uid_t uid = 0;
    pid_t pid = 0;
    std::string name;
};

struct CreateSession {
    std::uint32_t capacity = 0;  ///< tokens; 0: the context length
    AdapterChoice adapter = {};  ///< of its requests, unless they ask for another
};

/// A new session that holds what this one holds.
struct CloneSession {
    SessionId session = 0;
};

struct AppendTokens {
    SessionId session = 0;
    std::vector<std::uint32_t> ids;
};

struct TruncateSession {
    SessionId session = 0;
    std::uint32_t position = 0;
};

struct InspectSession {
    SessionId session = 0;
};

struct CloseSession {
    SessionId session = 0;
};

/// Sessions of the asking client's uid; of everyone for uid 0.
struct ListSessions {};

/// The figures for status, once what the client asked before is done.
struct ReadFigures {};

struct Generate {
    SessionId session = 0;
    std::uint32_t max_tokens = 0;      ///< 0: until the context is full
    engine::SamplingOptions sampling;  ///< seed 0: one is picked
    std::vector<std::string> stop;
    bool ignore_eos = false;
    AdapterChoice adapter = {};  ///< without a digest: the session's
};

struct Score {
    std::vector<std::uint32_t> ids;
    std::uint32_t top_n = 0;
    AdapterChoice adapter = {};
};

/// What an encoder gives.
enum class EncodeOutput : std::uint8_t { embedding = 1, scores = 2, hidden = 3 };

/// SHA-256 of an input, of the part and of what is wanted of it.
using InputKey = std::array<std::uint8_t, 32>;

class EmbeddingCache;

/// Inputs of one part of the image, prepared: features, or tokens. Whoever makes one
/// knows the part; the engine thread trusts it.
struct Encode {
    std::uint32_t part = 0;  ///< its place in the package
    std::string part_name = {};
    EncodeOutput output = EncodeOutput::embedding;
    std::vector<std::uint32_t> items;   ///< of each input: runs whose mean is its result
    std::vector<float> features;        ///< item by item
    std::vector<std::uint32_t> tokens;  ///< or these, item by item,
    std::vector<std::uint32_t> picked;  ///< and one row of each
    /// Of one input: its embedding through a projector, behind a session's tokens.
    struct Target {
        SessionId session = 0;
        std::uint32_t projector = 0;  ///< a part
        std::uint32_t rows = 0;       ///< that it makes of an input
    };
    std::optional<Target> target = {};
    /// Of each input its result where that is known (its items are 0 then), and the name
    /// it is to be kept by. Empty: none is known or kept.
    std::vector<std::shared_ptr<const std::vector<float>>> known = {};
    std::vector<InputKey> keys = {};
    std::shared_ptr<EmbeddingCache> cache = {};
};

/// One recording to be written down by a decoder, prepared. Whoever makes one knows the
/// parts; the engine thread trusts it.
struct Transcribe {
    std::uint32_t encoder = 0;  ///< parts' places in the package
    std::uint32_t decoder = 0;
    const firmware::Part* listener = nullptr;        ///< the encoder's part
    const firmware::Part* writer = nullptr;          ///< the decoder's
    const firmware::Tokenizer* tokenizer = nullptr;  ///< of the decoder; null: ids only
    /// Windows that are prepared: the first of a recording, or all that came as features.
    std::vector<float> features;
    /// Of a recording: what it is, its bytes, and what holds these.
    std::optional<media::Descriptor> sound = {};
    std::span<const std::byte> data = {};
    std::shared_ptr<const void> keep = {};
    std::optional<std::uint32_t> language = {};  ///< its place among the part's; none: by ear
    bool translate = false;
    bool timestamps = false;
    std::uint32_t beam = 1;
    std::uint32_t max_tokens = 0;       ///< of a window; 0: as many as fit
    std::vector<std::uint32_t> prompt;  ///< begins each window instead of what the part says
};

/// Measure this device with this model; for root and the service's own user. 0:
/// the default (sched/benchmark.hpp).
struct RunBench {
    std::uint32_t context = 0;  ///< tokens that are there when it decodes
    std::uint32_t tokens = 0;   ///< to decode
    std::uint32_t prefill = 0;  ///< tokens of the prompt that it computes
};

using Request = std::variant<CreateSession, CloneSession, AppendTokens, TruncateSession,
                             InspectSession, CloseSession, ListSessions, ReadFigures, Generate,
                             Score, RunBench, Encode, Transcribe>;

}  // namespace m4::sched
