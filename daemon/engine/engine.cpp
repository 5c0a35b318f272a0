// SPDX-License-Identifier: MIT
#include <algorithm>
#include <bit>

#include "engine_impl.hpp"
#include "vk/drm.hpp"

namespace m4::engine {

namespace {

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
    throw DeviceError("part " + part.name + " has no program 'forward'");
}

std::uint32_t checked_rows(const Options& options) {
    if (options.max_step_rows == 0 || options.max_step_rows > 4096) {
        throw DeviceError("max_step_rows must be 1 to 4096, not " +
                          std::to_string(options.max_step_rows));
    }
    return options.max_step_rows;
}

std::uint32_t checked_page(const Options& options) {
    const std::uint32_t positions = options.kv_page_positions;
    if (positions < 8 || positions > 4096 || !std::has_single_bit(positions)) {
        throw DeviceError("kv_page_positions must be a power of two from 8 to 4096, not " +
                          std::to_string(positions));
    }
    return positions;
}

/// With room for slices of attention, where it costs no faster way of reading.
ValueLayout lay_out(const firmware::Program& program, const ops::StepWords& words,
                    std::uint32_t max_rows, const vk::Device& device, const Options& options) {
    constexpr std::uint64_t kSlackUnits = 16;  // StepMemory's own
    constexpr std::uint32_t kMostSlices = 64;
    if (options.attention_slices > kMostSlices) {
        throw DeviceError("attention_slices must be at most " + std::to_string(kMostSlices) +
                          ", not " + std::to_string(options.attention_slices));
    }
    ValueLayout layout = lay_out_values(program, words, max_rows);
    const std::uint32_t slices =
        options.attention_slices == 0 ? ops::most_slices(device) : options.attention_slices;
    const vk::Limits& limits = device.limits();
    const std::uint64_t stored = limits.storage_range / ops::kUnitBytes;
    const std::uint64_t units = layout.size_bytes / ops::kUnitBytes + kSlackUnits;
    const bool texels = !options.force_storage && units <= limits.texel_elements;
    const std::uint64_t most =
        texels ? std::min<std::uint64_t>(stored, limits.texel_elements) : stored;
    const std::uint64_t room = most < kSlackUnits ? 0 : most - kSlackUnits;
    add_scratch(layout, program, slices, max_rows, room);
    add_low_rank(layout, max_rows, room);
    return layout;
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

ops::StepWords step_words(const firmware::Part& part, std::uint32_t max_rows, const KvPool& pool) {
    const std::uint32_t longest = std::max(part.context_length, part.memory_rows);
    const auto words =
        ops::StepWords::for_rows(max_rows, std::min(pool.pages_of(longest), pool.pages()));
    return part.memory_rows == 0 ? words : words.with_memory();
}

}  // namespace

Engine::Impl::Impl(Runtime& runtime, std::unique_ptr<Runtime> own_runtime, const Options& options,
                   const firmware::Part& part_)
    : own(std::move(own_runtime)),
      image(runtime.image()),
      part(part_),
      program(forward_program(part)),
      max_rows(checked_rows(options)),
      guard(runtime.guard()),
      device(runtime.device()),
      pipelines(runtime.pipelines()),
      weights(runtime.weights()),
      kv_dtype(dtype_of(options.kv_type)),
      kv(kv_shape(program, kv_dtype)),
      pool(make_pool(device, options, kv.position_units)),
      words(step_words(part, max_rows, pool)),
      logits_value(port_value(program.outputs, firmware::Role::logits)),
      values(lay_out(program, words, max_rows, device, options)),
      memory(device, pipelines,
             {std::max(values.size_bytes, memory_value_bytes()),
              pool.pages() * pool.page_units() * ops::kUnitBytes, max_rows},
             words, options.force_storage),
      logits(device, std::uint64_t{max_rows} * part.vocabulary * sizeof(float),
             hpp::BufferUsageFlagBits::eTransferDst, vk::MemoryKind::readback),
      linears(linears_of(program)),
      adapters(device, options.adapter_pool_bytes),
      covered{std::vector<bool>(linears.size(), true)},
      fuse(options.fuse),
      addresses(options.addresses),
      chain(options.chain),
      slices(options.attention_slices),
      force_candidates(options.candidates),
      candidates_each(std::min(ops::StepWords::kMostCandidates, part.vocabulary - 1)),
      tunings(device, options.cache_dir),
      plan(make_plan(tunings.best().tuning)),
      copying(device.create_commands()),
      embedding(find_embedding()),
      remembering(make_remembering()) {
    report = runtime.report();
    report.kv_pool_bytes = memory.kv().size_bytes();
    report.kernels = plan->plan.kernel_count();
    report.tuning = tunings.best().name;
    device.check_validation();
}

std::unique_ptr<KvSequence> Engine::Impl::create_sequence(std::uint32_t capacity) {
    return pool.pages_of(std::max(capacity, part.memory_rows)) > pool.pages()
               ? nullptr
               : std::make_unique<KvSequence>(pool, capacity, part.memory_rows);
}

Engine::Engine(const firmware::MappedImage& image, const Options& options)
    : impl_(vk::translate([&] {
          auto runtime = std::make_unique<Runtime>(image, options);
          Runtime& shared = *runtime;
          return std::make_unique<Impl>(shared, std::move(runtime), options,
                                        backbone(shared.image().package()));
      })) {}

Engine::Engine(Runtime& runtime, const Options& options)
    : impl_(vk::translate([&] {
          return std::make_unique<Impl>(runtime, nullptr, options,
                                        backbone(runtime.image().package()));
      })) {}

Engine::Engine(Runtime& runtime, const Options& options, const firmware::Part& part)
    : impl_(
          vk::translate([&] { return std::make_unique<Impl>(runtime, nullptr, options, part); })) {}

Engine::~Engine() = default;

const DeviceReport& Engine::report() const {
    return impl_->report;
}

std::string_view name_of(KvType type) {
    switch (type) {
        case KvType::f32:
            return "f32";
        case KvType::q8:
            return "q8";
        case KvType::f16:
            break;
    }
    return "f16";
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

std::uint32_t Engine::embedded_columns() const {
    return impl_->embedding.columns;
}

std::uint32_t Engine::memory_rows() const {
    return impl_->part.memory_rows;
}

std::uint32_t Engine::memory_columns() const {
    return impl_->remembering == nullptr ? 0 : impl_->remembering->features.columns;
}

void Engine::load_memory(Sequence& sequence, std::span<const float> rows) {
    impl_->load_memory(sequence, rows);
}

std::uint32_t Engine::most_passes() const {
    return impl_->plan->context.tuning.chain;
}

std::span<const std::uint32_t> Engine::ids() const {
    return impl_->ids;
}

std::uint32_t Engine::most_candidates() const {
    const bool wanted = impl_->force_candidates || impl_->plan->context.tuning.top_on_device;
    return wanted ? impl_->candidates_each : 0;
}

std::span<const Candidate> Engine::candidates() const {
    return impl_->candidates;
}

Profile Engine::profile(std::span<const Chunk> chunks) {
    return impl_->profile(chunks);
}

CopyTime Engine::time_copy() {
    return impl_->time_copy();
}

std::uint64_t Engine::step_weight_bytes() const {
    return impl_->step_weight_bytes();
}

}  // namespace m4::engine
