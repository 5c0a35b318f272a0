// SPDX-License-Identifier: MIT
#include <program_generated.h>

#include <vector>

#include "operators.hpp"
#include "recipe_blob.hpp"
#include "verify.hpp"

namespace m4::firmware {

namespace {

using Buffer = flatbuffers::FlatBufferBuilder;

template <typename T>
using Offset = flatbuffers::Offset<T>;

Offset<fb::Value> encode_value(Buffer& buffer, const Value& value) {
    std::vector<fb::Dim> dims;
    for (const Dim& dim : value.dims) {
        dims.emplace_back(dim.factor, static_cast<fb::Symbol>(dim.symbol));
    }
    const auto packed = buffer.CreateVectorOfStructs(dims);
    return fb::CreateValue(buffer, static_cast<std::uint16_t>(value.dtype), packed);
}

Offset<fb::Op> encode_op(Buffer& buffer, const Op& op) {
    std::vector<fb::Operand> operands;
    for (const Operand& operand : op.inputs) {
        operands.emplace_back(operand.index, static_cast<fb::OperandKind>(operand.kind));
    }
    std::vector<fb::Attr> attributes;
    if (const OpInfo* info = find_op(static_cast<std::uint16_t>(op.code))) {
        for (const AttrInfo* row : attributes_of(*info)) {
            attributes.emplace_back(static_cast<std::uint16_t>(row->id), op.integer(row->id),
                                    op.real(row->id));
        }
    }
    const auto inputs = buffer.CreateVectorOfStructs(operands);
    const auto outputs = buffer.CreateVector(op.outputs);
    const auto attrs = buffer.CreateVectorOfStructs(attributes);
    return fb::CreateOp(buffer, static_cast<std::uint16_t>(op.code), inputs, outputs, attrs);
}

auto encode_ports(Buffer& buffer, const std::vector<Port>& ports) {
    std::vector<Offset<fb::Port>> packed;
    packed.reserve(ports.size());
    for (const Port& port : ports) {
        packed.push_back(fb::CreatePort(buffer, static_cast<fb::Role>(port.role), port.value));
    }
    return buffer.CreateVector(packed);
}

Offset<fb::Program> encode_program(Buffer& buffer, const Program& program) {
    std::vector<Offset<fb::Value>> values;
    for (const Value& value : program.values) {
        values.push_back(encode_value(buffer, value));
    }
    std::vector<Offset<fb::State>> states;
    for (const State& state : program.states) {
        states.push_back(fb::CreateState(buffer, static_cast<fb::StateKind>(state.kind),
                                         state.kv_heads, state.head_dim));
    }
    std::vector<Offset<fb::Op>> ops;
    for (const Op& op : program.ops) {
        ops.push_back(encode_op(buffer, op));
    }
    std::vector<fb::Fusion> fusions;
    for (const Fusion& fusion : program.fusions) {
        fusions.emplace_back(fusion.first, fusion.count, static_cast<fb::FusionKind>(fusion.kind));
    }
    const auto name = buffer.CreateString(program.name);
    const auto inputs = encode_ports(buffer, program.inputs);
    const auto outputs = encode_ports(buffer, program.outputs);
    const auto value_vector = buffer.CreateVector(values);
    const auto state_vector = buffer.CreateVector(states);
    const auto op_vector = buffer.CreateVector(ops);
    const auto fusion_vector = buffer.CreateVectorOfStructs(fusions);
    return fb::CreateProgram(buffer, name, inputs, outputs, value_vector, state_vector, op_vector,
                             fusion_vector);
}

Offset<fb::Transcription> encode_transcription(Buffer& buffer, const Transcription& in) {
    std::vector<Offset<fb::Language>> languages;
    for (const Language& language : in.languages) {
        const auto code = buffer.CreateString(language.code);
        languages.push_back(fb::CreateLanguage(buffer, code, language.token));
    }
    const auto language_vector = buffer.CreateVector(languages);
    const auto suppressed = buffer.CreateVector(in.suppressed);
    const auto suppressed_first = buffer.CreateVector(in.suppressed_first);
    return fb::CreateTranscription(
        buffer, in.start, in.end, language_vector, in.transcribe, in.translate, in.no_timestamps,
        in.first_timestamp, in.timestamp_ms, in.latest_first, suppressed, suppressed_first,
        in.no_speech, in.no_speech_probability, in.least_log_probability);
}

Offset<fb::Part> encode_part(Buffer& buffer, const Part& part) {
    std::vector<Offset<fb::Program>> programs;
    for (const Program& program : part.programs) {
        programs.push_back(encode_program(buffer, program));
    }
    const auto name = buffer.CreateString(part.name);
    const auto architecture = buffer.CreateString(part.architecture);
    const auto digest = buffer.CreateVector(part.source_digest.data(), part.source_digest.size());
    const auto program_vector = buffer.CreateVector(programs);
    const auto recipe = encode_recipe(buffer, part.recipe);
    // Absent where there are none, so that a part without them is what it always was.
    const Offset<flatbuffers::String> space =
        part.space.empty() ? Offset<flatbuffers::String>{} : buffer.CreateString(part.space);
    using Labels = flatbuffers::Vector<Offset<flatbuffers::String>>;
    const Offset<Labels> labels =
        part.labels.empty() ? Offset<Labels>{} : buffer.CreateVectorOfStrings(part.labels);
    const Offset<fb::Transcription> transcription =
        part.transcription ? encode_transcription(buffer, *part.transcription)
                           : Offset<fb::Transcription>{};
    return fb::CreatePart(buffer, name, static_cast<fb::PartKind>(part.kind), architecture, digest,
                          part.parameters, part.context_length, part.vocabulary,
                          part.tokenizer_tensor, program_vector, recipe.type, recipe.table, space,
                          labels, part.memory_rows, transcription);
}

}  // namespace

std::vector<std::byte> encode_package(const Package& package) {
    Buffer buffer(4096);
    std::vector<Offset<fb::Part>> parts;
    for (const Part& part : package.parts) {
        parts.push_back(encode_part(buffer, part));
    }
    const auto part_vector = buffer.CreateVector(parts);
    fb::FinishPackageBuffer(buffer, fb::CreatePackage(buffer, part_vector));
    const auto bytes = std::as_bytes(std::span(buffer.GetBufferPointer(), buffer.GetSize()));
    return {bytes.begin(), bytes.end()};
}

}  // namespace m4::firmware
