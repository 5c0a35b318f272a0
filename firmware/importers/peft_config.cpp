// SPDX-License-Identifier: MIT
#include "peft_config.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "adapters/limits.hpp"
#include "json_file.hpp"
#include "lib/error.hpp"
#include "mapped_file.hpp"

namespace m4::firmware {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxPatternBytes = 1024;
constexpr std::uint64_t kMaxRepetitions = 1024;
constexpr std::size_t kMaxEntries = 4096;

/// Understood below, or without meaning for what is computed.
constexpr std::array<std::string_view, 24> kKnown = {
    "peft_type",         "peft_version",        "auto_mapping",      "base_model_name_or_path",
    "revision",          "task_type",           "inference_mode",    "r",
    "lora_alpha",        "lora_dropout",        "use_rslora",        "target_modules",
    "exclude_modules",   "layers_to_transform", "layers_pattern",    "rank_pattern",
    "alpha_pattern",     "modules_to_save",     "fan_in_fan_out",    "bias",
    "init_lora_weights", "megatron_core",       "qalora_group_size", "eva_config"};

/// What the counts in braces come to, one within the other or not: a matcher has as
/// many states.
std::uint64_t repetitions(std::string_view pattern) {
    std::uint64_t product = 1;
    std::uint64_t number = 0;
    bool braces = false;
    for (const char ch : pattern) {
        if (ch == '{' || (braces && (ch == ',' || ch == '}'))) {
            product =
                std::min<std::uint64_t>(product * std::max<std::uint64_t>(number, 1), 1U << 20U);
            number = 0;
            braces = ch != '}';
        } else if (braces && ch >= '0' && ch <= '9') {
            number =
                std::min<std::uint64_t>(number * 10 + static_cast<unsigned>(ch - '0'), 1U << 20U);
        } else {
            braces = false;
            number = 0;
        }
    }
    return product;
}

/// Python's patterns as ECMAScript's, which has what such files use. The polynomial
/// matcher cannot be made to run for ages, and has no back references.
std::regex compile(const std::string& pattern, const std::string& place) {
    if (pattern.size() > kMaxPatternBytes || repetitions(pattern) > kMaxRepetitions) {
        throw Error(place, "is a pattern of over 1024 bytes or repetitions");
    }
    try {
        return std::regex(pattern, std::regex::ECMAScript | std::regex_constants::__polynomial);
    } catch (const std::regex_error&) {
        throw Error(place, shown(pattern) + " is no pattern that is understood");
    }
}

bool is_off(const Json& value) {
    return value.is_null() || value == false ||
           ((value.is_object() || value.is_array()) && value.empty());
}

void refuse_unsupported(const JsonObject& config) {
    const auto type = config.string_value("peft_type");
    if (type.value_or("") != "LORA") {
        throw Error(config.key_place("peft_type"),
                    shown(type.value_or("nothing")) + " is not supported; supported: LORA");
    }
    for (const auto& [key, value] : config.json().items()) {
        if (std::find(kKnown.begin(), kKnown.end(), key) == kKnown.end() && !is_off(value)) {
            throw Error(config.key_place(key),
                        "changes what is computed, or is not known, and is not supported");
        }
    }
    if (const auto bias = config.string_value("bias").value_or("none"); bias != "none") {
        throw Error(config.key_place("bias"), shown(bias) + " is not supported; supported: none");
    }
    // The others begin from a base that is not the published one.
    const auto init = config.json().find("init_lora_weights");
    if (init != config.json().end() && init->is_string() && *init != "gaussian" && *init != "eva" &&
        *init != "orthogonal") {
        throw Error(config.key_place("init_lora_weights"),
                    shown(init->get<std::string>()) +
                        " changes the base; supported: gaussian, eva, orthogonal, true, false");
    }
}

std::vector<std::string> strings(const Json& value, const std::string& place) {
    const bool good = value.is_array() && value.size() <= kMaxEntries &&
                      std::all_of(value.begin(), value.end(),
                                  [](const Json& entry) { return entry.is_string(); });
    if (!good) {
        throw Error(place, "is not a list of strings");
    }
    return value.get<std::vector<std::string>>();
}

/// A list of names' ends, or one pattern.
void read_names(const JsonObject& config, const char* key, std::vector<std::string>& names,
                std::optional<std::regex>& pattern) {
    if (!config.has(key)) {
        return;
    }
    const Json& value = config.json().at(key);
    if (value.is_string()) {
        pattern = compile(value.get<std::string>(), config.key_place(key));
    } else {
        names = strings(value, config.key_place(key));
    }
}

/// PEFT holds these against a name's end, from any dot on.
std::vector<std::pair<std::pair<std::string, std::regex>, double>> read_patterns(
    const JsonObject& config, const char* key) {
    std::vector<std::pair<std::pair<std::string, std::regex>, double>> out;
    const auto object = config.object_value(key);
    if (!object) {
        return out;
    }
    if (object->json().size() > kMaxEntries) {
        throw Error(config.key_place(key), "has too many patterns");
    }
    for (const auto& [pattern, value] : object->json().items()) {
        const std::string place = object->key_place(pattern);
        const double number = object->real_value(pattern).value_or(0);
        out.push_back({{pattern, compile("(.*\\.)?(" + pattern + ")", place)}, number});
    }
    return out;
}

double pattern_value(const std::vector<std::pair<std::pair<std::string, std::regex>, double>>& all,
                     const std::string& module, double otherwise, const std::string& place) {
    const std::string* found = nullptr;
    double value = otherwise;
    for (const auto& [pattern, number] : all) {
        if (!std::regex_match(module, pattern.second)) {
            continue;
        }
        if (found != nullptr && number != value) {
            throw Error(place, "patterns " + shown(*found) + " and " + shown(pattern.first) +
                                   " both match '" + module + "'");
        }
        found = &pattern.first;
        value = number;
    }
    return value;
}

bool ends_in(const std::string& module, const std::string& name) {
    return module == name || module.ends_with("." + name);
}

std::uint32_t checked_rank(double value, const std::string& place) {
    if (!(value >= 1 && value <= kMaxRank) || value != std::floor(value)) {
        throw Error(place, "is not a rank of 1 to " + std::to_string(kMaxRank));
    }
    return static_cast<std::uint32_t>(value);
}

std::string printable_only(std::string text) {
    std::replace_if(
        text.begin(), text.end(), [](char ch) { return ch < ' ' || ch > '~'; }, '?');
    return text;
}

}  // namespace

