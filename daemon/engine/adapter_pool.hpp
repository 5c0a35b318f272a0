// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "engine.hpp"
#include "vk/memory.hpp"

namespace m4::engine {

class AdapterPool;

/// An adapter as kernels read it (shaders/include/adapters.glsl): entries first. Their
/// offsets count from the adapter's begin and become the pool's as it is loaded.
class PackedAdapter final : public Adapter {
   public:
    /// 16 bytes, of which entries and elements are made.
    using Unit = std::array<std::uint32_t, 4>;
    static constexpr std::uint32_t kHalves = 1U << 31;  ///< of an entry's rank

    PackedAdapter(AdapterPool& pool, std::vector<Unit> units, std::size_t entries);
    ~PackedAdapter() override;

    [[nodiscard]] std::uint64_t bytes() const override { return units_.size() * sizeof(Unit); }
    [[nodiscard]] bool resident() const override { return place_ != 0; }
    /// The largest of its pairs'.
    [[nodiscard]] std::uint32_t rank() const { return rank_; }
    /// As StepShape has it.
    [[nodiscard]] std::uint32_t forms() const { return forms_; }
    /// Which of the program's linears it has pairs for.
    [[nodiscard]] const std::vector<bool>& covered() const { return covered_; }
    /// First unit in the pool; 0: it is not there.
    [[nodiscard]] std::uint32_t place() const { return place_; }
    [[nodiscard]] const AdapterPool& pool() const { return pool_; }

   private:
    friend class AdapterPool;

    AdapterPool& pool_;
    std::vector<Unit> units_;
    std::vector<bool> covered_;
    std::uint32_t rank_ = 0;
    std::uint32_t forms_ = 0;
    std::uint32_t place_ = 0;
    std::uint64_t last_used_ = 0;
};

/// Memory of the device that adapters share. Who was not used for longest makes room.
/// Not used while a step runs; one thread.
class AdapterPool {
   public:
    /// Takes no memory before the first load. `most_bytes`: what is wanted, and what
    /// kernels can address, whichever is less.
    AdapterPool(const vk::Device& device, std::uint64_t most_bytes);
    AdapterPool(const AdapterPool&) = delete;
    AdapterPool& operator=(const AdapterPool&) = delete;

    /// Usable bytes.
    [[nodiscard]] std::uint64_t capacity() const { return (units_ - 1) * kUnit; }
    /// All of them into the pool, others out of it as needed; together they take no more
    /// than capacity(). True: the pool's memory is new (buffer()).
    bool load(std::span<PackedAdapter* const> wanted);
    /// Loads it only where nothing that is in the pool has to go.
    bool prefetch(PackedAdapter& adapter);
    [[nodiscard]] const vk::Buffer& buffer() const { return buffer_; }
    [[nodiscard]] AdapterUse use() const;

   private:
    friend class PackedAdapter;
    static constexpr std::uint64_t kUnit = sizeof(PackedAdapter::Unit);

    bool ensure_buffer();
    /// First unit of a gap that large; 0: there is none.
    [[nodiscard]] std::uint32_t find_gap(std::uint64_t units) const;
    void place(PackedAdapter& adapter, std::uint32_t first);
    void evict(PackedAdapter& adapter);
    void forget(const PackedAdapter& adapter);

    const vk::Device& device_;
    std::uint64_t units_;  // the first of them is nobody's: 0 stands for no adapter
    vk::Buffer buffer_;
    std::map<std::uint32_t, PackedAdapter*> placed_;  // by first unit
    std::uint64_t clock_ = 0;                         // steps
    AdapterUse use_;
};

}  // namespace m4::engine
