// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/sampler.hpp"
#include "lib/image.hpp"
#include "trust/image_guard.hpp"
#include "vk/error.hpp"

namespace m4::engine {

/// The device failed or was lost, or lacks what the engine needs. what() is a
/// sentence for people.
using DeviceError = vk::DeviceError;

/// q8: 8 bits an element and a scale for 32 of them (shaders/include/kv.glsl).
enum class KvType : std::uint8_t { f16, f32, q8 };
[[nodiscard]] std::string_view name_of(KvType type);

struct Options {
    /// Which Vulkan device: empty = the best (discrete, integrated, virtual,
    /// CPU), a number = its index, else a part of its name.
    std::string device;
    KvType kv_type = KvType::f16;
    std::uint64_t kv_pool_bytes = 256ULL << 20;
    /// Of the device's memory, for adapters in use; taken when the first is.
    std::uint64_t adapter_pool_bytes = 64ULL << 20;
    /// Positions of a page of the pool: a power of two, at least 8.
    std::uint32_t kv_page_positions = 64;
    /// Rows computed at once; larger prompts run in chunks of it.
    std::uint32_t max_step_rows = 64;
    /// Run a program's groups of operators as one kernel each; tests compare.
    bool fuse = true;
    std::filesystem::path cache_dir = {};  ///< pipeline cache; empty: none kept
    /// Tokens that greedy decoding may chain in a step; 0: as the device likes.
    std::uint32_t chain = 0;
    /// most_candidates() on any device (tests).
    bool candidates = false;
    /// Slices of a context that attention of few rows is cut into, at most 64; 0: as
    /// the device likes.
    std::uint32_t attention_slices = 0;
    /// False, true: as on a device without subgroups of 8, or of small texel
    /// buffers (tests).
    bool subgroups = true;
    bool force_storage = false;
    /// The weights of linear by their device address, whatever is measured (tests).
    bool addresses = false;
    bool timestamps = true;   ///< false: as on a device without them (tests)
    bool validation = false;  ///< Vulkan validation layer; its messages throw
    /// Asked after each step, before its results are used; must outlive the
    /// engine. Null: the image cannot be lost.
    const trust::ImageGuard* guard = nullptr;
    /// A dma-buf of payload bytes [offset, offset + bytes), multiples of 2 MiB;
    /// throws where there is none. Empty: the image has no dma-bufs.
    std::function<firmware::UniqueFd(std::uint64_t offset, std::uint64_t bytes)> export_window = {};
};

/// What runs where, for status and doctor.
struct DeviceReport {
    std::string device_name;
    std::string driver_name;
    std::string driver_info;
    std::string api_version;
    std::string weights_import;  ///< "dma_buf", "host_pointer" or "staging"
    std::uint64_t weight_bytes = 0;
    std::uint64_t copied_bytes = 0;
    std::uint64_t kv_pool_bytes = 0;
    std::string render_node;  ///< of the Vulkan device; empty: it has none
    std::string drm_driver;   ///< name and version of its kernel driver; likewise
    std::string import_note;  ///< why no better way than weights_import
    std::size_t kernels = 0;  ///< of a step: operators, or groups of them as one
    std::string tuning;       ///< how work is cut up, at the start
};

/// What this process has used of its DRM devices by now, engine by engine: one
/// line, empty without one.
[[nodiscard]] std::string device_usage();

/// The KV pool: pages, each with room for some positions.
struct KvUse {
    std::uint64_t page_bytes = 0;
    std::uint32_t page_positions = 0;
    std::uint32_t pages = 0;   ///< in all
    std::uint32_t used = 0;    ///< held by sequences
    std::uint32_t shared = 0;  ///< of these, by several

