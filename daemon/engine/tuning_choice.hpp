// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "ops/tuning.hpp"

namespace m4::engine {

/// Which tuning the device does best with: measured once, then kept in the cache
/// folder, in a file whose name carries device, driver version and kernels, so
/// that a change of any of them is measured anew. Losing the file costs time
/// only: no failure here throws.
class TuningChoice {
   public:
    /// `folder` empty: nothing is kept, and nothing to be measured.
    TuningChoice(const vk::Device& device, const std::filesystem::path& folder);

    /// The best that is known: measured, or the device's first.
    [[nodiscard]] const ops::NamedTuning& best() const { return tunings_[best_]; }
    /// What is still to be measured; null: nothing.
    [[nodiscard]] const ops::NamedTuning* next() const {
        return left() != 0 ? &tunings_[times_.size()] : nullptr;
    }
    [[nodiscard]] std::size_t left() const {
        return file_.empty() ? 0 : tunings_.size() - times_.size();
    }
    /// The time that next() took, infinite where it did not work; in any unit.
    /// True: it is the best so far. After the last one the choice is kept.
    bool measured(double time);

   private:
    void read();
    void write() const;

    std::vector<ops::NamedTuning> tunings_;
    std::vector<double> times_;  ///< by tunings_, as far as measured
    std::size_t best_ = 0;
    std::filesystem::path file_;
};

}  // namespace m4::engine
