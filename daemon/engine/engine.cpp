// SPDX-License-Identifier: MIT
#include "engine.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>

#include "kv_pool.hpp"
#include "kv_sequence.hpp"
#include "ops/argmax.hpp"
#include "plan.hpp"
#include "tuning_choice.hpp"
#include "vk/drm.hpp"

namespace m4::engine {

namespace {

/// Recorded shapes kept. Decoding meets few; prompts end in any chunk size.
constexpr std::size_t kRecordedShapes = 64;
/// Steps of so many rows meet each tile of linear and both splits of attention.
constexpr std::array kWarmRows = {1U, 4U, 8U};
/// Steps without the kernels that take longest to compile, where nobody warms up.
constexpr std::size_t kColdSteps = 16;
constexpr std::uint32_t kBatchRows = 8;

const firmware::Part& backbone(const firmware::Package& package) {
    for (const firmware::Part& part : package.parts) {
        if (part.kind == firmware::PartKind::backbone) {
            return part;
        }
    }
    throw DeviceError("the image has no backbone");
}

const firmware::Program& forward_program(const firmware::Part& part) {
    for (const firmware::Program& program : part.programs) {
        if (program.name == "forward") {
            return program;
        }
    }
    throw DeviceError("the image's backbone has no program 'forward'");
}

std::uint32_t checked_rows(const Options& options) {
    if (options.max_step_rows == 0 || options.max_step_rows > 4096) {
        throw DeviceError("max_step_rows must be 1 to 4096, not " +
                          std::to_string(options.max_step_rows));
    }
    return options.max_step_rows;
}

std::invalid_argument broken(const std::string& text) {
    return std::invalid_argument(text);
}

std::uint32_t checked_page(const Options& options) {
    const std::uint32_t positions = options.kv_page_positions;
    if (positions < 8 || positions > 4096 || !std::has_single_bit(positions)) {
        throw DeviceError("kv_page_positions must be a power of two from 8 to 4096, not " +
                          std::to_string(positions));
    }
    return positions;
}

/// As many pages as fit both what is wanted and what kernels can address.
KvPool make_pool(const vk::Device& device, const Options& options, std::uint32_t position_units) {
    const std::uint64_t bytes =
        std::min(options.kv_pool_bytes, ops::StepMemory::largest_kv_bytes(device));
    KvPool pool(bytes / ops::kUnitBytes, position_units, checked_page(options));
    if (pool.pages() == 0) {
        throw DeviceError("a KV pool of " + std::to_string(bytes) + " bytes holds no page of " +
                          std::to_string(pool.page_units() * ops::kUnitBytes) +
                          " bytes: enlarge the pool");
    }
    return pool;
}

/// A plan and what it was made with; its operators refer to the context.
struct TunedPlan {
    ops::Context context;
    Plan plan;
    ops::Argmax argmax;

    TunedPlan(const vk::Device& device, const ops::Context& context_,
              const firmware::Program& program, std::span<const firmware::Tensor> tensors,
              weights::Store& weights, const ValueLayout& values, const KvShape& kv,
              std::uint32_t logits_value)
        : context(context_),
          plan(device, context, program, tensors, weights, values, kv),
          argmax(context, values.places[logits_value]) {}
};

}  // namespace

struct Engine::Impl {
    const firmware::Image& image;
    const firmware::Part& part;
    const firmware::Program& program;
    const std::uint32_t max_rows;
    const trust::ImageGuard* const guard;
    vk::Device device;
    vk::Pipelines pipelines;
    weights::Store weights;
    const shaders::Dtype kv_dtype;
    const KvShape kv;
    KvPool pool;
    const ops::StepWords words;
    const std::uint32_t logits_value;
    const ValueLayout values;
    ops::StepMemory memory;
    vk::Buffer logits;  // what the host reads
    const bool fuse;
    const std::uint32_t chain;  // 0: as tuned
    TuningChoice tunings;
    std::unique_ptr<TunedPlan> plan;
    std::vector<std::uint32_t> ids;  // of the last step
    DeviceReport report;
    std::map<ops::StepShape, hpp::raii::CommandBuffer> recorded;
    hpp::raii::CommandBuffer copying;  // of pages, before a step; recorded anew each time
    bool lost = false;
    std::size_t warmed = 0;  // of kWarmRows
    std::size_t steps = 0;

