// SPDX-License-Identifier: MIT
#include "op_bench.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <span>

#include "engine/plan.hpp"
#include "gpu.hpp"
#include "lib/half.hpp"
#include "lib/quant.hpp"
#include "ops/argmax.hpp"
#include "ops/top_logits.hpp"

namespace m4::test {

namespace {

using firmware::Operand;
using firmware::OperandKind;

constexpr std::uint64_t kKvBytes = 4U << 20;
constexpr std::uint32_t kTablePages = 5;
constexpr std::uint32_t kPages = 8;
constexpr std::size_t kPageBytes = M4_IMAGE_CHUNK_BYTES;

/// One device and its pipelines for all tests of the binary: compiling kernels
/// is most of their time.
struct Shared {
    vk::Device device{{test_device(), true}};
    vk::Pipelines pipelines{device, {}};
};

Shared& shared() {
    static Shared instance;
    return instance;
}

struct FreePages {
    void operator()(std::byte* pages) const { std::free(pages); }
};

std::uint32_t padded_columns(std::uint32_t columns) {
    return ops::row_units(columns) * 4;
}

/// Store elements in order; F16 or F32.
class Elements {
   public:
    Elements(m4_dtype dtype, std::vector<std::byte>& bytes)
        : half_(dtype == M4_DTYPE_F16), bytes_(bytes) {}
    void put(std::size_t index, float value) const {
        if (half_) {
            const std::uint16_t stored = firmware::to_half(value);
            std::memcpy(&bytes_[index * 2], &stored, 2);
        } else {
            std::memcpy(&bytes_[index * 4], &value, 4);
        }
    }

   private:
    bool half_;
    std::vector<std::byte>& bytes_;
};

/// Tiles of a quantised matrix, every block by itself.
std::vector<std::byte> store_quantized(const Matrix& data, m4_dtype dtype) {
    const std::size_t tile_bytes = firmware::tile_units(dtype) * 16;
    const std::size_t blocks = data.columns / M4_IMAGE_QUANT_ELEMENTS;
    const std::size_t groups = (std::size_t{data.rows} + 15) / 16;
    std::vector<std::byte> bytes(groups * blocks * tile_bytes);
    for (std::size_t r = 0; r < data.rows; ++r) {
        for (std::size_t b = 0; b < blocks; ++b) {
            const auto values = std::span<const float>(data.data)
                                    .subspan(r * data.columns + b * M4_IMAGE_QUANT_ELEMENTS)
                                    .first<M4_IMAGE_QUANT_ELEMENTS>();
            firmware::put_block(
                dtype, firmware::quantize(dtype, values), r % 16,
                std::span(bytes).subspan((r / 16 * blocks + b) * tile_bytes, tile_bytes));
        }
    }
    return bytes;
}

std::vector<std::byte> store(const Matrix& data, m4_dtype dtype, m4_layout layout) {
    if (firmware::is_quantized(dtype)) {
        return store_quantized(data, dtype);
    }
    const std::size_t element_bytes = dtype == M4_DTYPE_F16 ? 2 : 4;
    const std::size_t per_unit = 16 / element_bytes;
    const bool rows16 = layout == M4_LAYOUT_ROWS16;
    const std::size_t units = (data.columns + per_unit - 1) / per_unit;
    const std::size_t rows = (std::size_t{data.rows} + 15) / 16 * 16;
    std::vector<std::byte> bytes(rows16 ? rows * units * 16 : data.data.size() * element_bytes);
    const Elements elements(dtype, bytes);
    for (std::size_t r = 0; r < data.rows; ++r) {
        for (std::size_t c = 0; c < data.columns; ++c) {
            const std::size_t unit = ((r / 16) * units + c / per_unit) * 16 + r % 16;
            elements.put(rows16 ? unit * per_unit + c % per_unit : r * data.columns + c,
                         data.data[r * data.columns + c]);
        }
    }
    return bytes;
}

}  // namespace

Matrix random_matrix(std::uint32_t rows, std::uint32_t columns, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    Matrix matrix{rows, columns, std::vector<float>(std::size_t{rows} * columns)};
    for (float& value : matrix.data) {
        value = static_cast<float>(static_cast<double>(random() >> 11) * 0x1p-52 - 1.0);
    }
    return matrix;
}

Matrix as_half(Matrix matrix) {
    for (float& value : matrix.data) {
        value = firmware::from_half(firmware::to_half(value));
    }
    return matrix;
}

Matrix as_stored(Matrix matrix, m4_dtype dtype) {
    if (dtype == M4_DTYPE_F16) {
        return as_half(std::move(matrix));
    }
    if (firmware::is_quantized(dtype)) {
        const std::span<float> all(matrix.data);
        for (std::size_t at = 0; at < all.size(); at += M4_IMAGE_QUANT_ELEMENTS) {
            const auto block = all.subspan(at).first<M4_IMAGE_QUANT_ELEMENTS>();
            firmware::dequantize(firmware::quantize(dtype, block), block);
        }
    }
    return matrix;
}

std::string Setup::name() const {
    return std::string(storage ? "storage" : "texel") + (gpu_tuning ? ", gpu tuning" : "") +
           (address ? ", address" : "") + (alone ? ", alone" : "") +
           (slices != 0 ? ", " + std::to_string(slices) + " slices" : "") + ", " +
           std::string(engine::name_of(kv_type)) + " kv" + (staging ? ", staging" : "");
}

std::vector<Setup> all_setups() {
    return {{},
            {.storage = true},
            {.gpu_tuning = true},
            {.storage = true, .gpu_tuning = true},
            {.address = true},
            {.gpu_tuning = true, .address = true}};
}

double distance(const Matrix& a, const Matrix& b) {
    double largest = 0;
    if (a.rows != b.rows || a.columns != b.columns || a.data.size() != b.data.size()) {
        return HUGE_VAL;
    }
    for (std::size_t i = 0; i < a.data.size(); ++i) {
        const double x = a.data[i];
        const double y = b.data[i];
        const double difference = std::abs(x - y) / (1.0 + std::abs(y));
        largest = std::isnan(difference) ? HUGE_VAL : std::max(largest, difference);
    }
    return largest;
}

struct OpBench::Impl {
    Setup setup;
    std::uint32_t max_rows;
    firmware::Program program;
    std::vector<firmware::Tensor> tensors;
    std::vector<std::vector<std::byte>> stored;
    std::map<std::uint32_t, Matrix> filled;
    std::vector<std::uint32_t> results;
    std::map<firmware::Role, std::vector<std::uint32_t>> words;
    std::vector<std::vector<std::uint32_t>> tables;
    std::vector<std::uint32_t> table_of_row;
    ops::StepShape shape;

