// SPDX-License-Identifier: MIT
// Where a step's time goes, and what the device's memory can do: for the bench.
#include <algorithm>
#include <chrono>
#include <optional>

#include "engine_impl.hpp"
#include "profile_notes.hpp"

namespace m4::engine {

namespace {

using Stage = hpp::PipelineStageFlagBits;
using Access = hpp::AccessFlagBits;

/// Each of the two buffers that are copied, at most and at least.
constexpr std::uint64_t kMostCopyBytes = 64ULL << 20;
constexpr std::uint64_t kLeastCopyBytes = 64ULL << 10;
/// Small buffers are copied so often that this many bytes move.
constexpr std::uint64_t kMovedBytes = 64ULL << 20;

void record_copy(const hpp::raii::CommandBuffer& commands, const vk::Buffer& from,
                 const vk::Buffer& to) {
    commands.pipelineBarrier(
        Stage::eTransfer, Stage::eTransfer, {},
        hpp::MemoryBarrier{.srcAccessMask = Access::eTransferWrite,
                           .dstAccessMask = Access::eTransferRead | Access::eTransferWrite},
        {}, {});
    commands.copyBuffer(from.handle(), to.handle(), hpp::BufferCopy{.size = from.size_bytes()});
}

}  // namespace

Profile Engine::Impl::profile(std::span<const Chunk> chunks) {
    ops::StepShape shape = check(chunks, 1);
    set_adapter_shape(chunks, shape);
    const hpp::CommandBufferBeginInfo once{.flags =
                                               hpp::CommandBufferUsageFlagBits::eOneTimeSubmit};
    hpp::raii::CommandBuffer commands = nullptr;
    std::optional<vk::Timestamps> stamps;
    ProfileNotes notes(stamps);
    compute(chunks, shape, [&] {
        if (vk::Timestamps::known(device)) {
            // One before all kernels, one behind each, the engine's own two among them.
            stamps.emplace(device, static_cast<std::uint32_t>(plan->plan.kernel_count() + 3));
        }
        commands = device.create_commands();
        commands.begin(once);
        if (stamps) {
            stamps->reset(commands);
        }
        commands.bindDescriptorSets(hpp::PipelineBindPoint::eCompute, pipelines.layout(), 0,
                                    memory.set(), {});
        ops::record_barrier(commands);
        if (stamps) {
            stamps->stamp(commands);
        }
        plan->plan.record_apart(commands, shape,
                                [&](const KernelName& kernel, std::uint32_t dispatches) {
                                    notes.add(kernel, dispatches, commands);
                                });
        if (shape.greedy != 0) {
            record_argmax(commands, shape, 0);
            notes.add({"argmax", "argmax"}, 1, commands);
        }
        if (shape.top != 0) {
            record_top(commands, shape);
            notes.add({"top_logits", "top_logits"}, 1, commands);
        }
        record_outputs(commands, shape);
        commands.end();
        return *commands;
    });
    return vk::translate([&] { return notes.finish(); });
}

/// Two buffers that together are as large as the weights of a step: caches then
/// help, or do not, as they do there.
CopyTime Engine::Impl::time_copy() {
    using Clock = std::chrono::steady_clock;
    if (lost) {
        throw DeviceError("the Vulkan device failed before");
    }
    constexpr std::uint64_t kWhole = 4096;
    const std::uint64_t bytes =
        std::clamp(step_weight_bytes() / 2 / kWhole * kWhole, kLeastCopyBytes, kMostCopyBytes);
    vk::Buffer from;
    vk::Buffer to;
    try {
        const auto usage =
            hpp::BufferUsageFlagBits::eTransferSrc | hpp::BufferUsageFlagBits::eTransferDst;
        from = vk::Buffer(device, bytes, usage, vk::MemoryKind::device);
        to = vk::Buffer(device, bytes, usage, vk::MemoryKind::device);
    } catch (const std::exception&) {
        return {};  // nothing but this figure needs it
    }
    try {
        return vk::translate([&]() -> CopyTime {
            // The first one touches the memory, and is not timed.
            const hpp::raii::CommandBuffer first = device.create_commands();
            first.begin(hpp::CommandBufferBeginInfo{});
            first.fillBuffer(from.handle(), 0, VK_WHOLE_SIZE, 1);
            record_copy(first, from, to);
            first.end();
            device.run(first);

            std::optional<vk::Timestamps> stamps;
            if (vk::Timestamps::known(device)) {
                stamps.emplace(device, 2);
            }
            const std::uint64_t times = (kMovedBytes + 2 * bytes - 1) / (2 * bytes);
            const hpp::raii::CommandBuffer copies = device.create_commands();
            copies.begin(hpp::CommandBufferBeginInfo{});
            if (stamps) {
                stamps->reset(copies);
                stamps->stamp(copies);
            }
            for (std::uint64_t i = 0; i < times; ++i) {
                record_copy(copies, i % 2 == 0 ? from : to, i % 2 == 0 ? to : from);
            }
            if (stamps) {
                stamps->stamp(copies);
            }
            copies.end();
            const Clock::time_point begin = Clock::now();
            device.run(copies);
            const std::chrono::duration<double, std::micro> took = Clock::now() - begin;
            return {2 * bytes * times, stamps ? stamps->intervals_us().at(0) : took.count()};
        });
    } catch (const DeviceError&) {
        lost = true;
        throw;
    }
}

std::uint64_t Engine::Impl::step_weight_bytes() const {
    std::uint64_t bytes = 0;
    for (const firmware::Op& op : program.ops) {
        const bool rows_only =
            op.code == firmware::OpCode::gather_rows || op.code == firmware::OpCode::rope;
        for (const firmware::Operand& input : op.inputs) {
            if (!rows_only && input.kind == firmware::OperandKind::tensor) {
                bytes += image.tensors()[input.index].size_bytes;
            }
        }
    }
    return bytes;
}

}  // namespace m4::engine
