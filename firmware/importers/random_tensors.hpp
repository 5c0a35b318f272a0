// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint.hpp"

namespace m4::firmware {

/// A checkpoint of random weights that lies in no file: any element is computed by
/// itself. The same seed and name give the same tensor everywhere.
class RandomTensors {
   public:
    explicit RandomTensors(std::uint64_t seed)
        : seed_(seed), checkpoint_(std::make_shared<Checkpoint>("synth")) {}

    /// Keeps the variance of what it is multiplied with: the first dimension by all others.
    void matrix(const std::string& name, std::vector<std::uint64_t> shape);
    /// Around 1.
    void norm(const std::string& name, std::uint64_t length);
    /// Around 0, of a bias or a table of rows.
    void small(const std::string& name, std::vector<std::uint64_t> shape);

    [[nodiscard]] std::shared_ptr<const Checkpoint> checkpoint() const { return checkpoint_; }

   private:
    void add(std::string name, std::vector<std::uint64_t> shape, double middle, double spread);

    std::uint64_t seed_;
    std::shared_ptr<Checkpoint> checkpoint_;
};

}  // namespace m4::firmware
