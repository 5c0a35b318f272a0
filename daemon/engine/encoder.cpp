// SPDX-License-Identifier: MIT
#include "encoder.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "plan.hpp"
#include "profile_notes.hpp"

namespace m4::engine {

namespace {

const firmware::Program& encode_program(const firmware::Part& part) {
    const char* wanted = part.kind == firmware::PartKind::projector ? "project" : "encode";
    for (const firmware::Program& program : part.programs) {
        if (program.name == wanted) {
            return program;
        }
    }
    throw DeviceError("part " + part.name + " has no program '" + wanted + "'");
}

/// Tokens an item; 0: the program takes none.
std::uint32_t token_rows_of(const firmware::Program& program) {
    const auto found = std::find_if(
        program.inputs.begin(), program.inputs.end(),
        [](const firmware::Port& port) { return port.role == firmware::Role::token_ids; });
    return found == program.inputs.end() ? 0 : program.values[found->value].dims[0].factor;
}

}  // namespace

struct Encoder::Impl {
    /// A value that the host writes or reads, row after row without padding.
    struct Port {
        ItemShape shape;
        ops::ValuePlace place;
        vk::Buffer host;
    };

    vk::Device& device;
    vk::Pipelines& pipelines;
    const firmware::Program& program;
    const std::uint32_t max_items;
    const std::uint32_t token_rows;
    const std::uint32_t vocabulary;
    const ops::StepWords words;
    const ValueLayout values;
    ops::StepMemory memory;
    const ops::Context context;
    Plan plan;
    Port features;
    std::map<firmware::Role, Port> outputs;
    std::map<std::uint32_t, hpp::raii::CommandBuffer> recorded;  // by items

    Impl(vk::Device& device_, vk::Pipelines& pipelines_, weights::Store& weights,
         const firmware::Image& image, const firmware::Part& part, const Options& options);