    [[nodiscard]] std::uint32_t free() const { return pages - used; }
    [[nodiscard]] std::uint64_t used_bytes() const { return used * page_bytes; }
};

/// What an adapter adds to a matrix of the image: y += scale b (a x).
struct LowRankPair {
    std::uint32_t tensor = 0;  ///< of the image; the weight of a `linear` of the program
    std::uint32_t rank = 0;    ///< 1 to 256
    float scale = 0;
    m4_dtype dtype = M4_DTYPE_F32;  ///< of both, F32 or F16
    /// Of b's rows, where the image's matrix is rotated; else of no matter.
    m4_row_order order = M4_ROW_ORDER_NONE;
    std::span<const std::byte> a;  ///< [rank, K], row-major
    std::span<const std::byte> b;  ///< [N, rank]
};

/// Of the device's memory, for one pair of a matrix [rows, columns].
[[nodiscard]] constexpr std::uint64_t low_rank_bytes(std::uint64_t rows, std::uint64_t columns,
                                                     std::uint32_t rank, m4_dtype dtype) {
    constexpr std::uint64_t kElements = 8;  // whole units, and B's quads two by two
    const std::uint64_t element = dtype == M4_DTYPE_F16 ? 2 : 4;
    const std::uint64_t ranks = (rank + 3) / 4 * 4;
    const auto whole = [](std::uint64_t count) {
        return (count + kElements - 1) / kElements * kElements;
    };
    return ranks * element * (whole(columns) + whole(rows));
}

/// Low-rank pairs in the form that kernels read, in the host's memory; in the device's
/// while they are used. Must not outlive its Engine; engine thread only.
class Adapter {
   public:
    Adapter() = default;
    virtual ~Adapter() = default;
    Adapter(const Adapter&) = delete;
    Adapter& operator=(const Adapter&) = delete;
    [[nodiscard]] virtual std::uint64_t bytes() const = 0;
    /// Whether the device has it now.
    [[nodiscard]] virtual bool resident() const = 0;
};

/// The device's memory for adapters.
struct AdapterUse {
    std::uint64_t pool_bytes = 0;  ///< 0: none was used yet
    std::uint64_t used_bytes = 0;
    std::uint32_t resident = 0;
    std::uint64_t loads = 0;  ///< into the device's memory, since the start
    std::uint64_t evictions = 0;
    double load_us = 0;  ///< all loads together
};

/// A kernel of a profiled step, all its places in the program together.
struct KernelTime {
    std::string name;              ///< of its operator, or of the group that runs as one
    std::string operators;         ///< what it does: "rms_norm, 3 linear, 2 rope"
    std::uint32_t dispatches = 0;  ///< in the step
    double us = 0;                 ///< together
};

struct Profile {
    bool timed = false;               ///< false: the device has no timestamps, `us` are 0
    std::vector<KernelTime> kernels;  ///< by their first dispatch
};

/// Bytes that copies read and wrote, and how long they took.
struct CopyTime {
    std::uint64_t bytes = 0;  ///< 0: there was no memory for it
    double us = 0;
};

/// Tokens whose keys and values lie in pages of the KV pool. It takes pages as
/// it grows, in Engine::step(), and frees them at once when it is rewound or
/// destroyed. Must not outlive its Engine; engine thread only.
class Sequence {
   public:
    Sequence() = default;
    virtual ~Sequence() = default;
    Sequence& operator=(const Sequence&) = delete;
    /// Tokens it may grow to.
    [[nodiscard]] virtual std::uint32_t capacity() const = 0;
    /// Tokens whose keys and values are held.
    [[nodiscard]] virtual std::uint32_t length() const = 0;
    /// Forget all but the first `length` tokens.
    virtual void rewind(std::uint32_t length) = 0;
    /// Free pages that appending `count` tokens takes, at most.
    [[nodiscard]] virtual std::uint32_t pages_needed(std::uint32_t count) const = 0;
    /// Whether the page of its last token is also a clone's: then rewinding
    /// frees it for nobody.
    [[nodiscard]] virtual bool last_page_shared() const = 0;
    /// A sequence of the same tokens that goes its own way. It takes no page:
    /// what both have they share, and who appends to a page in part full gets
    /// a copy of it.
    [[nodiscard]] virtual std::unique_ptr<Sequence> clone() const = 0;

   protected:
    Sequence(const Sequence&) = default;
};

/// Which logits of a chunk are wanted. greedy: those of the last row, and of
/// them only the best token, chosen on the device (Engine::ids()). top: likewise
/// the best few, for a sampler (Engine::candidates()).
enum class Logits : std::uint8_t { none, last, all, greedy, top };

/// A row of a chunk that stands for an input of another sense: these values instead of
/// those of its token, which is then of no matter but below the vocabulary.
struct EmbeddedRow {
    std::uint32_t at = 0;           ///< among the chunk's tokens
    std::span<const float> values;  ///< embedded_columns() of them
};

/// Some next tokens of one sequence. A step may hold chunks of several
/// sequences, at most one each: all rows share one pass over the weights.
struct Chunk {
    Sequence* sequence = nullptr;
    std::span<const std::uint32_t> tokens;  ///< appended at sequence->length()
    Logits logits = Logits::last;
    std::span<const EmbeddedRow> embedded = {};  ///< in order of `at`, each once
    Adapter* adapter = nullptr;                  ///< of this engine; null: the bare base
};

class Runtime;

/// Runs the backbone's `forward` program, or a decoder's. Not thread-safe: one thread (the
/// scheduler's) constructs, uses and destroys it, save report() and the
/// constant getters, which any thread may call after construction.
class Engine {
   public:
    /// `image` must outlive the engine. Throws DeviceError and, where the image
    /// is lost meanwhile, trust::RevokedError.
    Engine(const firmware::MappedImage& image, const Options& options);
    /// On what others share. `runtime` must outlive the engine.
    Engine(Runtime& runtime, const Options& options);
    /// For this part of its image, a backbone or a decoder.
    Engine(Runtime& runtime, const Options& options, const firmware::Part& part);
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    [[nodiscard]] const DeviceReport& report() const;
    [[nodiscard]] std::uint32_t context_length() const;
    [[nodiscard]] std::uint32_t vocabulary() const;
    [[nodiscard]] std::uint32_t max_step_rows() const;

