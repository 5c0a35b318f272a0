// SPDX-License-Identifier: MIT
// Times steps of the engine:
// bench_step [image folder [rows past repeats] [KV cache: f16, q8, f32]].
// Without an image, a random model of 15 M parameters; without a shape, several.
// CPU time counts all threads: on a CPU driver it is the steadier figure, and
// its least on a busy machine.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "engine/engine.hpp"
#include "temp_folder.hpp"
#include "tiny_model.hpp"

namespace {

using m4::engine::Chunk;
using m4::engine::Engine;
using m4::engine::Logits;

double cpu_us() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto us = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
    };
    return us(usage.ru_utime) + us(usage.ru_stime);
}

double wall_us() {
    return std::chrono::duration<double, std::micro>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

/// `rows` tokens at length `past`, over and over.
void time_steps(Engine& engine, std::uint32_t past, std::uint32_t rows, int repeats) {
    const auto sequence = engine.create_sequence(past + rows);
    if (sequence == nullptr) {
        std::printf("past %4u rows %3u: no room in the KV pool\n", past, rows);
        return;
    }
    std::vector<std::uint32_t> tokens(engine.max_step_rows(), 1);
    while (sequence->length() < past) {
        const std::uint32_t count = std::min(past - sequence->length(), engine.max_step_rows());
        const Chunk chunk{sequence.get(), std::span(tokens).first(count), Logits::none};
        engine.step({&chunk, 1});
    }
    const Chunk chunk{sequence.get(), std::span(tokens).first(rows), Logits::last};
    std::vector<double> walls;
    std::vector<double> cpus;
    for (int i = -2; i < repeats; ++i) {
        sequence->rewind(past);
        const double wall_before = wall_us();
        const double cpu_before = cpu_us();
        engine.step({&chunk, 1});
        if (i >= 0) {
            walls.push_back(wall_us() - wall_before);
            cpus.push_back(cpu_us() - cpu_before);
        }
    }
    std::sort(walls.begin(), walls.end());
    std::sort(cpus.begin(), cpus.end());
    std::printf(
        "past %4u rows %3u: wall median %8.0f us, least %8.0f us; CPU median %8.0f us, "
        "least %8.0f us\n",
        past, rows, walls[walls.size() / 2], walls[0], cpus[cpus.size() / 2], cpus[0]);
}

}  // namespace

int main(int argc, char** argv) {
    const m4::test::TempFolder folder;
    std::filesystem::path image = folder / "image";
    if (argc > 1) {
        image = argv[1];
    } else {
        m4::test::TinyDims dims{.vocabulary = 32000,
                                .hidden = 288,
                                .layers = 6,
                                .heads = 6,
                                .kv_heads = 6,
                                .head_dim = 48,
                                .rotated = 48,
                                .feed_forward = 768,
                                .context = 1024,
                                .tied = true,
                                .stored = M4_DTYPE_F16};
        write_tiny_model(make_tiny_model(dims, 1), image, "bench", 1U << 30);
    }
    const auto mapped = m4::firmware::MappedImage::open_folder(image);
    const double before = wall_us();
    m4::engine::Options options;
    options.kv_pool_bytes = 256U << 20;
    if (argc == 3 || argc == 6) {
        const std::string_view type(argv[argc - 1]);
        options.kv_type = type == "q8"    ? m4::engine::KvType::q8
                          : type == "f32" ? m4::engine::KvType::f32
                                          : m4::engine::KvType::f16;
    }
    if (const char* device = std::getenv("M4_TEST_DEVICE")) {
        options.device = device;
    }
    Engine engine(mapped, options);
    std::printf("%s, weights by %s, opened in %.0f ms\n", engine.report().device_name.c_str(),
                engine.report().weights_import.c_str(), (wall_us() - before) / 1000);
    while (engine.warm_up()) {
    }
    if (argc > 4) {
        const auto number = [&](int i) {
            return static_cast<std::uint32_t>(std::strtoul(argv[i], nullptr, 10));
        };
        time_steps(engine, number(3), number(2), static_cast<int>(number(4)));
        return 0;
    }
    for (const std::uint32_t rows : {1U, 4U, 8U, 64U}) {
        for (const std::uint32_t past : {16U, 512U, 2048U}) {
            if (past + rows <= engine.context_length()) {
                time_steps(engine, past, rows, rows > 8 ? 5 : 20);
            }
        }
    }
}
