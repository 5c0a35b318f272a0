// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "adapters/adapter.hpp"
#include "checkpoint.hpp"

namespace m4::firmware {

/// An adapter on its way into a file, with the bytes and names that it views. Movable:
/// these stay where they are.
struct AdapterDraft {
    Adapter adapter;
    std::deque<std::vector<std::byte>> storage;
    std::deque<std::string> names;  ///< of the head's tensors
    std::string place;              ///< of the source, for messages

    /// Adds the pair of a [rank, columns] and b [rows, rank]; any type that is read.
    /// F16 of both stays so, all else is F32, unless `wanted` says otherwise. Throws
    /// Error naming the tensors.
    void add_pair(std::string tensor, const SourceTensor& a, const SourceTensor& b, double scale,
                  m4_row_order order, std::optional<m4_dtype> wanted);
    std::span<const std::byte> keep(std::vector<std::byte> bytes) {
        return storage.emplace_back(std::move(bytes));
    }
};

/// What a head takes of its encoder, and how it comes to one row an input.
struct HeadInput {
    enum class Pick : std::uint8_t { whole, mean, first };  ///< whole: the embedding
    Pick pick = Pick::whole;
    std::uint32_t rows = 1;  ///< of an input
    std::uint32_t columns = 0;
};

/// A linear layer. Sizes fit one another.
struct HeadLayer {
    std::vector<float> weight;  ///< [labels, columns]
    std::vector<float> bias;    ///< [labels], or empty
    std::uint32_t label_count = 0;
    std::vector<std::string> labels;  ///< or none
};

/// Makes the draft's head: the program, and the layer's tensors, F32 unless `wanted`.
void add_head(AdapterDraft& draft, const HeadLayer& layer, const HeadInput& input,
              std::optional<m4_dtype> wanted);

/// All elements of a tensor as F32, none of them infinite or no number.
[[nodiscard]] std::vector<float> read_all(const SourceTensor& tensor);

/// A file's name made fit for an adapter's.
[[nodiscard]] std::string adapter_name(std::string_view text);

}  // namespace m4::firmware
