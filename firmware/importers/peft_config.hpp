// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace m4::firmware {

class JsonObject;

/// adapter_config.json of a PEFT folder, as far as it says what is computed. Settings
/// that would change that and are not supported are refused by name, unknown ones too.
class PeftConfig {
   public:
    static PeftConfig read(const std::filesystem::path& path);  ///< throws Error

    /// Why the configuration does not change this module ("model.layers.0.mlp.up_proj");
    /// empty: it does.
    [[nodiscard]] std::string untargeted(const std::string& module) const;
    /// Throws Error naming a listed module or layer that none of these is.
    void require_all_used(const std::vector<std::string>& modules) const;
    [[nodiscard]] std::uint32_t rank(const std::string& module) const;
    /// alpha / rank, or of rsLoRA alpha / sqrt(rank).
    [[nodiscard]] double scale(const std::string& module) const;

    std::string task;
    std::string base_name;
    std::vector<std::string> saved_modules;  ///< whole, beside the pairs
    std::string place;

   private:
    /// A name's end, or a regular expression over all of it.
    using Pattern = std::pair<std::string, std::regex>;
    void read_targets(const JsonObject& config);
    void read_layers(const JsonObject& config);
    [[nodiscard]] bool is_listed(const std::string& module) const;
    [[nodiscard]] bool is_excluded(const std::string& module) const;
    [[nodiscard]] std::optional<std::uint64_t> layer_of(std::string_view module) const;

    std::uint32_t rank_ = 0;
    double alpha_ = 0;
    bool root_ = false;  ///< rsLoRA
    bool all_linear_ = false;
    std::vector<std::string> targets_;
    std::optional<std::regex> target_pattern_;
    std::vector<std::string> excluded_;
    std::optional<std::regex> exclude_pattern_;
    std::set<std::uint64_t> layers_;           ///< empty: all
    std::vector<std::string> layer_patterns_;  ///< what stands before a layer's number
    std::vector<std::pair<Pattern, double>> ranks_;
    std::vector<std::pair<Pattern, double>> alphas_;
};

}  // namespace m4::firmware
