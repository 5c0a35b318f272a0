// SPDX-License-Identifier: MIT
#pragma once

#include "engine.hpp"
#include "lib/image.hpp"
#include "vk/device.hpp"
#include "vk/pipelines.hpp"
#include "weights/store.hpp"

namespace m4::engine {

/// What all parts of an image share: the device, its kernels, and the weights, each
/// mapped once whoever reads them. Whatever runs a part refers to it and is destroyed
/// before it. One thread, as of the engine.
class Runtime {
   public:
    /// `mapped` must outlive it. Throws DeviceError.
    Runtime(const firmware::MappedImage& mapped, const Options& options);
    Runtime(const Runtime&) = delete;
    Runtime& operator=(const Runtime&) = delete;

    [[nodiscard]] const firmware::Image& image() const { return image_; }
    [[nodiscard]] vk::Device& device() { return device_; }
    [[nodiscard]] vk::Pipelines& pipelines() { return pipelines_; }
    [[nodiscard]] weights::Store& weights() { return weights_; }
    /// Null: the image cannot be lost.
    [[nodiscard]] const trust::ImageGuard* guard() const { return guard_; }
    /// What is known without a backbone.
    [[nodiscard]] DeviceReport report() const;

   private:
    const firmware::Image& image_;
    const trust::ImageGuard* guard_;
    vk::Device device_;
    vk::Pipelines pipelines_;
    weights::Store weights_;
};

}  // namespace m4::engine
