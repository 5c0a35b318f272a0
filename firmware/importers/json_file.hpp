// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace m4::firmware {

/// Parses one JSON object. Throws Error(place) on anything else, and on a key
/// that occurs twice in one object (which reading would silently lose).
[[nodiscard]] nlohmann::json parse_json_object(std::string_view text, const std::string& place);

/// A configuration object with typed getters. An absent key and null are
/// nullopt; a wrong type or range throws Error naming file and key.
class JsonObject {
   public:
    JsonObject(nlohmann::json object, std::string place)
        : object_(std::move(object)), place_(std::move(place)) {}
    static JsonObject read(const std::filesystem::path& path);  ///< throws Error

    [[nodiscard]] bool has(const std::string& key) const;  ///< present and not null
    [[nodiscard]] std::optional<std::uint64_t> unsigned_value(const std::string& key) const;
    [[nodiscard]] std::optional<double> real_value(const std::string& key) const;
    [[nodiscard]] std::optional<bool> bool_value(const std::string& key) const;
    [[nodiscard]] std::optional<std::string> string_value(const std::string& key) const;
    [[nodiscard]] std::optional<JsonObject> object_value(const std::string& key) const;

    [[nodiscard]] const nlohmann::json& json() const { return object_; }
    [[nodiscard]] const std::string& place() const { return place_; }
    /// "<file>: key '<key>'"
    [[nodiscard]] std::string key_place(std::string_view key) const;

   private:
    [[nodiscard]] const nlohmann::json* find(const std::string& key) const;

    nlohmann::json object_;
    std::string place_;
};

}  // namespace m4::firmware
