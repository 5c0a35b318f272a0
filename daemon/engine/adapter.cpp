// SPDX-License-Identifier: MIT
// Adapters: low-rank pairs are packed for the kernels, and loaded for a step.
#include <bit>
#include <cstring>
#include <set>

#include "engine_impl.hpp"
#include "lib/half.hpp"
#include "lib/rotated_rows.hpp"
#include "ops/low_rank.hpp"

namespace m4::engine {

namespace {

using Unit = PackedAdapter::Unit;

constexpr std::uint32_t kQuadRows = 4;

/// A matrix as it lies in a pair: elements as the unit's words want them.
struct Elements {
    std::span<const std::byte> bytes;
    std::uint64_t columns = 0;
    bool halves = false;

    /// The bits of element [row, column].
    [[nodiscard]] std::uint32_t bits(std::uint64_t row, std::uint64_t column) const {
        const std::uint64_t at = row * columns + column;
        if (halves) {
            std::uint16_t half = 0;
            std::memcpy(&half, bytes.data() + at * sizeof(half), sizeof(half));
            return half;
        }
        std::uint32_t word = 0;
        std::memcpy(&word, bytes.data() + at * sizeof(word), sizeof(word));
        return word;
    }
};

std::string text_of(std::string_view name, const std::string& reason) {
    return "an adapter's pair for '" + std::string(name) + "' " + reason;
}

void check_pair(const LowRankPair& pair, const firmware::Tensor& tensor) {
    const std::string_view name = tensor.name;
    if (pair.rank == 0 || pair.rank > ops::kMostRank) {
        throw broken(text_of(name, "has rank " + std::to_string(pair.rank) + ", not 1 to " +
                                       std::to_string(ops::kMostRank)));
    }
    if (pair.dtype != M4_DTYPE_F32 && pair.dtype != M4_DTYPE_F16) {
        throw broken(text_of(name, "is neither F32 nor F16"));
    }
    const std::uint64_t element = pair.dtype == M4_DTYPE_F32 ? 4 : 2;
    if (pair.a.size() != pair.rank * tensor.shape[1] * element ||
        pair.b.size() != pair.rank * tensor.shape[0] * element) {
        throw broken(text_of(name, "has not the bytes of its shape"));
    }
}

/// Appends both matrices of a pair; its entry, with offsets from the begin of `units`.
Unit append_pair(const LowRankPair& pair, const firmware::Tensor& tensor,
                 std::vector<Unit>& units) {
    const bool halves = pair.dtype == M4_DTYPE_F16;
    const std::uint32_t rank = (pair.rank + 3) / 4 * 4;
    const std::uint64_t rows = tensor.shape[0];
    const std::uint64_t columns = tensor.shape[1];
    const Elements a{pair.a, columns, halves};
    const Elements b{pair.b, pair.rank, halves};
    const auto set = [&](Unit& unit, std::uint32_t element, std::uint32_t bits) {
        if (halves) {
            unit[element / 2] |= bits << (element % 2 * 16);
        } else {
            unit[element] = bits;
        }
    };

    const auto first_a = static_cast<std::uint32_t>(units.size());
    const std::uint32_t of_unit = halves ? 8 : 4;
    const std::uint64_t unit_columns = (columns + of_unit - 1) / of_unit;
    units.resize(units.size() + unit_columns * rank);
    for (std::uint64_t j = 0; j < pair.rank; ++j) {
        for (std::uint64_t column = 0; column < columns; ++column) {
            set(units[first_a + column / of_unit * rank + j],
                static_cast<std::uint32_t>(column % of_unit), a.bits(j, column));
        }
    }

    const auto first_b = static_cast<std::uint32_t>(units.size());
    const std::uint64_t quads = (rows + kQuadRows - 1) / kQuadRows;
    // A value's row is padded to eight columns: kernels walk its quads, two by two.
    const std::uint64_t b_quads = (quads + 1) / 2 * 2 * rank;
    units.resize(units.size() + (halves ? b_quads / 2 : b_quads));
    for (std::uint64_t row = 0; row < rows; ++row) {
        const std::uint64_t source =
            firmware::source_row(row, tensor.head_dim, tensor.row_order, pair.order);
        const auto lane = static_cast<std::uint32_t>(row % kQuadRows);
        for (std::uint64_t j = 0; j < pair.rank; ++j) {
            const std::uint64_t at = row / kQuadRows * rank + j;
            if (halves) {
                set(units[first_b + at / 2], static_cast<std::uint32_t>(at % 2 * 4) + lane,
                    b.bits(source, j));
            } else {
                set(units[first_b + at], lane, b.bits(source, j));
            }
        }
    }
    return {first_a, first_b, rank | (halves ? PackedAdapter::kHalves : 0U),
            std::bit_cast<std::uint32_t>(pair.scale)};
}

}  // namespace

std::vector<std::uint32_t> linears_of(const firmware::Program& program) {
    std::vector<std::uint32_t> linears;
    for (const firmware::Op& op : program.ops) {
        if (op.code == firmware::OpCode::linear) {
            linears.push_back(op.inputs[1].index);
        }
    }
    return linears;
}

std::unique_ptr<PackedAdapter> Engine::Impl::pack(std::span<const LowRankPair> pairs) const {
    std::vector<Unit> units(linears.size());
    std::set<std::uint32_t> seen;
    for (const LowRankPair& pair : pairs) {
        if (std::find(linears.begin(), linears.end(), pair.tensor) == linears.end()) {
            throw broken("an adapter's pair is for tensor " + std::to_string(pair.tensor) +
                         ", which is no linear's weight");
        }
        const firmware::Tensor& tensor = image.tensors()[pair.tensor];
        if (!seen.insert(pair.tensor).second) {
            throw broken(text_of(tensor.name, "is there twice"));
        }
        check_pair(pair, tensor);
        const Unit entry = append_pair(pair, tensor, units);
        for (std::size_t i = 0; i < linears.size(); ++i) {
            if (linears[i] == pair.tensor) {
                units[i] = entry;
            }
        }
    }
    return std::make_unique<PackedAdapter>(adapters, std::move(units), linears.size());
}

void Engine::Impl::check_adapters(std::span<const Chunk> chunks) const {
    std::set<const Adapter*> seen;
    std::uint64_t bytes = 0;
    for (const Chunk& chunk : chunks) {
        if (chunk.adapter == nullptr || !seen.insert(chunk.adapter).second) {
            continue;
        }
        const auto* adapter = dynamic_cast<const PackedAdapter*>(chunk.adapter);
        if (adapter == nullptr || &adapter->pool() != &adapters) {
            throw broken("a chunk names no adapter of this engine");
        }
        bytes += adapter->bytes();
    }
    if (bytes > adapters.capacity() || (bytes != 0 && values.low_rank_unit == 0)) {
        throw broken("the adapters of a step take " + std::to_string(bytes) + " of " +
                     std::to_string(adapters.capacity()) + " bytes");
    }
}

/// Recorded steps name the pool by a descriptor: new memory makes them void.
void Engine::Impl::use_new_adapter_pool() {
    memory.set_adapters(device, adapters.buffer());
    recorded.clear();
    if (remembering != nullptr) {
        remembering->recorded.clear();
    }
}

void Engine::Impl::load_adapters(std::span<const Chunk> chunks) {
    std::vector<PackedAdapter*> wanted;
    for (const Chunk& chunk : chunks) {
        auto* adapter = static_cast<PackedAdapter*>(chunk.adapter);
        if (adapter != nullptr &&
            std::find(wanted.begin(), wanted.end(), adapter) == wanted.end()) {
            wanted.push_back(adapter);
        }
    }
    if (!wanted.empty() && adapters.load(wanted)) {
        use_new_adapter_pool();
    }
}

/// The index of their linears together; of all of them where no more are told apart.
std::uint32_t Engine::Impl::covered_by(std::span<const Chunk> chunks) {
    constexpr std::size_t kMost = 64;
    std::vector<bool> together(linears.size());
    for (const Chunk& chunk : chunks) {
        if (chunk.adapter != nullptr) {
            const auto& one = static_cast<const PackedAdapter*>(chunk.adapter)->covered();
            for (std::size_t i = 0; i < together.size(); ++i) {
                together[i] = together[i] || one[i];
            }
        }
    }
    const auto found = std::find(covered.begin(), covered.end(), together);
    if (found != covered.end()) {
        return static_cast<std::uint32_t>(found - covered.begin());
    }
    if (covered.size() == kMost) {
        return 0;
    }
    covered.push_back(std::move(together));
    return static_cast<std::uint32_t>(covered.size() - 1);
}

void Engine::Impl::set_adapter_shape(std::span<const Chunk> chunks, ops::StepShape& shape) {
    constexpr std::uint32_t kLeastRank = 8;
    for (const Chunk& chunk : chunks) {
        if (chunk.adapter != nullptr) {
            const auto& adapter = static_cast<const PackedAdapter&>(*chunk.adapter);
            shape.rank = std::max({shape.rank, kLeastRank, adapter.rank()});
            shape.forms |= adapter.forms();
        }
    }
    if (shape.rank != 0) {
        shape.rank = std::bit_ceil(shape.rank);
        shape.covered = covered_by(chunks);
    }
}

std::unique_ptr<Adapter> Engine::create_adapter(std::span<const LowRankPair> pairs) {
    return impl_->pack(pairs);
}

void Engine::prefetch(Adapter& adapter) {
    auto* packed = dynamic_cast<PackedAdapter*>(&adapter);
    if (packed == nullptr || &packed->pool() != &impl_->adapters) {
        throw broken("no adapter of this engine");
    }
    vk::translate([&] {
        if (impl_->adapters.prefetch(*packed)) {
            impl_->use_new_adapter_pool();
        }
    });
}

std::uint64_t Engine::adapter_pool_bytes() const {
    return impl_->values.low_rank_unit == 0 ? 0 : impl_->adapters.capacity();
}

AdapterUse Engine::adapter_use() const {
    return impl_->adapters.use();
}

}  // namespace m4::engine
