// SPDX-License-Identifier: MIT
#include "sched/stop_matcher.hpp"

#include <algorithm>
#include <utility>

namespace m4::sched {
namespace {

/// Length of the longest tail of `text` that begins `stop` without being all of it.
std::size_t open_tail(std::string_view text, std::string_view stop) {
    for (std::size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
        if (text.ends_with(stop.substr(0, length))) {
            return length;
        }
    }
    return 0;
}

}  // namespace

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

std::string StopMatcher::push(std::string_view text) {
    if (matched_) {
        return {};
    }
    held_ += text;
    std::size_t first = std::string::npos;
    std::size_t tail = 0;
    for (const std::string& stop : stops_) {
        first = std::min(first, held_.find(stop));
        tail = std::max(tail, open_tail(held_, stop));
    }
    if (first != std::string::npos) {
        matched_ = true;
        held_.resize(first);
        return std::exchange(held_, {});
    }
    std::string shown = held_.substr(0, held_.size() - tail);
    held_.erase(0, shown.size());
    return shown;
}

std::string StopMatcher::finish() {
    return std::exchange(held_, {});
}

}  // namespace m4::sched
