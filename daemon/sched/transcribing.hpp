// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sched/backend.hpp"
#include "sched/completion.hpp"
#include "sched/request.hpp"
#include "sched/token_rules.hpp"
#include "sched/work.hpp"

namespace m4::sched {

/// A transcribe request from admission to its end, in slices: a window prepared and
/// encoded, a chunk of its rows given to the decoder, or one step of the decoder, with
/// others' work in between. It holds pages of the decoder from a window's first rows to
/// its last token. Engine thread only.
class Transcribing {
   public:
    static constexpr std::uint32_t kMostBeams = engine::Model::kBeams;

    Transcribing(ClientId client, RequestId request, Clock::time_point arrived, Transcribe what,
                 Decoder& decoder);

    [[nodiscard]] ClientId client() const { return client_; }
    [[nodiscard]] RequestId request() const { return request_; }
    [[nodiscard]] std::uint32_t decoder_part() const { return what_.decoder; }
    [[nodiscard]] const Transcribe& what() const { return what_; }

    /// Pages that a window comes to hold, at most.
    [[nodiscard]] std::uint32_t pages() const;
    /// Between windows: it holds none.
    [[nodiscard]] bool waits() const { return phase_ == Phase::listen; }
    [[nodiscard]] bool done() const { return phase_ == Phase::done; }

    /// Throws as Backend's calls do, and media::MediaError.
    void run_slice(Backend& backend, std::vector<Outcome>& outcomes);

    /// Number of its last slice; 0: none yet.
    std::uint64_t turn = 0;

   private:
    enum class Phase : std::uint8_t { listen, remember, begin, write, done };
    /// One way to write the window down.
    struct Hypothesis {
        std::vector<std::uint32_t> ids;
        double score = 0;  ///< logarithm of its probability
        std::unique_ptr<engine::Sequence> sequence;
    };
    struct Choice {
        std::size_t from = 0;  ///< hypothesis
        std::uint32_t token = 0;
        double score = 0;
    };

    void listen(Backend& backend);
    void remember();
    void begin(std::vector<Outcome>& outcomes);
    void write(std::vector<Outcome>& outcomes);
    void hear_language(std::span<const float> logits);
    /// Whether nobody speaks in the window, of which this was written.
    [[nodiscard]] bool silent(const Hypothesis& best) const;
    [[nodiscard]] std::vector<std::uint32_t> beginning() const;
    /// Chooses what follows each hypothesis, by the logits of their last tokens.
    void choose(std::span<const float> logits, std::vector<Outcome>& outcomes);
    [[nodiscard]] std::vector<Choice> choices(std::span<const float> logits) const;
    void keep(const std::vector<Choice>& chosen);
    void end_window(std::vector<Outcome>& outcomes);
    [[nodiscard]] std::uint32_t most_tokens() const;

    // Of the window in hand.
    [[nodiscard]] std::uint64_t sound_samples() const;  ///< that are left from it on
    [[nodiscard]] std::uint64_t window_samples() const;
    [[nodiscard]] std::uint64_t window_ms() const;
    [[nodiscard]] std::uint64_t sound_ms() const;
    [[nodiscard]] std::vector<float> window_features();
    [[nodiscard]] std::size_t item_floats() const;
    void advance(std::uint64_t ms);

    ClientId client_;
    RequestId request_;
    Clock::time_point arrived_;
    Clock::time_point started_;
    Transcribe what_;
    Decoder* decoder_;
    const firmware::Transcription* how_;  // null: the prompt says all
    TokenRules rules_;
    Phase phase_ = Phase::listen;
    std::uint64_t start_ms_ = 0;  // of the window
    std::uint64_t sample_ = 0;    // the same, of a recording
    std::size_t item_ = 0;        // the same, of features
    std::vector<float> hidden_;
    std::size_t remembered_ = 0;  // floats of it
    std::vector<std::uint32_t> to_feed_;
    bool hears_language_ = false;
    bool hears_silence_ = false;  // the first token is yet to be fed
    double no_speech_ = 0;        // probability that the window is silent
    std::vector<Hypothesis> open_;
    std::vector<Hypothesis> ended_;
    std::uint32_t windows_ = 0;
    Usage usage_;
};

}  // namespace m4::sched
