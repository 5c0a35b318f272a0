// SPDX-License-Identifier: MIT
#include "tuning_choice.hpp"

#include <algorithm>
#include <fstream>
#include <limits>
#include <system_error>

#include "shaders/shaders.hpp"
#include "vk/pipeline_cache.hpp"

namespace m4::engine {

TuningChoice::TuningChoice(const vk::Device& device, const std::filesystem::path& folder)
    : tunings_(ops::tunings_for(device)) {
    if (!folder.empty()) {
        file_ = folder / ("tuning-" + vk::cache_key(device.identity(), shaders::digest()) + ".txt");
        read();
    }
}

/// The first word is the choice; what follows is for people.
void TuningChoice::read() {
    std::ifstream in(file_);
    std::string name;
    if (!(in >> name)) {
        return;
    }
    const auto kept =
        std::find_if(tunings_.begin(), tunings_.end(),
                     [&](const ops::NamedTuning& tuning) { return tuning.name == name; });
    if (kept != tunings_.end()) {
        best_ = static_cast<std::size_t>(kept - tunings_.begin());
        times_.assign(tunings_.size(), std::numeric_limits<double>::infinity());
    }
}

bool TuningChoice::measured(double time) {
    times_.push_back(time);
    const bool best = times_.size() == 1 || time < times_[best_];
    best_ = best ? times_.size() - 1 : best_;
    if (times_.size() == tunings_.size()) {
        write();
    }
    return best;
}

/// Whole or not at all, as the pipelines' cache.
void TuningChoice::write() const {
    std::error_code ignored;
    std::filesystem::create_directories(file_.parent_path(), ignored);
    const std::filesystem::path beside = file_.string() + ".new";
    {
        std::ofstream out(beside, std::ios::trunc);
        out << best().name << '\n';
        for (std::size_t i = 0; i < tunings_.size(); ++i) {
            out << "# " << tunings_[i].name << ' ' << times_[i] << " us\n";
        }
        if (!out.flush()) {
            return;
        }
    }
    std::filesystem::rename(beside, file_, ignored);
}

}  // namespace m4::engine
