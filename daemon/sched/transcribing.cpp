// SPDX-License-Identifier: MIT
#include "sched/transcribing.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "lib/part_ports.hpp"
#include "sched/segments.hpp"

namespace m4::sched {
namespace {

/// Tokens of a window, whatever the context has room for.
constexpr std::uint32_t kMostTokens = 4096;
/// Of a window that came as features, where no recipe tells.
constexpr std::uint64_t kFeatureWindowMs = 30'000;

std::uint64_t microseconds(Clock::duration duration) {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(duration).count());
}

std::size_t sample_bytes(const media::Descriptor& sound) {
    return sound.channels * (sound.kind == media::Kind::pcm16 ? 2U : 4U);
}

/// Of a token, its end among them.
double mean_log_probability(double score, std::size_t tokens) {
    return score / static_cast<double>(tokens + 1);
}

}  // namespace

Transcribing::Transcribing(ClientId client, RequestId request, Clock::time_point arrived,
                           Transcribe what, Decoder& decoder)
    : client_(client),
      request_(request),
      arrived_(arrived),
      what_(std::move(what)),
      decoder_(&decoder),
      how_(what_.writer->transcription ? &*what_.writer->transcription : nullptr),
      rules_(how_, what_.timestamps) {
    hears_language_ =
        what_.prompt.empty() && how_ != nullptr && !how_->languages.empty() && !what_.language;
}

/// Rows of the memory once, and what beams write apart.
std::uint32_t Transcribing::pages() const {
    const std::uint32_t positions = decoder_->kv_use().page_positions;
    const auto of = [&](std::uint32_t count) { return (count + positions - 1) / positions; };
    const std::uint32_t memory = of(what_.writer->memory_rows);
    return what_.beam == 1 ? memory : memory + what_.beam * (of(what_.writer->context_length) + 1);
}

void Transcribing::run_slice(Backend& backend, std::vector<Outcome>& outcomes) {
    if (started_ == Clock::time_point{}) {
        started_ = Clock::now();
    }
    switch (phase_) {
        case Phase::listen:
            listen(backend);
            break;
        case Phase::remember:
            remember();
            break;
        case Phase::begin:
            begin(outcomes);
            break;
        case Phase::write:
            write(outcomes);
            break;
        case Phase::done:
            break;
    }
}

// ---- the window

std::size_t Transcribing::item_floats() const {
    const auto shape = firmware::port_shape(*what_.listener, firmware::Role::features);
    return std::size_t{shape.rows} * shape.columns;
}

std::uint64_t Transcribing::window_ms() const {
    const auto* recipe = std::get_if<firmware::AudioRecipe>(&what_.listener->recipe);
    return recipe == nullptr
               ? kFeatureWindowMs
               : std::max<std::uint64_t>(
                     std::uint64_t{recipe->clip_samples} * 1000 / recipe->sample_rate, 1);
}

std::uint64_t Transcribing::window_samples() const {
    return static_cast<std::uint64_t>(static_cast<double>(window_ms()) *
                                      static_cast<double>(what_.sound->rate_hz) / 1000);
}

std::uint64_t Transcribing::sound_samples() const {
    return what_.sound->samples - std::min(sample_, what_.sound->samples);
}

std::uint64_t Transcribing::sound_ms() const {
    if (!what_.sound) {
        return window_ms();
    }
    const double seconds = static_cast<double>(std::min(sound_samples(), window_samples())) /
                           static_cast<double>(what_.sound->rate_hz);
    return static_cast<std::uint64_t>(seconds * 1000);
}

std::vector<float> Transcribing::window_features() {
    if (!what_.sound || sample_ == 0) {
        const auto item = std::span(what_.features).subspan(item_ * item_floats(), item_floats());
        return {item.begin(), item.end()};
    }
    media::Descriptor window = *what_.sound;
    window.offset += sample_ * sample_bytes(window);
    window.samples = std::min(sound_samples(), window_samples());
    return media::prepare(what_.listener->recipe,
                          firmware::port_shape(*what_.listener, firmware::Role::features), window,
                          what_.data)
        .features;
}

/// To the window that begins `ms` behind this one; without one it is done.
void Transcribing::advance(std::uint64_t ms) {
    start_ms_ += ms;
    bool more = false;
    if (what_.sound) {
        // From the begin on, so that nothing adds up.
        sample_ = static_cast<std::uint64_t>(static_cast<double>(start_ms_) *
                                             static_cast<double>(what_.sound->rate_hz) / 1000);
        more = sound_ms() != 0;
    } else {
        more = (++item_ + 1) * item_floats() <= what_.features.size();
    }
    phase_ = more ? Phase::listen : Phase::done;
}

