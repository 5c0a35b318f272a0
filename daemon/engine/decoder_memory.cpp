// SPDX-License-Identifier: MIT
// What a decoder looks at: keys and values of its encoder's rows, computed by its
// program `prepare` into the pages of a sequence.
#include <cstring>
#include <string>

#include "engine_impl.hpp"

namespace m4::engine {

namespace {

/// Null: not a decoder's.
const firmware::Program* prepare_program(const firmware::Part& part) {
    if (part.memory_rows == 0) {
        return nullptr;
    }
    for (const firmware::Program& program : part.programs) {
        if (program.name == "prepare") {
            return &program;
        }
    }
    throw DeviceError("part " + part.name + " has no program 'prepare'");
}

}  // namespace

std::uint64_t Engine::Impl::memory_value_bytes() const {
    const firmware::Program* prepare = prepare_program(part);
    return prepare == nullptr ? 0 : lay_out_values(*prepare, words, max_rows).size_bytes;
}

/// With the kernels of the first tuning; it runs once an input.
Engine::Impl::Remembering::Remembering(Impl& engine, const firmware::Program& program_)
    : program(program_),
      values(lay_out_values(program, engine.words, engine.max_rows)),
      context(engine.plan->context),
      plan(engine.device, context, program, engine.image.tensors(), engine.weights, values,
           engine.kv),
      features(values.places[port_value(program.inputs, firmware::Role::features)]),
      host(engine.device, std::uint64_t{engine.max_rows} * features.stride * ops::kUnitBytes,
           hpp::BufferUsageFlagBits::eTransferSrc, vk::MemoryKind::upload) {
    context.cold = false;
}

std::unique_ptr<Engine::Impl::Remembering> Engine::Impl::make_remembering() {
    const firmware::Program* prepare = prepare_program(part);
    if (prepare == nullptr) {
        return nullptr;
    }
    // Each token looks at all rows.
    const auto last = memory.words().subspan(words.memory_positions, max_rows);
    std::fill(last.begin(), last.end(), part.memory_rows - 1);
    return std::make_unique<Remembering>(*this, *prepare);
}

const hpp::raii::CommandBuffer& Engine::Impl::commands_remembering(std::uint32_t rows) {
    using Stage = hpp::PipelineStageFlagBits;
    using Access = hpp::AccessFlagBits;
    if (const auto found = remembering->recorded.find(rows); found != remembering->recorded.end()) {
        return found->second;
    }
    const ops::ValuePlace& features = remembering->features;
    hpp::raii::CommandBuffer commands = device.create_commands();
    commands.begin(hpp::CommandBufferBeginInfo{});
    // After the step before, which may have used the same values and pages.
    commands.pipelineBarrier(
        Stage::eComputeShader | Stage::eTransfer, Stage::eComputeShader | Stage::eTransfer, {},
        hpp::MemoryBarrier{
            .srcAccessMask = Access::eShaderWrite | Access::eTransferRead | Access::eTransferWrite,
            .dstAccessMask = Access::eShaderRead | Access::eShaderWrite | Access::eTransferWrite},
        {}, {});
    const hpp::BufferCopy all{.dstOffset = features.unit * ops::kUnitBytes,
                              .size = std::uint64_t{rows} * features.stride * ops::kUnitBytes};
    commands.copyBuffer(remembering->host.handle(), memory.values().handle(), all);
    commands.pipelineBarrier(Stage::eTransfer, Stage::eComputeShader, {},
                             hpp::MemoryBarrier{.srcAccessMask = Access::eTransferWrite,
                                                .dstAccessMask = Access::eShaderRead},
                             {}, {});
    commands.bindDescriptorSets(hpp::PipelineBindPoint::eCompute, pipelines.layout(), 0,
                                memory.set(), {});
    remembering->plan.record(commands, {.tokens = rows});
    commands.end();
    return remembering->recorded.emplace(rows, std::move(commands)).first->second;
}

void Engine::Impl::check_memory(const Sequence& sequence, std::span<const float> rows) const {
    const auto* target = dynamic_cast<const KvSequence*>(&sequence);
    if (target == nullptr || &target->pool() != &pool) {
        throw broken("memory is for no sequence of this engine");
    }
    if (remembering == nullptr) {
        throw broken("memory is for a backbone");
    }
    const std::uint32_t columns = remembering->features.columns;
    const std::size_t most =
        std::size_t{std::min(max_rows, part.memory_rows - target->memory_length())};
    if (rows.empty() || rows.size() % columns != 0 || rows.size() / columns > most) {
        throw broken("memory of " + std::to_string(rows.size()) + " floats is not 1 to " +
                     std::to_string(most) + " rows of " + std::to_string(columns));
    }
    if (target->memory_length() == 0 && target->pages_needed(1) > pool.free()) {
        throw broken("memory needs " + std::to_string(target->pages_needed(1)) +
                     " pages of the KV pool, which has " + std::to_string(pool.free()) + " free");
    }
}

void Engine::Impl::load_memory(Sequence& sequence, std::span<const float> rows) {
    check_memory(sequence, rows);
    auto& target = static_cast<KvSequence&>(sequence);
    const ops::ValuePlace& features = remembering->features;
    const auto count = static_cast<std::uint32_t>(rows.size() / features.columns);
    target.take_memory();
    run([&] {
        const std::size_t row_bytes = features.columns * sizeof(float);
        const std::size_t stride = features.stride * ops::kUnitBytes;
        const std::span<std::byte> host = remembering->host.mapped();
        for (std::uint32_t i = 0; i < count; ++i) {
            std::memcpy(host.data() + i * stride, rows.data() + std::size_t{i} * features.columns,
                        row_bytes);
            std::memset(host.data() + i * stride + row_bytes, 0, stride - row_bytes);
        }
        const std::span<std::uint32_t> step = memory.words();
        std::copy(target.pages().begin(), target.pages().end(), step.begin() + words.page_tables);
        for (std::uint32_t i = 0; i < count; ++i) {
            step[words.positions + i] = target.memory_length() + i;
            step[words.kv_tables + i] = words.page_tables;
        }
        return std::vector<hpp::CommandBuffer>{*commands_remembering(count)};
    });
    target.remember(count);
}

}  // namespace m4::engine