    std::unique_ptr<std::byte, FreePages> payload;
    std::optional<weights::Store> weights;
    engine::KvShape kv;
    engine::ValueLayout layout;
    std::optional<ops::StepMemory> memory;
    std::optional<ops::Context> context;
    std::optional<engine::Plan> plan;
    std::vector<float> arena;  // as read back

    void build();
    void build_weights();
    void transfer(bool upload);
    void check_outside() const;
};

/// The tensors one after another in pages that a driver can import.
void OpBench::Impl::build_weights() {
    std::size_t size = kPageBytes;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        tensors[i].payload_offset =
            i == 0 ? 0
                   : (tensors[i - 1].payload_offset + tensors[i - 1].size_bytes + 255) / 256 * 256;
        size = (tensors[i].payload_offset + tensors[i].size_bytes + kPageBytes) / kPageBytes *
               kPageBytes;
    }
    payload.reset(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, size)));
    // Garbage between tensors: kernels must not let it through.
    std::memset(payload.get(), 0xFF, size);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        std::memcpy(payload.get() + tensors[i].payload_offset, stored[i].data(), stored[i].size());
    }
    weights.emplace(
        shared().device, std::span<const std::byte>(payload.get(), size), tensors,
        engine::used_tensors(program),
        weights::StoreOptions{setup.staging ? weights::Import::staging : weights::Import::automatic,
                              setup.window_bytes, setup.slice_bytes});
}

void OpBench::Impl::build() {
    build_weights();
    vk::Device& device = shared().device;
    const auto kv_dtype = engine::dtype_of(setup.kv_type);
    kv = engine::kv_shape(program, kv_dtype);
    const auto step_words = ops::StepWords::for_rows(max_rows, kTablePages);
    layout = engine::lay_out_values(program, step_words, max_rows);
    ops::Tuning tuning = setup.gpu_tuning ? ops::Tuning{} : ops::Tuning::for_device(device);
    tuning.linear_address = setup.address;
    tuning.subgroup8 = !setup.alone;
    tuning.attention_slices = setup.slices == 0 ? tuning.attention_slices : setup.slices;
    engine::add_scratch(layout, program, tuning.attention_slices, max_rows, 1U << 20);
    memory.emplace(device, shared().pipelines,
                   ops::StepMemory::Sizes{layout.size_bytes, kKvBytes, max_rows}, step_words,
                   setup.storage);
    context.emplace(ops::Context{shared().pipelines, device.limits(), tuning, step_words, kv_dtype,
                                 memory->values_texel(), memory->kv_texel(), kPagePositions,
                                 kPages * kPagePositions, layout.scratch_unit,
                                 layout.scratch_units});
    plan.emplace(device, *context, program, tensors, *weights, layout, kv);
}

