// SPDX-License-Identifier: MIT
#include "device_choice.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "error.hpp"

namespace m4::vk {

namespace {

std::string lower(std::string_view text) {
    std::string result(text);
    std::transform(result.begin(), result.end(), result.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return result;
}

std::string describe(std::span<const Candidate> candidates) {
    if (candidates.empty()) {
        return "this machine has no Vulkan device";
    }
    std::string text = "the Vulkan devices here are:";
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        const Candidate& candidate = candidates[i];
        text += (i == 0 ? " " : "; ") + std::to_string(i) + " = " + candidate.name + " (" +
                std::string(to_string(candidate.type));
        text += candidate.refusal.empty() ? ")" : ", unusable: " + candidate.refusal + ")";
    }
    return text;
}

}  // namespace

std::string_view to_string(DeviceType type) noexcept {
    switch (type) {
        case DeviceType::discrete:
            return "discrete GPU";
        case DeviceType::integrated:
            return "integrated GPU";
        case DeviceType::virtual_gpu:
            return "virtual GPU";
        case DeviceType::cpu:
            return "CPU";
        case DeviceType::other:
            break;
    }
    return "other";
}

std::size_t choose_device(std::span<const Candidate> candidates, std::string_view wanted) {
    const auto refuse = [&](const std::string& reason) {
        return DeviceError(reason + "; " + describe(candidates));
    };
    if (wanted.empty()) {
        const auto rank = [](const Candidate& candidate) {
            return candidate.refusal.empty() ? static_cast<int>(candidate.type) : 100;
        };
        const auto best = std::min_element(
            candidates.begin(), candidates.end(),
            [&](const Candidate& a, const Candidate& b) { return rank(a) < rank(b); });
        if (best == candidates.end() || !best->refusal.empty()) {
            throw refuse("no usable Vulkan device");
        }
        return static_cast<std::size_t>(best - candidates.begin());
    }
    std::size_t index = candidates.size();
    const auto [end, error] = std::from_chars(wanted.data(), wanted.data() + wanted.size(), index);
    if (error != std::errc() || end != wanted.data() + wanted.size()) {
        const auto named =
            std::find_if(candidates.begin(), candidates.end(), [&](const Candidate& candidate) {
                return lower(candidate.name).find(lower(wanted)) != std::string::npos;
            });
        index = static_cast<std::size_t>(named - candidates.begin());
    }
    if (index >= candidates.size()) {
        throw refuse("no Vulkan device '" + std::string(wanted) + "'");
    }
    if (!candidates[index].refusal.empty()) {
        throw refuse("Vulkan device '" + std::string(wanted) + "' cannot be used");
    }
    return index;
}

}  // namespace m4::vk
