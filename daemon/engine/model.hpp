// SPDX-License-Identifier: MIT
#pragma once

#include <memory>

#include "engine.hpp"
#include "senses.hpp"

namespace m4::engine {

/// All parts of an image on one device: its backbone, where it has one, and its
/// encoders. One thread constructs, uses and destroys it, save report().
class Model {
   public:
    /// `image` must outlive it. Throws DeviceError and, where the image is lost
    /// meanwhile, trust::RevokedError.
    Model(const firmware::MappedImage& image, const Options& options);
    ~Model();
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;

    /// Null: the image has none.
    [[nodiscard]] Engine* backbone();
    [[nodiscard]] Senses& senses();
    /// Constant; any thread.
    [[nodiscard]] const DeviceReport& report() const;

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace m4::engine
