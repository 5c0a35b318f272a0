// SPDX-License-Identifier: MIT
#include "fake_backend.hpp"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <set>
#include <stdexcept>

#include "engine/kv_sequence.hpp"

namespace m4::test {

std::vector<std::uint32_t> ByteText::encode(std::string_view text, bool add_special) const {
    std::vector<std::uint32_t> ids;
    if (add_special) {
        ids.push_back(kBos);
    }
    for (const char c : text) {
        ids.push_back(kFirstByte + static_cast<unsigned char>(c));
    }
    return ids;
}

std::string ByteText::decode(std::span<const std::uint32_t> ids) const {
    std::string text;
    for (const std::uint32_t id : ids) {
        text += piece(id, text.empty());
    }
    return text;
}

std::string ByteText::piece(std::uint32_t id, bool /*first*/) const {
    return is_control(id) ? std::string{} : std::string(1, static_cast<char>(id - kFirstByte));
}

std::uint32_t next_letter(std::span<const std::uint32_t> history) {
    std::uint64_t hash = 14695981039346656037ULL;
    for (const std::uint32_t id : history) {
        hash = (hash ^ id) * 1099511628211ULL;
    }
    return ByteText::kFirstByte + 'a' + static_cast<std::uint32_t>((hash >> 20) % 26);
}

Rule follow(std::string script) {
    return [script = std::move(script)](std::span<const std::uint32_t> history) {
        return ByteText::kFirstByte +
               static_cast<unsigned char>(script[history.size() % script.size()]);
    };
}

std::string continuation(const Rule& rule, std::string_view prompt, std::size_t count) {
    const ByteText text;
    std::vector<std::uint32_t> history = text.encode(prompt, false);
    for (std::size_t i = 0; i < count; ++i) {
        history.push_back(rule(history));
    }
    return text.decode(std::span(history).subspan(prompt.size()));
}

float fake_logit(std::uint32_t next, std::uint32_t id) {
    const auto distance = (id + ByteText::kVocabulary - next) % ByteText::kVocabulary;
    return -0.25F * static_cast<float>(distance);
}

std::uint32_t StepRecord::rows() const {
    std::uint32_t rows = 0;
    for (const Part& part : parts) {
        rows += part.rows;
    }
    return rows;
}

std::uint32_t StepRecord::rows_of(const engine::Sequence* sequence) const {
    for (const Part& part : parts) {
        if (part.sequence == sequence) {
            return part.rows;
        }
    }
    return 0;
}

void Gate::close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
}

void Gate::open() {
    {
        const std::lock_guard lock(mutex_);
        closed_ = false;
    }
    changed_.notify_all();
}

void Gate::pass() {
    std::unique_lock lock(mutex_);
    waiting_ = closed_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !closed_; });
    waiting_ = false;
}

void Gate::await_arrival() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_; });
}

/// Its tokens lie in its pages, as keys and values do.
class FakeBackend::FakeAdapter final : public engine::Adapter {
   public:
    FakeAdapter(std::uint32_t shift, std::uint64_t bytes) : shift_(shift), bytes_(bytes) {}
    [[nodiscard]] std::uint64_t bytes() const override { return bytes_; }
    [[nodiscard]] bool resident() const override { return loaded; }
    [[nodiscard]] std::uint32_t shift() const { return shift_; }
    bool loaded = false;

   private:
    std::uint32_t shift_;
    std::uint64_t bytes_;
};

class FakeBackend::FakeSequence final : public engine::KvSequence {
   public:
    FakeSequence(FakeBackend& backend, std::uint32_t capacity)
        : KvSequence(backend.pool_, capacity), backend_(&backend) {}

    [[nodiscard]] std::unique_ptr<Sequence> clone() const override {
        return std::unique_ptr<Sequence>(new FakeSequence(*this));
    }

    /// Remembered by token: whose keys these are.
    void append(std::span<const std::uint32_t> tokens, const engine::Adapter* adapter) {
        std::vector<engine::PageCopy> copies;
        take_pages(static_cast<std::uint32_t>(tokens.size()), copies);
        for (const engine::PageCopy& copy : copies) {
            backend_->contents_[copy.to] = backend_->contents_[copy.from];
        }
        for (const std::uint32_t token : tokens) {
            const std::uint32_t page = pages()[length() / pool().page_positions()];
            if (pool().shared(page)) {
                throw std::logic_error("a shared page is written");
            }
            backend_->contents_[page][length() % pool().page_positions()] =
                token | shift_of(adapter) << kShiftBits;
            grow(1);
        }
    }

