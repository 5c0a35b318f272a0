// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>

#include "shaders/shaders.hpp"
#include "vk/descriptors.hpp"
#include "vk/memory.hpp"
#include "vk/pipelines.hpp"

namespace m4::ops {

constexpr std::uint64_t kUnitBytes = 16;    ///< a vec4, a uvec4
constexpr std::uint32_t kRowAlignment = 8;  ///< floats a value's row is padded to

/// Units of a row of `columns` floats, padding included.
[[nodiscard]] constexpr std::uint32_t row_units(std::uint32_t columns) {
    return (columns + kRowAlignment - 1) / kRowAlignment * (kRowAlignment / 4);
}

/// The step buffer: what varies from step to step, a word (u32) each. Word i
/// of an array belongs to row i of the step. Behind them are page tables: word
/// j of a table is the number, in the KV pool, of page j of a sequence.
struct StepWords {
    static constexpr std::uint32_t kMostPasses = 8;       ///< of one step
    static constexpr std::uint32_t kMostCandidates = 64;  ///< of a row's tokens
    static constexpr std::uint32_t kCandidateWords = 2 * kMostCandidates;

    std::uint32_t token_ids = 0;
    std::uint32_t positions = 0;
    std::uint32_t output_rows = 0;      ///< of output i, not of row i
    std::uint32_t kv_tables = 0;        ///< first word of the page table of the row's sequence
    std::uint32_t adapters = 0;         ///< first unit of the row's adapter in their pool; 0: none
    std::uint32_t output_adapters = 0;  ///< likewise, of output i
    std::uint32_t next_ids =
        0;  ///< of greedy output i of pass j: j * max_rows + i; written by kernels
    std::uint32_t page_tables = 0;  ///< the tables, of `table_pages` words each
    std::uint32_t table_pages = 0;
    std::uint32_t memory_positions = 0;  ///< of a decoder: the last row's, the same for each
    /// Ids and logits of the best tokens of an output, kCandidateWords each; written by
    /// kernels. The last of all: texel buffers end before them.
    std::uint32_t candidates = 0;
    std::uint32_t count = 0;
    std::uint32_t max_rows = 0;  ///< of a step, or items of an encoder

    /// A step has at most as many sequences as rows. `table_pages`: of the
    /// longest sequence.
    [[nodiscard]] static constexpr StepWords for_rows(std::uint32_t max_rows,
                                                      std::uint32_t table_pages) {
        return {.token_ids = 0,
                .positions = max_rows,
                .output_rows = 2 * max_rows,
                .kv_tables = 3 * max_rows,
                .adapters = 4 * max_rows,
                .output_adapters = 5 * max_rows,
                .next_ids = 6 * max_rows,
                .page_tables = (6 + kMostPasses) * max_rows,
                .table_pages = table_pages,
                .candidates = (6 + kMostPasses + table_pages) * max_rows,
                .count = (6 + kMostPasses + table_pages + kCandidateWords) * max_rows,
                .max_rows = max_rows};
    }
    /// Of a decoder: memory_positions before the candidates.
    [[nodiscard]] constexpr StepWords with_memory() const {
        StepWords words = *this;
        words.memory_positions = candidates;
        words.candidates += max_rows;
        words.count += max_rows;
        return words;
    }
    /// Of an encoder: the tokens of each item, `token_rows` of them, and its picked row.
    [[nodiscard]] static constexpr StepWords for_items(std::uint32_t max_items,
                                                       std::uint32_t token_rows) {
        return {.output_rows = max_items * token_rows,
                .candidates = max_items * (token_rows + 1),
                .count = max_items * (token_rows + 1),
                .max_rows = max_items};
    }
};

/// Everything a step writes or reads besides weights: the arena of values, the
/// step buffer, the KV pool, and the descriptor set that names them.
class StepMemory {
   public:
    struct Sizes {
        std::uint64_t value_bytes = 0;
        std::uint64_t kv_bytes = 0;  ///< at most largest_kv_bytes()
        std::uint32_t max_rows = 0;
    };

    /// `force_storage`: as on a device whose texel buffers are small (tests).
    StepMemory(const vk::Device& device, const vk::Pipelines& pipelines, const Sizes& sizes,
               const StepWords& words, bool force_storage = false);

    /// The largest KV pool that kernels can address on this device.
    [[nodiscard]] static std::uint64_t largest_kv_bytes(const vk::Device& device);

    [[nodiscard]] hpp::DescriptorSet set() const { return set_; }
    /// From now on kernels read adapters there; until then there are none. Whatever was
    /// recorded with the set is void. The buffer outlives this, or its last step.
    void set_adapters(const vk::Device& device, const vk::Buffer& pool);
    [[nodiscard]] const vk::Buffer& values() const { return values_; }
    [[nodiscard]] const vk::Buffer& kv() const { return kv_; }
    /// The step buffer, mapped. Write only while no step runs.
    [[nodiscard]] std::span<std::uint32_t> words() const { return words_; }
    [[nodiscard]] bool values_texel() const { return values_texel_; }
    /// The KV pool, and with it the step buffer.
    [[nodiscard]] bool kv_texel() const { return kv_texel_; }

   private:
    vk::Buffer values_;
    vk::Buffer step_;
    vk::Buffer kv_;
    vk::Buffer no_adapters_;  // a binding must name something
    hpp::raii::BufferView values_view_ = nullptr;
    hpp::raii::BufferView kv_view_ = nullptr;
    hpp::raii::BufferView step_view_ = nullptr;
    hpp::raii::BufferView adapters_view_ = nullptr;
    vk::Descriptors descriptors_;
    hpp::DescriptorSet set_;
    std::span<std::uint32_t> words_;
    bool values_texel_ = false;
    bool kv_texel_ = false;
};

}  // namespace m4::ops
