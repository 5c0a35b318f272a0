// SPDX-License-Identifier: MIT
#include "senses.hpp"

#include <algorithm>

#include "engine/plan.hpp"
#include "gpu.hpp"
#include "lib/builder.hpp"

namespace m4::test {

Senses::Senses(const std::filesystem::path& file, const engine::Encoder::Options& options)
    : Senses(std::vector<firmware::ImportOptions>{{.from = file}}, options) {}

Senses::Senses(const std::vector<firmware::ImportOptions>& sources,
               const engine::Encoder::Options& options)
    : mapped_([&] {
          firmware::ImageBuilder builder("senses", "test", 0);
          for (firmware::ImportOptions source : sources) {
              source.stored = M4_DTYPE_F32;
              firmware::import_model(source, builder);
          }
          builder.write(folder_ / "image", false);
          return firmware::MappedImage::open_folder(folder_ / "image");
      }()),
      device_({test_device(), true}),
      pipelines_(device_, {}),
      weights_(device_, mapped_.payload(), mapped_.image().tensors(), used()) {
    for (const firmware::Part& part : mapped_.image().package().parts) {
        if (part.kind == firmware::PartKind::backbone || part.kind == firmware::PartKind::decoder) {
            continue;
        }
        encoders_[part.name] = std::make_unique<engine::Encoder>(device_, pipelines_, weights_,
                                                                 mapped_.image(), part, options);
    }
}

std::vector<std::uint32_t> Senses::used() const {
    std::vector<std::uint32_t> all;
    for (const firmware::Part& part : mapped_.image().package().parts) {
        const auto own = engine::used_tensors(part.programs.at(0));
        all.insert(all.end(), own.begin(), own.end());
    }
    return all;
}

std::vector<float> encode(engine::Encoder& encoder, std::span<const float> data, Pick pick) {
    const std::size_t most = encoder.features().floats(encoder.max_items());
    std::vector<float> all;
    for (std::size_t at = 0; at < data.size(); at += most) {
        const auto part = data.subspan(at, std::min(most, data.size() - at));
        const auto values = encoder.run(part).*pick;
        all.insert(all.end(), values.begin(), values.end());
    }
    return all;
}

}  // namespace m4::test
