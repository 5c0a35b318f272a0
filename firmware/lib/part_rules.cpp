// SPDX-License-Identifier: MIT
#include "part_rules.hpp"

#include <algorithm>
#include <map>
#include <optional>

#include "decoder_rules.hpp"
#include "error.hpp"
#include "image.hpp"
#include "limits.hpp"
#include "part_ports.hpp"
#include "places.hpp"
#include "program_check.hpp"
#include "recipe_rules.hpp"

namespace m4::firmware {

namespace {

void check_sizes(const Part& part, const std::string& place) {
    if (part.context_length == 0 || part.context_length > kMaxContext) {
        throw Error(place,
                    "context length " + std::to_string(part.context_length) + " is not 1 to 2^24");
    }
    if (part.vocabulary == 0 || part.vocabulary > M4_IMAGE_DIM_MAX) {
        throw Error(place, "vocabulary " + std::to_string(part.vocabulary) + " is not 1 to 2^31");
    }
}

void check_tokenizer(const Part& part, std::span<const Tensor> tensors, const std::string& place) {
    if (part.tokenizer_tensor >= tensors.size() ||
        tensors[part.tokenizer_tensor].dtype != M4_DTYPE_U8) {
        throw Error(place, "tokenizer tensor " + std::to_string(part.tokenizer_tensor) +
                               " is not a U8 section");
    }
}

std::string shape_text(const FeatureShape& shape) {
    return std::to_string(shape.rows) + " x " + std::to_string(shape.columns);
}

void check_text(const Part& part, const TextRecipe& recipe, const std::string& place) {
    if (part.vocabulary == 0 || part.tokenizer_tensor == 0) {
        throw Error(place, "is of text, but the part has no tokens or no tokenizer");
    }
    if (recipe.pad_id >= part.vocabulary) {
        throw Error(place, "pad_id " + std::to_string(recipe.pad_id) +
                               " is not below the vocabulary, " + std::to_string(part.vocabulary));
    }
    // BOS, EOS, and something between them.
    if (part.context_length < 3) {
        throw Error(place, "is of text, but an input has " + std::to_string(part.context_length) +
                               " tokens");
    }
}

void check_recipe(const Part& part, const std::string& place) {
    if (const std::string fault = recipe_fault(part.recipe); !fault.empty()) {
        throw Error(place, fault);
    }
    if (const auto* text = std::get_if<TextRecipe>(&part.recipe)) {
        check_text(part, *text, place);
        return;
    }
    if (std::holds_alternative<std::monostate>(part.recipe)) {
        return;
    }
    const FeatureShape wanted = port_shape(part, Role::features);
    if (wanted.rows == 0) {
        throw Error(place, "makes features, but the part takes none");
    }
    if (const FeatureShape made = shape_of(part.recipe); made != wanted) {
        throw Error(place, "makes features of " + shape_text(made) + ", but the part takes " +
                               shape_text(wanted));
    }
}

void check_labels(const Part& part, const std::string& place) {
    if (part.labels.empty()) {
        return;
    }
    const std::uint32_t scores = port_shape(part, Role::scores).columns;
    if (part.labels.size() != scores) {
        throw Error(place, std::to_string(part.labels.size()) + " labels for " +
                               std::to_string(scores) + " scores");
    }
    for (std::size_t i = 0; i < part.labels.size(); ++i) {
        const std::string& label = part.labels[i];
        const bool bad = label.empty() || label.size() > kMaxLabelBytes ||
                         std::any_of(label.begin(), label.end(), [](char ch) {
                             return static_cast<unsigned char>(ch) < ' ' || ch == '\x7f';
                         });
        if (bad) {
            throw Error(place + ": label " + std::to_string(i),
                        "is empty, over " + std::to_string(kMaxLabelBytes) +
                            " bytes or has control characters");
        }
    }
}

void check_encoder(const Part& part, std::span<const Tensor> tensors, const std::string& place) {
    if (std::any_of(part.programs.begin(), part.programs.end(), takes_tokens)) {
        check_sizes(part, place);
        if (part.tokenizer_tensor != 0) {
            check_tokenizer(part, tensors, place);
        }
    } else if (part.tokenizer_tensor != 0) {
        throw Error(place, "an encoder without tokens has a tokenizer");
    } else if (part.context_length != 0 || part.vocabulary != 0) {
        throw Error(place, "an encoder without tokens has a context length or a vocabulary");
    }
}

/// A width that all parts which name the space agree on.
class Spaces {
   public:
    void add(const Part& part, std::uint32_t columns, const std::string& place) {
        const auto [at, first] = widths_.try_emplace(part.space, columns);
        if (!first && at->second != columns) {
            throw Error(place, std::to_string(columns) + " columns in space '" + part.space +
                                   "', where others have " + std::to_string(at->second));
        }
    }

