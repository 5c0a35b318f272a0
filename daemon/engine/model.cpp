// SPDX-License-Identifier: MIT
#include "model.hpp"

#include <algorithm>
#include <optional>

#include "runtime.hpp"

namespace m4::engine {

namespace {

bool has_backbone(const firmware::Package& package) {
    return std::any_of(package.parts.begin(), package.parts.end(),
                       [](const auto& part) { return part.kind == firmware::PartKind::backbone; });
}

}  // namespace

struct Model::Impl {
    Runtime runtime;
    std::optional<Engine> backbone;
    Senses senses;
    DeviceReport report;

    Impl(const firmware::MappedImage& image, const Options& options)
        : runtime(image, options), senses(runtime) {
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

const DeviceReport& Model::report() const {
    return impl_->report;
}

}  // namespace m4::engine
