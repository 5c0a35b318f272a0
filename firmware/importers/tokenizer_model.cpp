// SPDX-License-Identifier: MIT
// The SentencePiece library reads the model and says whether it is one. Its
// public interface tells neither a piece's kind nor the normaliser's settings,
// and Debian ships no header of the ModelProto, so those fields
// (sentencepiece_model.proto names them) are read here as well, with a bounded
// reader of the protobuf wire format, and held against the library's.
#include <sentencepiece_processor.h>

#include <bit>
#include <functional>
#include <string_view>

#include "byte_reader.hpp"
#include "lib/error.hpp"
#include "mapped_file.hpp"
#include "tokenizer_section.hpp"

namespace m4::firmware {

namespace {

enum class Wire : std::uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

/// One field: `number` holds a varint or the raw bits of a fixed one.
struct Field {
    std::uint32_t id = 0;
    Wire wire{};
    std::uint64_t number = 0;
    std::span<const std::byte> bytes;

    [[nodiscard]] bool is(std::uint32_t wanted, Wire type) const {
        return id == wanted && wire == type;
    }
};

std::uint64_t read_varint(ByteReader& in) {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        const auto byte = in.read<std::uint8_t>("a number");
        if (shift < 64) {
            value |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
        }
        if ((byte & 0x80U) == 0) {
            return value;
        }
    }
    throw Error(in.place(), "a number is longer than ten bytes");
}

Field read_field(ByteReader& in) {
    const auto tag = read_varint(in);
    Field field;
    field.id = static_cast<std::uint32_t>(tag >> 3);
    field.wire = static_cast<Wire>(tag & 7U);
    switch (field.wire) {
        case Wire::varint:
            field.number = read_varint(in);
            break;
        case Wire::fixed64:
            field.number = in.read<std::uint64_t>("a fixed field");
            break;
        case Wire::fixed32:
            field.number = in.read<std::uint32_t>("a fixed field");
            break;
        case Wire::bytes:
            field.bytes = in.take(read_varint(in), "field " + std::to_string(field.id));
            break;
        default:
            throw Error(in.place(), "is not a SentencePiece model");
    }
    return field;
}

void each_field(std::span<const std::byte> message, const std::string& place,
                const std::function<void(const Field&)>& use) {
    ByteReader in(message, place);
    while (in.remaining() != 0) {
        use(read_field(in));
    }
}

/// What TrainerSpec and NormalizerSpec say, with the schema's defaults.
struct Spec {
    std::uint64_t model_type = 1;
    bool suffix_blank = false;
    std::string bos_piece = "<s>";
    std::string eos_piece = "</s>";
    bool add_dummy_prefix = true;
    bool remove_extra = true;
    bool escape = true;
    std::size_t map_bytes = 0;
};

constexpr std::uint32_t kPieces = 1;  // fields of ModelProto
constexpr std::uint32_t kTrainerSpec = 2;
constexpr std::uint32_t kNormalizerSpec = 3;
constexpr std::uint32_t kDenormalizerSpec = 5;
constexpr std::uint64_t kBpe = 2;  // TrainerSpec.ModelType

TokenizerSource::Piece read_piece(std::span<const std::byte> message, const std::string& place) {
    TokenizerSource::Piece piece;
    std::uint64_t kind = piece.kind;
    each_field(message, place, [&](const Field& field) {
        if (field.is(1, Wire::bytes)) {
            piece.text = as_text(field.bytes);
        } else if (field.is(2, Wire::fixed32)) {
            piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field.number));
        } else if (field.is(3, Wire::varint)) {
            kind = field.number;
        }
    });
    if (kind < 1 || kind > 6) {
        throw Error(place, "piece " + shown(piece.text) + " has type " + std::to_string(kind));
    }
    piece.kind = static_cast<std::uint8_t>(kind);
    return piece;
}

void read_trainer(std::span<const std::byte> message, const std::string& place, Spec& spec) {
    each_field(message, place, [&](const Field& field) {
        if (field.is(3, Wire::varint)) {
            spec.model_type = field.number;
        } else if (field.is(24, Wire::varint)) {
            spec.suffix_blank = field.number != 0;
        } else if (field.is(46, Wire::bytes)) {
            spec.bos_piece = as_text(field.bytes);
        } else if (field.is(47, Wire::bytes)) {
            spec.eos_piece = as_text(field.bytes);
        }
    });
}

