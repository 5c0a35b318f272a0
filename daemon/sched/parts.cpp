// SPDX-License-Identifier: MIT
#include "sched/parts.hpp"

#include <m4client.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "lib/part_ports.hpp"
#include "lib/sha256.hpp"

namespace m4::sched {
namespace {

using firmware::Part;
using firmware::PartKind;
using firmware::Role;

Modality modality_of(const Part& part) {
    struct Of {
        Modality operator()(std::monostate /*none*/) const { return Modality::features; }
        Modality operator()(const firmware::ImageRecipe& /*r*/) const { return Modality::image; }
        Modality operator()(const firmware::AudioRecipe& /*r*/) const { return Modality::audio; }
        Modality operator()(const firmware::MotionRecipe& /*r*/) const { return Modality::motion; }
        Modality operator()(const firmware::TextRecipe& /*r*/) const { return Modality::text; }
    };
    if (part.kind != PartKind::encoder) {
        return Modality::none;
    }
    // Without a tokeniser, too: it then takes tokens.
    return part.vocabulary != 0 ? Modality::text : std::visit(Of{}, part.recipe);
}

Modality modality_of(const MediaInput& input) {
    if (input.is_text || input.is_tokens) {
        return Modality::text;
    }
    switch (input.descriptor.kind) {
        case media::Kind::gray8:
        case media::Kind::rgb8:
        case media::Kind::rgba8:
        case media::Kind::nv12:
            return Modality::image;
        case media::Kind::pcm16:
        case media::Kind::pcm_f32:
            return Modality::audio;
        case media::Kind::motion_f32:
            return Modality::motion;
        case media::Kind::features_f32:
            break;
    }
    return Modality::features;
}

Role role_of(EncodeOutput output) {
    switch (output) {
        case EncodeOutput::scores:
            return Role::scores;
        case EncodeOutput::hidden:
            return Role::hidden;
        case EncodeOutput::embedding:
            break;
    }
    return Role::embedding;
}

const char* output_text(EncodeOutput output) {
    switch (output) {
        case EncodeOutput::scores:
            return "scores";
        case EncodeOutput::hidden:
            return "hidden states";
        case EncodeOutput::embedding:
            break;
    }
    return "embedding";
}

/// Features fit where their rows are whole items of the part's.
bool suits(const Part& part, const MediaInput& input) {
    const Modality wanted = modality_of(input);
    if (input.is_tokens) {
        return part.kind == PartKind::encoder && part.vocabulary != 0;
    }
    if (wanted != Modality::features) {
        return modality_of(part) == wanted;
    }
    const firmware::FeatureShape shape = firmware::port_shape(part, Role::features);
    return part.kind == PartKind::encoder && shape.rows != 0 &&
           shape.columns == input.descriptor.channels && input.descriptor.samples != 0 &&
           input.descriptor.samples % shape.rows == 0;
}

/// Every field, for no two inputs may be taken for one another.
void hash_field(firmware::Sha256& hash, std::uint64_t field) {
    hash.update(std::as_bytes(std::span(&field, 1)));
}

InputKey key_of(std::uint32_t part, EncodeOutput output, const MediaInput& input,
                std::span<const std::byte> data) {
    const media::Descriptor& d = input.descriptor;
    firmware::Sha256 hash;
    std::uint32_t rate = 0;
    std::memcpy(&rate, &d.rate_hz, sizeof rate);
    for (const std::uint64_t field :
         {std::uint64_t{part}, static_cast<std::uint64_t>(output),
          static_cast<std::uint64_t>(input.is_text) +
              2 * static_cast<std::uint64_t>(input.is_tokens),
          static_cast<std::uint64_t>(d.kind), d.offset, std::uint64_t{d.width},
          std::uint64_t{d.height}, std::uint64_t{d.stride}, d.chroma_offset,
          std::uint64_t{d.channels}, d.samples, std::uint64_t{rate}, std::uint64_t{data.size()}}) {
        hash_field(hash, field);
    }
    hash.update(data);
    return hash.finish();
}

/// The bytes of an input alone, and its descriptor within them: what the key covers.
struct Cut {
    std::span<const std::byte> data;
    MediaInput input;
};

Cut cut_out(std::span<const std::byte> data, const MediaInput& whole) {
    const auto bytes = bytes_of(whole, data);
    MediaInput input = whole;
    const std::uint64_t first = input.descriptor.offset;
    input.descriptor.offset = 0;
    input.descriptor.chroma_offset -= std::min(input.descriptor.chroma_offset, first);
    return {bytes, input};
}

}  // namespace

std::span<const std::byte> bytes_of(const MediaInput& input, std::span<const std::byte> data) {
    const std::uint64_t first = input.descriptor.offset;
    if (first > data.size() || input.bytes > data.size() - first) {
        throw Refusal(M4_E_INVALID, std::to_string(input.bytes) + " bytes from " +
                                        std::to_string(first) + " on are not within the data's " +
                                        std::to_string(data.size()));
    }
    return data.subspan(first, input.bytes);
}

std::string_view name_of(Modality modality) {
    switch (modality) {
        case Modality::image:
            return "image";
        case Modality::audio:
            return "audio";
        case Modality::motion:
            return "motion";
        case Modality::text:
            return "text";
        case Modality::features:
            return "features";
        case Modality::none:
            break;
    }
    return "";
}

Parts::Parts(const firmware::Package& package, Tokenizers tokenizers)
    : package_(&package), tokenizers_(std::move(tokenizers)) {}

Modality Parts::modality(std::uint32_t part) const {
    return modality_of(package_->parts[part]);
}

std::string Parts::names() const {
    std::string text;
    for (const Part& part : all()) {
        if (part.kind == PartKind::encoder) {
            text += (text.empty() ? "" : ", ") + part.name;
        }
    }
    return text.empty() ? "none" : text;
}

const Part& Parts::named(const std::string& name) const {
    const auto found = std::ranges::find(all(), name, &Part::name);
    if (found == all().end()) {
        throw Refusal(M4_E_NOT_FOUND, "the image has no part '" + name + "'");
    }
    return *found;
}

/// The part of that name, or the first encoder that takes the inputs and gives what is
/// wanted of them.
std::uint32_t Parts::find(const EncodeInputs& inputs) const {
    const MediaInput& first = inputs.inputs.front();
    for (std::uint32_t i = 0; i < all().size(); ++i) {
        const Part& part = all()[i];
        if (inputs.part.empty()) {
            const bool gives = firmware::port_value(part, role_of(inputs.output)) != nullptr;
            const bool projects =
                !inputs.session || std::ranges::any_of(all(), [&](const Part& other) {
                    return other.kind == PartKind::projector && other.space == part.space;
                });
            if (suits(part, first) && gives && projects) {
                return i;
            }
        } else if (part.name == inputs.part) {
            if (part.kind != PartKind::encoder) {
                throw Refusal(M4_E_UNSUPPORTED, "part '" + part.name + "' is no encoder");
            }
            return i;
        }
    }
    if (!inputs.part.empty()) {
        throw Refusal(M4_E_NOT_FOUND,
                      "the image has no part '" + inputs.part + "'; its encoders: " + names());
    }
    throw Refusal(M4_E_UNSUPPORTED,
                  "the image has no encoder that takes " +
                      std::string(name_of(modality_of(first))) + " and gives " +
                      (inputs.session ? "rows for the backbone" : output_text(inputs.output)) +
                      "; its encoders: " + names());
}

void Parts::check_output(std::uint32_t part, const EncodeInputs& inputs) const {
    const Part& encoder = all()[part];
    if (firmware::port_value(encoder, role_of(inputs.output)) == nullptr) {
        throw Refusal(M4_E_UNSUPPORTED,
                      "part '" + encoder.name + "' gives no " + output_text(inputs.output));
    }
    const firmware::FeatureShape shape = firmware::port_shape(encoder, role_of(inputs.output));
    const std::uint64_t bytes = std::uint64_t{shape.rows} * shape.columns * sizeof(float);
    if (bytes * inputs.inputs.size() > kMaxResultBytes) {
        throw Refusal(M4_E_TOO_LARGE, "results of " + std::to_string(bytes) +
                                          " bytes an input: at most " +
                                          std::to_string(kMaxResultBytes) + " at a time");
    }
    for (const MediaInput& input : inputs.inputs) {
        const bool fits = modality_of(input) == Modality::text ? encoder.vocabulary != 0
                                                               : encoder.vocabulary == 0;
        if (!fits) {
            throw Refusal(M4_E_INVALID, "part '" + encoder.name + "' takes " +
                                            (encoder.vocabulary != 0
                                                 ? "text"
                                                 : std::string(name_of(modality_of(encoder)))) +
                                            ", not " + std::string(name_of(modality_of(input))));
        }
    }
}

Encode::Target Parts::target(std::uint32_t part, SessionId session) const {
    for (std::uint32_t i = 0; i < all().size(); ++i) {
        const Part& projector = all()[i];
        if (projector.kind == PartKind::projector && projector.space == all()[part].space) {
            return {session, i, firmware::port_shape(projector, Role::hidden).rows};
        }
    }
    throw Refusal(M4_E_UNSUPPORTED,
                  "the image has no projector for what part '" + all()[part].name + "' gives");
}

/// TextRecipe: the text between BOS and EOS, EOS in the place of the last token of one
/// that is too long.
void Parts::prepare_text(std::uint32_t part, std::string_view text, Encode& encode) const {
    const Part& encoder = all()[part];
    const auto found = tokenizers_.find(part);
    const auto* recipe = std::get_if<firmware::TextRecipe>(&encoder.recipe);
    if (found == tokenizers_.end() || recipe == nullptr) {
        throw Refusal(M4_E_UNSUPPORTED,
                      "part '" + encoder.name + "' was packed without a tokenizer");
    }
    if (text.size() > kMaxTextBytes) {
        throw Refusal(M4_E_TOO_LARGE, "a text of " + std::to_string(text.size()) +
                                          " bytes: at most " + std::to_string(kMaxTextBytes));
    }
    const std::size_t context = encoder.context_length;
    std::vector<std::uint32_t> ids = found->second->encode(text, true);
    const std::int32_t eos = found->second->eos_id();
    if (ids.size() > context) {
        ids.resize(context);
        if (eos >= 0) {
            ids.back() = static_cast<std::uint32_t>(eos);
        }
    }
    for (const std::uint32_t id : ids) {
        if (id >= encoder.vocabulary) {
            throw Refusal(M4_E_INTERNAL,
                          "the tokenizer of part '" + encoder.name + "' knows more tokens than it");
        }
    }
    encode.picked.push_back(ids.empty() ? 0 : static_cast<std::uint32_t>(ids.size() - 1));
    ids.resize(context, recipe->pad_id);
    encode.tokens.insert(encode.tokens.end(), ids.begin(), ids.end());
    encode.items.push_back(1);
}

/// As the published models have it, the largest id (which is EOS) stands for all.
void Parts::prepare_tokens(std::uint32_t part, std::span<const std::byte> bytes,
                           Encode& encode) const {
    const Part& encoder = all()[part];
    const std::size_t count = bytes.size() / sizeof(std::uint32_t);
    if (count == 0 || bytes.size() % sizeof(std::uint32_t) != 0 || count > encoder.context_length) {
        throw Refusal(M4_E_INVALID, std::to_string(bytes.size()) + " bytes are not 1 to " +
                                        std::to_string(encoder.context_length) + " tokens");
    }
    std::vector<std::uint32_t> ids(count);
    std::memcpy(ids.data(), bytes.data(), bytes.size());
    const auto largest = std::ranges::max_element(ids);
    if (*largest >= encoder.vocabulary) {
        throw Refusal(M4_E_INVALID, "token " + std::to_string(*largest) +
                                        " is not in the vocabulary of " +
                                        std::to_string(encoder.vocabulary));
    }
    encode.picked.push_back(static_cast<std::uint32_t>(largest - ids.begin()));
    const auto* recipe = std::get_if<firmware::TextRecipe>(&encoder.recipe);
    ids.resize(encoder.context_length, recipe == nullptr ? 0 : recipe->pad_id);
    encode.tokens.insert(encode.tokens.end(), ids.begin(), ids.end());
    encode.items.push_back(1);
}

Encode Parts::prepare(const EncodeInputs& inputs, std::span<const std::byte> data, ClientId client,
                      std::shared_ptr<EmbeddingCache> cache) const {
    if (inputs.inputs.empty()) {
        throw Refusal(M4_E_INVALID, "there is nothing to encode");
    }
    const std::uint32_t part = find(inputs);
    check_output(part, inputs);
    const Part& encoder = all()[part];
    Encode encode;
    encode.part = part;
    encode.part_name = encoder.name;
    encode.output = inputs.output;
    if (inputs.session) {
        encode.target = target(part, *inputs.session);
    }
    for (std::size_t i = 0; i < inputs.inputs.size(); ++i) {
        const std::string place =
            inputs.inputs.size() == 1 ? "" : "input " + std::to_string(i) + ": ";
        try {
            const Cut cut = cut_out(data, inputs.inputs[i]);
            encode.keys.push_back(key_of(part, inputs.output, cut.input, cut.data));
            encode.known.push_back(cache->find(client, encode.keys.back()));
            if (encode.known.back() != nullptr) {
                encode.items.push_back(0);
            } else if (cut.input.is_text) {
                prepare_text(part,
                             {reinterpret_cast<const char*>(cut.data.data()), cut.data.size()},
                             encode);
            } else if (cut.input.is_tokens) {
                prepare_tokens(part, cut.data, encode);
            } else {
                const media::Prepared made =
                    media::prepare(encoder.recipe, firmware::port_shape(encoder, Role::features),
                                   cut.input.descriptor, cut.data);
                if (encode.features.size() + made.features.size() > media::kMaxFeatures) {
                    throw Refusal(M4_E_TOO_LARGE, "too many inputs at once: send fewer");
                }
                encode.items.push_back(made.items);
                encode.features.insert(encode.features.end(), made.features.begin(),
                                       made.features.end());
            }
        } catch (const media::MediaError& error) {
            throw Refusal(M4_E_INVALID, place + error.what());
        } catch (const Refusal& refusal) {
            throw Refusal(refusal.code(), place + refusal.what());
        }
    }
    encode.cache = std::move(cache);
    return encode;
}

}  // namespace m4::sched
