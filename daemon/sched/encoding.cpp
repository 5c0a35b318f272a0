// SPDX-License-Identifier: MIT
#include "sched/encoding.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace m4::sched {

Encoding::Encoding(ClientId client, RequestId request, Encode what)
    : client_(client),
      request_(request),
      what_(std::move(what)),
      items_(std::accumulate(what_.items.begin(), what_.items.end(), 0U)) {}

std::span<const float> Encoding::features(std::uint32_t count) const {
    const std::size_t item = what_.features.size() / items_;
    return std::span(what_.features).subspan(next_ * item, count * item);
}

std::span<const std::uint32_t> Encoding::tokens(std::uint32_t count) const {
    const std::size_t item = what_.tokens.size() / items_;
    return std::span(what_.tokens).subspan(next_ * item, count * item);
}

std::span<const std::uint32_t> Encoding::picked(std::uint32_t count) const {
    return std::span(what_.picked).subspan(next_, count);
}

void Encoding::accept(std::span<const float> floats, std::uint32_t count) {
    const std::size_t width = floats.size() / count;
    for (std::uint32_t i = 0; i < count; ++i, ++next_) {
        if (done_of_input_ == 0) {
            results_.resize(results_.size() + width);
        }
        const std::uint32_t of = what_.items[input_];
        const auto one = floats.subspan(i * width, width);
        const auto sum = std::span(results_).last(width);
        // One item's result is its own to the last bit.
        std::transform(
            one.begin(), one.end(), sum.begin(), sum.begin(),
            [&](float item, float so_far) { return so_far + item / static_cast<float>(of); });
        if (++done_of_input_ == of) {
            done_of_input_ = 0;
            ++input_;
        }
    }
}

std::span<const float> output_of(const engine::Encoded& encoded, EncodeOutput output) {
    switch (output) {
        case EncodeOutput::scores:
            return encoded.scores;
        case EncodeOutput::hidden:
            return encoded.hidden;
        case EncodeOutput::embedding:
            break;
    }
    return encoded.embedding;
}

}  // namespace m4::sched
