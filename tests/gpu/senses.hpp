// SPDX-License-Identifier: MIT
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "engine/encoder.hpp"
#include "importers/import.hpp"
#include "lib/image.hpp"
#include "temp_folder.hpp"
#include "vk/device.hpp"
#include "vk/pipelines.hpp"
#include "weights/store.hpp"

namespace m4::test {

/// A safetensors file of the reference data.
class Data {
   public:
    explicit Data(const std::filesystem::path& path) {
        std::ifstream file(path, std::ios::binary);
        std::uint64_t header_bytes = 0;
        file.read(reinterpret_cast<char*>(&header_bytes), sizeof header_bytes);
        std::string text(header_bytes, '\0');
        file.read(text.data(), static_cast<std::streamsize>(text.size()));
        header_ = nlohmann::json::parse(text);
        bytes_.assign(std::istreambuf_iterator<char>(file), {});
    }

    template <typename T>
    [[nodiscard]] std::vector<T> read(const std::string& name) const {
        const auto offsets = header_.at(name).at("data_offsets");
        const auto first = offsets.at(0).get<std::size_t>();
        std::vector<T> all((offsets.at(1).get<std::size_t>() - first) / sizeof(T));
        std::memcpy(all.data(), bytes_.data() + first, all.size() * sizeof(T));
        return all;
    }

   private:
    nlohmann::json header_;
    std::string bytes_;
};

/// The parts of a checkpoint on a device, stored as F32.
class Senses {
   public:
    explicit Senses(const std::filesystem::path& file,
                    const engine::Encoder::Options& options = {});
    /// Encoders and projectors of several.
    explicit Senses(const std::vector<firmware::ImportOptions>& sources,
                    const engine::Encoder::Options& options = {});

    [[nodiscard]] engine::Encoder& at(const std::string& part) { return *encoders_.at(part); }
    [[nodiscard]] std::size_t count() const { return encoders_.size(); }
    [[nodiscard]] const firmware::Image& image() const { return mapped_.image(); }

   private:
    [[nodiscard]] std::vector<std::uint32_t> used() const;

    TempFolder folder_;
    firmware::MappedImage mapped_;
    vk::Device device_;
    vk::Pipelines pipelines_;
    weights::Store weights_;
    std::map<std::string, std::unique_ptr<engine::Encoder>> encoders_;
};

using Pick = std::span<const float> engine::Encoded::*;

/// One output of all inputs, a run for as many as it takes.
[[nodiscard]] std::vector<float> encode(engine::Encoder& encoder, std::span<const float> data,
                                        Pick pick);

/// Of each value its distance, by the largest of them.
[[nodiscard]] double relative(std::span<const float> got, std::span<const float> wanted);

}  // namespace m4::test
