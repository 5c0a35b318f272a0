// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/senses.hpp"
#include "sched/completion.hpp"
#include "sched/request.hpp"

namespace m4::sched {

/// An encode request from admission to its result: items go through the part one by
/// one or several together, in company of others' where the part is the same; an
/// input's result is the mean of its items'. Engine thread only.
class Encoding {
   public:
    /// `what` is sound: check_encode().
    Encoding(ClientId client, RequestId request, Encode what);

    [[nodiscard]] ClientId client() const { return client_; }
    [[nodiscard]] RequestId request() const { return request_; }
    [[nodiscard]] const Encode& what() const { return what_; }
    [[nodiscard]] std::uint32_t part() const { return what_.part; }

    [[nodiscard]] std::uint32_t items_left() const { return items_ - next_; }
    /// Its next `count` items: their features, or tokens and picked rows.
    [[nodiscard]] std::span<const float> features(std::uint32_t count) const;
    [[nodiscard]] std::span<const std::uint32_t> tokens(std::uint32_t count) const;
    [[nodiscard]] std::span<const std::uint32_t> picked(std::uint32_t count) const;
    /// Results of the next items, `floats` in all.
    void accept(std::span<const float> floats, std::uint32_t count);

    [[nodiscard]] bool done() const { return next_ == items_; }
    /// Once it is done; input by input.
    [[nodiscard]] std::vector<float> take_results() { return std::move(results_); }
    /// Inputs that were encoded, not known.
    [[nodiscard]] std::uint32_t encoded_inputs() const;
    /// Puts results that were not known where they are found again.
    void keep_results() const;

    /// Number of its last slice; 0: none yet.
    std::uint64_t turn = 0;

   private:
    ClientId client_;
    RequestId request_;
    Encode what_;
    std::uint32_t items_ = 0;
    std::uint32_t next_ = 0;
    void take_known();

    std::size_t input_ = 0;  ///< that next_ belongs to
    std::uint32_t done_of_input_ = 0;
    std::vector<float> results_;
};

/// Of what a part gave, the output that is asked for.
[[nodiscard]] std::span<const float> output_of(const engine::Encoded& encoded, EncodeOutput output);

}  // namespace m4::sched
