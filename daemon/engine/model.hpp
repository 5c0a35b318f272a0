// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine.hpp"
#include "senses.hpp"

namespace m4::engine {

/// All parts of an image on one device: its backbone, where it has one, its
/// encoders and its decoders. One thread constructs, uses and destroys it, save report().
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
    /// The decoder that is part `part` of the package, made when it is first asked for. Its
    /// KV pool has room for one input and kBeams continuations of it, whatever the options
    /// say. Throws DeviceError, and std::invalid_argument where that part is none.
    [[nodiscard]] Engine& decoder(std::size_t part);
    static constexpr std::uint32_t kBeams = 5;
    /// Constant; any thread.
    [[nodiscard]] const DeviceReport& report() const;

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace m4::engine
