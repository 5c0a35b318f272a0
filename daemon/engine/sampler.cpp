// SPDX-License-Identifier: MIT
#include "sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

namespace m4::engine {

namespace {

/// Order of logits: higher first, ties to the lower id; a NaN is below all, so
/// that a comparison is always a strict weak order.
bool is_better(const Candidate& a, const Candidate& b) {
    const auto value = [](const Candidate& candidate) {
        return std::isnan(candidate.logit) ? -std::numeric_limits<float>::infinity()
                                           : candidate.logit;
    };
    const float x = value(a);
    const float y = value(b);
    return x > y || (x == y && a.id < b.id);
}

/// The same of ids.
class Better {
   public:
    explicit Better(std::span<const float> logits) : logits_(logits) {}
    bool operator()(std::uint32_t a, std::uint32_t b) const {
        return is_better({a, logits_[a]}, {b, logits_[b]});
    }

   private:
    std::span<const float> logits_;
};

std::uint32_t greedy(std::span<const float> logits) {
    const Better better(logits);
    std::uint32_t best = 0;
    for (std::uint32_t id = 1; id < logits.size(); ++id) {
        if (better(id, best)) {
            best = id;
        }
    }
    return best;
}

/// log(sum(exp(logits))), in double and around the maximum.
double log_sum(std::span<const float> logits) {
    const double most = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float logit : logits) {
        sum += std::exp(static_cast<double>(logit) - most);
    }
    return most + std::log(sum);
}

void require_logits(std::span<const float> logits) {
    if (logits.empty()) {
        throw std::invalid_argument("no logits to choose from");
    }
}

/// Uniform in [0, 1), from the high 53 bits: the same everywhere, as the
/// standard's distributions are not.
double uniform(std::mt19937_64& random) {
    return static_cast<double>(random() >> 11) * 0x1.0p-53;
}

}  // namespace

void sort_candidates(std::span<Candidate> candidates) {
    std::sort(candidates.begin(), candidates.end(), is_better);
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}

std::uint32_t Sampler::pick(std::span<const float> logits) {
    require_logits(logits);
    if (!(options_.temperature > 0)) {
        return greedy(logits);
    }
    const std::size_t all = logits.size();
    const std::size_t kept = options_.top_k == 0 ? all : std::min<std::size_t>(options_.top_k, all);
    const bool nucleus = options_.top_p > 0 && options_.top_p < 1;
    order_.resize(all);
    std::iota(order_.begin(), order_.end(), 0U);
    const Better better(logits);
    if (kept < all) {
        std::nth_element(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(kept) - 1,
                         order_.end(), better);
        order_.resize(kept);
    }
    // Sorted, so that neither the draw nor the sum depends on the library.
    if (nucleus || kept < all) {
        std::sort(order_.begin(), order_.end(), better);
    }
    logits_.clear();
    for (const std::uint32_t id : order_) {
        logits_.push_back(logits[id]);
    }
    const std::uint32_t best = nucleus || kept < all ? order_.front() : greedy(logits);
    return draw(logits[best], best);
}

std::uint32_t Sampler::pick_among(std::span<const Candidate> best) {
    if (!(options_.temperature > 0) || options_.top_k == 0 || options_.top_k > best.size()) {
        throw std::invalid_argument(std::to_string(best.size()) +
                                    " candidates do not stand for a row of logits");
    }
    order_.clear();
    logits_.clear();
    for (const Candidate& candidate : best.first(options_.top_k)) {
        order_.push_back(candidate.id);
        logits_.push_back(candidate.logit);
    }
    return draw(logits_.front(), order_.front());
}

/// One of order_, whose logits are logits_ and at most `most`; `otherwise` where
/// nothing has a weight.
std::uint32_t Sampler::draw(double most, std::uint32_t otherwise) {
    weights_.resize(order_.size());
    double total = 0;
    for (std::size_t i = 0; i < order_.size(); ++i) {
        const double scaled =
            (static_cast<double>(logits_[i]) - most) / double{options_.temperature};
        weights_[i] = std::isnan(scaled) ? 0.0F : static_cast<float>(std::exp(scaled));
        total += double{weights_[i]};
    }
    std::size_t count = order_.size();
    if (options_.top_p > 0 && options_.top_p < 1) {
        // The fewest tokens whose probability reaches top_p.
        double reached = 0;
        for (count = 0; count < order_.size() && reached < double{options_.top_p} * total;) {
            reached += double{weights_[count++]};
        }
        total = reached;
    }
    double rest = uniform(random_) * total;
    std::uint32_t picked = otherwise;
    for (std::size_t i = 0; i < count && rest >= 0; ++i) {
        if (weights_[i] > 0) {
            picked = order_[i];
            rest -= double{weights_[i]};
        }
    }
    return picked;
}

std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, std::size_t n) {
    if (n == 0) {
        return {};
    }
    require_logits(logits);
    std::vector<std::uint32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0U);
    n = std::min(n, order.size());
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n), order.end(),
                      Better(logits));
    const double sum = log_sum(logits);
    std::vector<TokenLogprob> result;
    for (std::size_t i = 0; i < n; ++i) {
        result.push_back(
            {order[i], static_cast<float>(static_cast<double>(logits[order[i]]) - sum)});
    }
    return result;
}

float token_logprob(std::span<const float> logits, std::uint32_t id) {
    if (id >= logits.size()) {
        throw std::invalid_argument("token " + std::to_string(id) + " is not below " +
                                    std::to_string(logits.size()));
    }
    return static_cast<float>(static_cast<double>(logits[id]) - log_sum(logits));
}

}  // namespace m4::engine