// ---- before the first token

void Transcribing::listen(Backend& backend) {
    const auto hidden = backend.encode(what_.encoder, window_features()).hidden;
    hidden_.assign(hidden.begin(), hidden.end());
    remembered_ = 0;
    open_.clear();
    ended_.clear();
    Hypothesis first;
    first.sequence = decoder_->create_sequence(what_.writer->context_length);
    if (first.sequence == nullptr) {
        throw std::invalid_argument("the decoder has no room for one input");
    }
    open_.push_back(std::move(first));
    ++windows_;
    phase_ = Phase::remember;
}

void Transcribing::remember() {
    const std::size_t row = hidden_.size() / what_.writer->memory_rows;
    const std::size_t count =
        std::min(hidden_.size() - remembered_, row * decoder_->max_step_rows());
    decoder_->load_memory(*open_[0].sequence, std::span(hidden_).subspan(remembered_, count));
    remembered_ += count;
    if (remembered_ == hidden_.size()) {
        hidden_.clear();
        to_feed_ = hears_language_ ? std::vector{how_->start} : beginning();
        hears_silence_ = what_.prompt.empty() && how_->no_speech != 0;
        no_speech_ = 0;
        phase_ = Phase::begin;
    }
}

std::vector<std::uint32_t> Transcribing::beginning() const {
    if (!what_.prompt.empty()) {
        return what_.prompt;
    }
    std::vector<std::uint32_t> ids = {how_->start};
    if (!how_->languages.empty()) {
        ids.push_back(how_->languages[*what_.language].token);
        ids.push_back(what_.translate ? how_->translate : how_->transcribe);
    }
    if (!what_.timestamps && how_->no_timestamps != 0) {
        ids.push_back(how_->no_timestamps);
    }
    return ids;
}

void Transcribing::begin(std::vector<Outcome>& outcomes) {
    // Silence shows behind the first token.
    const std::size_t count =
        hears_silence_ ? 1 : std::min<std::size_t>(to_feed_.size(), decoder_->max_step_rows());
    const bool all = count == to_feed_.size();
    const engine::Chunk chunk{open_[0].sequence.get(), std::span(to_feed_).first(count),
                              all || hears_silence_ ? engine::Logits::last : engine::Logits::none};
    const auto logits = decoder_->step({&chunk, 1});
    usage_.prompt_tokens += static_cast<std::uint32_t>(count);
    to_feed_.erase(to_feed_.begin(), to_feed_.begin() + static_cast<std::ptrdiff_t>(count));
    if (hears_silence_) {
        hears_silence_ = false;
        std::vector<float> own(logits.begin(), logits.end());
        to_log_probabilities(own);
        const double probability = std::exp(static_cast<double>(own[how_->no_speech]));
        no_speech_ = probability <= 1 ? probability : 0;  // logits may be no numbers
    }
    if (!all) {
        return;
    }
    if (hears_language_) {
        hear_language(logits);
        return;
    }
    phase_ = Phase::write;
    choose(logits, outcomes);
}

/// The likeliest behind the first token; for the whole recording.
void Transcribing::hear_language(std::span<const float> logits) {
    const auto& all = how_->languages;
    const auto best = std::ranges::max_element(
        all, {}, [&](const firmware::Language& language) { return logits[language.token]; });
    what_.language = static_cast<std::uint32_t>(best - all.begin());
    hears_language_ = false;
    to_feed_ = beginning();
    to_feed_.erase(to_feed_.begin());  // it was fed
}

// ---- tokens

void Transcribing::write(std::vector<Outcome>& outcomes) {
    std::vector<engine::Chunk> chunks;
    for (const Hypothesis& one : open_) {
        chunks.push_back({one.sequence.get(), std::span(one.ids).last(1), engine::Logits::last});
    }
    choose(decoder_->step(chunks), outcomes);
}

std::uint32_t Transcribing::most_tokens() const {
    const auto begun =
        static_cast<std::uint32_t>(what_.prompt.empty() ? beginning().size() : what_.prompt.size());
    const std::uint32_t room = std::min(what_.writer->context_length - begun + 1, kMostTokens);
    return what_.max_tokens == 0 ? room : std::min(room, what_.max_tokens);
}

