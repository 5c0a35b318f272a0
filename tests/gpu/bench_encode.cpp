// SPDX-License-Identifier: MIT
// Times and profiles an encoder: bench_encode IMAGE [ITEMS [REPEATS]]. The image's
// first encoder that takes features; the features are random. CPU time counts all
// threads: on a CPU driver it is the steadier figure, and its least on a busy machine.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "engine/encoder.hpp"
#include "engine/plan.hpp"
#include "lib/file.hpp"
#include "lib/image.hpp"

namespace {

using m4::engine::Encoder;

double cpu_ms() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto ms = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3;
    };
    return ms(usage.ru_utime) + ms(usage.ru_stime);
}

double wall_ms() {
    return std::chrono::duration<double, std::milli>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

std::uint32_t number(const char* text) {
    return static_cast<std::uint32_t>(std::strtoul(text, nullptr, 10));
}

void time_runs(Encoder& encoder, const std::vector<float>& data, std::uint32_t repeats) {
    std::vector<double> walls;
    std::vector<double> cpus;
    for (std::uint32_t i = 0; i < repeats + 1; ++i) {
        const double wall_before = wall_ms();
        const double cpu_before = cpu_ms();
        (void)encoder.run(data);
        if (i > 0) {  // the first one compiles
            walls.push_back(wall_ms() - wall_before);
            cpus.push_back(cpu_ms() - cpu_before);
        }
    }
    std::sort(walls.begin(), walls.end());
    std::sort(cpus.begin(), cpus.end());
    std::printf("wall median %8.1f ms, least %8.1f ms; CPU median %8.1f ms, least %8.1f ms\n",
                walls[walls.size() / 2], walls[0], cpus[cpus.size() / 2], cpus[0]);
}

void print_profile(Encoder& encoder, const std::vector<float>& data, std::uint32_t repeats) {
    std::map<std::string, m4::engine::KernelTime> least;
    for (std::uint32_t i = 0; i < repeats; ++i) {
        for (const auto& kernel : encoder.profile(data).kernels) {
            auto& known = least.try_emplace(kernel.name, kernel).first->second;
            known.us = std::min(known.us, kernel.us);
        }
    }
    for (const auto& [name, kernel] : least) {
        std::printf("%9.1f ms, %3u dispatches, %s\n", kernel.us / 1e3, kernel.dispatches,
                    name.c_str());
    }
}

int run(int argc, char** argv) {
    if (argc < 2) {
        std::fputs("usage: bench_encode IMAGE [ITEMS [REPEATS]]\n", stderr);
        return 2;
    }
    const std::uint32_t items = argc > 2 ? number(argv[2]) : 1;
    const std::uint32_t repeats = std::max(argc > 3 ? number(argv[3]) : 5, 1U);
    const auto mapped = m4::firmware::MappedImage::open_folder(argv[1]);
    const char* name = std::getenv("M4_TEST_DEVICE");
    m4::vk::Device device({name == nullptr ? "" : name, false});
    m4::vk::Pipelines pipelines(device, {});
    for (const auto& part : mapped.image().package().parts) {
        if (part.kind != m4::firmware::PartKind::encoder || part.vocabulary != 0) {
            continue;
        }
        m4::weights::Store weights(device, mapped.payload(), mapped.image().tensors(),
                                   m4::engine::used_tensors(part.programs.at(0)));
        Encoder encoder(device, pipelines, weights, mapped.image(), part, {.max_items = items});
        std::vector<float> data(encoder.features().floats(items));
        std::mt19937 random(1);
        std::normal_distribution<float> normal;
        std::generate(data.begin(), data.end(), [&] { return normal(random); });
        std::printf("%s, part %s, %u items\n", device.identity().device_name.c_str(),
                    part.name.c_str(), items);
        time_runs(encoder, data, repeats);
        print_profile(encoder, data, repeats);
        return 0;
    }
    std::fputs("bench_encode: no encoder of features in the image\n", stderr);
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bench_encode: %s\n", error.what());
        return 1;
    }
}
