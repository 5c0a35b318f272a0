// SPDX-License-Identifier: MIT
#include "sched/token_rules.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace m4::sched {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

void forbid(std::span<float> logits, std::uint32_t first, std::uint32_t end) {
    const auto size = static_cast<std::uint32_t>(logits.size());
    const std::uint32_t begin = std::min(first, size);
    const std::uint32_t behind = std::clamp(end, begin, size);
    std::fill(logits.begin() + begin, logits.begin() + behind, kNever);
}

void forbid(std::span<float> logits, std::span<const std::uint32_t> tokens) {
    for (const std::uint32_t token : tokens) {
        forbid(logits, token, token + 1);
    }
}

/// Of all of them together.
double log_sum(std::span<const float> logits) {
    const float largest = *std::max_element(logits.begin(), logits.end());
    if (!(largest > kNever)) {
        return kNever;
    }
    double sum = 0;
    for (const float logit : logits) {
        sum += std::exp(static_cast<double>(logit) - static_cast<double>(largest));
    }
    return static_cast<double>(largest) + std::log(sum);
}

}  // namespace

void TokenRules::apply(std::span<const std::uint32_t> written, std::span<float> logits) const {
    for (float& logit : logits) {
        logit = std::isnan(logit) ? kNever : logit;
    }
    if (how_ == nullptr) {
        return;
    }
    forbid(logits, how_->suppressed);
    if (written.empty()) {
        forbid(logits, how_->suppressed_first);
    }
    if (how_->start != how_->end) {
        forbid(logits, how_->start, how_->start + 1);
    }
    for (const firmware::Language& language : how_->languages) {
        forbid(logits, language.token, language.token + 1);
    }
    for (const std::uint32_t token :
         {how_->transcribe, how_->translate, how_->no_timestamps, how_->no_speech}) {
        if (token != 0) {
            forbid(logits, token, token + 1);
        }
    }
    if (how_->first_timestamp == 0) {
        return;
    }
    if (timestamps_) {
        apply_times(written, logits);
    } else {
        forbid(logits, how_->first_timestamp, std::numeric_limits<std::uint32_t>::max());
    }
}

void TokenRules::apply_times(std::span<const std::uint32_t> written,
                             std::span<float> logits) const {
    constexpr auto kAll = std::numeric_limits<std::uint32_t>::max();
    const std::uint32_t first = how_->first_timestamp;
    const auto forbid_text = [&] {
        const float end = logits[how_->end];
        forbid(logits, 0, first);
        logits[how_->end] = end;
    };
    if (written.empty()) {
        forbid(logits, 0, first);
        if (how_->latest_first != 0) {
            forbid(logits, first + how_->latest_first + 1, kAll);
        }
        return;
    }
    const bool after_time = is_time(written.back());
    const bool after_pair = after_time && (written.size() < 2 || is_time(written.end()[-2]));
    if (after_pair) {
        forbid(logits, first, kAll);
    } else if (after_time) {
        forbid_text();
    }
    const auto last = std::find_if(written.rbegin(), written.rend(),
                                   [&](std::uint32_t token) { return is_time(token); });
    if (last != written.rend()) {
        // A pair's second may repeat the first; text takes time.
        forbid(logits, first, *last + (after_time && !after_pair ? 0 : 1));
    }
    // Any time likelier than each text: a time.
    const auto texts = logits.first(std::min<std::size_t>(first, logits.size()));
    const auto times = logits.subspan(texts.size());
    if (!times.empty() && log_sum(times) > *std::max_element(texts.begin(), texts.end())) {
        forbid_text();
    }
}

void to_log_probabilities(std::span<float> logits) {
    const double sum = log_sum(logits);
    if (!std::isfinite(sum)) {
        return;
    }
    for (float& logit : logits) {
        logit = static_cast<float>(static_cast<double>(logit) - sum);
    }
}

}  // namespace m4::sched
