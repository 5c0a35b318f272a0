// SPDX-License-Identifier: MIT
#include "operator.hpp"

#include <algorithm>
#include <stdexcept>

#include "lib/quant.hpp"

namespace m4::ops {

/// An operator of ops.def without its make_<name> does not link.
Factory factory(firmware::OpCode code) {
    switch (code) {
#define M4_OP(code_, name, inputs, outputs, attributes, summary) \
    case firmware::OpCode::name:                                 \
        return &make_##name;
#include "ops.def"
    }
    throw std::logic_error("operator " + std::to_string(static_cast<unsigned>(code)) +
                           " is not in ops.def");
}

void record_barrier(const hpp::raii::CommandBuffer& commands) {
    using Stage = hpp::PipelineStageFlagBits;
    using Access = hpp::AccessFlagBits;
    commands.pipelineBarrier(
        Stage::eComputeShader, Stage::eComputeShader, {},
        hpp::MemoryBarrier{.srcAccessMask = Access::eShaderWrite,
                           .dstAccessMask = Access::eShaderRead | Access::eShaderWrite},
        {}, {});
}

void record(const hpp::raii::CommandBuffer& commands, hpp::PipelineLayout layout,
            std::span<const Dispatch> dispatches) {
    for (const Dispatch& dispatch : dispatches) {
        if (dispatch.after_barrier) {
            record_barrier(commands);
        }
        commands.bindPipeline(hpp::PipelineBindPoint::eCompute, *dispatch.kernel->pipeline);
        if (dispatch.tensor) {
            commands.bindDescriptorSets(
                hpp::PipelineBindPoint::eCompute, layout, 1,
                {dispatch.tensor, dispatch.second ? dispatch.second : dispatch.tensor,
                 dispatch.third ? dispatch.third : dispatch.tensor},
                {});
        }
        commands.pushConstants<std::uint32_t>(layout, hpp::ShaderStageFlagBits::eCompute, 0,
                                              dispatch.push);
        commands.dispatch(dispatch.groups_x, dispatch.groups_y, 1);
    }
}

shaders::Dtype dtype_of(const TensorPlace& tensor) {
    switch (tensor.dtype) {
        case M4_DTYPE_F32:
            return shaders::Dtype::f32_;
        case M4_DTYPE_F16:
            return shaders::Dtype::f16_;
        case M4_DTYPE_Q8:
            return shaders::Dtype::q8_;
        case M4_DTYPE_Q4:
            return shaders::Dtype::q4_;
        default:
            throw std::logic_error("tensor '" + std::string(tensor.name) +
                                   "' is no matrix of reals");
    }
}

BlockShape block_shape(const TensorPlace& tensor) {
    constexpr std::uint32_t kGroupRows = 16;
    const std::uint32_t blocks = tensor.columns / M4_IMAGE_QUANT_ELEMENTS;
    if (firmware::is_quantized(tensor.dtype)) {
        const auto units = static_cast<std::uint32_t>(firmware::tile_units(tensor.dtype));
        return {blocks * units, blocks, 0};
    }
    const std::uint32_t elements = unit_elements(dtype_of(tensor));
    const std::uint32_t units = divide_up(tensor.columns, elements);
    return {units * kGroupRows, blocks, units - blocks * M4_IMAGE_QUANT_ELEMENTS / elements};
}

std::optional<shaders::Access> find_access(const Context& context,
                                           std::initializer_list<const TensorPlace*> tensors) {
    const auto all = [&](bool TensorBinding::*way) {
        return std::all_of(tensors.begin(), tensors.end(), [&](const TensorPlace* tensor) {
            return tensor == nullptr || tensor->binding.*way;
        });
    };
    if (context.values_texel && all(&TensorBinding::texel)) {
        return shaders::Access::texel;
    }
    if (all(&TensorBinding::storage)) {
        return shaders::Access::storage;
    }
    return std::nullopt;
}

shaders::Access access_of(const Context& context, const TensorPlace* tensor) {
    const auto access = find_access(context, {tensor});
    if (!access) {
        refuse_access(*tensor);
    }
    return *access;
}

void refuse_access(const TensorPlace& tensor) {
    throw vk::DeviceError("tensor '" + std::string(tensor.name) +
                          "' and the values beside it fit no kind of buffer of this device alike");
}

shaders::Access kv_access_of(const Context& context) {
    // A pool is readable the one way or the other; values always as storage.
    if (context.kv_texel && !context.values_texel) {
        throw vk::DeviceError(
            "the KV pool needs texel buffers and the values are too large for them: lower "
            "max_step_rows");
    }
    return context.kv_texel ? shaders::Access::texel : shaders::Access::storage;
}

void push_lanes(const Context& context, std::uint64_t lane_count, std::uint32_t group_lanes,
                Dispatch dispatch, std::vector<Dispatch>& out) {
    const std::uint64_t groups = (lane_count + group_lanes - 1) / group_lanes;
    if (groups > context.limits.workgroup_count_x ||
        dispatch.groups_y > context.limits.workgroup_count_y) {
        throw vk::DeviceError("a step needs more workgroups than the device can start");
    }
    if (groups != 0 && dispatch.groups_y != 0) {
        dispatch.groups_x = static_cast<std::uint32_t>(groups);
        out.push_back(dispatch);
    }
}

}  // namespace m4::ops
