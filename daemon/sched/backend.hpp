// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model.hpp"
#include "lib/tokenizer.hpp"

namespace m4::sched {

/// What the scheduler needs of a decoder; the contract of engine::Engine.
class Decoder {
   public:
    virtual ~Decoder() = default;
    [[nodiscard]] virtual std::uint32_t max_step_rows() const = 0;
    [[nodiscard]] virtual std::unique_ptr<engine::Sequence> create_sequence(
        std::uint32_t capacity) = 0;
    [[nodiscard]] virtual engine::KvUse kv_use() const = 0;
    virtual void load_memory(engine::Sequence& sequence, std::span<const float> rows) = 0;
    [[nodiscard]] virtual std::span<const float> step(std::span<const engine::Chunk> chunks) = 0;
};

/// What the scheduler needs of a model. Same contract as engine::Engine and
/// engine::Senses: constructed, used and destroyed by the engine thread alone.
/// context_length() 0: the image has no backbone; nothing is asked of one then.
class Backend {
   public:
    virtual ~Backend() = default;
    /// Constant; any thread.
    [[nodiscard]] virtual std::uint32_t context_length() const = 0;
    [[nodiscard]] virtual std::uint32_t vocabulary() const = 0;
    [[nodiscard]] virtual std::uint32_t max_step_rows() const = 0;

    [[nodiscard]] virtual std::unique_ptr<engine::Sequence> create_sequence(
        std::uint32_t capacity) = 0;
    [[nodiscard]] virtual engine::KvUse kv_use() const = 0;
    [[nodiscard]] virtual std::uint32_t most_passes() const = 0;
    [[nodiscard]] virtual std::span<const float> step(std::span<const engine::Chunk> chunks,
                                                      std::uint32_t passes) = 0;
    [[nodiscard]] virtual std::span<const std::uint32_t> ids() const = 0;
    [[nodiscard]] virtual std::uint32_t most_candidates() const = 0;
    [[nodiscard]] virtual std::span<const engine::Candidate> candidates() const = 0;
    [[nodiscard]] virtual engine::Profile profile(std::span<const engine::Chunk> chunks) = 0;
    [[nodiscard]] virtual engine::CopyTime time_copy() = 0;
    [[nodiscard]] virtual std::uint64_t step_weight_bytes() const = 0;
    [[nodiscard]] virtual std::uint32_t embedded_columns() const = 0;
    [[nodiscard]] virtual std::unique_ptr<engine::Adapter> create_adapter(
        std::span<const engine::LowRankPair> pairs) = 0;
    virtual void prefetch(engine::Adapter& adapter) = 0;
    [[nodiscard]] virtual std::uint64_t adapter_pool_bytes() const = 0;
    [[nodiscard]] virtual engine::AdapterUse adapter_use() const = 0;
    [[nodiscard]] virtual engine::Encoded encode(std::size_t part,
                                                 std::span<const float> features) = 0;
    [[nodiscard]] virtual engine::Encoded encode_text(std::size_t part,
                                                      std::span<const std::uint32_t> tokens,
                                                      std::span<const std::uint32_t> picked) = 0;
    [[nodiscard]] virtual std::uint64_t senses_bytes() const = 0;
    /// Of a part that is one, as long as the backend; it takes its memory when it is first
    /// asked for. Throws as engine::Model::decoder() does.
    [[nodiscard]] virtual Decoder& decoder(std::size_t part) = 0;
    /// Does some of the work that a later step would have to; false: none is left.
    virtual bool warm_up() = 0;
    /// How often warm_up() has something to do yet.
    [[nodiscard]] virtual std::uint32_t warm_ups_left() const = 0;
};

/// Text to tokens and back. Const calls come from several threads.
class TextModel {
   public:
    virtual ~TextModel() = default;
    [[nodiscard]] virtual std::vector<std::uint32_t> encode(std::string_view text,
                                                            bool add_special) const = 0;
    [[nodiscard]] virtual std::string decode(std::span<const std::uint32_t> ids) const = 0;
    [[nodiscard]] virtual std::string piece(std::uint32_t id, bool first) const = 0;
    [[nodiscard]] virtual bool is_control(std::uint32_t id) const = 0;
    [[nodiscard]] virtual std::uint32_t vocabulary() const = 0;
    [[nodiscard]] virtual std::int32_t eos_id() const = 0;  ///< -1: none
};

/// The model of this process, which it owns.
class EngineBackend final : public Backend {
   public:
    explicit EngineBackend(std::unique_ptr<engine::Model> model);
    [[nodiscard]] std::uint32_t context_length() const override;
    [[nodiscard]] std::uint32_t vocabulary() const override;
    [[nodiscard]] std::uint32_t max_step_rows() const override;
    [[nodiscard]] std::unique_ptr<engine::Sequence> create_sequence(
        std::uint32_t capacity) override;
    [[nodiscard]] engine::KvUse kv_use() const override;
    [[nodiscard]] std::uint32_t most_passes() const override;
    [[nodiscard]] std::span<const float> step(std::span<const engine::Chunk> chunks,
                                              std::uint32_t passes) override;
    [[nodiscard]] std::span<const std::uint32_t> ids() const override;
    [[nodiscard]] std::uint32_t most_candidates() const override;
    [[nodiscard]] std::span<const engine::Candidate> candidates() const override;
    [[nodiscard]] engine::Profile profile(std::span<const engine::Chunk> chunks) override;
    [[nodiscard]] engine::CopyTime time_copy() override;
    [[nodiscard]] std::uint64_t step_weight_bytes() const override;
    [[nodiscard]] std::uint32_t embedded_columns() const override;
    [[nodiscard]] std::unique_ptr<engine::Adapter> create_adapter(
        std::span<const engine::LowRankPair> pairs) override;
    void prefetch(engine::Adapter& adapter) override;
    [[nodiscard]] std::uint64_t adapter_pool_bytes() const override;
    [[nodiscard]] engine::AdapterUse adapter_use() const override;
    [[nodiscard]] engine::Encoded encode(std::size_t part,
                                         std::span<const float> features) override;
    [[nodiscard]] engine::Encoded encode_text(std::size_t part,
                                              std::span<const std::uint32_t> tokens,
                                              std::span<const std::uint32_t> picked) override;
    [[nodiscard]] std::uint64_t senses_bytes() const override;
    [[nodiscard]] Decoder& decoder(std::size_t part) override;
    bool warm_up() override;
    [[nodiscard]] std::uint32_t warm_ups_left() const override;

