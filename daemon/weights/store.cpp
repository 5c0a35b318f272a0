// SPDX-License-Identifier: MIT
#include "store.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "lib/error.hpp"
#include "vk/drm.hpp"

namespace m4::weights {

namespace {

constexpr std::uint64_t kUnitBytes = 16;
constexpr std::uint64_t kLargestWindow = 1ULL << 30;
constexpr std::uint64_t kStagingBytes = 16ULL << 20;
hpp::BufferUsageFlags usage(const vk::Device& device) {
    using Usage = hpp::BufferUsageFlagBits;
    const hpp::BufferUsageFlags both = Usage::eUniformTexelBuffer | Usage::eStorageBuffer;
    return device.limits().addresses ? both | Usage::eShaderDeviceAddress : both;
}

/// Tensors begin at multiples of 256 and the payload ends at one of 2 MiB, so
/// the last unit of a tensor lies inside the payload.
std::uint64_t whole_units(std::uint64_t bytes) {
    return (bytes + kUnitBytes - 1) / kUnitBytes * kUnitBytes;
}

/// A GPU of its own would read imported pages over its bus at every step.
bool reads_host_memory_well(vk::DeviceType type) {
    return type == vk::DeviceType::cpu || type == vk::DeviceType::integrated;
}

std::uint64_t largest_window(const vk::Device& device, const StoreOptions& options) {
    const std::uint64_t allowed = device.limits().allocation;
    return options.window_bytes == 0 ? allowed : std::min(allowed, options.window_bytes);
}

}  // namespace

Store::Store(vk::Device& device, std::span<const std::byte> payload,
             std::span<const firmware::Tensor> tensors, std::span<const std::uint32_t> used,
             const StoreOptions& options)
    : options_(options) {
    std::vector<std::uint32_t> order(used.begin(), used.end());
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
        return tensors[a].payload_offset < tensors[b].payload_offset;
    });
    std::vector<Wanted> wanted;
    for (const std::uint32_t index : order) {
        const firmware::Tensor& tensor = tensors[index];
        wanted.push_back({tensor.name, {tensor.payload_offset, whole_units(tensor.size_bytes)}});
        weight_bytes_ += tensor.size_bytes;
    }
    tensors_.resize(tensors.size());

    const auto by_dma_buf = [&] { import_dma_bufs(device, payload.size(), wanted); };
    const auto by_pointer = [&] { import_pages(device, payload, wanted); };
    if (options_.import == Import::staging) {
        note_ = "staging was asked for";
        stage(device, payload, wanted);
    } else if (!reads_host_memory_well(device.identity().type)) {
        note_ = "the device has memory of its own";
        stage(device, payload, wanted);
    } else if (!attempt("dma_buf", by_dma_buf) && !attempt("host_pointer", by_pointer)) {
        stage(device, payload, wanted);
    }
    create_views(device, tensors, wanted, order);
}

template <typename Way>
bool Store::attempt(const char* name, Way&& way) {
    std::string why;
    try {
        way();
        import_name_ = name;
        return true;
    } catch (const hpp::SystemError& error) {
        why = error.what();
    } catch (const vk::DeviceError& error) {
        why = error.what();
    } catch (const firmware::Error& error) {
        why = error.what();
    }
    note_ += (note_.empty() ? "" : "; ") + std::string("not by ") + name + ": " + why;
    windows_.clear();
    return false;
}

/// The kernel's windows begin and end at chunks; a driver may want some bytes
/// behind the buffer, which the payload's padding, or its next chunk, has.
void Store::import_dma_bufs(const vk::Device& device, std::uint64_t payload_bytes,
                            std::span<const Wanted> wanted) {
    constexpr std::uint64_t kChunk = M4_IMAGE_CHUNK_BYTES;
    if (!options_.export_window) {
        throw vk::DeviceError("a folder's image has none");
    }
    // Before the kernel is asked for anything.
    (void)vk::Buffer::dma_buf_bytes(device, kChunk, usage(device));
    plan_ = plan_windows(
        wanted, payload_bytes,
        std::min({largest_window(device, options_), kLargestWindow - kChunk, payload_bytes}),
        kChunk);
    std::vector<std::uint64_t> used(plan_.windows.size(), 0);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        const std::uint32_t window = plan_.window_of[i];
        const Extent& extent = wanted[i].extent;
        used[window] = std::max(used[window],
                                extent.offset + extent.size_bytes - plan_.windows[window].offset);
    }
    for (std::size_t i = 0; i < plan_.windows.size(); ++i) {
        const std::uint64_t offset = plan_.windows[i].offset;
        const std::uint64_t needed = vk::Buffer::dma_buf_bytes(device, used[i], usage(device));
        const std::uint64_t bytes = (needed + kChunk - 1) / kChunk * kChunk;
        if (bytes > payload_bytes - offset) {
            throw vk::DeviceError("the driver wants more bytes behind the payload than it has");
        }
        const firmware::UniqueFd window = options_.export_window(offset, bytes);
        const std::string& node = device.identity().render_node;
        if (i == 0 && !node.empty()) {
            // The kernel's driver says more clearly than Vulkan's what it minds.
            if (const std::string why = vk::drm::import_refusal(node, window.get()); !why.empty()) {
                throw vk::DeviceError(why);
            }
        }
        windows_.push_back(
            vk::Buffer::import_dma_buf(device, window.get(), used[i], usage(device)));
    }
}

