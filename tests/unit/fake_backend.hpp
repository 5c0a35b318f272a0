// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/kv_pool.hpp"
#include "sched/backend.hpp"

/// A model without a GPU, for tests of everything above the engine: it
/// remembers what it was fed and answers by a rule, so a token lost, doubled
/// or fed to the wrong sequence shows in what comes out. Pages are the engine's
/// own, and what a page holds is remembered by page.
namespace m4::test {

/// One token a byte: id = kFirstByte + byte, after three control tokens.
class ByteText final : public sched::TextModel {
   public:
    static constexpr std::uint32_t kBos = 0;
    static constexpr std::uint32_t kEos = 1;
    static constexpr std::uint32_t kFirstByte = 3;
    static constexpr std::uint32_t kVocabulary = kFirstByte + 256;

    [[nodiscard]] std::vector<std::uint32_t> encode(std::string_view text,
                                                    bool add_special) const override;
    [[nodiscard]] std::string decode(std::span<const std::uint32_t> ids) const override;
    [[nodiscard]] std::string piece(std::uint32_t id, bool first) const override;
    [[nodiscard]] bool is_control(std::uint32_t id) const override { return id < kFirstByte; }
    [[nodiscard]] std::uint32_t vocabulary() const override { return kVocabulary; }
    [[nodiscard]] std::int32_t eos_id() const override { return kEos; }
};

/// The most probable next token after a history.
using Rule = std::function<std::uint32_t(std::span<const std::uint32_t> history)>;

/// A lower-case letter that depends on every token of the history.
[[nodiscard]] std::uint32_t next_letter(std::span<const std::uint32_t> history);
/// Position p of the context continues with byte p of `script`, over and over.
[[nodiscard]] Rule follow(std::string script);
/// What greedy generation by `rule` gives.
[[nodiscard]] std::string continuation(const Rule& rule, std::string_view prompt,
                                       std::size_t count);

/// Logit of `id` after a history whose next token is `next`: highest for it,
/// then falling with the distance.
[[nodiscard]] float fake_logit(std::uint32_t next, std::uint32_t id);

/// What one step was made of.
struct StepRecord {
    struct Part {
        const engine::Sequence* sequence;
        std::uint32_t begin;
        std::uint32_t rows;
        engine::Logits logits;
    };
    std::vector<Part> parts;
    std::uint32_t passes = 1;
    std::size_t adapters = 0;  ///< different ones
    [[nodiscard]] std::uint32_t rows() const;
    [[nodiscard]] std::uint32_t rows_of(const engine::Sequence* sequence) const;
};

/// Lets steps through; shared by the test and the engine thread.
class Gate {
   public:
    void close();  ///< the next step waits
    void open();
    /// Waits while closed.
    void pass();
    /// Until a step waits at the closed gate.
    void await_arrival();

   private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool closed_ = false;
    bool waiting_ = false;
};

/// A decoder without a GPU: logits by a rule of what it heard (the first of its
/// memory's values) and of all tokens it was fed.
class FakeDecoder final : public sched::Decoder {
   public:
    static constexpr std::uint32_t kMemoryRows = 16;  ///< of one value
    static constexpr std::uint32_t kContext = 12;
    static constexpr std::uint32_t kVocabulary = 30;
    using Speak = std::function<std::vector<float>(float heard, std::span<const std::uint32_t>)>;

    FakeDecoder(Speak speak, std::uint32_t pages)
        : speak_(std::move(speak)), pool_(pages * 4, 1, 4) {}

    [[nodiscard]] std::uint32_t max_step_rows() const override { return 8; }
    [[nodiscard]] std::unique_ptr<engine::Sequence> create_sequence(
        std::uint32_t capacity) override;
    [[nodiscard]] engine::KvUse kv_use() const override {
        return {4, 4, pool_.pages(), pool_.used(), pool_.shared_pages()};
    }
    /// These throw std::logic_error where the scheduler breaks the engine's contract.
    void load_memory(engine::Sequence& sequence, std::span<const float> rows) override;
    [[nodiscard]] std::span<const float> step(std::span<const engine::Chunk> chunks) override;
    /// Chunks of each step.
    [[nodiscard]] const std::vector<std::size_t>& steps() const { return steps_; }
    bool lost = false;  ///< the next step throws DeviceError

   private:
    class Listener;
    Speak speak_;
    engine::KvPool pool_;
    std::vector<float> logits_;
    std::vector<std::size_t> steps_;
};

struct FakeOptions {
    FakeDecoder::Speak speak;          ///< null: there is no decoder
    std::uint32_t decoder_pages = 40;  ///< of 4 positions
    std::uint32_t context_length = 256;
    std::uint32_t max_step_rows = 8;
    std::uint32_t pool_pages = 512;
    std::uint32_t page_positions = 8;
    std::uint32_t passes = 1;
    std::uint32_t candidates = 0;  ///< that it gives where they are asked for
    std::uint64_t adapter_pool_bytes = 1000;
    bool no_adapter_memory = false;  ///< prefetch() throws DeviceError
    Rule rule = next_letter;
    std::shared_ptr<Gate> gate;
    std::uint32_t warm_ups = 0;  ///< before there is nothing left to prepare
    /// By the first warm-up that finds no free page, as all do then.
    std::shared_ptr<std::promise<void>> no_room;
    std::shared_ptr<std::promise<std::size_t>> warmed;  ///< by the last: steps until then
};

class FakeBackend final : public sched::Backend {
   public:
    explicit FakeBackend(FakeOptions options);
    ~FakeBackend() override;

