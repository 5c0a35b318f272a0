// SPDX-License-Identifier: MIT
#include "senses.hpp"

#include <map>
#include <stdexcept>
#include <string>

#include "encoder.hpp"
#include "runtime.hpp"

namespace m4::engine {

struct Senses::Impl {
    Runtime& runtime;
    std::map<std::size_t, std::unique_ptr<Encoder>> encoders;  // by part, once run

    Encoder& at(std::size_t part);
    Encoded checked(Encoded encoded) const;
};

Encoder& Senses::Impl::at(std::size_t part) {
    if (const auto found = encoders.find(part); found != encoders.end()) {
        return *found->second;
    }
    const auto& parts = runtime.image().package().parts;
    if (part >= parts.size() || (parts[part].kind != firmware::PartKind::encoder &&
                                 parts[part].kind != firmware::PartKind::projector)) {
        throw std::invalid_argument("part " + std::to_string(part) + " is no encoder");
    }
    auto made = std::make_unique<Encoder>(runtime.device(), runtime.pipelines(), runtime.weights(),
                                          runtime.image(), parts[part],
                                          Encoder::Options{.max_items = kMaxItems});
    return *encoders.emplace(part, std::move(made)).first->second;
}

/// What was computed over a lost image is nobody's answer.
Encoded Senses::Impl::checked(Encoded encoded) const {
    if (runtime.guard() != nullptr) {
        runtime.guard()->check();
    }
    return encoded;
}

Senses::Senses(Runtime& runtime) : impl_(std::make_unique<Impl>(Impl{runtime, {}})) {}

Senses::~Senses() = default;

Encoded Senses::encode(std::size_t part, std::span<const float> features) {
    return impl_->checked(impl_->at(part).run(features));
}

Encoded Senses::encode_text(std::size_t part, std::span<const std::uint32_t> tokens,
                            std::span<const std::uint32_t> picked) {
    return impl_->checked(impl_->at(part).run_text(tokens, picked));
}

std::uint64_t Senses::memory_bytes() const {
    std::uint64_t bytes = 0;
    for (const auto& [part, encoder] : impl_->encoders) {
        bytes += encoder->memory_bytes();
    }
    return bytes;
}

}  // namespace m4::engine
