// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "adapter_pool.hpp"
#include "engine.hpp"
#include "kv_pool.hpp"
#include "kv_sequence.hpp"
#include "ops/argmax.hpp"
#include "ops/top_logits.hpp"
#include "plan.hpp"
#include "runtime.hpp"
#include "tuning_choice.hpp"

/// What an Engine is made of; engine.cpp sets it up, step.cpp computes with it,
/// warm_up.cpp prepares it in quiet moments, profile.cpp measures it.
namespace m4::engine {

/// A plan and what it was made with; its operators refer to the context.
struct TunedPlan {
    ops::Context context;
    Plan plan;
    ops::Argmax argmax;
    ops::TopLogits top;

    TunedPlan(const vk::Device& device, const ops::Context& context_,
              const firmware::Program& program, std::span<const firmware::Tensor> tensors,
              weights::Store& weights, const ValueLayout& values, const KvShape& kv,
              std::uint32_t logits_value, std::uint32_t candidates)
        : context(context_),
          plan(device, context, program, tensors, weights, values, kv),
          argmax(context, values.places[logits_value]),
          top(context, values.places[logits_value], candidates) {}
};

/// A precondition of the interface.
inline std::invalid_argument broken(const std::string& text) {
    return std::invalid_argument(text);
}

/// The weights of a program's linears, in order (adapter.cpp).
std::vector<std::uint32_t> linears_of(const firmware::Program& program);

struct Engine::Impl {
    /// Steps of so many rows meet each tile of linear and both splits of attention.
    static constexpr std::array kWarmRows = {1U, 4U, 8U};
    /// Steps without the kernels that take longest to compile, where nobody warms up.
    static constexpr std::size_t kColdSteps = 16;

    const std::unique_ptr<Runtime> own;  // null: another's
    const firmware::Image& image;
    const firmware::Part& part;
    const firmware::Program& program;
    const std::uint32_t max_rows;
    const trust::ImageGuard* const guard;
    vk::Device& device;
    vk::Pipelines& pipelines;
    weights::Store& weights;
    const shaders::Dtype kv_dtype;
    const KvShape kv;
    KvPool pool;
    const ops::StepWords words;
    const std::uint32_t logits_value;
    const ValueLayout values;
    ops::StepMemory memory;
    vk::Buffer logits;                         // what the host reads
    const std::vector<std::uint32_t> linears;  // the program's, by their weight
    mutable AdapterPool adapters;              // adapters refer to it
    std::vector<std::vector<bool>> covered;    // ops::Context has it
    const bool fuse;
    const bool addresses;
    const std::uint32_t chain;   // 0: as tuned
    const std::uint32_t slices;  // of attention; likewise
    const bool force_candidates;
    const std::uint32_t candidates_each;  // 0: the vocabulary is one token
    TuningChoice tunings;
    std::unique_ptr<TunedPlan> plan;
    std::vector<std::uint32_t> ids;     // of the last step
    std::vector<Candidate> candidates;  // likewise
    DeviceReport report;
    std::map<ops::StepShape, hpp::raii::CommandBuffer> recorded;
    hpp::raii::CommandBuffer copying;  // of pages, before a step; recorded anew each time
    /// Rows that are put in place of tokens' (embedded_rows.cpp).
    struct Embedding {
        ops::ValuePlace place;
        std::uint32_t value = 0;
        std::uint32_t columns = 0;                    // 0: the program takes none
        vk::Buffer host;                              // since they were first used
        hpp::raii::CommandBuffer commands = nullptr;  // of such a step, recorded anew each time
    };
    Embedding embedding;
    /// Of a decoder: its program `prepare` (decoder_memory.cpp).
    struct Remembering {
        const firmware::Program& program;
        ValueLayout values;
        ops::Context context;
        Plan plan;
        ops::ValuePlace features;
        vk::Buffer host;  // of features, rows padded as in the arena
        std::map<std::uint32_t, hpp::raii::CommandBuffer> recorded;  // by rows

