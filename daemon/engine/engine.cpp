// SPDX-License-Identifier: MIT
#include "engine.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>

#include "kv_pool.hpp"
#include "plan.hpp"
#include "vk/drm.hpp"

namespace m4::engine {

namespace {

/// Recorded shapes kept. Decoding meets few; prompts end in any chunk size.
constexpr std::size_t kRecordedShapes = 64;
/// Steps of so many rows meet each tile of linear and both splits of attention.
constexpr std::array kWarmRows = {1U, 4U, 8U};
/// Steps without the kernels that take longest to compile, where nobody warms up.
constexpr std::size_t kColdSteps = 16;

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

class KvSequence final : public Sequence {
   public:
    KvSequence(KvPool& pool, const KvPool::Region& region, std::uint32_t capacity)
        : pool_(pool), region_(region), capacity_(capacity) {}
    ~KvSequence() override { pool_.free(region_); }
    KvSequence(const KvSequence&) = delete;
    KvSequence& operator=(const KvSequence&) = delete;

    [[nodiscard]] std::uint32_t capacity() const override { return capacity_; }
    [[nodiscard]] std::uint32_t length() const override { return length_; }
    void rewind(std::uint32_t length) override {
        if (length > length_) {
            throw broken("cannot rewind a sequence of " + std::to_string(length_) + " tokens to " +
                         std::to_string(length));
        }
        length_ = length;
    }

    [[nodiscard]] const KvPool& pool() const { return pool_; }
    [[nodiscard]] const KvPool::Region& region() const { return region_; }
    void grow(std::uint32_t count) { length_ += count; }

   private:
    KvPool& pool_;
    KvPool::Region region_;
    std::uint32_t capacity_;
    std::uint32_t length_ = 0;
};

ops::Tuning tuning(const vk::Device& device, const Options& options) {
    ops::Tuning tuning = ops::Tuning::for_device(device);
    tuning.fuse = options.fuse;
    return tuning;
}

std::uint64_t pool_bytes(const vk::Device& device, std::uint64_t wanted) {
    return std::min(wanted / ops::kUnitBytes * ops::kUnitBytes,
                    ops::StepMemory::largest_kv_bytes(device));
}

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
    const std::uint32_t logits_value;
    const ValueLayout values;
    ops::StepMemory memory;
    vk::Buffer logits;  // what the host reads
    ops::Context context;
    Plan plan;
    DeviceReport report;
    std::map<ops::StepShape, hpp::raii::CommandBuffer> recorded;
    bool lost = false;
    std::size_t warmed = 0;  // of kWarmRows
    std::size_t steps = 0;

    Impl(const firmware::MappedImage& mapped, const Options& options);

    ops::StepShape check(std::span<const Chunk> chunks) const;
    void check_chunk(const Chunk& chunk) const;
    void write_step(std::span<const Chunk> chunks) const;
    const hpp::raii::CommandBuffer& commands_for(const ops::StepShape& shape);
    void record(const hpp::raii::CommandBuffer& commands, const ops::StepShape& shape) const;
    std::span<const float> step(std::span<const Chunk> chunks);
    std::unique_ptr<KvSequence> create_sequence(std::uint32_t capacity);
    bool warm_up();
    void end_cold();
};

Engine::Impl::Impl(const firmware::MappedImage& mapped, const Options& options)
    : image(mapped.image()),
      part(backbone(image.package())),
      program(forward_program(part)),
      max_rows(checked_rows(options)),
      guard(options.guard),
      device({options.device, options.validation}),
      pipelines(device, options.cache_dir),
      weights(device, mapped.payload(), image.tensors(), used_tensors(program),
              {.export_window = options.export_window}),
      kv_dtype(options.kv_type == KvType::f16 ? shaders::Dtype::f16_ : shaders::Dtype::f32_),
      kv(kv_shape(program, kv_dtype)),
      pool(pool_bytes(device, options.kv_pool_bytes) / ops::kUnitBytes, kv.position_units),
      logits_value(port_value(program.outputs, firmware::Role::logits)),
      values(lay_out_values(program, ops::StepWords::for_rows(max_rows), max_rows)),
      memory(device, pipelines,
             {values.size_bytes, pool_bytes(device, options.kv_pool_bytes), max_rows}),
      logits(device, std::uint64_t{max_rows} * part.vocabulary * sizeof(float),
             hpp::BufferUsageFlagBits::eTransferDst, vk::MemoryKind::readback),
      context{pipelines, device.limits(),       tuning(device, options), memory.layout(),
              kv_dtype,  memory.values_texel(), memory.kv_texel(),       true},
      plan(device, context, program, image.tensors(), weights, values, kv) {
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
              plan.kernel_count()};
    device.check_validation();
}