/// The arena to or from the host; with `upload` also the step buffer.
void OpBench::Impl::transfer(bool upload) {
    vk::Device& device = shared().device;
    const std::uint64_t size = memory->values().size_bytes();
    const vk::Buffer host(
        device, size,
        hpp::BufferUsageFlagBits::eTransferSrc | hpp::BufferUsageFlagBits::eTransferDst,
        upload ? vk::MemoryKind::upload : vk::MemoryKind::readback);
    auto* floats = reinterpret_cast<float*>(host.mapped().data());
    if (upload) {
        std::fill_n(floats, size / 4, std::numeric_limits<float>::quiet_NaN());
        for (const auto& [index, data] : filled) {
            const ops::ValuePlace& place = layout.places[index];
            for (std::uint32_t r = 0; r < data.rows; ++r) {
                float* row = floats + std::size_t{place.unit + r * place.stride} * 4;
                std::fill_n(row, place.stride * 4, 0.0F);
                std::copy_n(&data.data[std::size_t{r} * data.columns], data.columns, row);
            }
        }
    }
    const hpp::raii::CommandBuffer commands = device.create_commands();
    commands.begin(hpp::CommandBufferBeginInfo{});
    const hpp::MemoryBarrier all{
        .srcAccessMask = hpp::AccessFlagBits::eMemoryWrite,
        .dstAccessMask = hpp::AccessFlagBits::eMemoryRead | hpp::AccessFlagBits::eMemoryWrite};
    constexpr auto kAll = hpp::PipelineStageFlagBits::eAllCommands;
    constexpr auto kHost = hpp::PipelineStageFlagBits::eHost;
    commands.pipelineBarrier(kAll, kAll, {}, all, {}, {});
    commands.copyBuffer(upload ? host.handle() : memory->values().handle(),
                        upload ? memory->values().handle() : host.handle(),
                        hpp::BufferCopy{.size = size});
    commands.pipelineBarrier(kAll, kAll | kHost, {}, all, {}, {});
    commands.end();
    device.run(commands);
    if (!upload) {
        arena.assign(floats, floats + size / 4);
    }
}

/// Past each value's rows of this step the arena is as it was: NaN.
void OpBench::Impl::check_outside() const {
    std::vector<bool> inside(arena.size(), false);
    std::fill_n(inside.begin() + static_cast<std::ptrdiff_t>(layout.scratch_unit) * 4,
                std::size_t{layout.scratch_units} * 4, true);
    for (std::size_t i = 0; i < program.values.size(); ++i) {
        const ops::ValuePlace& place = layout.places[i];
        if (program.values[i].dtype == M4_DTYPE_F32) {
            const std::size_t first = std::size_t{place.unit} * 4;
            std::fill_n(inside.begin() + static_cast<std::ptrdiff_t>(first),
                        std::size_t{shape.rows(place.rows)} * place.stride * 4, true);
        }
    }
    for (std::size_t i = 0; i < arena.size(); ++i) {
        if (!inside[i] && !std::isnan(arena[i])) {
            FAIL_CHECK("written past a value's rows, at float " << i);
            return;
        }
    }
}

OpBench::OpBench(const Setup& setup, std::uint32_t max_rows) : impl_(std::make_unique<Impl>()) {
    impl_->setup = setup;
    impl_->max_rows = max_rows;
}

OpBench::~OpBench() = default;

Operand OpBench::value(std::uint32_t columns, firmware::Symbol symbol) {
    impl_->program.values.push_back(
        {M4_DTYPE_F32, {{1, symbol}, {columns, firmware::Symbol::none}}});
    return {OperandKind::value, static_cast<std::uint32_t>(impl_->program.values.size() - 1)};
}

