// SPDX-License-Identifier: MIT
#include "adapter_base.hpp"

#include "import.hpp"
#include "lib/small_file.hpp"
#include "mapped_file.hpp"

namespace m4::firmware {

AdapterBase::AdapterBase(const std::filesystem::path& path) {
    const auto manifest = path / M4_IMAGE_MANIFEST_NAME;
    if (is_there(manifest)) {
        manifest_ = read_small_file(manifest.string(), std::size_t{M4_IMAGE_MANIFEST_SPAN});
        image_ = Image::parse(manifest_, manifest.string());
        tensors_ = image_->tensors();
        return;
    }
    ImportOptions options;
    options.from = path;
    builder_ = std::make_unique<ImageBuilder>("base", "0", 0);
    import_model(options, *builder_);
    tensors_ = builder_->tensors();
}

const Package& AdapterBase::package() const {
    return image_ ? image_->package() : builder_->package();
}

std::optional<Digest> AdapterBase::image_digest() const {
    return image_ ? std::optional(image_->digest()) : std::nullopt;
}

std::uint64_t AdapterBase::part_bytes(std::uint32_t part) const {
    std::uint64_t bytes = 0;
    for (const Tensor& tensor : tensors_) {
        bytes += tensor.part == part ? tensor.size_bytes : 0;
    }
    return bytes;
}

}  // namespace m4::firmware
