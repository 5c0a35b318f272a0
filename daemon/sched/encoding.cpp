// SPDX-License-Identifier: MIT
#include "sched/encoding.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "sched/embedding_cache.hpp"

namespace m4::sched {

Encoding::Encoding(ClientId client, RequestId request, Encode what)
    : client_(client),
      request_(request),
      what_(std::move(what)),
      items_(std::accumulate(what_.items.begin(), what_.items.end(), 0U)) {
    take_known();
}

/// The results of inputs that come next and are known.
void Encoding::take_known() {
    for (; input_ < what_.items.size() && what_.items[input_] == 0; ++input_) {
        const std::vector<float>& values = *what_.known.at(input_);
        results_.insert(results_.end(), values.begin(), values.end());
    }
}

std::uint32_t Encoding::encoded_inputs() const {
    return static_cast<std::uint32_t>(what_.items.size() -
                                      std::count(what_.items.begin(), what_.items.end(), 0U));
}

void Encoding::keep_results() const {
    if (what_.cache == nullptr) {
        return;
    }
    const std::size_t width = results_.size() / what_.items.size();
    for (std::size_t i = 0; i < what_.items.size(); ++i) {
        if (what_.items[i] != 0) {
            const auto values = std::span(results_).subspan(i * width, width);
            what_.cache->keep(client_, what_.keys.at(i), {values.begin(), values.end()});
        }
    }
}

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
            take_known();
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
