// SPDX-License-Identifier: MIT
#include "decode.hpp"

#include <program_generated.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "error.hpp"
#include "limits.hpp"
#include "operators.hpp"
#include "places.hpp"
#include "recipe_blob.hpp"

namespace m4::firmware {

namespace {

/// A blob of at most 2 MiB holds no more tables than this unless it names some
/// of them twice, which only a hostile one does: it bounds the copy below.
constexpr flatbuffers::uoffset_t kMaxTables = 262'144;
constexpr flatbuffers::uoffset_t kMaxDepth = 16;
constexpr std::size_t kMaxBlobBytes = M4_IMAGE_MANIFEST_SPAN;

template <typename T>
std::size_t count_of(const T* vector) {
    return vector == nullptr ? 0 : vector->size();
}

template <typename T>
std::size_t bounded(const T* vector, std::size_t limit, const std::string& place,
                    const char* what) {
    const std::size_t count = count_of(vector);
    if (count > limit) {
        throw Error(place,
                    std::to_string(count) + " " + what + ", more than " + std::to_string(limit));
    }
    return count;
}

std::string text_of(const flatbuffers::String* text, const std::string& place) {
    bounded(text, kMaxNameBytes, place, "bytes of a name");
    return text == nullptr ? std::string{} : text->str();
}

Value decode_value(const fb::Value& in, const std::string& place) {
    Value value;
    if (in.dtype() != M4_DTYPE_F32 && in.dtype() != M4_DTYPE_U32) {
        throw Error(place, "type " + std::to_string(in.dtype()) + " is not one of values");
    }
    value.dtype = in.dtype() == M4_DTYPE_F32 ? M4_DTYPE_F32 : M4_DTYPE_U32;
    bounded(in.dims(), 2, place, "dimensions");
    for (std::size_t i = 0; i < count_of(in.dims()); ++i) {
        const fb::Dim* dim = in.dims()->Get(static_cast<flatbuffers::uoffset_t>(i));
        value.dims.push_back({dim->factor(), static_cast<Symbol>(dim->symbol())});
    }
    return value;
}

void decode_attributes(const fb::Op& in, const OpInfo& info, const std::string& place, Op& op) {
    const auto expected = attributes_of(info);
    std::array<bool, std::tuple_size_v<decltype(op.reals)>> seen{};
    bounded(in.attrs(), seen.size(), place, "attributes");
    // FlatBuffers' verifier checks the alignment of fields and of lengths, but
    // not of what a vector of structs holds.
    if (count_of(in.attrs()) != 0 &&
        reinterpret_cast<std::uintptr_t>(in.attrs()->Data()) % alignof(fb::Attr) != 0) {
        throw Error(place, "the attributes are not aligned");
    }
    for (std::size_t i = 0; i < count_of(in.attrs()); ++i) {
        const fb::Attr* attr = in.attrs()->Get(static_cast<flatbuffers::uoffset_t>(i));
        const AttrInfo* row = find_attribute(attr->id());
        if (row == nullptr) {
            throw Error(place, "unknown attribute " + std::to_string(attr->id()));
        }
        const std::string name(row->name);
        const auto index = static_cast<std::size_t>(row->id);
        if (std::find(expected.begin(), expected.end(), row) == expected.end()) {
            throw Error(place, "attribute " + name + " is not one of this operator's");
        }
        if (seen.at(index)) {
            throw Error(place, "attribute " + name + " is given twice");
        }
        seen.at(index) = true;
        if (row->kind == 'I' ? attr->real() != 0.0 : attr->integer() != 0) {
            throw Error(place, "attribute " + name + " has a value of the wrong kind");
        }
        op.integers.at(index) = attr->integer();
        op.reals.at(index) = attr->real();
    }
    for (const AttrInfo* row : expected) {
        if (!seen.at(static_cast<std::size_t>(row->id))) {
            throw Error(place, "attribute " + std::string(row->name) + " is missing");
        }
    }
}

Op decode_op(const fb::Op& in, std::size_t index, const std::string& program) {
    const OpInfo* info = find_op(in.code());
    if (info == nullptr) {
        throw Error(program + ": op " + std::to_string(index),
                    "unknown operator code " + std::to_string(in.code()));
    }
    const std::string place = op_place(program, index, info->name);
    Op op;
    op.code = info->code;
    if (count_of(in.inputs()) != info->inputs.size()) {
        throw Error(place, std::to_string(count_of(in.inputs())) + " inputs instead of " +
                               std::to_string(info->inputs.size()));
    }
    for (std::size_t i = 0; i < info->inputs.size(); ++i) {
        const fb::Operand* operand = in.inputs()->Get(static_cast<flatbuffers::uoffset_t>(i));
        op.inputs.push_back({static_cast<OperandKind>(operand->kind()), operand->index()});
    }
    if (count_of(in.outputs()) != info->output_count) {
        throw Error(place, std::to_string(count_of(in.outputs())) + " outputs instead of " +
                               std::to_string(info->output_count));
    }
    for (std::uint32_t i = 0; i < info->output_count; ++i) {
        op.outputs.push_back(in.outputs()->Get(i));
    }
    decode_attributes(in, *info, place, op);
    return op;
}

template <typename Ports>
std::vector<Port> decode_ports(const Ports* in, const std::string& place, const char* what) {
    std::vector<Port> ports;
    bounded(in, kMaxPorts, place, what);
    for (std::size_t i = 0; i < count_of(in); ++i) {
        const fb::Port* port = in->Get(static_cast<flatbuffers::uoffset_t>(i));
        ports.push_back({static_cast<Role>(port->role()), port->value()});
    }
    return ports;
}

Program decode_program(const fb::Program& in, std::size_t index, const std::string& outer) {
    Program program;
    program.name = text_of(in.name(), outer + ": program " + std::to_string(index));
    const std::string place = program_place(outer, program.name, index);
    program.inputs = decode_ports(in.inputs(), place, "input ports");
    program.outputs = decode_ports(in.outputs(), place, "output ports");
    const std::size_t value_count = bounded(in.values(), kMaxValues, place, "values");
    for (std::size_t i = 0; i < value_count; ++i) {
        program.values.push_back(
            decode_value(*in.values()->Get(static_cast<flatbuffers::uoffset_t>(i)),
                         place + ": value " + std::to_string(i)));
    }
    const std::size_t state_count = bounded(in.states(), kMaxStates, place, "states");
    for (std::size_t i = 0; i < state_count; ++i) {
        const fb::State* state = in.states()->Get(static_cast<flatbuffers::uoffset_t>(i));
        if (state->kind() != fb::StateKind::kv_cache && state->kind() != fb::StateKind::memory) {
            throw Error(place + ": state " + std::to_string(i),
                        "unknown kind " + std::to_string(static_cast<unsigned>(state->kind())));
        }
        program.states.push_back(
            {state->kv_heads(), state->head_dim(), static_cast<StateKind>(state->kind())});
    }
    const std::size_t op_count = bounded(in.ops(), kMaxOps, place, "operators");
    for (std::size_t i = 0; i < op_count; ++i) {
        program.ops.push_back(
            decode_op(*in.ops()->Get(static_cast<flatbuffers::uoffset_t>(i)), i, place));
    }
    const std::size_t fusion_count = bounded(in.fusions(), op_count, place, "fusions");
    for (std::size_t i = 0; i < fusion_count; ++i) {
        const fb::Fusion* fusion = in.fusions()->Get(static_cast<flatbuffers::uoffset_t>(i));
        program.fusions.push_back(
            {static_cast<FusionKind>(fusion->kind()), fusion->first(), fusion->count()});
    }
    return program;
}

std::vector<std::uint32_t> decode_tokens(const flatbuffers::Vector<std::uint32_t>* in,
                                         const std::string& place) {
    bounded(in, kMaxSuppressed, place, "suppressed tokens");
    return in == nullptr ? std::vector<std::uint32_t>{}
                         : std::vector<std::uint32_t>(in->begin(), in->end());
}

Transcription decode_transcription(const fb::Transcription& in, const std::string& place) {
    Transcription out;
    out.start = in.start();
    out.end = in.end();
    const std::size_t languages = bounded(in.languages(), kMaxLanguages, place, "languages");
    for (std::size_t i = 0; i < languages; ++i) {
        const fb::Language* language = in.languages()->Get(static_cast<flatbuffers::uoffset_t>(i));
        out.languages.push_back(
            {text_of(language->code(), place + ": language " + std::to_string(i)),
             language->token()});
    }
    out.transcribe = in.transcribe();
    out.translate = in.translate();
    out.no_timestamps = in.no_timestamps();
    out.first_timestamp = in.first_timestamp();
    out.timestamp_ms = in.timestamp_ms();
    out.latest_first = in.latest_first();
    out.suppressed = decode_tokens(in.suppressed(), place);
    out.suppressed_first = decode_tokens(in.suppressed_first(), place);
    out.no_speech = in.no_speech();
    out.no_speech_probability = in.no_speech_probability();
    out.least_log_probability = in.least_log_probability();
    return out;
}

Part decode_part(const fb::Part& in, std::size_t index) {
    Part part;
    part.name = text_of(in.name(), "part " + std::to_string(index));
    const std::string place = part_place(part.name, index);
    part.kind = static_cast<PartKind>(in.kind());
    part.architecture = text_of(in.architecture(), place + ": architecture");
    if (count_of(in.source_digest()) != part.source_digest.size()) {
        throw Error(place, "source digest of " + std::to_string(count_of(in.source_digest())) +
                               " bytes instead of 32");
    }
    std::copy(in.source_digest()->begin(), in.source_digest()->end(), part.source_digest.begin());
    part.parameters = in.parameters();
    part.context_length = in.context_length();
    part.vocabulary = in.vocabulary();
    part.tokenizer_tensor = in.tokenizer_tensor();
    const std::size_t count = bounded(in.programs(), kMaxPrograms, place, "programs");
    for (std::size_t i = 0; i < count; ++i) {
        part.programs.push_back(
            decode_program(*in.programs()->Get(static_cast<flatbuffers::uoffset_t>(i)), i, place));
    }
    part.recipe = decode_recipe(in, place + ": recipe");
    part.space = text_of(in.space(), place + ": space");
    const std::size_t labels = bounded(in.labels(), kMaxLabels, place, "labels");
    for (std::size_t i = 0; i < labels; ++i) {
        const auto* label = in.labels()->Get(static_cast<flatbuffers::uoffset_t>(i));
        bounded(label, kMaxLabelBytes, place + ": label " + std::to_string(i), "bytes");
        part.labels.push_back(label->str());
    }
    part.memory_rows = in.memory_rows();
    if (in.transcription() != nullptr) {
        part.transcription = decode_transcription(*in.transcription(), place + ": transcription");
    }
    return part;
}

}  // namespace

Package decode_package(std::span<const std::byte> blob) {
    if (blob.size() > kMaxBlobBytes) {
        throw Error("program blob", std::to_string(blob.size()) + " bytes, more than 2 MiB");
    }
    // FlatBuffers checks alignment from the buffer's first byte, and reads
    // eight-byte scalars in place: operator new aligns a copy for both.
    std::vector<std::uint8_t> copy(blob.size());
    if (!blob.empty()) {
        std::memcpy(copy.data(), blob.data(), blob.size());
    }
    flatbuffers::Verifier verifier(copy.data(), copy.size(), kMaxDepth, kMaxTables);
    if (copy.size() < 8 || !fb::PackageBufferHasIdentifier(copy.data()) ||
        !fb::VerifyPackageBuffer(verifier)) {
        throw Error("program blob", "not a well-formed package");
    }
    const fb::Package* in = fb::GetPackage(copy.data());
    Package package;
    const std::size_t count = bounded(in->parts(), kMaxParts, "program blob", "parts");
    for (std::size_t i = 0; i < count; ++i) {
        package.parts.push_back(
            decode_part(*in->parts()->Get(static_cast<flatbuffers::uoffset_t>(i)), i));
    }
    return package;
}

}  // namespace m4::firmware
