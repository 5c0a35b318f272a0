// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "importers/checkpoint.hpp"
#include "importers/gguf.hpp"

namespace m4::firmware {

class StagedFile;

/// A GGUF file, version 3, on its way out: keys and tensors in the order of the
/// calls. Tensors' bytes are asked for when they are written, so memory does
/// not grow with the model.
class GgufWriter {
   public:
    using Sink = std::function<void(std::span<const std::byte>)>;
    /// Gives `sink` exactly the tensor's bytes, in order.
    using Producer = std::function<void(const Sink& sink)>;
    using Progress = std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)>;

    void add_string(std::string_view key, std::string_view value);
    void add_u32(std::string_view key, std::uint32_t value);
    void add_f32(std::string_view key, float value);
    void add_bool(std::string_view key, bool value);
    void add_strings(std::string_view key, std::span<const std::string_view> values);
    void add_floats(std::string_view key, std::span<const float> values);
    void add_i32s(std::string_view key, std::span<const std::int32_t> values);

    /// `shape` outermost dimension first; the format's own order is the other.
    void add_tensor(std::string name, SourceType type, std::vector<std::uint64_t> shape,
                    Producer producer);

    [[nodiscard]] std::size_t tensor_count() const { return tensors_.size(); }
    /// Bytes of the whole file.
    [[nodiscard]] std::uint64_t file_bytes() const;

    /// The whole file into `out`, which the caller commits. Throws Error where
    /// writing fails or a producer gives another number of bytes.
    void write(StagedFile& out, const Progress& progress) const;

   private:
    struct PendingTensor {
        std::string name;
        SourceType type{};
        std::vector<std::uint64_t> shape;
        Producer producer;
        std::uint64_t bytes = 0;
    };
    void begin_key(std::string_view key, GgufType type);
    void begin_array(std::string_view key, GgufType element, std::size_t count);
    /// Everything before the tensors' data, padding included.
    [[nodiscard]] std::string head() const;

    std::uint64_t key_count_ = 0;
    std::string keys_;
    std::vector<PendingTensor> tensors_;
};

}  // namespace m4::firmware
