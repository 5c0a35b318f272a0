// SPDX-License-Identifier: MIT
#include "tokenizer_bytes.hpp"

#include "error.hpp"
#include "tokenizer_pieces.hpp"

namespace m4::firmware {

ByteTable::ByteTable(std::span<const std::byte> section, const std::string& place)
    : root_(&open_tokenizer(section, place)) {
    if (root_->text() == nullptr || root_->offsets() == nullptr || root_->kinds() == nullptr) {
        throw Error(place, "an array of pieces is missing");
    }
    const auto& offsets = *root_->offsets();
    if (count() == 0 || offsets.size() != std::uint64_t{count()} + 1) {
        throw Error(place, "the arrays of pieces have different lengths, or none");
    }
    if (offsets[0] != 0 || offsets[count()] != root_->text()->size()) {
        throw Error(place, "the offsets do not span the text");
    }
    for (std::uint32_t id = 0; id < count(); ++id) {
        const std::string piece = "piece " + std::to_string(id) + ": ";
        if (offsets[id + 1] < offsets[id] || offsets[id + 1] > root_->text()->size()) {
            throw Error(place, piece + "its offset is out of order");
        }
        if (kind(id) != fb::PieceKind::normal && kind(id) != fb::PieceKind::control) {
            throw Error(place, piece + "kind " + std::to_string(static_cast<unsigned>(kind(id))) +
                                   " is not known");
        }
    }
    if (root_->bos_id() != -1 || root_->eos_id() != -1 || root_->add_bos() || root_->add_eos()) {
        throw Error(place, "a vocabulary that is only decoded has a BOS or an EOS");
    }
}

std::string_view ByteTable::text(std::uint32_t id) const {
    const auto& offsets = *root_->offsets();
    return {reinterpret_cast<const char*>(root_->text()->data()) + offsets[id],
            offsets[id + 1] - offsets[id]};
}

}  // namespace m4::firmware
