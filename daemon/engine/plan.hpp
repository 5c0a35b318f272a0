// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine.hpp"
#include "lib/image.hpp"
#include "lib/program.hpp"
#include "ops/operator.hpp"
#include "weights/store.hpp"

namespace m4::engine {

/// Tensors of the image that a program reads, ascending.
[[nodiscard]] std::vector<std::uint32_t> used_tensors(const firmware::Program& program);

[[nodiscard]] shaders::Dtype dtype_of(KvType type);

/// Units that one position takes in each layer's cache, and in all.
struct KvShape {
    std::vector<ops::StatePlace> states;  ///< by Program::states
    std::uint32_t position_units = 0;
};
[[nodiscard]] KvShape kv_shape(const firmware::Program& program, shaders::Dtype kv_dtype);

/// A value's index by role; throws vk::DeviceError where the program has none.
[[nodiscard]] std::uint32_t port_value(std::span<const firmware::Port> ports, firmware::Role role);

/// Where the values of a program lie for steps of up to `max_rows`.
struct ValueLayout {
    std::vector<ops::ValuePlace> places;  ///< by Program::values
    std::uint64_t size_bytes = 0;
    std::uint32_t scratch_unit = 0;  ///< behind them, as ops::Context has it
    std::uint32_t scratch_units = 0;
    std::uint32_t low_rank_unit = 0;  ///< likewise; 0: none
};
[[nodiscard]] ValueLayout lay_out_values(const firmware::Program& program,
                                         const ops::StepWords& words, std::uint32_t max_rows);
/// Adds the scratch space of attention over `slices`, where that leaves the arena
/// within `most_units`.
void add_scratch(ValueLayout& layout, const firmware::Program& program, std::uint32_t slices,
                 std::uint32_t max_rows, std::uint64_t most_units);

/// Likewise the space of adapters' low-rank products.
void add_low_rank(ValueLayout& layout, std::uint32_t max_rows, std::uint64_t most_units);

/// A kernel of a step, for people.
struct KernelName {
    std::string name;       ///< of its operator, or of the group that runs as one
    std::string operators;  ///< what it does: "rms_norm, 3 linear, 2 rope"
    auto operator<=>(const KernelName&) const = default;
};

/// A program made ready for a device: operators, or groups of them where the
/// program has groups and the device suits them, with their kernels and places,
/// and where barriers are needed between them.
class Plan {
   public:
    /// All arguments but `program` and `tensors` outlive the plan; `context` is
    /// kept by the operators.
    Plan(const vk::Device& device, const ops::Context& context, const firmware::Program& program,
         std::span<const firmware::Tensor> tensors, weights::Store& weights,
         const ValueLayout& values, const KvShape& kv);

    /// Record all operators for a step of this shape, with the kernels that are
    /// not compiled yet compiled first; set 0 must be bound. `after`, where it is
    /// given, records what comes behind the kernel that defines `value`.
    using Behind = std::function<void(const hpp::raii::CommandBuffer& commands)>;
    void record(const hpp::raii::CommandBuffer& commands, const ops::StepShape& shape,
                std::uint32_t value = 0, const Behind& after = {}) const;

    /// The same, each kernel waiting for the one before; `after` is told of each
    /// behind its dispatches, which may be none.
    using AfterKernel = std::function<void(const KernelName& kernel, std::uint32_t dispatches)>;
    void record_apart(const hpp::raii::CommandBuffer& commands, const ops::StepShape& shape,
                      const AfterKernel& after) const;

    /// Kernels of a step: operators, and groups of them that run as one.
    [[nodiscard]] std::size_t kernel_count() const { return steps_.size(); }
    [[nodiscard]] std::size_t barrier_count() const;

   private:
    struct Step {
        std::unique_ptr<ops::Operator> work;
        KernelName name;
        std::vector<std::uint32_t> defines;  ///< values
        bool barrier_before = false;         ///< it meets what was written or read since the last
    };

    void append(Step step);
    /// By step, with their kernels compiled.
    [[nodiscard]] std::vector<std::vector<ops::Dispatch>> dispatches_of(
        const ops::StepShape& shape) const;

    vk::Pipelines& pipelines_;
    vk::Descriptors descriptors_;
    std::uint32_t max_rows_;
    std::vector<Step> steps_;
};

}  // namespace m4::engine