Operand OpBench::items(std::uint32_t rows, std::uint32_t columns) {
    impl_->program.values.push_back(
        {M4_DTYPE_F32, {{rows, firmware::Symbol::items}, {columns, firmware::Symbol::none}}});
    return {OperandKind::value, static_cast<std::uint32_t>(impl_->program.values.size() - 1)};
}

Operand OpBench::item_op(firmware::OpCode code, std::vector<Operand> inputs, std::uint32_t rows,
                         std::uint32_t columns) {
    const Operand result = op(code, std::move(inputs), columns, firmware::Symbol::items);
    impl_->program.values[result.index].dims[0].factor = rows;
    return result;
}

Operand OpBench::words(firmware::Role role) {
    const auto symbol =
        role == firmware::Role::output_rows ? firmware::Symbol::outputs : firmware::Symbol::tokens;
    impl_->program.values.push_back({M4_DTYPE_U32, {{1, symbol}}});
    const auto index = static_cast<std::uint32_t>(impl_->program.values.size() - 1);
    impl_->program.inputs.push_back({role, index});
    return {OperandKind::value, index};
}

Operand OpBench::tensor(const Matrix& data, m4_dtype dtype, m4_layout layout) {
    firmware::Tensor tensor;
    tensor.name = "tensor";
    tensor.dtype = dtype;
    tensor.layout = layout;
    tensor.rank = data.rows == 1 && layout == M4_LAYOUT_PLAIN ? 1 : 2;
    tensor.shape = {data.rows, data.columns, 1, 1};
    if (tensor.rank == 1) {
        tensor.shape = {data.columns, 1, 1, 1};
    }
    impl_->stored.push_back(store(data, dtype, layout));
    tensor.size_bytes = impl_->stored.back().size();
    impl_->tensors.push_back(tensor);
    return {OperandKind::tensor, static_cast<std::uint32_t>(impl_->tensors.size() - 1)};
}

Operand OpBench::state(std::uint32_t kv_heads, std::uint32_t head_dim) {
    impl_->program.states.push_back({kv_heads, head_dim});
    return {OperandKind::state, static_cast<std::uint32_t>(impl_->program.states.size() - 1)};
}

Operand OpBench::op(firmware::OpCode code, std::vector<Operand> inputs, std::uint32_t columns,
                    firmware::Symbol symbol) {
    firmware::Op added;
    added.code = code;
    added.inputs = std::move(inputs);
    Operand result;
    if (columns != 0) {
        result = value(columns, symbol);
        added.outputs = {result.index};
        // An output of the program lives to its end, so it can be read.
        impl_->program.outputs.push_back({firmware::Role::logits, result.index});
    }
    impl_->program.ops.push_back(std::move(added));
    return result;
}

void OpBench::set(firmware::AttrId id, double real) {
    impl_->program.ops.back().reals.at(static_cast<std::size_t>(id)) = real;
}

void OpBench::set(firmware::AttrId id, std::int64_t integer) {
    impl_->program.ops.back().integers.at(static_cast<std::size_t>(id)) = integer;
}

void OpBench::fill(Operand value, const Matrix& data) {
    impl_->filled[value.index] = data;
}

void OpBench::fill_words(firmware::Role role, const std::vector<std::uint32_t>& words) {
    impl_->words[role] = words;
}

void OpBench::fill_kv(const std::vector<std::vector<std::uint32_t>>& tables,
                      const std::vector<std::uint32_t>& rows) {
    impl_->tables = tables;
    impl_->table_of_row = rows;
}

void OpBench::run(std::uint32_t tokens, std::uint32_t outputs) {
    run(ops::StepShape{.tokens = tokens, .outputs = outputs});
}

void OpBench::run_items(std::uint32_t items) {
    run(ops::StepShape{.items = items});
}