    Port make_port(std::uint32_t value, vk::MemoryKind kind) const;
    void copy(const hpp::raii::CommandBuffer& commands, const Port& port, std::uint32_t items,
              bool upload) const;
    void record(const hpp::raii::CommandBuffer& commands, std::uint32_t items,
                const std::function<void()>& kernels) const;
    const hpp::raii::CommandBuffer& commands_for(std::uint32_t items);
    std::uint32_t take(std::span<const float> data);
    Encoded submit(std::uint32_t items);
    ItemShape shape_of(firmware::Role role) const;
    std::span<const float> read(firmware::Role role, std::uint32_t items) const;
};

Encoder::Impl::Impl(vk::Device& device_, vk::Pipelines& pipelines_, weights::Store& weights,
                    const firmware::Image& image, const firmware::Part& part,
                    const Options& options)
    : device(device_),
      pipelines(pipelines_),
      program(encode_program(part)),
      max_items(options.max_items),
      token_rows(token_rows_of(program)),
      vocabulary(part.vocabulary),
      words(ops::StepWords::for_items(max_items, token_rows)),
      values(lay_out_values(program, words, max_items)),
      memory(device, pipelines, {values.size_bytes, 0, max_items}, words, options.force_storage),
      context{.pipelines = pipelines,
              .limits = device.limits(),
              .tuning = ops::Tuning::for_device(device),
              .words = words,
              .values_texel = memory.values_texel(),
              .kv_texel = memory.kv_texel()},
      plan(device, context, program, image.tensors(), weights, values, KvShape{}) {
    if (token_rows == 0) {
        features =
            make_port(port_value(program.inputs, firmware::Role::features), vk::MemoryKind::upload);
    }
    for (const firmware::Port& port : program.outputs) {
        outputs.emplace(port.role, make_port(port.value, vk::MemoryKind::readback));
    }
}

Encoder::Impl::Port Encoder::Impl::make_port(std::uint32_t value, vk::MemoryKind kind) const {
    Port port;
    port.place = values.places[value];
    port.shape = {port.place.rows.factor, port.place.columns};
    port.host = vk::Buffer(device, port.shape.floats(max_items) * sizeof(float),
                           kind == vk::MemoryKind::upload ? hpp::BufferUsageFlagBits::eTransferSrc
                                                          : hpp::BufferUsageFlagBits::eTransferDst,
                           kind);
    return port;
}

/// Between host memory and the arena, where rows are padded. `upload`: to the arena,
/// whose padding was cleared.
void Encoder::Impl::copy(const hpp::raii::CommandBuffer& commands, const Port& port,
                         std::uint32_t items, bool upload) const {
    const std::uint64_t row_bytes = std::uint64_t{port.shape.columns} * sizeof(float);
    const std::uint64_t stride = port.place.stride * ops::kUnitBytes;
    const std::uint64_t first = port.place.unit * ops::kUnitBytes;
    std::uint64_t rows = std::uint64_t{items} * port.shape.rows;
    std::vector<hpp::BufferCopy> pieces;
    std::uint64_t piece = row_bytes;
    if (row_bytes == stride) {
        piece *= rows;
        rows = 1;
    }
    for (std::uint64_t row = 0; row < rows; ++row) {
        const std::uint64_t host = row * row_bytes;
        const std::uint64_t arena = first + row * stride;
        pieces.push_back({.srcOffset = upload ? host : arena,
                          .dstOffset = upload ? arena : host,
                          .size = piece});
    }
    commands.copyBuffer(upload ? port.host.handle() : memory.values().handle(),
                        upload ? memory.values().handle() : port.host.handle(), pieces);
}

/// All of a run; `kernels` records the program's.
void Encoder::Impl::record(const hpp::raii::CommandBuffer& commands, std::uint32_t items,
                           const std::function<void()>& kernels) const {
    using Stage = hpp::PipelineStageFlagBits;
    using Access = hpp::AccessFlagBits;
    const auto wait = [&](hpp::PipelineStageFlags from, hpp::PipelineStageFlags to,
                          hpp::AccessFlags written, hpp::AccessFlags used) {
        commands.pipelineBarrier(
            from, to, {}, hpp::MemoryBarrier{.srcAccessMask = written, .dstAccessMask = used}, {},
            {});
    };
    commands.begin(hpp::CommandBufferBeginInfo{});
    // After the run before.
    wait(Stage::eComputeShader | Stage::eTransfer, Stage::eComputeShader | Stage::eTransfer,
         Access::eShaderWrite | Access::eTransferRead,
         Access::eShaderWrite | Access::eTransferWrite);
    if (token_rows == 0) {
        // The padding of the rows, then the rows.
        const std::uint64_t row_bytes = features.place.stride * ops::kUnitBytes;
        commands.fillBuffer(memory.values().handle(), features.place.unit * ops::kUnitBytes,
                            std::uint64_t{items} * features.shape.rows * row_bytes, 0);
        wait(Stage::eTransfer, Stage::eTransfer, Access::eTransferWrite, Access::eTransferWrite);
        copy(commands, features, items, true);
        wait(Stage::eTransfer, Stage::eComputeShader, Access::eTransferWrite, Access::eShaderRead);
    }
    commands.bindDescriptorSets(hpp::PipelineBindPoint::eCompute, pipelines.layout(), 0,
                                memory.set(), {});
    kernels();
    wait(Stage::eComputeShader, Stage::eTransfer, Access::eShaderWrite, Access::eTransferRead);
    for (const auto& [role, port] : outputs) {
        copy(commands, port, items, false);
    }
    wait(Stage::eTransfer, Stage::eHost, Access::eTransferWrite, Access::eHostRead);
    commands.end();
}

const hpp::raii::CommandBuffer& Encoder::Impl::commands_for(std::uint32_t items) {
    if (const auto found = recorded.find(items); found != recorded.end()) {
        return found->second;
    }
    hpp::raii::CommandBuffer commands = device.create_commands();
    record(commands, items, [&] { plan.record(commands, {.items = items}); });
    return recorded.emplace(items, std::move(commands)).first->second;
}

ItemShape Encoder::Impl::shape_of(firmware::Role role) const {
    const auto found = outputs.find(role);
    return found == outputs.end() ? ItemShape{} : found->second.shape;
}

std::span<const float> Encoder::Impl::read(firmware::Role role, std::uint32_t items) const {
    const auto found = outputs.find(role);
    if (found == outputs.end()) {
        return {};
    }
    const Port& port = found->second;
    return {reinterpret_cast<const float*>(port.host.mapped().data()), port.shape.floats(items)};
}

Encoder::Encoder(vk::Device& device, vk::Pipelines& pipelines, weights::Store& weights,
                 const firmware::Image& image, const firmware::Part& part, const Options& options)
    : impl_(vk::translate([&] {
          if (options.max_items == 0 || options.max_items > 64) {
              throw DeviceError("an encoder takes 1 to 64 items at a time, not " +
                                std::to_string(options.max_items));
          }
          return std::make_unique<Impl>(device, pipelines, weights, image, part, options);
      })) {}

Encoder::~Encoder() = default;

ItemShape Encoder::features() const {
    return impl_->features.shape;
}

ItemShape Encoder::embedding() const {
    return impl_->shape_of(firmware::Role::embedding);
}

ItemShape Encoder::hidden() const {
    return impl_->shape_of(firmware::Role::hidden);
}

ItemShape Encoder::scores() const {
    return impl_->shape_of(firmware::Role::scores);
}

std::uint32_t Encoder::max_items() const {
    return impl_->max_items;
}

std::uint32_t Encoder::token_rows() const {
    return impl_->token_rows;
}

std::uint64_t Encoder::memory_bytes() const {
    std::uint64_t bytes = impl_->memory.values().size_bytes() + impl_->features.host.size_bytes();
    for (const auto& [role, port] : impl_->outputs) {
        bytes += port.host.size_bytes();
    }
    return bytes;
}

std::uint32_t Encoder::vocabulary() const {
    return impl_->vocabulary;
}

Encoded Encoder::Impl::submit(std::uint32_t items) {
    vk::translate([&] { device.run(commands_for(items)); });
    return {read(firmware::Role::embedding, items), read(firmware::Role::hidden, items),
            read(firmware::Role::scores, items)};
}

Encoded Encoder::run_text(std::span<const std::uint32_t> tokens,
                          std::span<const std::uint32_t> picked) {
    const std::uint32_t rows = impl_->token_rows;
    if (rows == 0) {
        throw std::invalid_argument("the encoder takes features, not tokens");
    }
    if (picked.empty() || picked.size() > impl_->max_items ||
        tokens.size() != picked.size() * rows) {
        throw std::invalid_argument(std::to_string(tokens.size()) + " tokens are not 1 to " +
                                    std::to_string(impl_->max_items) + " items of " +
                                    std::to_string(rows) + ", a picked row each");
    }
    for (const std::uint32_t token : tokens) {
        if (token >= impl_->vocabulary) {
            throw std::invalid_argument("token " + std::to_string(token) +
                                        " is not below the vocabulary, " +
                                        std::to_string(impl_->vocabulary));
        }
    }
    for (const std::uint32_t row : picked) {
        if (row >= rows) {
            throw std::invalid_argument("row " + std::to_string(row) + " is none of an item's " +
                                        std::to_string(rows));
        }
    }
    const std::span<std::uint32_t> words = impl_->memory.words();
    std::copy(tokens.begin(), tokens.end(), words.begin() + impl_->words.token_ids);
    for (std::size_t i = 0; i < picked.size(); ++i) {
        words[impl_->words.output_rows + i] = static_cast<std::uint32_t>(i) * rows + picked[i];
    }
    return impl_->submit(static_cast<std::uint32_t>(picked.size()));
}

/// Checks the features and copies them to where a run reads them; how many items.
std::uint32_t Encoder::Impl::take(std::span<const float> data) {
    if (token_rows != 0) {
        throw std::invalid_argument("the encoder takes tokens, not features");
    }
    const std::uint64_t item = features.shape.floats(1);
    const std::uint64_t count = data.size() / item;
    if (count == 0 || data.size() % item != 0 || count > max_items) {
        throw std::invalid_argument("features of " + std::to_string(data.size()) +
                                    " floats are not 1 to " + std::to_string(max_items) +
                                    " items of " + std::to_string(item));
    }
    std::memcpy(features.host.mapped().data(), data.data(), data.size_bytes());
    return static_cast<std::uint32_t>(count);
}

Encoded Encoder::run(std::span<const float> data) {
    return impl_->submit(impl_->take(data));
}

Profile Encoder::profile(std::span<const float> data) {
    const std::uint32_t items = impl_->take(data);
    return vk::translate([&] {
        const vk::Device& device = impl_->device;
        std::optional<vk::Timestamps> stamps;
        if (vk::Timestamps::known(device)) {
            stamps.emplace(device, static_cast<std::uint32_t>(impl_->plan.kernel_count() + 1));
        }
        ProfileNotes notes(stamps);
        const hpp::raii::CommandBuffer commands = device.create_commands();
        impl_->record(commands, items, [&] {
            if (stamps) {
                stamps->reset(commands);
                stamps->stamp(commands);
            }
            impl_->plan.record_apart(commands, {.items = items},
                                     [&](const KernelName& kernel, std::uint32_t dispatches) {
                                         notes.add(kernel, dispatches, commands);
                                     });
        });
        impl_->device.run(commands);
        return notes.finish();
    });
}

}  // namespace m4::engine
