// SPDX-License-Identifier: MIT
// make_seeds FOLDER: the manifests that fuzzing begins with.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "manifest_seeds.hpp"

int main(int argc, char** argv) {
    if (argc != 2) {
        (void)std::fprintf(stderr, "usage: make_seeds FOLDER\n");
        return 2;
    }
    std::filesystem::create_directories(argv[1]);
    int number = 0;
    for (const auto& seed : m4::fuzz::manifest_seeds()) {
        const auto path =
            std::filesystem::path(argv[1]) / ("seed-" + std::to_string(number++) + ".m4m");
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
