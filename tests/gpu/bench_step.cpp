// SPDX-License-Identifier: MIT
// Times steps of the engine:
// bench_step [image folder [rows past repeats] [KV cache: f16, q8, f32]].
// Without an image, a random model of 15 M parameters; without a shape, several.
// Rows are a prompt's; as in "8x", so many sequences' that decode a token each; as in
// "8x+16", each with an adapter of its own for all linears but the last, of rank 16, F16.
// A given shape is profiled, too: least times of its kernels.
// CPU time counts all threads: on a CPU driver it is the steadier figure, and
// its least on a busy machine.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
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

/// Steps of one shape: `rows` tokens of one sequence, or one of each of so many.
struct Shape {
    std::uint32_t rows = 0;
    std::uint32_t past = 0;
    bool batch = false;
    std::uint32_t rank = 0;  ///< of adapters; 0: none
};

/// Adapters of small random halves for a program's linears, one a sequence.
std::vector<std::unique_ptr<m4::engine::Adapter>> make_adapters(Engine& engine,
                                                                const m4::firmware::Image& image,
                                                                const Shape& shape) {
    using m4::firmware::OpCode;
    std::vector<std::uint32_t> linears;
    for (const m4::firmware::Op& op : image.package().parts[0].programs[0].ops) {
        if (op.code == OpCode::linear) {
            linears.push_back(op.inputs[1].index);
        }
    }
    linears.pop_back();
    std::vector<std::unique_ptr<m4::engine::Adapter>> adapters;
    std::vector<std::uint16_t> halves(1 << 20);
    for (std::size_t i = 0; i < halves.size(); ++i) {
        halves[i] = static_cast<std::uint16_t>(0x1400U + i * 2654435761U % 1024U);  // about 0.001
    }
    for (std::uint32_t i = 0; i < shape.rows && shape.rank != 0; ++i) {
        std::vector<m4::engine::LowRankPair> pairs;
        for (const std::uint32_t linear : linears) {
            const auto& tensor = image.tensors()[linear];
            const auto bytes = std::as_bytes(std::span(halves));
            pairs.push_back({linear, shape.rank, 1.0F, M4_DTYPE_F16, tensor.row_order,
                             bytes.first(shape.rank * tensor.shape[1] * 2),
                             bytes.first(shape.rank * tensor.shape[0] * 2)});
        }
        adapters.push_back(engine.create_adapter(pairs));
    }
    return adapters;
}

class Steps {
   public:
    Steps(Engine& engine, const m4::firmware::Image& image, const Shape& shape)
        : engine_(engine),
          shape_(shape),
          tokens_(engine.max_step_rows(), 1),
          adapters_(make_adapters(engine, image, shape)) {
        const std::uint32_t each = shape.batch ? 1 : shape.rows;
        for (std::uint32_t i = 0; i < (shape.batch ? shape.rows : 1); ++i) {
            auto sequence = engine.create_sequence(shape.past + each);
            if (sequence == nullptr) {
                return;
            }
            while (sequence->length() < shape.past) {
                const std::uint32_t count =
                    std::min(shape.past - sequence->length(), engine.max_step_rows());
                const Chunk chunk{sequence.get(), std::span(tokens_).first(count), Logits::none};
                engine.step({&chunk, 1});
            }
            chunks_.push_back({sequence.get(), std::span(tokens_).first(each),
                               shape.batch ? Logits::greedy : Logits::last});
            chunks_.back().adapter = adapters_.empty() ? nullptr : adapters_[i].get();
            sequences_.push_back(std::move(sequence));
        }
        ready_ = true;
    }

    [[nodiscard]] bool ready() const { return ready_; }

    std::span<const Chunk> again() {
        for (const auto& sequence : sequences_) {
            sequence->rewind(shape_.past);
        }
        return chunks_;
    }

   private:
    Engine& engine_;
    Shape shape_;
    std::vector<std::uint32_t> tokens_;
    std::vector<std::unique_ptr<m4::engine::Adapter>> adapters_;
    std::vector<std::unique_ptr<m4::engine::Sequence>> sequences_;
    std::vector<Chunk> chunks_;
    bool ready_ = false;
};

void time_steps(Engine& engine, const m4::firmware::Image& image, const Shape& shape, int repeats) {
    Steps steps(engine, image, shape);
    if (!steps.ready()) {
        std::printf("past %4u rows %3u: no room in the KV pool\n", shape.past, shape.rows);
        return;
    }
    std::vector<double> walls;
    std::vector<double> cpus;
    for (int i = -2; i < repeats; ++i) {
        const auto chunks = steps.again();
        const double wall_before = wall_us();
        const double cpu_before = cpu_us();
        engine.step(chunks);
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
        shape.past, shape.rows, walls[walls.size() / 2], walls[0], cpus[cpus.size() / 2], cpus[0]);
}

void print_profile(Engine& engine, const m4::firmware::Image& image, const Shape& shape) {
    Steps steps(engine, image, shape);
    std::map<std::string, m4::engine::KernelTime> least;
    for (int i = 0; steps.ready() && i < 10; ++i) {
        for (const auto& kernel : engine.profile(steps.again()).kernels) {
            auto& known =
                least.try_emplace(kernel.name + ": " + kernel.operators, kernel).first->second;
            known.us = std::min(known.us, kernel.us);
        }
    }
    for (const auto& [name, kernel] : least) {
        std::printf("%9.0f us, %3u dispatches, %s\n", kernel.us, kernel.dispatches, name.c_str());
    }
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
        const std::string_view rows(argv[2]);
        const std::size_t plus = rows.find("x+");
        const Shape shape{number(2), number(3), rows.find('x') != std::string_view::npos,
                          plus == std::string_view::npos
                              ? 0
                              : static_cast<std::uint32_t>(std::stoul(argv[2] + plus + 2))};
        time_steps(engine, mapped.image(), shape, static_cast<int>(number(4)));
        print_profile(engine, mapped.image(), shape);
        return 0;
    }
    for (const std::uint32_t rows : {1U, 4U, 8U, 64U}) {
        for (const std::uint32_t past : {16U, 512U, 2048U}) {
            if (past + rows <= engine.context_length()) {
                time_steps(engine, mapped.image(), {rows, past, false}, rows > 8 ? 5 : 20);
            }
        }
    }
}