        Remembering(Impl& engine, const firmware::Program& program_);
    };
    std::unique_ptr<Remembering> remembering;  // null: a backbone
    bool lost = false;
    std::size_t warmed = 0;  // of kWarmRows
    std::size_t steps = 0;

    /// `own_runtime` null: `runtime` is another's, else it.
    Impl(Runtime& runtime, std::unique_ptr<Runtime> own_runtime, const Options& options,
         const firmware::Part& part_);

    std::unique_ptr<PackedAdapter> pack(std::span<const LowRankPair> pairs) const;
    /// The chunks' adapters into the device's memory.
    void load_adapters(std::span<const Chunk> chunks);
    void use_new_adapter_pool();
    void check_adapters(std::span<const Chunk> chunks) const;
    /// What a step of these chunks is for kernels of adapters.
    void set_adapter_shape(std::span<const Chunk> chunks, ops::StepShape& shape);
    std::uint32_t covered_by(std::span<const Chunk> chunks);
    ops::StepShape check(std::span<const Chunk> chunks, std::uint32_t passes) const;
    void check_chunk(const Chunk& chunk, std::uint32_t passes) const;
    void write_step(std::span<const Chunk> chunks) const;
    std::vector<PageCopy> take_pages(std::span<const Chunk> chunks, std::uint32_t passes) const;
    void record_copies(std::span<const PageCopy> copies) const;
    const hpp::raii::CommandBuffer& commands_for(const ops::StepShape& shape);
    using Recorded = std::function<hpp::CommandBuffer()>;
    using Hook = std::function<void(const hpp::raii::CommandBuffer&)>;
    void record(const hpp::raii::CommandBuffer& commands, const ops::StepShape& shape,
                const Hook& after_embedding = {});
    void record_pass(const hpp::raii::CommandBuffer& commands, const ops::StepShape& shape,
                     std::uint32_t pass, const Hook& after_embedding);
    void record_argmax(const hpp::raii::CommandBuffer& commands, const ops::StepShape& shape,
                       std::uint32_t pass);
    void record_top(const hpp::raii::CommandBuffer& commands, const ops::StepShape& shape);
    void read_candidates(const ops::StepShape& shape);
    void record_outputs(const hpp::raii::CommandBuffer& commands,
                        const ops::StepShape& shape) const;
    std::span<const float> step(std::span<const Chunk> chunks, std::uint32_t passes = 1);
    Embedding find_embedding() const;
    void check_embedded(const Chunk& chunk) const;
    /// Commands of a step that puts the chunks' embedded rows in place.
    hpp::CommandBuffer commands_embedding(std::span<const Chunk> chunks,
                                          const ops::StepShape& shape);
    /// Of the arena, for `prepare`; 0: a backbone.
    std::uint64_t memory_value_bytes() const;
    std::unique_ptr<Remembering> make_remembering();
    const hpp::raii::CommandBuffer& commands_remembering(std::uint32_t rows);
    void load_memory(Sequence& sequence, std::span<const float> rows);
    void check_memory(const Sequence& sequence, std::span<const float> rows) const;
    /// Free pages that a sequence of `rows` tokens takes.
    std::uint32_t pages_of_sequence(std::uint32_t rows) const {
        return pool.pages_of(std::max(rows, part.memory_rows));
    }
    std::unique_ptr<KvSequence> create_warm_sequence(std::uint32_t rows);
    /// Runs what was written into the step buffer; the engine is lost where it fails.
    void run(const std::function<std::vector<hpp::CommandBuffer>()>& buffers);
    void compute(std::span<const Chunk> chunks, const ops::StepShape& shape,
                 const Recorded& commands);
    Profile profile(std::span<const Chunk> chunks);
    CopyTime time_copy();
    std::uint64_t step_weight_bytes() const;
    std::unique_ptr<KvSequence> create_sequence(std::uint32_t capacity);
    std::uint32_t next_warm_rows() const;
    bool warm_up();
    std::uint32_t warm_ups_left() const;
    void end_cold();
    std::unique_ptr<TunedPlan> make_plan(ops::Tuning tuning);
    double time_step(std::uint32_t rows);
    void try_tuning();
};

}  // namespace m4::engine