/// Of each hypothesis as many as could be among the best of all, best first.
std::vector<Transcribing::Choice> Transcribing::choices(std::span<const float> logits) const {
    std::vector<Choice> all;
    const std::size_t vocabulary = what_.writer->vocabulary;
    std::vector<float> own(vocabulary);
    std::vector<std::uint32_t> order(vocabulary);
    for (std::size_t i = 0; i < open_.size(); ++i) {
        const auto row = logits.subspan(i * vocabulary, vocabulary);
        std::copy(row.begin(), row.end(), own.begin());
        rules_.apply(open_[i].ids, own);
        to_log_probabilities(own);
        for (std::uint32_t id = 0; id < vocabulary; ++id) {
            order[id] = id;
        }
        const auto most = order.begin() + static_cast<std::ptrdiff_t>(
                                              std::min<std::size_t>(what_.beam + 1, vocabulary));
        // The lowest id of equal ones, as everywhere.
        std::partial_sort(order.begin(), most, order.end(), [&](std::uint32_t a, std::uint32_t b) {
            return own[a] != own[b] ? own[a] > own[b] : a < b;
        });
        for (auto id = order.begin(); id != most; ++id) {
            if (std::isfinite(own[*id])) {
                all.push_back({i, *id, open_[i].score + static_cast<double>(own[*id])});
            }
        }
    }
    std::ranges::stable_sort(all, std::ranges::greater{}, &Choice::score);
    return all;
}

void Transcribing::choose(std::span<const float> logits, std::vector<Outcome>& outcomes) {
    if (usage_.ttft_us == 0) {
        usage_.ttft_us = microseconds(Clock::now() - arrived_);
    }
    std::vector<Choice> kept;
    for (const Choice& choice : choices(logits)) {
        if (kept.size() == what_.beam || ended_.size() == what_.beam) {
            break;
        }
        if (rules_.ends(choice.token)) {
            ended_.push_back({open_[choice.from].ids, choice.score, nullptr});
        } else {
            kept.push_back(choice);
        }
    }
    const bool ends = kept.empty() || ended_.size() == what_.beam;
    if (!kept.empty()) {
        keep(kept);
    }
    if (ends || open_[0].ids.size() >= most_tokens()) {
        end_window(outcomes);
    }
}

/// The chosen go on as the hypotheses; where one goes on in several ways, as clones.
void Transcribing::keep(const std::vector<Choice>& chosen) {
    std::vector<std::size_t> uses(open_.size());
    for (const Choice& choice : chosen) {
        ++uses[choice.from];
    }
    std::vector<Hypothesis> next;
    for (const Choice& choice : chosen) {
        Hypothesis& from = open_[choice.from];
        Hypothesis one;
        one.score = choice.score;
        const bool last = --uses[choice.from] == 0;
        one.sequence = last ? std::move(from.sequence) : from.sequence->clone();
        one.ids = last ? std::move(from.ids) : from.ids;
        one.ids.push_back(choice.token);
        next.push_back(std::move(one));
    }
    open_ = std::move(next);
}

bool Transcribing::silent(const Hypothesis& best) const {
    return how_ != nullptr && how_->no_speech != 0 &&
           no_speech_ > static_cast<double>(how_->no_speech_probability) &&
           mean_log_probability(best.score, best.ids.size()) <
               static_cast<double>(how_->least_log_probability);
}

/// The likeliest by token is it; what it says goes out, and the pages are free.
void Transcribing::end_window(std::vector<Outcome>& outcomes) {
    std::vector<Hypothesis>& from = ended_.empty() ? open_ : ended_;
    const auto best = std::ranges::max_element(from, {}, [](const Hypothesis& one) {
        return mean_log_probability(one.score, one.ids.size());
    });
    const bool nobody = silent(*best);
    const std::vector<std::uint32_t> ids = std::move(best->ids);
    open_.clear();
    ended_.clear();
    usage_.output_tokens += static_cast<std::uint32_t>(ids.size());
    const auto* times = what_.timestamps ? how_ : nullptr;
    Segments segments =
        nobody ? Segments{{}, window_ms()} : cut_segments(ids, times, sound_ms(), window_ms());
    for (Segment& segment : segments.all) {
        std::string text;
        if (what_.tokenizer != nullptr) {
            firmware::Utf8Assembler whole;
            text = whole.push(what_.tokenizer->decode(segment.ids));
            text += whole.finish();
        }
        outcomes.push_back(TranscriptPart{start_ms_ + segment.start_ms, start_ms_ + segment.end_ms,
                                          std::move(segment.ids), std::move(text)});
    }
    // Features have no sound between their windows to go on from.
    advance(what_.sound ? segments.advance_ms : window_ms());
    if (done()) {
        usage_.queue_us = microseconds(started_ - arrived_);
        usage_.total_us = microseconds(Clock::now() - arrived_);
        const bool named = how_ != nullptr && what_.language && !how_->languages.empty();
        outcomes.push_back(TranscribeFinished{
            what_.writer->name, named ? how_->languages[*what_.language].code : std::string(),
            windows_, usage_});
    }
}

}  // namespace m4::sched
