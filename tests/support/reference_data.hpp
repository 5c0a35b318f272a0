// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace m4::test {

/// A safetensors file of the reference data, which is trusted: what is not in it throws.
class ReferenceData {
   public:
    explicit ReferenceData(const std::filesystem::path& path);

    /// A tensor whose elements are of T.
    template <typename T>
    [[nodiscard]] std::vector<T> read(const std::string& name) const {
        const std::span<const char> bytes = bytes_of(name);
        std::vector<T> all(bytes.size() / sizeof(T));
        std::memcpy(all.data(), bytes.data(), all.size() * sizeof(T));
        return all;
    }
    [[nodiscard]] const std::vector<std::size_t>& shape(const std::string& name) const {
        return tensors_.at(name).shape;
    }

   private:
    struct Tensor {
        std::vector<std::size_t> shape;
        std::size_t first = 0;
        std::size_t end = 0;
    };
    [[nodiscard]] std::span<const char> bytes_of(const std::string& name) const;

    std::map<std::string, Tensor> tensors_;
    std::string bytes_;
};

/// One tensor of such a file.
template <typename T = float>
[[nodiscard]] std::vector<T> reference(const std::filesystem::path& path, const std::string& name) {
    return ReferenceData(path).read<T>(name);
}

/// Of each value its distance, by the largest of them; infinite where one is no number or
/// the counts differ.
[[nodiscard]] double relative(std::span<const float> got, std::span<const float> wanted);

}  // namespace m4::test