    Impl(const firmware::MappedImage& mapped, const Options& options);

    ops::StepShape check(std::span<const Chunk> chunks, std::uint32_t passes) const;
    void check_chunk(const Chunk& chunk, std::uint32_t passes) const;
    void write_step(std::span<const Chunk> chunks) const;
    std::vector<PageCopy> take_pages(std::span<const Chunk> chunks, std::uint32_t passes) const;
    void record_copies(std::span<const PageCopy> copies) const;
    const hpp::raii::CommandBuffer& commands_for(const ops::StepShape& shape);
    void record(const hpp::raii::CommandBuffer& commands, const ops::StepShape& shape);
    void record_pass(const hpp::raii::CommandBuffer& commands, const ops::StepShape& shape,
                     std::uint32_t pass);
    std::span<const float> step(std::span<const Chunk> chunks, std::uint32_t passes = 1);
    std::unique_ptr<KvSequence> create_sequence(std::uint32_t capacity);
    std::uint32_t next_warm_rows() const;
    bool warm_up();
    std::uint32_t warm_ups_left() const;
    void end_cold();
    std::unique_ptr<TunedPlan> make_plan(ops::Tuning tuning);
    double time_step(std::uint32_t rows);
    void try_tuning();
};

Engine::Impl::Impl(const firmware::MappedImage& mapped, const Options& options)
    : image(mapped.image()),
      part(backbone(image.package())),
      program(forward_program(part)),
      max_rows(checked_rows(options)),
      guard(options.guard),
      device({options.device, options.validation, options.subgroups}),
      pipelines(device, options.cache_dir),
      weights(device, mapped.payload(), image.tensors(), used_tensors(program),
              {.export_window = options.export_window}),
      kv_dtype(options.kv_type == KvType::f16 ? shaders::Dtype::f16_ : shaders::Dtype::f32_),
      kv(kv_shape(program, kv_dtype)),
      pool(make_pool(device, options, kv.position_units)),
      words(ops::StepWords::for_rows(max_rows,
                                     std::min(pool.pages_of(part.context_length), pool.pages()))),
      logits_value(port_value(program.outputs, firmware::Role::logits)),
      values(lay_out_values(program, words, max_rows)),
      memory(device, pipelines,
             {values.size_bytes, pool.pages() * pool.page_units() * ops::kUnitBytes, max_rows},
             words, options.force_storage),
      logits(device, std::uint64_t{max_rows} * part.vocabulary * sizeof(float),
             hpp::BufferUsageFlagBits::eTransferDst, vk::MemoryKind::readback),
      fuse(options.fuse),
      chain(options.chain),
      tunings(device, options.cache_dir),
      plan(make_plan(tunings.best().tuning)),
      copying(device.create_commands()) {
    const vk::Identity& identity = device.identity();
    report = {identity.device_name,
              identity.driver_name,
              identity.driver_info,
              identity.api_version,
              std::string(weights.import_name()),
              weights.weight_bytes(),
              weights.copied_bytes(),
              memory.kv().size_bytes(),
              identity.render_node,
              identity.drm_driver,
              weights.note(),
              plan->plan.kernel_count(),
              std::string(tunings.best().name)};
    device.check_validation();
}

void Engine::Impl::check_chunk(const Chunk& chunk, std::uint32_t passes) const {
    const auto* sequence = dynamic_cast<const KvSequence*>(chunk.sequence);
    if (sequence == nullptr || &sequence->pool() != &pool) {
        throw broken("a chunk names no sequence of this engine");
    }
    if (chunk.tokens.empty()) {
        throw broken("a chunk holds no tokens");
    }
    if (passes > 1 && (chunk.tokens.size() != 1 || chunk.logits != Logits::greedy)) {
        throw broken("a chunk of several passes is not one token, greedy");
    }
    const std::size_t count = chunk.tokens.size() + passes - 1;
    if (count > sequence->capacity() - sequence->length()) {
        throw broken(std::to_string(count) + " tokens do not fit a sequence of " +
                     std::to_string(sequence->length()) + " of " +
                     std::to_string(sequence->capacity()) + " tokens");
    }
    for (const std::uint32_t token : chunk.tokens) {
        if (token >= part.vocabulary) {
            throw broken("token " + std::to_string(token) + " is not below the vocabulary, " +
                         std::to_string(part.vocabulary));
        }
    }
}

/// Throws std::invalid_argument, before anything changes.
ops::StepShape Engine::Impl::check(std::span<const Chunk> chunks, std::uint32_t passes) const {
    if (passes == 0 || passes > ops::StepWords::kMostPasses) {
        throw broken("a step has 1 to " + std::to_string(ops::StepWords::kMostPasses) +
                     " passes, not " + std::to_string(passes));
    }
    std::uint64_t tokens = 0;
    std::uint64_t pages = 0;
    ops::StepShape shape;
    for (std::size_t i = 0; i < chunks.size(); ++i) {
        const Chunk& chunk = chunks[i];
        check_chunk(chunk, passes);
        for (std::size_t j = 0; j < i; ++j) {
            if (chunks[j].sequence == chunk.sequence) {
                throw broken("two chunks of a step name the same sequence");
            }
        }
        tokens += chunk.tokens.size();
        if (tokens > max_rows) {
            throw broken("a step holds more than " + std::to_string(max_rows) + " rows");
        }
        const auto count = static_cast<std::uint32_t>(chunk.tokens.size());
        shape.outputs += chunk.logits == Logits::all ? count : chunk.logits != Logits::none;
        shape.greedy += chunk.logits == Logits::greedy;
        pages += chunk.sequence->pages_needed(count + passes - 1);
    }
    if (pages > pool.free()) {
        throw broken("a step needs " + std::to_string(pages) + " pages of the KV pool, which has " +
                     std::to_string(pool.free()) + " free");
    }
    shape.tokens = static_cast<std::uint32_t>(tokens);
    shape.chain = passes;
    return shape;
}

/// Each chunk's sequence gets the pages it needs; check() saw that they are there.
std::vector<PageCopy> Engine::Impl::take_pages(std::span<const Chunk> chunks,
                                               std::uint32_t passes) const {
    std::vector<PageCopy> copies;
    for (const Chunk& chunk : chunks) {
        static_cast<KvSequence&>(*chunk.sequence)
            .take_pages(static_cast<std::uint32_t>(chunk.tokens.size()) + passes - 1, copies);
    }
    return copies;
}

void Engine::Impl::record_copies(std::span<const PageCopy> copies) const {
    using Stage = hpp::PipelineStageFlagBits;
    using Access = hpp::AccessFlagBits;
    // A page has a piece in each head's keys and values of each layer (kv.glsl).
    std::vector<hpp::BufferCopy> pieces;
    for (const ops::StatePlace& state : kv.states) {
        const std::uint64_t head_units =
            ops::divide_up(state.head_dim, ops::unit_elements(kv_dtype));
        const std::uint64_t piece = head_units * pool.page_positions() * ops::kUnitBytes;
        for (std::uint32_t half = 0; half < 2 * state.kv_heads; ++half) {
            const std::uint64_t first = plan->context.pool_positions *
                                        (state.layer_units + half * head_units) * ops::kUnitBytes;
            for (const PageCopy& copy : copies) {
                pieces.push_back({.srcOffset = first + copy.from * piece,
                                  .dstOffset = first + copy.to * piece,
                                  .size = piece});
            }
        }
    }
    copying.begin(
        hpp::CommandBufferBeginInfo{.flags = hpp::CommandBufferUsageFlagBits::eOneTimeSubmit});
    // After the steps before, which wrote the one and may have read the other.
    copying.pipelineBarrier(
        Stage::eComputeShader | Stage::eTransfer, Stage::eTransfer, {},
        hpp::MemoryBarrier{.srcAccessMask = Access::eShaderWrite | Access::eTransferWrite,
                           .dstAccessMask = Access::eTransferRead | Access::eTransferWrite},
        {}, {});
    copying.copyBuffer(memory.kv().handle(), memory.kv().handle(), pieces);
    copying.pipelineBarrier(
        Stage::eTransfer, Stage::eComputeShader, {},
        hpp::MemoryBarrier{.srcAccessMask = Access::eTransferWrite,
                           .dstAccessMask = Access::eShaderRead | Access::eShaderWrite},
        {}, {});
    copying.end();
}

void Engine::Impl::write_step(std::span<const Chunk> chunks) const {
    const std::span<std::uint32_t> step = memory.words();
    std::uint32_t row = 0;
    std::uint32_t output = 0;
    std::vector<std::uint32_t> greedy_rows;  // their outputs come last
    std::uint32_t table = words.page_tables;
    for (const Chunk& chunk : chunks) {
        const auto& sequence = static_cast<const KvSequence&>(*chunk.sequence);
        std::uint32_t position = sequence.length();
        const std::span<const std::uint32_t> pages = sequence.pages();
        for (std::size_t i = 0; i < pages.size(); ++i) {
            step[table + i] = pages[i];
        }
        for (std::size_t i = 0; i < chunk.tokens.size(); ++i) {
            step[words.token_ids + row] = chunk.tokens[i];
            step[words.positions + row] = position++;
            step[words.kv_tables + row] = table;
            const bool last = i + 1 == chunk.tokens.size();
            if (chunk.logits == Logits::all || (chunk.logits == Logits::last && last)) {
                step[words.output_rows + output++] = row;
            }
            if (chunk.logits == Logits::greedy && last) {
                greedy_rows.push_back(row);
            }
            ++row;
        }
        table += words.table_pages;
    }
    std::copy(greedy_rows.begin(), greedy_rows.end(), step.begin() + words.output_rows + output);
}

void Engine::Impl::record(const hpp::raii::CommandBuffer& commands, const ops::StepShape& shape) {
    using Stage = hpp::PipelineStageFlagBits;
    using Access = hpp::AccessFlagBits;
    commands.begin(hpp::CommandBufferBeginInfo{});
    commands.bindDescriptorSets(hpp::PipelineBindPoint::eCompute, pipelines.layout(), 0,
                                memory.set(), {});
    for (std::uint32_t pass = 0; pass < shape.chain; ++pass) {
        record_pass(commands, shape, pass);
    }
    const std::uint32_t copied = shape.outputs - shape.greedy;
    if (shape.greedy != 0) {
        commands.pipelineBarrier(Stage::eComputeShader, Stage::eHost, {},
                                 hpp::MemoryBarrier{.srcAccessMask = Access::eShaderWrite,
                                                    .dstAccessMask = Access::eHostRead},
                                 {}, {});
    }
    if (copied != 0) {
        commands.pipelineBarrier(Stage::eComputeShader, Stage::eTransfer, {},
                                 hpp::MemoryBarrier{.srcAccessMask = Access::eShaderWrite,
                                                    .dstAccessMask = Access::eTransferRead},
                                 {}, {});
        const ops::ValuePlace& place = values.places[logits_value];
        const std::uint64_t row_bytes = std::uint64_t{part.vocabulary} * sizeof(float);
        std::vector<hpp::BufferCopy> rows;
        for (std::uint64_t i = 0; i < copied; ++i) {
            rows.push_back({.srcOffset = (place.unit + i * place.stride) * ops::kUnitBytes,
                            .dstOffset = i * row_bytes,
                            .size = row_bytes});
        }
        commands.copyBuffer(memory.values().handle(), logits.handle(), rows);
        // The next step must not write what is copied: transfer before compute.
        commands.pipelineBarrier(Stage::eTransfer, Stage::eHost | Stage::eComputeShader, {},
                                 hpp::MemoryBarrier{.srcAccessMask = Access::eTransferWrite,
                                                    .dstAccessMask = Access::eHostRead},
                                 {}, {});
    }
    commands.end();
}

/// Set 0 is bound.
void Engine::Impl::record_pass(const hpp::raii::CommandBuffer& commands,
                               const ops::StepShape& shape, std::uint32_t pass) {
    record_barrier(commands);  // after the pass or step before: its KV and tokens are read
    plan->plan.record(commands, shape);
    if (shape.greedy != 0) {
        record_barrier(commands);
        const ops::Dispatch dispatch =
            plan->argmax.dispatch(shape.outputs - shape.greedy, shape.greedy,
                                  words.next_ids + pass * max_rows, shape.chain > 1);
        pipelines.compile({&dispatch.kernel, 1});
        ops::record(commands, pipelines.layout(), {&dispatch, 1});
    }
}

const hpp::raii::CommandBuffer& Engine::Impl::commands_for(const ops::StepShape& shape) {
    if (const auto found = recorded.find(shape); found != recorded.end()) {
        return found->second;
    }
    if (recorded.size() >= kRecordedShapes) {
        recorded.erase(std::prev(recorded.end()));  // the largest: cheap beside its work
    }
    hpp::raii::CommandBuffer commands = device.create_commands();
    record(commands, shape);
    return recorded.emplace(shape, std::move(commands)).first->second;
}

std::span<const float> Engine::Impl::step(std::span<const Chunk> chunks, std::uint32_t passes) {
    const ops::StepShape shape = check(chunks, passes);
    ids.clear();
    if (lost) {
        throw DeviceError("the Vulkan device failed before");
    }
    if (shape.tokens == 0) {
        return {};
    }
    try {
        vk::translate([&] {
            if (++steps == kColdSteps) {
                end_cold();
            }
            const std::vector<PageCopy> copies = take_pages(chunks, passes);
            write_step(chunks);
            std::vector<hpp::CommandBuffer> buffers;
            if (!copies.empty()) {
                record_copies(copies);
                buffers.push_back(*copying);
            }
            buffers.push_back(*commands_for(shape));
            device.run(buffers);
        });
    } catch (const DeviceError&) {
        lost = true;
        throw;
    }
    // What was computed over a lost image is nobody's answer.
    if (guard != nullptr) {
        guard->check();
    }
    for (const Chunk& chunk : chunks) {
        static_cast<KvSequence&>(*chunk.sequence)
            .grow(static_cast<std::uint32_t>(chunk.tokens.size()) + passes - 1);
    }
    for (std::uint32_t pass = 0; pass < passes; ++pass) {
        const auto chosen = memory.words().subspan(words.next_ids + pass * max_rows, shape.greedy);
        ids.insert(ids.end(), chosen.begin(), chosen.end());
    }
    return {reinterpret_cast<const float*>(logits.mapped().data()),
            std::size_t{shape.outputs - shape.greedy} * part.vocabulary};
}

std::unique_ptr<KvSequence> Engine::Impl::create_sequence(std::uint32_t capacity) {
    return pool.pages_of(capacity) > pool.pages() ? nullptr
                                                  : std::make_unique<KvSequence>(pool, capacity);
}

void Engine::Impl::end_cold() {
    if (plan->context.cold) {
        plan->context.cold = false;
        recorded.clear();
    }
}

std::unique_ptr<TunedPlan> Engine::Impl::make_plan(ops::Tuning tuning) {
    tuning.fuse = fuse;
    tuning.chain = std::min(chain == 0 ? tuning.chain : chain, ops::StepWords::kMostPasses);
    const ops::Context context{.pipelines = pipelines,
                               .limits = device.limits(),
                               .tuning = tuning,
                               .words = words,
                               .kv_dtype = kv_dtype,
                               .values_texel = memory.values_texel(),
                               .kv_texel = memory.kv_texel(),
                               .page_positions = pool.page_positions(),
                               .pool_positions = pool.pages() * pool.page_positions(),
                               .cold = true};
    return std::make_unique<TunedPlan>(device, context, program, image.tensors(), weights, values,
                                       kv, logits_value);
}

/// A step of `rows` rows, a few times over: the least time, in us.
double Engine::Impl::time_step(std::uint32_t rows) {
    using Clock = std::chrono::steady_clock;
    constexpr int kTimes = 5;
    const auto sequence = create_sequence(rows);
    const std::vector<std::uint32_t> tokens(rows, 0);
    const Chunk chunk{sequence.get(), tokens, Logits::last};
    double least = std::numeric_limits<double>::infinity();
    for (int i = 0; i <= kTimes; ++i) {
        sequence->rewind(0);
        const Clock::time_point begin = Clock::now();
        step({&chunk, 1});
        const std::chrono::duration<double, std::micro> took = Clock::now() - begin;
        least = i == 0 ? least : std::min(least, took.count());  // the first one compiles
    }
    return least;
}

/// Measures the next tuning with whole steps, a row of a decode and of a batch
/// counting alike, and keeps its plan if none was better.
void Engine::Impl::try_tuning() {
    std::unique_ptr<TunedPlan> other;
    try {
        other = make_plan(tunings.next()->tuning);
    } catch (const DeviceError&) {
        tunings.measured(std::numeric_limits<double>::infinity());  // more than the device can do
        return;
    }
    other->context.cold = false;
    std::swap(plan, other);
    recorded.clear();
    const double time = time_step(1) + time_step(kBatchRows) / kBatchRows;
    if (!tunings.measured(time)) {
        std::swap(plan, other);
        recorded.clear();
    }
}

/// The rows of the next step that is still to be run for its kernels' sake; 0:
/// none is, or the pool has no room for it.
std::uint32_t Engine::Impl::next_warm_rows() const {
    if (warmed == kWarmRows.size()) {
        return 0;
    }
    const std::uint32_t rows = std::min({kWarmRows[warmed], max_rows, part.context_length});
    return pool.pages_of(rows) > pool.free() ? 0 : rows;
}

/// Drivers may compile as late as at a kernel's first dispatch: so it is run.
bool Engine::Impl::warm_up() {
    if (const std::uint32_t rows = next_warm_rows(); rows != 0) {
        if (++warmed == kWarmRows.size()) {
            end_cold();
        }
        const auto sequence = create_sequence(rows);
        const std::vector<std::uint32_t> tokens(rows, 0);
        const Chunk chunk{sequence.get(), tokens, Logits::all};
        step({&chunk, 1});
    } else if (warmed == kWarmRows.size() && tunings.next() != nullptr &&
               std::min(max_rows, part.context_length) >= kBatchRows &&
               pool.pages_of(kBatchRows) <= pool.free()) {
        try_tuning();
    } else {
        return false;
    }
    pipelines.save_cache();  // some drivers fill it at first use
    return warm_ups_left() != 0;
}

std::uint32_t Engine::Impl::warm_ups_left() const {
    const bool wide = std::min(max_rows, part.context_length) >= kBatchRows;
    return static_cast<std::uint32_t>(kWarmRows.size() - warmed + (wide ? tunings.left() : 0));
}

Engine::Engine(const firmware::MappedImage& image, const Options& options)
    : impl_(vk::translate([&] { return std::make_unique<Impl>(image, options); })) {}

Engine::~Engine() = default;

const DeviceReport& Engine::report() const {
    return impl_->report;
}

std::string device_usage() {
    return vk::drm::usage_text(vk::drm::usage_of_process());
}

std::uint32_t Engine::context_length() const {
    return impl_->part.context_length;
}

std::uint32_t Engine::vocabulary() const {
    return impl_->part.vocabulary;
}

std::uint32_t Engine::max_step_rows() const {
    return impl_->max_rows;
}

std::unique_ptr<Sequence> Engine::create_sequence(std::uint32_t capacity) {
    if (capacity == 0 || capacity > context_length()) {
        throw broken("a sequence holds 1 to " + std::to_string(context_length()) + " tokens, not " +
                     std::to_string(capacity));
    }
    return impl_->create_sequence(capacity);
}

KvUse Engine::kv_use() const {
    const KvPool& pool = impl_->pool;
    return {pool.page_units() * ops::kUnitBytes, pool.page_positions(), pool.pages(), pool.used(),
            pool.shared_pages()};
}

bool Engine::warm_up() {
    return impl_->warm_up();
}

std::uint32_t Engine::warm_ups_left() const {
    return impl_->warm_ups_left();
}

std::span<const float> Engine::step(std::span<const Chunk> chunks, std::uint32_t passes) {
    return impl_->step(chunks, passes);
}

std::uint32_t Engine::most_passes() const {
    return impl_->plan->context.tuning.chain;
}

std::span<const std::uint32_t> Engine::ids() const {
    return impl_->ids;
}

}  // namespace m4::engine
