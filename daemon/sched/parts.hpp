// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "lib/program.hpp"
#include "lib/tokenizer.hpp"
#include "media/prepare.hpp"
#include "sched/embedding_cache.hpp"
#include "sched/request.hpp"

namespace m4::sched {

/// What kind of thing a part takes.
enum class Modality : std::uint8_t { none, image, audio, motion, text, features };
[[nodiscard]] std::string_view name_of(Modality modality);

/// One input: pixels or samples, or a text, as bytes of the request's data.
struct MediaInput {
    media::Descriptor descriptor;  ///< not of a text
    std::uint64_t bytes = 0;       ///< from the descriptor's offset on
    bool is_text = false;          ///< UTF-8
    bool is_tokens = false;        ///< u32, little-endian
};

/// Its own bytes of a request's data; nothing beyond them is its. Throws Refusal.
[[nodiscard]] std::span<const std::byte> bytes_of(const MediaInput& input,
                                                  std::span<const std::byte> data);

/// What an app asks to be encoded, before anything was checked against the image.
struct EncodeInputs {
    std::string part;  ///< empty: the first that suits
    EncodeOutput output = EncodeOutput::embedding;
    std::vector<MediaInput> inputs;
    std::optional<SessionId> session;  ///< put the rows of the one input behind its tokens
};

/// A request that the image, or what came with it, does not allow.
class Refusal : public std::runtime_error {
   public:
    Refusal(int code, const std::string& why) : std::runtime_error(why), code_(code) {}
    [[nodiscard]] int code() const { return code_; }  ///< enum m4_error

   private:
    int code_;
};

/// The parts of an image as apps know them: what each takes and gives, and how inputs
/// are prepared for it. Constant; any thread.
class Parts {
   public:
    /// Of the results of a request, all inputs together: what a reply carries.
    static constexpr std::uint64_t kMaxResultBytes = 64U << 20;
    /// Of one text: many times what any context holds.
    static constexpr std::size_t kMaxTextBytes = 64U << 10;

    /// Tokenisers by part, of those that have one. Both must outlive it.
    using Tokenizers = std::map<std::uint32_t, const firmware::Tokenizer*>;
    Parts(const firmware::Package& package, Tokenizers tokenizers);

    [[nodiscard]] std::span<const firmware::Part> all() const { return package_->parts; }
    [[nodiscard]] Modality modality(std::uint32_t part) const;
    /// Null: the part has none.
    [[nodiscard]] const firmware::Tokenizer* tokenizer(std::uint32_t part) const {
        const auto found = tokenizers_.find(part);
        return found == tokenizers_.end() ? nullptr : found->second;
    }
    /// Throws Refusal.
    [[nodiscard]] const firmware::Part& named(const std::string& name) const;

    /// Prepares `inputs`, whose bytes are `data`, for `client`; what `cache` has is not
    /// prepared again. Throws Refusal.
    [[nodiscard]] Encode prepare(const EncodeInputs& inputs, std::span<const std::byte> data,
                                 ClientId client, std::shared_ptr<EmbeddingCache> cache) const;

   private:
    [[nodiscard]] std::uint32_t find(const EncodeInputs& inputs) const;
    [[nodiscard]] std::string names() const;
    /// The output is there, the inputs are of its kind, the results fit a reply.
    void check_output(std::uint32_t part, const EncodeInputs& inputs) const;
    [[nodiscard]] Encode::Target target(std::uint32_t part, SessionId session) const;
    void prepare_text(std::uint32_t part, std::string_view text, Encode& encode) const;
    void prepare_tokens(std::uint32_t part, std::span<const std::byte> bytes, Encode& encode) const;

    const firmware::Package* package_;
    Tokenizers tokenizers_;
};

}  // namespace m4::sched
