// SPDX-License-Identifier: MIT
#include "model.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>

#include "plan.hpp"
#include "runtime.hpp"

namespace m4::engine {

namespace {

bool has_backbone(const firmware::Package& package) {
    return std::any_of(package.parts.begin(), package.parts.end(),
                       [](const auto& part) { return part.kind == firmware::PartKind::backbone; });
}

/// Memory once, and each beam's tokens where they part; the pages that are copied
/// while the old ones are held.
std::uint64_t pool_bytes(const firmware::Part& part, const Options& options) {
    const auto pages = [&](std::uint32_t positions) {
        return std::uint64_t{positions} / options.kv_page_positions + 1;
    };
    const std::uint64_t count =
        pages(part.memory_rows) + Model::kBeams * (pages(part.context_length) + 1);
    const KvShape shape = kv_shape(part.programs.at(0), dtype_of(options.kv_type));
    return count * options.kv_page_positions * shape.position_units * ops::kUnitBytes;
}

}  // namespace

struct Model::Impl {
    Runtime runtime;
    Options options;
    std::optional<Engine> backbone;
    Senses senses;
    std::map<std::size_t, std::unique_ptr<Engine>> decoders;  // by part, once asked for
    DeviceReport report;

    Impl(const firmware::MappedImage& image, const Options& options_)
        : runtime(image, options_), options(options_), senses(runtime) {
        if (has_backbone(image.image().package())) {
            backbone.emplace(runtime, options);
        }
        report = backbone ? backbone->report() : runtime.report();
    }
};

Model::Model(const firmware::MappedImage& image, const Options& options)
    : impl_(vk::translate([&] { return std::make_unique<Impl>(image, options); })) {}

Model::~Model() = default;

Engine* Model::backbone() {
    return impl_->backbone ? &*impl_->backbone : nullptr;
}

Senses& Model::senses() {
    return impl_->senses;
}

Engine& Model::decoder(std::size_t part) {
    auto& decoders = impl_->decoders;
    if (const auto found = decoders.find(part); found != decoders.end()) {
        return *found->second;
    }
    const auto& parts = impl_->runtime.image().package().parts;
    if (part >= parts.size() || parts[part].kind != firmware::PartKind::decoder) {
        throw std::invalid_argument("part " + std::to_string(part) + " is no decoder");
    }
    Options options = impl_->options;
    options.kv_pool_bytes = pool_bytes(parts[part], options);
    auto made = std::make_unique<Engine>(impl_->runtime, options, parts[part]);
    return *decoders.emplace(part, std::move(made)).first->second;
}

const DeviceReport& Model::report() const {
    return impl_->report;
}

}  // namespace m4::engine
