// SPDX-License-Identifier: MIT
#include "encoder_files.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "clip_tokenizer.hpp"
#include "lib/error.hpp"
#include "mapped_file.hpp"

namespace m4::firmware {

namespace {

constexpr std::uint64_t kSizeMost = 1U << 20U;
constexpr const char* kPreprocessorFile = "preprocessor_config.json";
constexpr std::uint64_t kBilinear = 2;  // Pillow's number, and bicubic's
constexpr std::uint64_t kBicubic = 3;

/// A size as Hugging Face writes it: a number, {"shortest_edge": n}, {"height": h, "width": w}.
struct Size {
    std::uint32_t side = 0;
    bool shortest = false;  ///< of the sides; else both
};

Size read_size(const JsonObject& config, const std::string& key) {
    const auto& json = config.json();
    const auto found = json.find(key);
    if (found == json.end() || !found->is_object()) {
        return {size_value(config, key, 0), false};
    }
    const auto size = *config.object_value(key);
    if (size.has("shortest_edge")) {
        return {size_value(size, "shortest_edge", 0), true};
    }
    const std::uint32_t side = size_value(size, "height", 0);
    if (side == 0 || size_value(size, "width", 0) != side) {
        throw Error(size.place(), "is no square");
    }
    return {side, false};
}

std::vector<float> read_channels(const JsonObject& config, const std::string& key,
                                 std::vector<float> otherwise) {
    if (!config.has(key)) {
        return otherwise;
    }
    const auto& list = config.json().at(key);
    if (!list.is_array() || list.size() != otherwise.size() ||
        !std::all_of(list.begin(), list.end(), [](const auto& item) { return item.is_number(); })) {
        throw Error(config.key_place(key),
                    "is not " + std::to_string(otherwise.size()) + " numbers");
    }
    std::vector<float> values;
    for (const auto& item : list) {
        values.push_back(item.get<float>());
    }
    return values;
}

void read_resize(const JsonObject& config, std::uint32_t side, ImageRecipe& recipe) {
    const bool resizes = config.bool_value("do_resize").value_or(true);
    const bool cuts = config.bool_value("do_center_crop").value_or(config.has("crop_size"));
    if (!resizes) {
        recipe.short_side = 0;
    } else if (config.has("size")) {
        const Size size = read_size(config, "size");
        // A bare number is the short side where something is cut out.
        recipe.short_side = size.side;
        recipe.stretched = !size.shortest && !(cuts && config.json().at("size").is_number());
    }
    const std::uint32_t cut =
        cuts && config.has("crop_size") ? read_size(config, "crop_size").side : recipe.short_side;
    if (cuts ? cut != side : recipe.stretched && recipe.short_side != side) {
        throw Error(config.place(), "makes pictures of another size than the weights take, " +
                                        std::to_string(side) + " pixels");
    }
    const std::uint64_t filter =
        config.unsigned_value("resample")
            .value_or(recipe.filter == ResizeFilter::bilinear ? kBilinear : kBicubic);
    if (resizes && filter != kBilinear && filter != kBicubic) {
        throw Error(config.key_place("resample"), std::to_string(filter) +
                                                      " is not supported; supported: 2 (bilinear), "
                                                      "3 (bicubic)");
    }
    recipe.filter = filter == kBilinear ? ResizeFilter::bilinear : ResizeFilter::bicubic;
}

}  // namespace

JsonObject config_beside(const std::filesystem::path& file) {
    auto own = file;
    own.replace_extension(".config.json");
    const auto common = file.parent_path() / "config.json";
    if (is_there(own)) {
        return JsonObject::read(own);
    }
    return is_there(common) ? JsonObject::read(common)
                            : JsonObject(nlohmann::json::object(), common.string());
}

std::uint32_t size_value(const JsonObject& config, const std::string& key,
                         std::uint32_t otherwise) {
    const std::uint64_t value = config.unsigned_value(key).value_or(otherwise);
    if (value == 0 || value > kSizeMost) {
        throw Error(config.key_place(key), "has to be there, 1 to 2^20");
    }
    return static_cast<std::uint32_t>(value);
}

std::vector<std::string> labels_of(const JsonObject& config, std::uint64_t count) {
    const auto map = config.object_value("id2label");
    if (!map || map->json().size() != count) {
        return {};
    }
    std::vector<std::string> labels;
    bool named = false;
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::string id = std::to_string(i);
        const auto label = map->string_value(id);
        if (!label) {
            throw Error(map->key_place(id), "is missing");
        }
        labels.push_back(*label);
        named = named || *label != "LABEL_" + id;
    }
    return named ? labels : std::vector<std::string>{};
}

ImageRecipe image_recipe_beside(const std::filesystem::path& file, std::uint32_t side,
                                ImageRecipe otherwise) {
    const auto path = file.parent_path() / kPreprocessorFile;
    if (!is_there(path)) {
        return otherwise;
    }
    const auto config = JsonObject::read(path);
    ImageRecipe recipe = std::move(otherwise);
    read_resize(config, side, recipe);
    const double factor = config.real_value("rescale_factor").value_or(1.0 / 255);
    if (!config.bool_value("do_rescale").value_or(true) || std::abs(factor * 255 - 1) > 1e-4) {
        throw Error(config.place(), "does not divide pixels by 255, which is not supported");
    }
    if (config.bool_value("do_normalize").value_or(true)) {
        recipe.mean = read_channels(config, "image_mean", recipe.mean);
        recipe.std = read_channels(config, "image_std", recipe.std);
    } else {
        recipe.mean.assign(recipe.channels, 0.0F);
        recipe.std.assign(recipe.channels, 1.0F);
    }
    return recipe;
}

std::vector<std::byte> clip_tokenizer_beside(const std::filesystem::path& file,
                                             const ImportOptions& options,
                                             std::uint64_t vocabulary) {
    if (!options.tokenizer.empty()) {
        return read_clip_tokenizer(options.tokenizer, vocabulary);
    }
    const auto found = find_clip_tokenizer(file.parent_path());
    return found ? read_clip_tokenizer(*found, vocabulary) : std::vector<std::byte>{};
}

std::uint32_t side_of(std::uint64_t square, const std::string& place) {
    const auto side =
        static_cast<std::uint64_t>(std::lround(std::sqrt(static_cast<double>(square))));
    if (square == 0 || side * side != square || side > kSizeMost) {
        throw Error(place, std::to_string(square) + " places are no square of patches");
    }
    return static_cast<std::uint32_t>(side);
}

}  // namespace m4::firmware
