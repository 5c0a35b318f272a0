// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "engine.hpp"
#include "plan.hpp"
#include "vk/timestamps.hpp"

namespace m4::engine {

/// Kernels as they are recorded; their times once the device has them.
class ProfileNotes {
   public:
    explicit ProfileNotes(std::optional<vk::Timestamps>& stamps) : stamps_(stamps) {}

    void add(const KernelName& kernel, std::uint32_t dispatches,
             const hpp::raii::CommandBuffer& commands) {
        auto& kernels = profile_.kernels;
        const auto known = std::find_if(kernels.begin(), kernels.end(), [&](const KernelTime& k) {
            return k.name == kernel.name && k.operators == kernel.operators;
        });
        owners_.push_back(static_cast<std::size_t>(known - kernels.begin()));
        if (known == kernels.end()) {
            kernels.push_back({kernel.name, kernel.operators, 0, 0});
        }
        kernels[owners_.back()].dispatches += dispatches;
        if (stamps_) {
            stamps_->stamp(commands);
        }
    }

    [[nodiscard]] Profile finish() {
        if (stamps_ && !owners_.empty()) {
            const std::vector<double> intervals = stamps_->intervals_us();
            for (std::size_t i = 0; i < owners_.size(); ++i) {
                profile_.kernels[owners_[i]].us += intervals.at(i);
            }
            profile_.timed = true;
        }
        return std::move(profile_);
    }

   private:
    std::optional<vk::Timestamps>& stamps_;
    Profile profile_;
    std::vector<std::size_t> owners_;  // of each interval, into kernels
};

}  // namespace m4::engine