void Engine::Impl::check_chunk(const Chunk& chunk) const {
    const auto* sequence = dynamic_cast<const KvSequence*>(chunk.sequence);
    if (sequence == nullptr || &sequence->pool() != &pool) {
        throw broken("a chunk names no sequence of this engine");
    }
    if (chunk.tokens.empty()) {
        throw broken("a chunk holds no tokens");
    }
    if (chunk.tokens.size() > sequence->capacity() - sequence->length()) {
        throw broken(std::to_string(chunk.tokens.size()) + " tokens do not fit a sequence of " +
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
ops::StepShape Engine::Impl::check(std::span<const Chunk> chunks) const {
    std::uint64_t tokens = 0;
    ops::StepShape shape;
    for (std::size_t i = 0; i < chunks.size(); ++i) {
        const Chunk& chunk = chunks[i];
        check_chunk(chunk);
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
        shape.outputs += chunk.logits == Logits::all ? count : chunk.logits == Logits::last;
    }
    shape.tokens = static_cast<std::uint32_t>(tokens);
    return shape;
}

void Engine::Impl::write_step(std::span<const Chunk> chunks) const {
    const std::span<std::uint32_t> words = memory.words();
    const ops::StepWords& layout = memory.layout();
    std::uint32_t row = 0;
    std::uint32_t output = 0;
    for (const Chunk& chunk : chunks) {
        const auto& sequence = static_cast<const KvSequence&>(*chunk.sequence);
        std::uint32_t position = sequence.length();
        for (std::size_t i = 0; i < chunk.tokens.size(); ++i) {
            words[layout.token_ids + row] = chunk.tokens[i];
            words[layout.positions + row] = position++;
            words[layout.kv_bases + row] = sequence.region().first_unit;
            words[layout.kv_capacities + row] = sequence.region().positions;
            const bool last = i + 1 == chunk.tokens.size();
            if (chunk.logits == Logits::all || (chunk.logits == Logits::last && last)) {
                words[layout.output_rows + output++] = row;
            }
            ++row;
        }
    }
}

void Engine::Impl::record(const hpp::raii::CommandBuffer& commands,
                          const ops::StepShape& shape) const {
    using Stage = hpp::PipelineStageFlagBits;
    using Access = hpp::AccessFlagBits;
    commands.begin(hpp::CommandBufferBeginInfo{});
    commands.bindDescriptorSets(hpp::PipelineBindPoint::eCompute, pipelines.layout(), 0,
                                memory.set(), {});
    record_barrier(commands);  // after the step before: its KV is read
    plan.record(commands, shape);
    if (shape.outputs != 0) {
        commands.pipelineBarrier(Stage::eComputeShader, Stage::eTransfer, {},
                                 hpp::MemoryBarrier{.srcAccessMask = Access::eShaderWrite,
                                                    .dstAccessMask = Access::eTransferRead},
                                 {}, {});
        const ops::ValuePlace& place = values.places[logits_value];
        const std::uint64_t row_bytes = std::uint64_t{part.vocabulary} * sizeof(float);
        std::vector<hpp::BufferCopy> rows;
        for (std::uint64_t i = 0; i < shape.outputs; ++i) {
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

std::span<const float> Engine::Impl::step(std::span<const Chunk> chunks) {
    const ops::StepShape shape = check(chunks);
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
            write_step(chunks);
            device.run(commands_for(shape));
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
            .grow(static_cast<std::uint32_t>(chunk.tokens.size()));
    }
    return {reinterpret_cast<const float*>(logits.mapped().data()),
            std::size_t{shape.outputs} * part.vocabulary};
}

std::unique_ptr<KvSequence> Engine::Impl::create_sequence(std::uint32_t capacity) {
    const auto region = pool.allocate(capacity);
    return region ? std::make_unique<KvSequence>(pool, *region, capacity) : nullptr;
}

void Engine::Impl::end_cold() {
    if (context.cold) {
        context.cold = false;
        recorded.clear();
    }
}

/// Drivers may compile as late as at a kernel's first dispatch: so it is run.
bool Engine::Impl::warm_up() {
    const std::uint32_t most = std::min(max_rows, part.context_length);
    while (warmed < kWarmRows.size() && kWarmRows[warmed] > most) {
        ++warmed;
    }
    const auto sequence = warmed < kWarmRows.size() ? create_sequence(kWarmRows[warmed]) : nullptr;
    if (sequence == nullptr) {
        return false;
    }
    if (warmed + 1 == kWarmRows.size()) {
        end_cold();
    }
    const std::vector<std::uint32_t> tokens(kWarmRows[warmed], 0);
    const Chunk chunk{sequence.get(), tokens, Logits::all};
    step({&chunk, 1});
    pipelines.save_cache();  // some drivers fill it at first use
    return ++warmed < kWarmRows.size();
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

std::uint64_t Engine::kv_used_bytes() const {
    return impl_->pool.used_units() * ops::kUnitBytes;
}

bool Engine::warm_up() {
    return impl_->warm_up();
}

std::span<const float> Engine::step(std::span<const Chunk> chunks) {
    return impl_->step(chunks);
}

}  // namespace m4::engine
