// SPDX-License-Identifier: MIT
#include "json_file.hpp"

#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "lib/error.hpp"
#include "mapped_file.hpp"

namespace m4::firmware {

namespace {

constexpr std::size_t kConfigMostBytes = 16U << 20;
constexpr int kDepthMost = 64;

using Json = nlohmann::json;

/// Refuses duplicate keys and deep nesting while nlohmann parses.
class StrictKeys {
   public:
    explicit StrictKeys(const std::string& place) : place_(place) {}

    bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
        if (depth > kDepthMost) {
            throw Error(place_, "nests deeper than " + std::to_string(kDepthMost));
        }
        if (event == Json::parse_event_t::object_start) {
            seen_.emplace_back();
        } else if (event == Json::parse_event_t::object_end) {
            seen_.pop_back();
        } else if (event == Json::parse_event_t::key) {
            const auto& key = parsed.get_ref<const std::string&>();
            if (!seen_.back().insert(key).second) {
                throw Error(place_ + ": key " + shown(key), "occurs twice");
            }
        }
        return true;
    }

   private:
    const std::string& place_;
    std::vector<std::set<std::string>> seen_;
};

}  // namespace

nlohmann::json parse_json_object(std::string_view text, const std::string& place) {
    Json parsed;
    try {
        StrictKeys strict(place);
        parsed = Json::parse(text.begin(), text.end(),
                             [&strict](int depth, Json::parse_event_t event, Json& value) {
                                 return strict(depth, event, value);
                             });
    } catch (const Json::exception& failure) {
        throw Error(place, std::string("is not JSON: ") + failure.what());
    }
    if (!parsed.is_object()) {
        throw Error(place, "is not a JSON object");
    }
    return parsed;
}

JsonObject JsonObject::read(const std::filesystem::path& path) {
    return {parse_json_object(read_small_file(path, kConfigMostBytes), path.string()),
            path.string()};
}

std::string JsonObject::key_place(std::string_view key) const {
    return place_ + ": key " + shown(key);
}

const Json* JsonObject::find(const std::string& key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool JsonObject::has(const std::string& key) const {
    return find(key) != nullptr;
}

std::optional<std::uint64_t> JsonObject::unsigned_value(const std::string& key) const {
    const auto* value = find(key);
    if (value == nullptr) {
        return std::nullopt;
    }
    if (!value->is_number_unsigned()) {
        throw Error(key_place(key), "is not an unsigned integer");
    }
    return value->get<std::uint64_t>();
}

std::optional<double> JsonObject::real_value(const std::string& key) const {
    const auto* value = find(key);
    if (value == nullptr) {
        return std::nullopt;
    }
    if (!value->is_number() || !std::isfinite(value->get<double>())) {
        throw Error(key_place(key), "is not a finite number");
    }
    return value->get<double>();
}

std::optional<bool> JsonObject::bool_value(const std::string& key) const {
    const auto* value = find(key);
    if (value == nullptr) {
        return std::nullopt;
    }
    if (!value->is_boolean()) {
        throw Error(key_place(key), "is not a boolean");
    }
    return value->get<bool>();
}

std::optional<std::string> JsonObject::string_value(const std::string& key) const {
    const auto* value = find(key);
    if (value == nullptr) {
        return std::nullopt;
    }
    if (!value->is_string()) {
        throw Error(key_place(key), "is not a string");
    }
    return value->get<std::string>();
}

std::optional<JsonObject> JsonObject::object_value(const std::string& key) const {
    const auto* value = find(key);
    if (value == nullptr) {
        return std::nullopt;
    }
    if (!value->is_object()) {
        throw Error(key_place(key), "is not an object");
    }
    return JsonObject(*value, key_place(key));
}

}  // namespace m4::firmware
