// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace m4::engine {

struct SamplingOptions {
    float temperature = 0;    ///< 0: greedy
    std::uint32_t top_k = 0;  ///< 0: off
    float top_p = 0;          ///< 0 or 1: off
    std::uint64_t seed = 0;
};

/// A token that may be picked.
struct Candidate {
    std::uint32_t id = 0;
    float logit = 0;
    bool operator==(const Candidate&) const = default;
};

/// Best first, as a Sampler has it.
void sort_candidates(std::span<Candidate> candidates);

/// Picks tokens from logits. Order of filters: top-k, then temperature, then
/// top-p (nucleus sampling, Holtzman et al. 2019, arXiv 1904.09751). Greedy
/// ties go to the lowest id. The same seed gives the same choices on every
/// machine (own uniform draw over std::mt19937_64's bits).
class Sampler {
   public:
    explicit Sampler(const SamplingOptions& options);
    [[nodiscard]] std::uint32_t pick(std::span<const float> logits);
    /// The same token, from the best of a row alone, best first: with a temperature
    /// and a top_k that is at most their number and below the row's.
    [[nodiscard]] std::uint32_t pick_among(std::span<const Candidate> best);

   private:
    [[nodiscard]] std::uint32_t draw(double most, std::uint32_t otherwise);

    SamplingOptions options_;
    std::mt19937_64 random_;
    std::vector<std::uint32_t> order_;  ///< scratch
    std::vector<float> logits_;         ///< scratch, of order_
    std::vector<float> weights_;        ///< scratch
};

struct TokenLogprob {
    std::uint32_t id;
    float logprob;  ///< natural logarithm
};

/// The n most probable tokens, best first, ties to the lower id.
[[nodiscard]] std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, std::size_t n);
/// Log-probability of one token.
[[nodiscard]] float token_logprob(std::span<const float> logits, std::uint32_t id);

}  // namespace m4::engine