    [[nodiscard]] std::uint32_t context_length() const override { return options_.context_length; }
    [[nodiscard]] std::uint32_t vocabulary() const override { return ByteText::kVocabulary; }
    [[nodiscard]] std::uint32_t max_step_rows() const override { return options_.max_step_rows; }
    [[nodiscard]] std::unique_ptr<engine::Sequence> create_sequence(
        std::uint32_t capacity) override;
    /// A byte a position.
    [[nodiscard]] engine::KvUse kv_use() const override;
    /// Throws std::logic_error where the scheduler breaks the engine's contract.
    [[nodiscard]] std::span<const float> step(std::span<const engine::Chunk> chunks,
                                              std::uint32_t passes) override;
    [[nodiscard]] std::uint32_t most_passes() const override { return options_.passes; }
    [[nodiscard]] std::span<const std::uint32_t> ids() const override { return ids_; }
    [[nodiscard]] std::uint32_t most_candidates() const override { return options_.candidates; }
    [[nodiscard]] std::span<const engine::Candidate> candidates() const override {
        return candidates_;
    }
    /// A step, of one kernel.
    [[nodiscard]] engine::Profile profile(std::span<const engine::Chunk> chunks) override;
    [[nodiscard]] engine::CopyTime time_copy() override;
    [[nodiscard]] std::uint64_t step_weight_bytes() const override { return 500; }
    /// An adapter is what it shifts letters by: the scale of its first pair. Its bytes
    /// are those of its a's. A step over keys that another adapter made is an error.
    [[nodiscard]] std::unique_ptr<engine::Adapter> create_adapter(
        std::span<const engine::LowRankPair> pairs) override;
    void prefetch(engine::Adapter& adapter) override;
    [[nodiscard]] std::uint64_t adapter_pool_bytes() const override {
        return options_.adapter_pool_bytes;
    }
    [[nodiscard]] engine::AdapterUse adapter_use() const override { return adapter_use_; }
    static constexpr std::uint32_t kRowColumns = 2;
    [[nodiscard]] std::uint32_t embedded_columns() const override { return kRowColumns; }
    /// Items of kItemFloats features. Embedding: the item's sum, and the part. Scores:
    /// its features. Hidden (a projector's, of an embedding): a row of what it got, and
    /// one of the same doubled.
    static constexpr std::uint32_t kItemFloats = 4;
    [[nodiscard]] engine::Encoded encode(std::size_t part,
                                         std::span<const float> features) override;
    /// Of each item the token that was picked, and the part.
    [[nodiscard]] engine::Encoded encode_text(std::size_t part,
                                              std::span<const std::uint32_t> tokens,
                                              std::span<const std::uint32_t> picked) override;
    [[nodiscard]] std::uint64_t senses_bytes() const override { return 77; }
    [[nodiscard]] FakeDecoder& decoder(std::size_t part) override;
    /// The token that an embedded row is remembered as.
    [[nodiscard]] static std::uint32_t token_of(std::span<const float> row);
    /// Items of each run of an encoder.
    [[nodiscard]] const std::vector<std::size_t>& runs() const { return runs_; }
    bool warm_up() override;
    [[nodiscard]] std::uint32_t warm_ups_left() const override { return options_.warm_ups; }

    /// The next step throws DeviceError. Any thread.
    void lose() { lost_ = true; }
    /// The next step throws RevokedError. Any thread.
    void revoke() { revoked_ = true; }
    [[nodiscard]] const std::vector<StepRecord>& steps() const { return steps_; }

   private:
    class FakeSequence;
    class FakeAdapter;
    /// What comes after what the sequence has, with the adapter.
    [[nodiscard]] std::uint32_t next_of(const FakeSequence& sequence,
                                        const engine::Adapter* adapter) const;
    FakeOptions options_;
    engine::KvPool pool_;
    engine::AdapterUse adapter_use_;
    std::vector<std::vector<std::uint32_t>> contents_;  ///< tokens, by page
    std::atomic<bool> lost_ = false;
    std::atomic<bool> revoked_ = false;
    std::vector<float> logits_;
    std::vector<std::uint32_t> ids_;
    std::vector<engine::Candidate> candidates_;
    std::vector<StepRecord> steps_;
    std::vector<float> encoded_;
    std::vector<std::size_t> runs_;
    std::vector<float> hidden_;
    std::unique_ptr<FakeDecoder> decoder_;
};

}  // namespace m4::test
