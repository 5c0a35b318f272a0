// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "device.hpp"

namespace m4::vk {

/// What identifies a device, its driver's version and these kernels, as part of
/// a file's name.
[[nodiscard]] std::string cache_key(const Identity& identity, std::string_view kernels_digest);

/// The driver's compiled pipelines, kept on disk between runs. The file's name
/// carries device, driver version and kernels, so that a change of any of them
/// starts afresh. Losing the file costs time only: no failure here throws.
/// (Lavapipe keeps its compiled code in Mesa's own cache instead, in
/// $MESA_SHADER_CACHE_DIR, and stores no more than a header here.)
class PipelineCache {
   public:
    /// `folder` empty: nothing is read or written.
    PipelineCache(const Device& device, const std::filesystem::path& folder,
                  std::string_view kernels_digest);

    [[nodiscard]] const hpp::raii::PipelineCache& handle() const { return cache_; }
    /// Write the file if it would change. Whole or not at all.
    void save();
    /// What went wrong, for a log; empty: nothing.
    [[nodiscard]] const std::string& note() const { return note_; }
    [[nodiscard]] const std::filesystem::path& file() const { return file_; }

   private:
    std::filesystem::path file_;
    std::string key_;
    std::string note_;
    std::vector<std::byte> stored_;
    hpp::raii::PipelineCache cache_ = nullptr;
};

}  // namespace m4::vk
