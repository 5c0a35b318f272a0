// SPDX-License-Identifier: MIT
#include <algorithm>
#include <string>

#include "bounds.hpp"
#include "senses.hpp"
#include "sound.hpp"
#include "spectrogram.hpp"

namespace m4::media {

Prepared prepare_sound(const firmware::AudioRecipe& recipe, const Descriptor& media,
                       std::span<const std::byte> file) {
    const Sound sound(media, file);
    check_features(recipe.clips, {recipe.columns(), recipe.frames});
    auto clips = cut_clips(recipe, sound);
    Spectrogram spectrogram(recipe);
    if (clips.front().size() < spectrogram.least_samples()) {
        throw MediaError("samples " + std::to_string(media.samples) + " at " +
                         number_text(media.rate_hz) + " Hz are less than a frame, which takes " +
                         std::to_string(spectrogram.least_samples()) + " at " +
                         std::to_string(recipe.sample_rate) + " Hz");
    }
    const std::size_t size = std::size_t{recipe.columns()} * recipe.frames;
    Prepared made;
    made.items = recipe.clips;
    made.features.resize(size * recipe.clips);
    for (std::size_t i = 0; i < clips.size(); ++i) {
        spectrogram.run(clips[i], std::span(made.features).subspan(i * size, size));
    }
    return made;
}

}  // namespace m4::media
