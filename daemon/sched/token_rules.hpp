// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/program.hpp"

namespace m4::sched {

/// Which tokens a decoder of speech may write next (Radford et al., arXiv 2212.04356,
/// 2.3): nothing that asks, nothing suppressed; where times are wanted, a time first,
/// then in pairs around text, never going back.
class TokenRules {
   public:
    /// `how` null: any token. It must outlive the rules.
    TokenRules(const firmware::Transcription* how, bool timestamps)
        : how_(how), timestamps_(timestamps) {}

    /// Logits of what may not follow `written` become minus infinity.
    void apply(std::span<const std::uint32_t> written, std::span<float> logits) const;
    [[nodiscard]] bool ends(std::uint32_t token) const {
        return how_ != nullptr && token == how_->end;
    }
    [[nodiscard]] bool is_time(std::uint32_t token) const {
        return how_ != nullptr && how_->first_timestamp != 0 && token >= how_->first_timestamp;
    }

   private:
    void apply_times(std::span<const std::uint32_t> written, std::span<float> logits) const;

    const firmware::Transcription* how_;
    bool timestamps_;
};

/// Logits to logarithms of probabilities, in place. All of them minus infinity stay so.
void to_log_probabilities(std::span<float> logits);

}  // namespace m4::sched
