// SPDX-License-Identifier: MIT
#pragma once

#include <m4/image.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "recipe.hpp"

/// Programs as plain structs: what verify.cpp makes of a program blob once it
/// has checked every one of them, and what the engine runs. Values here can be
/// trusted; the FlatBuffers form cannot.
namespace m4::firmware {

/// The operator set, from ops.def.
enum class OpCode : std::uint16_t {
#define M4_OP(code, name, inputs, outputs, attributes, summary) name = code,
#include "../ops.def"
};

enum class AttrId : std::uint16_t {
#define M4_ATTR(id, name, kind) name = id,
#include "../ops.def"
};

/// One row of ops.def.
struct OpInfo {
    OpCode code;
    std::string_view name;
    std::string_view inputs;  ///< a letter a slot, see ops.def
    std::uint32_t output_count;
    std::string_view attributes;  ///< names separated by blanks
    std::string_view summary;
};

/// All rows, in ops.def's order.
[[nodiscard]] const std::vector<OpInfo>& operator_set();
/// Null where no operator has this code.
[[nodiscard]] const OpInfo* find_op(std::uint16_t code) noexcept;

/// Values of the `function` attribute of `activation`.
enum class Activation : std::int64_t {
    silu = 1,
    gelu = 2,        ///< by erf
    gelu_tanh = 3,   ///< its approximation by tanh
    gelu_quick = 4,  ///< by the sigmoid of 1.702 x
    relu = 5,
    tanh = 6,
};

enum class Symbol : std::uint8_t { none = 0, tokens = 1, outputs = 2, items = 3 };

/// Extent `factor`, or `factor` x the step's value of `symbol`.
struct Dim {
    std::uint32_t factor = 1;
    Symbol symbol = Symbol::none;
    bool operator==(const Dim&) const = default;
};

struct Value {
    m4_dtype dtype = M4_DTYPE_F32;
    std::vector<Dim> dims;  ///< rank 1 or 2; only dims[0] may be symbolic
};

enum class OperandKind : std::uint8_t { none = 0, value = 1, tensor = 2, state = 3 };

struct Operand {
    OperandKind kind = OperandKind::none;
    std::uint32_t index = 0;
};

struct Op {
    OpCode code{};
    std::vector<Operand> inputs;
    std::vector<std::uint32_t> outputs;       ///< indices into Program::values
    std::array<double, 17> reals{};           ///< by AttrId; 0 where absent
    std::array<std::int64_t, 17> integers{};  ///< by AttrId; 0 where absent

    [[nodiscard]] double real(AttrId id) const { return reals.at(static_cast<std::size_t>(id)); }
    [[nodiscard]] std::int64_t integer(AttrId id) const {
        return integers.at(static_cast<std::size_t>(id));
    }
};

enum class StateKind : std::uint8_t { kv_cache = 1, memory = 2 };

/// Keys and values of one layer, one per sequence: of its tokens, or of the rows of an
/// encoder that a decoder looks at.
struct State {
    std::uint32_t kv_heads = 0;
    std::uint32_t head_dim = 0;
    StateKind kind = StateKind::kv_cache;
    bool operator==(const State&) const = default;
};

enum class Role : std::uint16_t {
    token_ids = 1,
    positions = 2,
    output_rows = 3,
    logits = 4,
    features = 5,
    embedding = 6,
    hidden = 7,
    scores = 8,
    picked_rows = 9,
    embedded_rows = 10,
    memory_positions = 11,
};

struct Port {
    Role role{};
    std::uint32_t value = 0;
};

/// Groups of operators that a device may run as one kernel; docs/programs.md.
enum class FusionKind : std::uint16_t {
    projection = 1,  ///< rms_norm, linear x 1..3, rope of some of them, kv_write or none
    gated = 2,       ///< rms_norm, linear, linear, activation of the first, mul
    residual = 3,    ///< linear, add
};

/// Operators [first, first + count) of a program.
struct Fusion {
    FusionKind kind{};
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    bool operator==(const Fusion&) const = default;
};

struct Program {
    std::string name;
    std::vector<Port> inputs;
    std::vector<Port> outputs;
    std::vector<Value> values;
    std::vector<State> states;
    std::vector<Op> ops;  ///< execution order; operands defined before use
    /// In order, without overlap. What is computed is the same without them.
    std::vector<Fusion> fusions;
};

/// A `head` is of an adapter (firmware/adapters), and in no image.
enum class PartKind : std::uint8_t {
    backbone = 1,
    encoder = 2,
    projector = 3,
    decoder = 4,
    head = 5,
};

/// A language that a decoder of speech writes, and the token that asks for it.
struct Language {
    std::string code;  ///< "en"
    std::uint32_t token = 0;
};

/// How a decoder of speech is asked: `start`, a language, a task, whether times are
/// wanted; then it writes until `end`. A token that it does not have is 0.
struct Transcription {
    std::uint32_t start = 0;
    std::uint32_t end = 0;
    std::vector<Language> languages;              ///< none: it knows one, and no tasks
    std::uint32_t transcribe = 0;                 ///< in the language that is spoken
    std::uint32_t translate = 0;                  ///< into English
    std::uint32_t no_timestamps = 0;              ///< no times are wanted
    std::uint32_t first_timestamp = 0;            ///< it and all behind it are times, from 0 on
    std::uint32_t timestamp_ms = 0;               ///< from one to the next
    std::uint32_t latest_first = 0;               ///< of these, the last that may begin; 0: any
    std::vector<std::uint32_t> suppressed;        ///< never written
    std::vector<std::uint32_t> suppressed_first;  ///< nor these at the beginning
    /// Behind `start` it stands for silence; 0: none. A window is silent where it is
    /// likelier than this and what was written less likely, in the mean, than that.
    std::uint32_t no_speech = 0;
    float no_speech_probability = 0;
    float least_log_probability = 0;  ///< natural, of a token
};

struct Part {
    std::string name;
    PartKind kind{};
    std::string architecture;
    std::array<std::uint8_t, 32> source_digest{};
    std::uint64_t parameters = 0;
    std::uint32_t context_length = 0;
    std::uint32_t vocabulary = 0;
    std::uint32_t tokenizer_tensor = 0;
    std::vector<Program> programs;
    Recipe recipe;                    ///< of an encoder
    std::string space;                ///< embeddings of parts with one name may be compared
    std::vector<std::string> labels;  ///< of `scores`, one a column; or none
    std::uint32_t memory_rows = 0;    ///< of a decoder: rows of an input
    std::optional<Transcription> transcription = {};  ///< of a decoder of speech
};

struct Package {
    std::vector<Part> parts;
};

}  // namespace m4::firmware