    /// Null when all of the pool has no room for `capacity` tokens, which is
    /// at most context_length(). Takes no page yet.
    [[nodiscard]] std::unique_ptr<Sequence> create_sequence(std::uint32_t capacity);
    [[nodiscard]] KvUse kv_use() const;

    /// Throws std::invalid_argument where a pair does not fit the program or its bytes
    /// are not those of its shape. Takes no memory of the device yet.
    [[nodiscard]] std::unique_ptr<Adapter> create_adapter(std::span<const LowRankPair> pairs);
    /// Into the device's memory ahead of its first step, where there is room beside
    /// what recent steps used. Throws DeviceError.
    void prefetch(Adapter& adapter);
    /// What a step may use together at most; 0: this engine takes no adapters.
    [[nodiscard]] std::uint64_t adapter_pool_bytes() const;
    [[nodiscard]] AdapterUse adapter_use() const;

    /// Kernels are compiled when a step first wants them, and the first steps make
    /// do with few. This runs a step of the next shape that brings further ones,
    /// so that no request waits for them; then, where there is a cache folder and
    /// none is kept there yet, it measures one more of the ways to cut up work. False:
    /// nothing is left, or the pool has no room now. Throws as step() does.
    bool warm_up();
    /// How often warm_up() has something to do yet.
    [[nodiscard]] std::uint32_t warm_ups_left() const;

    /// Compute the chunks: rows in all <= max_step_rows(), each sequence with
    /// room, and no more pages needed than are free. Returns the wanted logits,
    /// vocabulary() floats
    /// a row, in chunk then row order; valid until the next call. Throws DeviceError on loss of the
    /// device (the engine is then unusable), trust::RevokedError where the image was lost
    /// (likewise), and std::invalid_argument on a broken precondition (nothing changed).
    std::span<const float> step(std::span<const Chunk> chunks) { return step(chunks, 1); }

    /// Several passes in one submission: the first over the chunks, each further
    /// one over the tokens that the one before chose, so that each sequence
    /// grows by chunk and passes - 1 tokens. passes > 1: every chunk is one
    /// token with Logits::greedy.
    std::span<const float> step(std::span<const Chunk> chunks, std::uint32_t passes);
    /// Values of a row that stands for an input of another sense; 0: the image's
    /// backbone takes none.
    [[nodiscard]] std::uint32_t embedded_columns() const;
    /// Of a decoder: the rows of an input, and their columns. Of a backbone 0.
    [[nodiscard]] std::uint32_t memory_rows() const;
    [[nodiscard]] std::uint32_t memory_columns() const;
    /// The next 1 to max_step_rows() rows of the encoder's hidden states for a sequence
    /// of a decoder, which has no tokens before it has all memory_rows(). With the first
    /// of them it takes the pages it will ever hold. Throws as step() does.
    void load_memory(Sequence& sequence, std::span<const float> rows);
    /// Passes that are worth it on this device, at most.
    [[nodiscard]] std::uint32_t most_passes() const;
    /// What the last step chose for its chunks with Logits::greedy: pass by
    /// pass, in order of chunks. Until the next step.
    [[nodiscard]] std::span<const std::uint32_t> ids() const;

    /// How many candidates a chunk with Logits::top gets: at most 64, and fewer than
    /// the vocabulary. 0: rows of logits serve as well on this device.
    [[nodiscard]] std::uint32_t most_candidates() const;
    /// What the last step found for its chunks with Logits::top: for each the best
    /// tokens, most_candidates() of them or as many as that would be, best first.
    /// Until the next step.
    [[nodiscard]] std::span<const Candidate> candidates() const;

    /// A step of one pass, as step() does it but recorded apart: each kernel waits
    /// for the one before and is timed by the device. Grows the sequences and
    /// throws as step() does; ids() are its.
    [[nodiscard]] Profile profile(std::span<const Chunk> chunks);
    /// Copy memory of the device to and fro: what it can move at best. Takes and
    /// frees memory of its own. Throws DeviceError.
    [[nodiscard]] CopyTime time_copy();
    /// Weights that a step of one row reads: all but tables, of which it reads rows.
    [[nodiscard]] std::uint64_t step_weight_bytes() const;

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace m4::engine