PeftConfig PeftConfig::read(const std::filesystem::path& path) {
    const auto json = JsonObject::read(path);
    refuse_unsupported(json);
    PeftConfig config;
    config.place = json.place();
    if (!json.has("r") || !json.has("lora_alpha")) {
        throw Error(json.key_place(json.has("r") ? "lora_alpha" : "r"), "is missing");
    }
    config.rank_ = checked_rank(*json.real_value("r"), json.key_place("r"));
    config.alpha_ = *json.real_value("lora_alpha");
    config.root_ = json.bool_value("use_rslora").value_or(false);
    (void)json.bool_value("fan_in_fan_out");  // the base's matter: the factors are the same
    config.ranks_ = read_patterns(json, "rank_pattern");
    config.alphas_ = read_patterns(json, "alpha_pattern");
    config.read_targets(json);
    config.read_layers(json);
    if (json.has("modules_to_save")) {
        config.saved_modules =
            strings(json.json().at("modules_to_save"), json.key_place("modules_to_save"));
    }
    config.task =
        printable_only(json.string_value("task_type").value_or("")).substr(0, kMaxAdapterNameBytes);
    config.base_name = printable_only(json.string_value("base_model_name_or_path").value_or(""))
                           .substr(0, kMaxBaseNameBytes);
    return config;
}

void PeftConfig::read_targets(const JsonObject& config) {
    if (!config.has("target_modules")) {
        throw Error(config.key_place("target_modules"), "is missing");
    }
    all_linear_ = config.json().at("target_modules") == "all-linear";
    if (!all_linear_) {
        read_names(config, "target_modules", targets_, target_pattern_);
    }
    read_names(config, "exclude_modules", excluded_, exclude_pattern_);
}

