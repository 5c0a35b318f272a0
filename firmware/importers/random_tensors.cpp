// SPDX-License-Identifier: MIT
#include "random_tensors.hpp"

#include <cmath>
#include <string_view>
#include <utility>

namespace m4::firmware {

namespace {

constexpr double kNormSpread = 0.25;
constexpr double kSmallSpread = 0.02;

/// splitmix64 (Steele, Lea and Flood 2014) of a counter: any element by itself.
std::uint64_t mix(std::uint64_t value) {
    value += 0x9e3779b97f4a7c15ULL;
    value = (value ^ value >> 30U) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ value >> 27U) * 0x94d049bb133111ebULL;
    return value ^ value >> 31U;
}

std::uint64_t seed_of(std::uint64_t seed, std::string_view name) {
    for (const char ch : name) {
        seed = mix(seed ^ static_cast<unsigned char>(ch));
    }
    return seed;
}

}  // namespace

/// Uniform around `middle`.
void RandomTensors::add(std::string name, std::vector<std::uint64_t> shape, double middle,
                        double spread) {
    SourceTensor tensor;
    tensor.compute = [seed = seed_of(seed_, name), middle, spread](std::uint64_t first,
                                                                   std::span<float> out) {
        for (std::size_t i = 0; i < out.size(); ++i) {
            const double unit = static_cast<double>(mix(seed + first + i) >> 11U) * 0x1p-53;
            out[i] = static_cast<float>(middle + spread * (2.0 * unit - 1.0));
        }
    };
    tensor.name = std::move(name);
    tensor.file = checkpoint_->place();
    tensor.type_name = "computed";
    tensor.type = SourceType::computed;
    tensor.shape = std::move(shape);
    checkpoint_->add(std::move(tensor));
}

void RandomTensors::matrix(const std::string& name, std::vector<std::uint64_t> shape) {
    double columns = 1;
    for (std::size_t i = 1; i < shape.size(); ++i) {
        columns *= static_cast<double>(shape[i]);
    }
    add(name, std::move(shape), 0.0, std::sqrt(3.0 / columns));
}

void RandomTensors::norm(const std::string& name, std::uint64_t length) {
    add(name, {length}, 1.0, kNormSpread);
}

void RandomTensors::small(const std::string& name, std::vector<std::uint64_t> shape) {
    add(name, std::move(shape), 0.0, kSmallSpread);
}

}  // namespace m4::firmware