    [[nodiscard]] std::vector<std::uint32_t> history(const engine::Adapter* adapter) const {
        std::vector<std::uint32_t> tokens;
        for (std::uint32_t i = 0; i < length(); ++i) {
            const std::uint32_t page = pages()[i / pool().page_positions()];
            const std::uint32_t token = backend_->contents_[page][i % pool().page_positions()];
            if (token >> kShiftBits != shift_of(adapter)) {
                throw std::logic_error("keys that another adapter made");
            }
            tokens.push_back(token & ((1U << kShiftBits) - 1));
        }
        return tokens;
    }

    [[nodiscard]] static std::uint32_t shift_of(const engine::Adapter* adapter) {
        return adapter == nullptr ? 0 : dynamic_cast<const FakeAdapter&>(*adapter).shift();
    }

   private:
    static constexpr std::uint32_t kShiftBits = 16;
    FakeSequence(const FakeSequence& other) = default;
    FakeBackend* backend_;
};

class FakeDecoder::Listener final : public engine::KvSequence {
   public:
    Listener(engine::KvPool& pool, std::uint32_t capacity)
        : KvSequence(pool, capacity, kMemoryRows) {}
    [[nodiscard]] std::unique_ptr<Sequence> clone() const override {
        return std::unique_ptr<Sequence>(new Listener(*this));
    }
    float heard = 0;
    std::vector<std::uint32_t> tokens;

   private:
    Listener(const Listener& other) = default;
};

std::unique_ptr<engine::Sequence> FakeDecoder::create_sequence(std::uint32_t capacity) {
    return std::make_unique<Listener>(pool_, capacity);
}

void FakeDecoder::load_memory(engine::Sequence& sequence, std::span<const float> rows) {
    auto& listener = dynamic_cast<Listener&>(sequence);
    if (rows.empty() || rows.size() > 8 || rows.size() > kMemoryRows - listener.memory_length() ||
        listener.pages_needed(1) > pool_.free()) {
        throw std::logic_error("bad memory");
    }
    if (listener.memory_length() == 0) {
        listener.heard = rows[0];
    }
    listener.take_memory();
    listener.remember(static_cast<std::uint32_t>(rows.size()));
}

