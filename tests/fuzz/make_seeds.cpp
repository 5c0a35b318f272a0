// SPDX-License-Identifier: MIT
// make_seeds manifest|media|importer|decoder|request|adapter FOLDER: what fuzzing begins with.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "adapter_target.hpp"
#include "decoder_target.hpp"
#include "importer_target.hpp"
#include "manifest_seeds.hpp"
#include "media_target.hpp"
#include "request_target.hpp"

namespace {

std::vector<std::vector<std::uint8_t>> seeds_of(const std::string& what) {
    if (what == "manifest") {
        return m4::fuzz::manifest_seeds();
    }
    if (what == "importer") {
        return m4::fuzz::importer_seeds();
    }
    if (what == "decoder") {
        return m4::fuzz::decoder_seeds();
    }
    if (what == "request") {
        return m4::fuzz::request_seeds();
    }
    if (what == "adapter") {
        return m4::fuzz::adapter_seeds();
    }
    std::vector<std::vector<std::uint8_t>> seeds;
    if (what == "media") {
        for (const auto& seed : m4::fuzz::media_seeds()) {
            seeds.push_back(m4::fuzz::pack_media(seed));
        }
    }
    return seeds;
}

}  // namespace

int main(int argc, char** argv) {
    const auto seeds = seeds_of(argc == 3 ? argv[1] : "");
    if (seeds.empty()) {
        (void)std::fprintf(
            stderr, "usage: make_seeds manifest|media|importer|decoder|request|adapter FOLDER\n");
        return 2;
    }
    const std::filesystem::path folder(argv[2]);
    std::filesystem::create_directories(folder);
    int number = 0;
    for (const auto& seed : seeds) {
        const auto path = folder / ("seed-" + std::to_string(number++));
        std::ofstream file(path, std::ios::binary);
        file.write(reinterpret_cast<const char*>(seed.data()),
                   static_cast<std::streamsize>(seed.size()));
        if (!file.flush()) {
            (void)std::fprintf(stderr, "make_seeds: %s: cannot write\n", path.c_str());
            return 1;
        }
        (void)std::printf("%s: %zu bytes\n", path.c_str(), seed.size());
    }
    return 0;
}