   private:
    std::unique_ptr<engine::Model> model_;
    engine::Engine* engine_;                                    ///< null: no backbone
    std::map<std::size_t, std::unique_ptr<Decoder>> decoders_;  ///< by part
};

/// The image's tokeniser. `tokenizer` must outlive it.
class TokenizerText final : public TextModel {
   public:
    explicit TokenizerText(const firmware::Tokenizer& tokenizer);
    [[nodiscard]] std::vector<std::uint32_t> encode(std::string_view text,
                                                    bool add_special) const override;
    [[nodiscard]] std::string decode(std::span<const std::uint32_t> ids) const override;
    [[nodiscard]] std::string piece(std::uint32_t id, bool first) const override;
    [[nodiscard]] bool is_control(std::uint32_t id) const override;
    [[nodiscard]] std::uint32_t vocabulary() const override;
    [[nodiscard]] std::int32_t eos_id() const override;

   private:
    const firmware::Tokenizer* tokenizer_;
};

/// Of an image without a backbone: it knows no token.
class NoText final : public TextModel {
   public:
    [[nodiscard]] std::vector<std::uint32_t> encode(std::string_view /*text*/,
                                                    bool /*add_special*/) const override {
        return {};
    }
    [[nodiscard]] std::string decode(std::span<const std::uint32_t> /*ids*/) const override {
        return {};
    }
    [[nodiscard]] std::string piece(std::uint32_t /*id*/, bool /*first*/) const override {
        return {};
    }
    [[nodiscard]] bool is_control(std::uint32_t /*id*/) const override { return false; }
    [[nodiscard]] std::uint32_t vocabulary() const override { return 0; }
    [[nodiscard]] std::int32_t eos_id() const override { return -1; }
};

}  // namespace m4::sched