std::span<const float> FakeDecoder::step(std::span<const engine::Chunk> chunks) {
    if (lost) {
        throw engine::DeviceError("the fake device is lost");
    }
    steps_.push_back(chunks.size());
    logits_.clear();
    std::uint32_t needed = 0;
    for (const engine::Chunk& chunk : chunks) {
        needed += chunk.sequence->pages_needed(static_cast<std::uint32_t>(chunk.tokens.size()));
    }
    if (needed > pool_.free()) {
        throw std::logic_error("more pages than are free");
    }
    for (const engine::Chunk& chunk : chunks) {
        auto& listener = dynamic_cast<Listener&>(*chunk.sequence);
        const auto count = static_cast<std::uint32_t>(chunk.tokens.size());
        if (count == 0 || count > 8 || listener.memory_length() != kMemoryRows ||
            count > listener.capacity() - listener.length()) {
            throw std::logic_error("bad chunk");
        }
        std::vector<engine::PageCopy> copies;
        listener.take_pages(count, copies);
        listener.grow(count);
        listener.tokens.insert(listener.tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
        if (chunk.logits == engine::Logits::last) {
            const auto spoken = speak_(listener.heard, listener.tokens);
            logits_.insert(logits_.end(), spoken.begin(), spoken.end());
        }
    }
    return logits_;
}

std::unique_ptr<engine::Adapter> FakeBackend::create_adapter(
    std::span<const engine::LowRankPair> pairs) {
    if (pairs.empty() || pairs[0].rank == 0) {
        throw std::invalid_argument("a fake adapter has a pair");
    }
    return std::make_unique<FakeAdapter>(static_cast<std::uint32_t>(pairs[0].scale),
                                         pairs[0].a.size());
}

void FakeBackend::prefetch(engine::Adapter& adapter) {
    if (options_.no_adapter_memory) {
        throw engine::DeviceError("the fake device is full");
    }
    auto& fake = dynamic_cast<FakeAdapter&>(adapter);
    adapter_use_.loads += fake.loaded ? 0 : 1;
    fake.loaded = true;
}

std::uint32_t FakeBackend::next_of(const FakeSequence& sequence,
                                   const engine::Adapter* adapter) const {
    return options_.rule(sequence.history(adapter)) + FakeSequence::shift_of(adapter);
}

FakeDecoder& FakeBackend::decoder(std::size_t /*part*/) {
    if (!options_.speak) {
        throw std::invalid_argument("there is no decoder");
    }
    if (decoder_ == nullptr) {
        decoder_ = std::make_unique<FakeDecoder>(options_.speak, options_.decoder_pages);
    }
    return *decoder_;
}

FakeBackend::FakeBackend(FakeOptions options)
    : options_(std::move(options)),
      pool_(std::uint64_t{options_.pool_pages} * options_.page_positions, 1,
            options_.page_positions),
      contents_(options_.pool_pages, std::vector<std::uint32_t>(options_.page_positions)) {}

FakeBackend::~FakeBackend() {
    if (pool_.used() != 0) {
        std::abort();  // a sequence outlived its engine
    }
}

std::unique_ptr<engine::Sequence> FakeBackend::create_sequence(std::uint32_t capacity) {
    if (capacity == 0 || capacity > options_.context_length) {
        throw std::logic_error("bad capacity");
    }
    return pool_.pages_of(capacity) > pool_.pages()
               ? nullptr
               : std::make_unique<FakeSequence>(*this, capacity);
}

engine::KvUse FakeBackend::kv_use() const {
    return {options_.page_positions, options_.page_positions, pool_.pages(), pool_.used(),
            pool_.shared_pages()};
}

bool FakeBackend::warm_up() {
    if (lost_) {
        throw engine::DeviceError("the fake device is lost");
    }
    if (pool_.free() == 0) {
        if (options_.no_room) {
            options_.no_room->set_value();
            options_.no_room = nullptr;
        }
        return false;
    }
    if (options_.warm_ups > 0 && --options_.warm_ups > 0) {
        return true;
    }
    if (options_.warmed) {
        options_.warmed->set_value(steps_.size());
        options_.warmed = nullptr;
    }
    return false;
}

engine::Profile FakeBackend::profile(std::span<const engine::Chunk> chunks) {
    (void)step(chunks, 1);
    return {true, {{"fake", "2 fake", 2, 3.5}}};
}

engine::CopyTime FakeBackend::time_copy() {
    if (lost_) {
        throw engine::DeviceError("the fake device is lost");
    }
    return {1000, 2.0};
}

std::uint32_t FakeBackend::token_of(std::span<const float> row) {
    return ByteText::kFirstByte + static_cast<std::uint32_t>(row[0] + row[1]) % 256;
}

engine::Encoded FakeBackend::encode(std::size_t part, std::span<const float> features) {
    if (options_.gate) {
        options_.gate->pass();
    }
    if (lost_) {
        throw engine::DeviceError("the fake device is lost");
    }
    engine::Encoded encoded;
    encoded_.clear();
    if (features.size() == kRowColumns) {  // an embedding: a projector's
        for (const float factor : {1.0F, 2.0F}) {
            encoded_.push_back(factor * features[0]);
            encoded_.push_back(factor * features[1]);
        }
        encoded.hidden = encoded_;
        runs_.push_back(1);
        return encoded;
    }
    const std::size_t items = features.size() / kItemFloats;
    if (items == 0 || items > engine::Senses::kMaxItems || features.size() % kItemFloats != 0) {
        throw std::invalid_argument("bad features");
    }
    for (std::size_t i = 0; i < items; ++i) {
        const auto item = features.subspan(i * kItemFloats, kItemFloats);
        encoded_.push_back(std::accumulate(item.begin(), item.end(), 0.0F));
        encoded_.push_back(static_cast<float>(part));
    }
    runs_.push_back(items);
    hidden_.assign(FakeDecoder::kMemoryRows, 0);
    hidden_[0] = encoded_[0];
    encoded.hidden = hidden_;
    encoded.embedding = encoded_;
    encoded.scores = features;
    return encoded;
}

engine::Encoded FakeBackend::encode_text(std::size_t part, std::span<const std::uint32_t> tokens,
                                         std::span<const std::uint32_t> picked) {
    encoded_.clear();
    const std::size_t rows = tokens.size() / picked.size();
    for (std::size_t i = 0; i < picked.size(); ++i) {
        encoded_.push_back(static_cast<float>(tokens[i * rows + picked[i]]));
        encoded_.push_back(static_cast<float>(part));
    }
    runs_.push_back(picked.size());
    engine::Encoded encoded;
    encoded.embedding = encoded_;
    return encoded;
}

std::span<const float> FakeBackend::step(std::span<const engine::Chunk> chunks,
                                         std::uint32_t passes) {
    if (options_.gate) {
        options_.gate->pass();
    }
    if (lost_) {
        throw engine::DeviceError("the fake device is lost");
    }
    if (revoked_) {
        throw trust::RevokedError("the fake image is revoked");
    }
    logits_.clear();
    ids_.clear();
    candidates_.clear();
    StepRecord record;
    record.passes = passes;
    if (passes == 0 || passes > options_.passes) {
        throw std::logic_error("bad number of passes");
    }
    std::set<const engine::Sequence*> seen;
    std::uint32_t needed = 0;
    for (const engine::Chunk& chunk : chunks) {
        needed += chunk.sequence->pages_needed(static_cast<std::uint32_t>(chunk.tokens.size()) +
                                               passes - 1);
    }
    if (needed > pool_.free()) {
        throw std::logic_error("a step without pages");
    }
    std::set<const engine::Adapter*> adapters;
    std::uint64_t adapter_bytes = 0;
    for (const engine::Chunk& chunk : chunks) {
        if (chunk.adapter != nullptr && adapters.insert(chunk.adapter).second) {
            adapter_bytes += chunk.adapter->bytes();
        }
    }
    if (adapter_bytes > options_.adapter_pool_bytes) {
        throw std::logic_error("more adapters than their pool holds");
    }
    record.adapters = adapters.size();
    for (const engine::Chunk& chunk : chunks) {
        auto& sequence = dynamic_cast<FakeSequence&>(*chunk.sequence);
        const bool fits =
            !chunk.tokens.empty() &&
            sequence.length() + chunk.tokens.size() + passes - 1 <= sequence.capacity() &&
            (passes == 1 || (chunk.tokens.size() == 1 && chunk.logits == engine::Logits::greedy));
        if (!fits || !seen.insert(chunk.sequence).second) {
            throw std::logic_error("bad chunk");
        }
        record.parts.push_back({chunk.sequence, sequence.length(),
                                static_cast<std::uint32_t>(chunk.tokens.size()), chunk.logits});
        for (std::size_t row = 0; row < chunk.tokens.size(); ++row) {
            const auto embedded = std::ranges::find(chunk.embedded, row, &engine::EmbeddedRow::at);
            const std::uint32_t token =
                embedded == chunk.embedded.end() ? chunk.tokens[row] : token_of(embedded->values);
            sequence.append({&token, 1}, chunk.adapter);
            const bool wanted =
                chunk.logits == engine::Logits::all ||
                (chunk.logits == engine::Logits::last && row + 1 == chunk.tokens.size());
            if (!wanted) {
                continue;
            }
            const std::uint32_t next = next_of(sequence, chunk.adapter);
            for (std::uint32_t id = 0; id < ByteText::kVocabulary; ++id) {
                logits_.push_back(fake_logit(next, id));
            }
        }
    }
    for (const engine::Chunk& chunk : chunks) {
        if (chunk.logits != engine::Logits::top) {
            continue;
        }
        if (options_.candidates == 0) {
            throw std::logic_error("candidates from a backend that has none");
        }
        const std::uint32_t next =
            next_of(dynamic_cast<FakeSequence&>(*chunk.sequence), chunk.adapter);
        std::vector<engine::Candidate> all;
        for (std::uint32_t id = 0; id < ByteText::kVocabulary; ++id) {
            all.push_back({id, fake_logit(next, id)});
        }
        engine::sort_candidates(all);
        candidates_.insert(candidates_.end(), all.begin(), all.begin() + options_.candidates);
    }
    const auto greedy = static_cast<std::size_t>(
        std::ranges::count(chunks, engine::Logits::greedy, &engine::Chunk::logits));
    for (std::uint32_t pass = 0; pass < passes; ++pass) {
        for (const engine::Chunk& chunk : chunks) {
            if (chunk.logits == engine::Logits::greedy) {
                auto& sequence = dynamic_cast<FakeSequence&>(*chunk.sequence);
                if (pass > 0) {
                    const std::uint32_t before = ids_[ids_.size() - greedy];
                    sequence.append({&before, 1}, chunk.adapter);
                }
                ids_.push_back(next_of(sequence, chunk.adapter));
            }
        }
    }
    if (record.rows() == 0 || record.rows() > options_.max_step_rows) {
        throw std::logic_error("bad number of rows");
    }
    steps_.push_back(std::move(record));
    return logits_;
}

}  // namespace m4::test