void Store::import_pages(const vk::Device& device, std::span<const std::byte> payload,
                         std::span<const Wanted> wanted) {
    const std::uint64_t alignment = device.limits().host_pointer_alignment;
    if (alignment == 0) {
        throw vk::DeviceError("the driver cannot import host memory");
    }
    const auto base = reinterpret_cast<std::uintptr_t>(payload.data());
    if (base % alignment != 0 || payload.size() % alignment != 0) {
        throw vk::DeviceError("the payload's pages are not aligned as the driver needs them");
    }
    const std::uint64_t largest = largest_window(device, options_);
    const std::uint64_t window_bytes =
        payload.size() <= largest ? payload.size() : std::min(largest, kLargestWindow);
    plan_ = plan_windows(wanted, payload.size(), window_bytes, alignment);
    for (const Extent& window : plan_.windows) {
        windows_.push_back(vk::Buffer::import_host(
            device, payload.subspan(window.offset, window.size_bytes), usage(device)));
    }
}

void Store::stage(vk::Device& device, std::span<const std::byte> payload,
                  std::span<const Wanted> wanted) {
    plan_ = plan_windows(wanted, payload.size(),
                         std::min(largest_window(device, options_), kLargestWindow),
                         M4_IMAGE_TENSOR_ALIGN);
    const vk::Buffer staging(device, std::min<std::uint64_t>(kStagingBytes, payload.size()),
                             hpp::BufferUsageFlagBits::eTransferSrc, vk::MemoryKind::upload);
    const hpp::raii::CommandBuffer commands = device.create_commands();
    for (const Extent& window : plan_.windows) {
        const vk::Buffer& target = windows_.emplace_back(
            device, window.size_bytes, usage(device) | hpp::BufferUsageFlagBits::eTransferDst,
            vk::MemoryKind::device);
        for (std::uint64_t done = 0; done < window.size_bytes;) {
            const std::uint64_t count = std::min(staging.size_bytes(), window.size_bytes - done);
            std::memcpy(staging.mapped().data(), payload.data() + window.offset + done, count);
            commands.reset();
            commands.begin(hpp::CommandBufferBeginInfo{});
            commands.copyBuffer(staging.handle(), target.handle(),
                                hpp::BufferCopy{.dstOffset = done, .size = count});
            commands.pipelineBarrier(
                hpp::PipelineStageFlagBits::eTransfer, hpp::PipelineStageFlagBits::eComputeShader,
                {},
                hpp::MemoryBarrier{.srcAccessMask = hpp::AccessFlagBits::eTransferWrite,
                                   .dstAccessMask = hpp::AccessFlagBits::eShaderRead},
                {}, {});
            commands.end();
            device.run(commands);
            done += count;
            copied_bytes_ += count;
        }
    }
    import_name_ = "staging";
}

void Store::create_views(const vk::Device& device, std::span<const firmware::Tensor> tensors,
                         std::span<const Wanted> wanted, std::span<const std::uint32_t> order) {
    for (std::size_t i = 0; i < order.size(); ++i) {
        const Extent& extent = wanted[i].extent;
        const std::uint32_t window = plan_.window_of[i];
        const firmware::Tensor& tensor = tensors[order[i]];
        tensors_[order[i]] = cut(device, windows_[window], tensor,
                                 {extent.offset - plan_.windows[window].offset, extent.size_bytes});
        if (tensors_[order[i]].empty()) {
            const vk::Limits& limits = device.limits();
            throw vk::DeviceError("tensor '" + std::string(tensor.name) + "' of " +
                                  std::to_string(extent.size_bytes) +
                                  " bytes is larger than any buffer a kernel of this device may "
                                  "read (" +
                                  std::to_string(limits.texel_elements * kUnitBytes) + " and " +
                                  std::to_string(limits.storage_range) +
                                  " bytes), and cannot be cut");
        }
    }
}

