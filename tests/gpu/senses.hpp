// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/encoder.hpp"
#include "importers/import.hpp"
#include "lib/image.hpp"
#include "reference_data.hpp"
#include "temp_folder.hpp"
#include "vk/device.hpp"
#include "vk/pipelines.hpp"
#include "weights/store.hpp"

namespace m4::test {

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

}  // namespace m4::test
