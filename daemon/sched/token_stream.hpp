// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/tokenizer.hpp"
#include "sched/backend.hpp"
#include "sched/completion.hpp"
#include "sched/stop_matcher.hpp"

namespace m4::sched {

/// Generated tokens in, pieces for the client out: whole characters, never a
/// stop text. Every id comes out once, in order, with the text it completed or
/// later. Engine thread only.
class TokenStream {
   public:
    /// `first`: no token with text stands before the generated ones. `text`
    /// must outlive the stream.
    TokenStream(const TextModel& text, std::vector<std::string> stops, bool first);

    /// What to show now; empty while all is held back.
    [[nodiscard]] Piece push(std::uint32_t id);
    /// A stop text has come.
    [[nodiscard]] bool stopped() const { return matcher_.matched(); }
    /// What was held back. The stream is then at its end.
    [[nodiscard]] Piece finish();

   private:
    const TextModel* text_;
    firmware::Utf8Assembler assembler_;
    StopMatcher matcher_;
    std::vector<std::uint32_t> ids_;  ///< not yet shown
    bool first_;
};

}  // namespace m4::sched