/// The tensor in one piece where the device allows it; a matrix else by whole
/// groups of 16 rows, as few pieces as do. Empty where neither works.
std::vector<SliceBuffer> Store::cut(const vk::Device& device, const vk::Buffer& window,
                                    const firmware::Tensor& tensor, const Extent& bytes) {
    constexpr std::uint64_t kGroupRows = 16;
    const std::uint64_t rows = tensor.rank > 1 ? tensor.shape[0] : 1;
    if (const auto whole = bind(device, window, bytes)) {
        return {{*whole, 0, static_cast<std::uint32_t>(rows)}};
    }
    if (tensor.layout != M4_LAYOUT_ROWS16) {
        return {};
    }
    const vk::Limits& limits = device.limits();
    const std::uint64_t groups = (rows + kGroupRows - 1) / kGroupRows;
    const std::uint64_t group_bytes = tensor.size_bytes / groups;
    // Each slice begins where a binding may.
    const std::uint64_t step = std::lcm(group_bytes, limits.view_alignment) / group_bytes;
    std::uint64_t most = std::max(limits.texel_elements * kUnitBytes, limits.storage_range);
    most = options_.slice_bytes == 0 ? most : std::min(most, options_.slice_bytes);
    const std::uint64_t count = most / group_bytes / step * step;
    std::vector<SliceBuffer> slices;
    for (std::uint64_t first = 0; count != 0 && first < groups; first += count) {
        const std::uint64_t end = std::min(groups, first + count);
        const auto piece =
            bind(device, window, {bytes.offset + first * group_bytes, (end - first) * group_bytes});
        if (!piece) {
            return {};
        }
        slices.push_back(
            {*piece, static_cast<std::uint32_t>(first * kGroupRows),
             static_cast<std::uint32_t>(std::min(rows, end * kGroupRows) - first * kGroupRows)});
    }
    return slices;
}

/// Bytes of a window by the ways that the device allows; nothing where it
/// allows none.
std::optional<TensorBuffer> Store::bind(const vk::Device& device, const vk::Buffer& window,
                                        const Extent& bytes) {
    const vk::Limits& limits = device.limits();
    TensorBuffer bound;
    bound.buffer = window.handle();
    bound.offset_bytes = bytes.offset;
    bound.size_bytes = bytes.size_bytes;
    bound.address = limits.addresses ? window.address(device) + bytes.offset : 0;
    const bool aligned = bytes.offset % limits.view_alignment == 0;
    const bool allowed =
        aligned && (options_.slice_bytes == 0 || bytes.size_bytes <= options_.slice_bytes);
    bound.storage = allowed && bytes.size_bytes <= limits.storage_range;
    if (allowed && bytes.size_bytes / kUnitBytes <= limits.texel_elements) {
        bound.view = *views_.emplace_back(create_view(
            device, window, hpp::Format::eR32G32B32A32Uint, bytes.offset, bytes.size_bytes));
    } else if (!bound.storage) {
        return std::nullopt;
    }
    return bound;
}

std::optional<TensorBuffer> Store::span(const vk::Device& device,
                                        std::span<const std::uint32_t> tensors) {
    const hpp::Buffer buffer = tensors_.at(tensors[0])[0].buffer.buffer;
    std::uint64_t begin = tensors_[tensors[0]][0].buffer.offset_bytes;
    std::uint64_t end = begin;
    for (const std::uint32_t index : tensors) {
        const TensorBuffer& tensor = tensors_.at(index)[0].buffer;
        if (tensor.buffer != buffer || tensors_[index].size() > 1) {
            return std::nullopt;
        }
        begin = std::min(begin, tensor.offset_bytes);
        end = std::max(end, tensor.offset_bytes + tensor.size_bytes);
    }
    const auto window = std::find_if(windows_.begin(), windows_.end(),
                                     [&](const vk::Buffer& one) { return one.handle() == buffer; });
    return bind(device, *window, {begin, end - begin});
}

}  // namespace m4::weights
