// SPDX-License-Identifier: MIT
#include "sched/backend.hpp"

#include <utility>

#include "sched/limits.hpp"

namespace m4::sched {

EngineBackend::EngineBackend(std::unique_ptr<engine::Model> model)
    : model_(std::move(model)), engine_(model_->backbone()) {}

std::uint32_t EngineBackend::context_length() const {
    return engine_ == nullptr ? 0 : engine_->context_length();
}

std::uint32_t EngineBackend::vocabulary() const {
    return engine_ == nullptr ? 0 : engine_->vocabulary();
}

std::uint32_t EngineBackend::max_step_rows() const {
    return engine_ == nullptr ? kMinStepRows : engine_->max_step_rows();
}

std::unique_ptr<engine::Sequence> EngineBackend::create_sequence(std::uint32_t capacity) {
    return engine_->create_sequence(capacity);
}

engine::KvUse EngineBackend::kv_use() const {
    return engine_ == nullptr ? engine::KvUse{} : engine_->kv_use();
}

std::uint32_t EngineBackend::most_passes() const {
    return engine_->most_passes();
}

std::span<const float> EngineBackend::step(std::span<const engine::Chunk> chunks,
                                           std::uint32_t passes) {
    return engine_->step(chunks, passes);
}

std::span<const std::uint32_t> EngineBackend::ids() const {
    return engine_->ids();
}

std::uint32_t EngineBackend::most_candidates() const {
    return engine_->most_candidates();
}

std::span<const engine::Candidate> EngineBackend::candidates() const {
    return engine_->candidates();
}

engine::Profile EngineBackend::profile(std::span<const engine::Chunk> chunks) {
    return engine_->profile(chunks);
}

engine::CopyTime EngineBackend::time_copy() {
    return engine_->time_copy();
}

std::uint64_t EngineBackend::step_weight_bytes() const {
    return engine_->step_weight_bytes();
}

bool EngineBackend::warm_up() {
    return engine_ != nullptr && engine_->warm_up();
}

std::uint32_t EngineBackend::warm_ups_left() const {
    return engine_ == nullptr ? 0 : engine_->warm_ups_left();
}

std::uint32_t EngineBackend::embedded_columns() const {
    return engine_ == nullptr ? 0 : engine_->embedded_columns();
}

std::unique_ptr<engine::Adapter> EngineBackend::create_adapter(
    std::span<const engine::LowRankPair> pairs) {
    return engine_->create_adapter(pairs);
}

void EngineBackend::prefetch(engine::Adapter& adapter) {
    engine_->prefetch(adapter);
}

std::uint64_t EngineBackend::adapter_pool_bytes() const {
    return engine_ == nullptr ? 0 : engine_->adapter_pool_bytes();
}

engine::AdapterUse EngineBackend::adapter_use() const {
    return engine_ == nullptr ? engine::AdapterUse{} : engine_->adapter_use();
}

engine::Encoded EngineBackend::encode(std::size_t part, std::span<const float> features) {
    return model_->senses().encode(part, features);
}

engine::Encoded EngineBackend::encode_text(std::size_t part, std::span<const std::uint32_t> tokens,
                                           std::span<const std::uint32_t> picked) {
    return model_->senses().encode_text(part, tokens, picked);
}

std::uint64_t EngineBackend::senses_bytes() const {
    return model_->senses().memory_bytes();
}

Decoder& EngineBackend::decoder(std::size_t part) {
    class Owned final : public Decoder {
       public:
        explicit Owned(engine::Engine& engine) : engine_(&engine) {}
        [[nodiscard]] std::uint32_t max_step_rows() const override {
            return engine_->max_step_rows();
        }
        [[nodiscard]] std::unique_ptr<engine::Sequence> create_sequence(
            std::uint32_t capacity) override {
            return engine_->create_sequence(capacity);
        }
        [[nodiscard]] engine::KvUse kv_use() const override { return engine_->kv_use(); }
        void load_memory(engine::Sequence& sequence, std::span<const float> rows) override {
            engine_->load_memory(sequence, rows);
        }
        [[nodiscard]] std::span<const float> step(std::span<const engine::Chunk> chunks) override {
            return engine_->step(chunks);
        }

       private:
        engine::Engine* engine_;
    };
    const auto found = decoders_.find(part);
    return *(found != decoders_.end()
                 ? found
                 : decoders_.emplace(part, std::make_unique<Owned>(model_->decoder(part))).first)
                ->second;
}

TokenizerText::TokenizerText(const firmware::Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

std::vector<std::uint32_t> TokenizerText::encode(std::string_view text, bool add_special) const {
    return tokenizer_->encode(text, add_special);
}

std::string TokenizerText::decode(std::span<const std::uint32_t> ids) const {
    return tokenizer_->decode(ids);
}

std::string TokenizerText::piece(std::uint32_t id, bool first) const {
    return tokenizer_->piece(id, first);
}

bool TokenizerText::is_control(std::uint32_t id) const {
    return tokenizer_->is_control(id);
}

std::uint32_t TokenizerText::vocabulary() const {
    return tokenizer_->vocabulary();
}

std::int32_t TokenizerText::eos_id() const {
    return tokenizer_->eos_id();
}

}  // namespace m4::sched