void OpBench::run(const ops::StepShape& shape) {
    if (!impl_->plan) {
        impl_->build();
    }
    impl_->shape = shape;
    impl_->transfer(true);
    const ops::StepWords& layout = impl_->context->words;
    const auto words = impl_->memory->words();
    const auto copy = [&](const std::vector<std::uint32_t>& from, std::uint32_t at) {
        std::copy(from.begin(), from.end(), words.begin() + at);
    };
    copy(impl_->words[firmware::Role::token_ids], layout.token_ids);
    copy(impl_->words[firmware::Role::positions], layout.positions);
    copy(impl_->words[firmware::Role::output_rows], layout.output_rows);
    for (std::size_t i = 0; i < impl_->tables.size(); ++i) {
        copy(impl_->tables[i],
             layout.page_tables + static_cast<std::uint32_t>(i) * layout.table_pages);
    }
    for (std::size_t row = 0; row < impl_->table_of_row.size(); ++row) {
        words[layout.kv_tables + row] =
            layout.page_tables + impl_->table_of_row[row] * layout.table_pages;
    }

    const hpp::raii::CommandBuffer commands = shared().device.create_commands();
    commands.begin(hpp::CommandBufferBeginInfo{});
    commands.bindDescriptorSets(hpp::PipelineBindPoint::eCompute, shared().pipelines.layout(), 0,
                                impl_->memory->set(), {});
    ops::record_barrier(commands);
    impl_->plan->record(commands, impl_->shape);
    commands.end();
    shared().device.run(commands);
    impl_->transfer(false);
    impl_->check_outside();
}

/// A kernel of the engine's own; the host may read the step's words then.
void OpBench::run_on_logits(const Matrix& rows, const MakeDispatch& make) {
    const Operand logits = value(rows.columns, firmware::Symbol::tokens);
    fill(logits, rows);
    impl_->build();
    impl_->shape = {rows.rows, 0};
    impl_->transfer(true);
    const ops::Dispatch dispatch = make(impl_->layout.places[logits.index]);
    shared().pipelines.compile({&dispatch.kernel, 1});
    const hpp::raii::CommandBuffer commands = shared().device.create_commands();
    commands.begin(hpp::CommandBufferBeginInfo{});
    commands.bindDescriptorSets(hpp::PipelineBindPoint::eCompute, shared().pipelines.layout(), 0,
                                impl_->memory->set(), {});
    ops::record_barrier(commands);
    ops::record(commands, shared().pipelines.layout(), {&dispatch, 1});
    commands.pipelineBarrier(hpp::PipelineStageFlagBits::eComputeShader,
                             hpp::PipelineStageFlagBits::eHost, {},
                             hpp::MemoryBarrier{.srcAccessMask = hpp::AccessFlagBits::eShaderWrite,
                                                .dstAccessMask = hpp::AccessFlagBits::eHostRead},
                             {}, {});
    commands.end();
    shared().device.run(commands);
}

std::vector<std::uint32_t> OpBench::argmax(const Matrix& rows) {
    std::uint32_t word = 0;
    run_on_logits(rows, [&](const ops::ValuePlace& logits) {
        word = impl_->context->words.next_ids;
        return ops::Argmax(*impl_->context, logits).dispatch(0, rows.rows, word, false);
    });
    const auto ids = impl_->memory->words().subspan(word, rows.rows);
    return {ids.begin(), ids.end()};
}

std::vector<std::vector<engine::Candidate>> OpBench::top(const Matrix& rows, std::uint32_t count) {
    run_on_logits(rows, [&](const ops::ValuePlace& logits) {
        return ops::TopLogits(*impl_->context, logits, count).dispatch(0, rows.rows);
    });
    std::vector<std::vector<engine::Candidate>> best(rows.rows);
    std::uint32_t word = impl_->context->words.candidates;
    for (auto& row : best) {
        const auto found = impl_->memory->words().subspan(word, std::size_t{2} * count);
        for (std::size_t i = 0; i < found.size(); i += 2) {
            row.push_back({found[i], std::bit_cast<float>(found[i + 1])});
        }
        engine::sort_candidates(row);
        word += ops::StepWords::kCandidateWords;
    }
    return best;
}

Matrix OpBench::read(Operand value) const {
    const ops::ValuePlace& place = impl_->layout.places[value.index];
    Matrix matrix{impl_->shape.rows(place.rows), place.columns, {}};
    for (std::uint32_t r = 0; r < matrix.rows; ++r) {
        const float* row = &impl_->arena[std::size_t{place.unit + r * place.stride} * 4];
        matrix.data.insert(matrix.data.end(), row, row + place.columns);
        const bool clean = std::all_of(row + place.columns, row + padded_columns(place.columns),
                                       [](float x) { return x == 0.0F; });
        if (!clean) {
            FAIL_CHECK("padding of row " << r << " is not zero");
        }
    }
    return matrix;
}

std::size_t OpBench::window_count() const {
    return impl_->weights->window_count();
}

std::size_t OpBench::slice_count(Operand tensor) const {
    return impl_->weights->slices(tensor.index).size();
}

std::string OpBench::import_name() const {
    return std::string(impl_->weights->import_name());
}

}  // namespace m4::test
