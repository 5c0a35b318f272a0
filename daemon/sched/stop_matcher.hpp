// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace m4::sched {

/// Finds the first of several stop texts in a stream and lets through what
/// comes before it. A tail that could begin a stop text is held back until it
/// is known to be none. Given whole characters and valid stop texts, what it
/// lets through is whole characters too.
class StopMatcher {
   public:
    /// No stop text is empty.
    explicit StopMatcher(std::vector<std::string> stops);

    /// What may be shown now. Nothing after matched().
    [[nodiscard]] std::string push(std::string_view text);
    /// The tail held back, when the stream ends without a match.
    [[nodiscard]] std::string finish();
    [[nodiscard]] bool matched() const { return matched_; }
    [[nodiscard]] bool holds() const { return !held_.empty(); }

   private:
    std::vector<std::string> stops_;
    std::string held_;
    bool matched_ = false;
};

}  // namespace m4::sched