void PeftConfig::read_layers(const JsonObject& config) {
    const auto number = [&](const Json& value) {
        if (!value.is_number_unsigned()) {
            throw Error(config.key_place("layers_to_transform"), "holds what is no layer's number");
        }
        layers_.insert(value.get<std::uint64_t>());
    };
    if (config.has("layers_to_transform")) {
        const Json& layers = config.json().at("layers_to_transform");
        if (layers.is_array() && layers.size() <= kMaxEntries) {
            std::for_each(layers.begin(), layers.end(), number);
        } else {
            number(layers);
        }
    }
    if (config.has("layers_pattern")) {
        const Json& pattern = config.json().at("layers_pattern");
        layer_patterns_ = pattern.is_string()
                              ? std::vector{pattern.get<std::string>()}
                              : strings(pattern, config.key_place("layers_pattern"));
        std::erase(layer_patterns_, "");
    }
}

/// The last number of a name that has something before and behind it: in
/// "model.layers.3.mlp", 3.
std::optional<std::uint64_t> PeftConfig::layer_of(std::string_view module) const {
    std::vector<std::string_view> words;
    for (std::size_t at = 0; at <= module.size();) {
        const auto dot = std::min(module.find('.', at), module.size());
        words.push_back(module.substr(at, dot - at));
        at = dot + 1;
    }
    for (std::size_t i = words.size() - 1; i-- > 2;) {
        const auto word = words[i];
        const bool digits = !word.empty() && word.size() < 10 &&
                            word.find_first_not_of("0123456789") == std::string_view::npos;
        const bool named =
            layer_patterns_.empty() || std::find(layer_patterns_.begin(), layer_patterns_.end(),
                                                 words[i - 1]) != layer_patterns_.end();
        if (digits && named) {
            return std::stoull(std::string(word));
        }
    }
    return std::nullopt;
}

bool PeftConfig::is_listed(const std::string& module) const {
    if (all_linear_) {
        return true;
    }
    if (target_pattern_) {
        return std::regex_match(module, *target_pattern_);
    }
    return std::any_of(targets_.begin(), targets_.end(),
                       [&](const std::string& name) { return ends_in(module, name); });
}

bool PeftConfig::is_excluded(const std::string& module) const {
    if (exclude_pattern_ && std::regex_match(module, *exclude_pattern_)) {
        return true;
    }
    return std::any_of(excluded_.begin(), excluded_.end(),
                       [&](const std::string& name) { return ends_in(module, name); });
}

std::string PeftConfig::untargeted(const std::string& module) const {
    if (is_excluded(module)) {
        return "exclude_modules names it";
    }
    if (!is_listed(module)) {
        return "target_modules does not name it";
    }
    if (layers_.empty()) {
        return {};
    }
    const auto layer = layer_of(module);
    return layer && layers_.contains(*layer) ? "" : "layers_to_transform does not name its layer";
}

void PeftConfig::require_all_used(const std::vector<std::string>& modules) const {
    for (const std::string& name : targets_) {
        if (std::none_of(modules.begin(), modules.end(),
                         [&](const std::string& module) { return ends_in(module, name); })) {
            throw Error(place + ": key 'target_modules'",
                        "names " + shown(name) + ", of which the file has no tensors");
        }
    }
    for (const std::uint64_t layer : layers_) {
        if (std::none_of(modules.begin(), modules.end(),
                         [&](const std::string& module) { return layer_of(module) == layer; })) {
            throw Error(place + ": key 'layers_to_transform'",
                        "names " + std::to_string(layer) + ", of which the file has no tensors");
        }
    }
}

std::uint32_t PeftConfig::rank(const std::string& module) const {
    const std::string at = place + ": key 'rank_pattern'";
    return checked_rank(pattern_value(ranks_, module, rank_, at), at);
}

double PeftConfig::scale(const std::string& module) const {
    const double alpha = pattern_value(alphas_, module, alpha_, place + ": key 'alpha_pattern'");
    const double rank_of = rank(module);
    return alpha / (root_ ? std::sqrt(rank_of) : rank_of);
}

}  // namespace m4::firmware
