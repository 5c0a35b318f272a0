// SPDX-License-Identifier: MIT
// media_features RECIPE IN OUT FIELD=NUMBER...: what m4d makes of the bytes in IN, as
// F32 in OUT, for tests that hold it against other programs. FIELD as in Descriptor;
// RECIPE: clip:SIDE, mnist:SIDE, bilinear:SIDE,
// stretched:SIDE, imagebind-audio, whisper:BINS:FRAMES, mfcc,
// imagebind-motion, limu-bert. Prints the number of items.
#include <array>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "importers/recipes.hpp"
#include "media/prepare.hpp"

namespace {

using namespace m4;

/// Nothing that is published: what the others leave out.
firmware::AudioRecipe mfcc_recipe() {
    firmware::AudioRecipe recipe;
    recipe.sample_rate = 16'000;
    recipe.clip_samples = 16'000;
    recipe.frame_samples = 480;
    recipe.frame_shift = 160;
    recipe.fft_samples = 512;
    recipe.window = firmware::WindowKind::hann_periodic;
    recipe.power = 1;
    recipe.mel_bins = 80;
    recipe.mel_scale = firmware::MelScale::htk;
    recipe.low_hz = 20;
    recipe.high_hz = 7600;
    recipe.log_floor = 1e-12F;
    recipe.coefficients = 40;
    recipe.frames = 98;
    recipe.frames_first = true;
    return recipe;
}

std::vector<std::string> split(const std::string& text, char at) {
    std::vector<std::string> parts;
    std::istringstream in(text);
    for (std::string part; std::getline(in, part, at);) {
        parts.push_back(part);
    }
    return parts;
}

firmware::Recipe recipe_of(const std::string& text) {
    const auto words = split(text, ':');
    const auto number = [&](std::size_t i) {
        return static_cast<std::uint32_t>(std::stoul(words.at(i)));
    };
    const std::string& name = words.at(0);
    if (name == "clip") {
        return firmware::clip_image_recipe(number(1));
    }
    if (name == "bilinear" || name == "stretched") {
        auto recipe = firmware::deit_image_recipe(number(1));
        recipe.filter = firmware::ResizeFilter::bilinear;
        recipe.stretched = name == "stretched";
        return recipe;
    }
    if (name == "mnist") {
        return firmware::mnist_recipe(number(1));
    }
    if (name == "imagebind-audio") {
        return firmware::imagebind_audio_recipe();
    }
    if (name == "whisper") {
        return firmware::whisper_recipe(number(1), number(2));
    }
    if (name == "mfcc") {
        return mfcc_recipe();
    }
    if (name == "imagebind-motion") {
        return firmware::imagebind_motion_recipe();
    }
    if (name == "limu-bert") {
        return firmware::limu_bert_recipe(120, 6);
    }
    throw std::invalid_argument("no recipe " + name);
}

media::Descriptor descriptor_of(int count, char** words) {
    std::map<std::string, double> fields;
    for (int i = 0; i < count; ++i) {
        const auto pair = split(words[i], '=');
        fields[pair.at(0)] = std::stod(pair.at(1));
    }
    const auto field = [&](const char* name) {
        const auto at = fields.find(name);
        return static_cast<std::uint32_t>(at == fields.end() ? 0 : at->second);
    };
    media::Descriptor media;
    media.kind = static_cast<media::Kind>(field("kind"));
    media.offset = field("offset");
    media.width = field("width");
    media.height = field("height");
    media.stride = field("stride");
    media.chroma_offset = field("chroma_offset");
    media.channels = field("channels");
    media.samples = field("samples");
    media.rate_hz = static_cast<float>(fields["rate_hz"]);
    return media;
}

void run(int argc, char** argv) {
    if (argc < 4) {
        throw std::invalid_argument("usage: media_features RECIPE IN OUT FIELD=NUMBER...");
    }
    const firmware::Recipe recipe = recipe_of(argv[1]);
    std::ifstream in(argv[2], std::ios::binary);
    std::ostringstream content;
    content << in.rdbuf();
    const std::string bytes = content.str();
    const auto prepared =
        media::prepare(recipe, firmware::shape_of(recipe), descriptor_of(argc - 4, argv + 4),
                       std::as_bytes(std::span(bytes)));
    std::ofstream out(argv[3], std::ios::binary);
    out.write(reinterpret_cast<const char*>(prepared.features.data()),
              static_cast<std::streamsize>(prepared.features.size() * sizeof(float)));
    if (!out.flush()) {
        throw std::runtime_error(std::string(argv[3]) + ": cannot write");
    }
    (void)std::printf("%u\n", prepared.items);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        run(argc, argv);
        return 0;
    } catch (const std::exception& error) {
        (void)std::fprintf(stderr, "media_features: %s\n", error.what());
        return 1;
    }
}