   private:
    std::map<std::string, std::uint32_t> widths_;
};

void check_projector(const Part& part, const Package& package, const std::string& place) {
    const std::uint32_t columns = port_shape(part, Role::hidden).columns;
    const auto backbone =
        std::find_if(package.parts.begin(), package.parts.end(),
                     [](const Part& other) { return other.kind == PartKind::backbone; });
    const std::uint32_t wanted =
        backbone == package.parts.end() ? 0 : port_shape(*backbone, Role::embedded_rows).columns;
    if (wanted == 0) {
        throw Error(place, "a projector, but no backbone with embedded_rows");
    }
    const std::uint32_t rows = port_shape(part, Role::features).rows;
    if (rows != 1) {
        throw Error(
            place, "a projector of " + std::to_string(rows) + " rows an item; an embedding is one");
    }
    if (columns != wanted) {
        throw Error(place, "rows of " + std::to_string(columns) + " columns for a backbone of " +
                               std::to_string(wanted));
    }
}

}  // namespace

void check_properties(const Part& part, std::span<const Tensor> tensors, const std::string& place) {
    if (part.kind == PartKind::backbone) {
        check_sizes(part, place);
        check_tokenizer(part, tensors, place);
    } else if (part.kind == PartKind::decoder) {
        check_sizes(part, place);
        if (part.tokenizer_tensor != 0) {
            check_tokenizer(part, tensors, place);
        }
        check_decoder(part, place);
    } else {
        check_encoder(part, tensors, place);
    }
    if (part.kind != PartKind::decoder && (part.memory_rows != 0 || part.transcription)) {
        throw Error(place, "has memory or a transcription and is no decoder");
    }
    const bool labelled = !part.labels.empty() && part.kind != PartKind::head;
    if (part.kind != PartKind::encoder &&
        (labelled || !std::holds_alternative<std::monostate>(part.recipe))) {
        throw Error(place, "has a recipe or labels and is no encoder");
    }
    if (part.kind == PartKind::head && !part.space.empty()) {
        throw Error(place, "a head has a space");
    }
    if (part.kind == PartKind::backbone && !part.space.empty()) {
        throw Error(place, "a backbone has a space");
    }
    if (part.kind == PartKind::projector && part.space.empty()) {
        throw Error(place, "a projector of no space");
    }
    if (part.kind == PartKind::decoder && part.space.empty()) {
        throw Error(place, "a decoder of no space");
    }
    if (!is_printable(part.space)) {
        throw Error(place, "space is not printable ASCII");
    }
    check_recipe(part, place + ": recipe");
    check_labels(part, place);
}

void check_company(const Package& package) {
    Spaces spaces;
    for (std::size_t i = 0; i < package.parts.size(); ++i) {
        const Part& part = package.parts[i];
        const std::string place = part_place(part.name, i);
        const bool projector = part.kind == PartKind::projector;
        const std::uint32_t columns =
            port_shape(part, projector ? Role::features : Role::embedding).columns;
        if (!part.space.empty() && columns != 0) {
            spaces.add(part, columns, place);
        }
        if (part.kind == PartKind::decoder) {
            check_decoder_company(part, package, place);
        }
        if (part.kind == PartKind::projector) {
            check_projector(part, package, place);
        }
    }
}

}  // namespace m4::firmware