void read_normalizer(std::span<const std::byte> message, const std::string& place, Spec& spec) {
    each_field(message, place, [&](const Field& field) {
        if (field.is(2, Wire::bytes)) {
            spec.map_bytes += field.bytes.size();
        } else if (field.is(3, Wire::varint)) {
            spec.add_dummy_prefix = field.number != 0;
        } else if (field.is(4, Wire::varint)) {
            spec.remove_extra = field.number != 0;
        } else if (field.is(5, Wire::varint)) {
            spec.escape = field.number != 0;
        }
    });
}

std::string model_type_name(std::uint64_t type) {
    switch (type) {
        case 1:
            return "unigram";
        case 3:
            return "word";
        case 4:
            return "char";
        default:
            return "number " + std::to_string(type);
    }
}

void refuse_unsupported(const Spec& spec, const std::string& place) {
    if (spec.model_type != kBpe) {
        throw Error(place, "model type " + model_type_name(spec.model_type) +
                               " is not supported; supported: bpe");
    }
    if (spec.map_bytes != 0) {
        throw Error(place,
                    "precompiled_charsmap is not supported; supported: "
                    "the identity");
    }
    if (!spec.escape) {
        throw Error(place, "normalizer_spec.escape_whitespaces = false is not supported");
    }
    if (spec.suffix_blank) {
        throw Error(place, "trainer_spec.treat_whitespace_as_suffix is not supported");
    }
}

/// The library must accept the model and see the same pieces.
void hold_against_library(const TokenizerSource& source, std::span<const std::byte> model,
                          const std::string& place) {
    sentencepiece::SentencePieceProcessor library;
    const auto status = library.LoadFromSerializedProto(as_text(model));
    if (!status.ok()) {
        throw Error(place, "SentencePiece refuses it: " + status.ToString());
    }
    if (static_cast<std::size_t>(library.GetPieceSize()) != source.pieces.size()) {
        throw Error(place, "SentencePiece counts other pieces");
    }
    for (std::size_t i = 0; i < source.pieces.size(); ++i) {
        const int id = static_cast<int>(i);
        if (library.IdToPiece(id) != source.pieces[i].text ||
            library.GetScore(id) != source.pieces[i].score) {
            throw Error(place, "SentencePiece reads another piece " + std::to_string(i));
        }
    }
}

}  // namespace

TokenizerSource read_sentencepiece_model(const std::filesystem::path& path) {
    const MappedFile file(path);
    const auto& place = file.place();
    TokenizerSource source;
    Spec spec;
    each_field(file.bytes(), place, [&](const Field& field) {
        if (field.is(kPieces, Wire::bytes)) {
            source.pieces.push_back(read_piece(field.bytes, place));
        } else if (field.is(kTrainerSpec, Wire::bytes)) {
            read_trainer(field.bytes, place, spec);
        } else if (field.is(kNormalizerSpec, Wire::bytes)) {
            read_normalizer(field.bytes, place, spec);
        } else if (field.is(kDenormalizerSpec, Wire::bytes)) {
            Spec backward;  // only a map would change anything
            read_normalizer(field.bytes, place, backward);
            spec.map_bytes += backward.map_bytes;
        }
    });
    if (source.pieces.empty()) {
        throw Error(place, "is not a SentencePiece model: it has no pieces");
    }
    refuse_unsupported(spec, place);
    hold_against_library(source, file.bytes(), place);
    source.unknown_id = source.find(TokenizerSource::kUnknown);
    source.bos_id = source.find(TokenizerSource::kControl, spec.bos_piece);
    source.eos_id = source.find(TokenizerSource::kControl, spec.eos_piece);
    source.add_bos = source.bos_id >= 0;
    source.add_space_prefix = spec.add_dummy_prefix;
    source.remove_extra_spaces = spec.remove_extra;
    return source;
}

}  // namespace m4::firmware
