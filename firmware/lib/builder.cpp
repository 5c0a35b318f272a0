// SPDX-License-Identifier: MIT
#include "builder.hpp"

#include <m4/manifest.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "error.hpp"
#include "image.hpp"
#include "manifest_writer.hpp"
#include "payload_writer.hpp"
#include "places.hpp"
#include "staged_folder.hpp"
#include "tensor_packer.hpp"
#include "verify.hpp"

namespace m4::firmware {

namespace {

std::uint64_t round_up(std::uint64_t value, std::uint64_t step) {
    return (value + step - 1) / step * step;
}

bool is_lower_or_digit(char ch) {
    return (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');
}

void require_image_name(const std::string& name) {
    const bool good = !name.empty() && name.size() < M4_IMAGE_NAME_BYTES &&
                      is_lower_or_digit(name.front()) &&
                      std::all_of(name.begin(), name.end(),
                                  [](char ch) { return is_lower_or_digit(ch) || ch == '-'; });
    if (!good) {
        throw Error("image name '" + name + "'", "is not [a-z0-9][a-z0-9-]*, at most 31 bytes");
    }
}

void require_version(const std::string& version) {
    if (version.empty() || version.size() >= M4_IMAGE_LABEL_BYTES || !is_printable(version)) {
        throw Error("image version '" + version + "'", "is not 1 to 23 printable ASCII bytes");
    }
}

void require_row_order(const TensorSpec& spec, const std::string& place) {
    if (spec.row_order == M4_ROW_ORDER_NONE) {
        if (spec.head_dim != 0) {
            throw Error(place, "has a head_dim but is not rotated");
        }
        return;
    }
    if (spec.row_order != M4_ROW_ORDER_INTERLEAVED) {
        throw Error(place, "rotated rows are stored interleaved");
    }
    if (spec.head_dim == 0 || spec.head_dim % 2 != 0 || spec.shape[0] % spec.head_dim != 0) {
        throw Error(place, "rows are not whole heads of an even head_dim");
    }
}

}  // namespace

struct ImageBuilder::Impl {
    struct Entry {
        TensorSpec spec;
        RowReader rows;                // of a tensor
        BlockReader blocks;            // of a tensor quantised before
        std::vector<std::byte> bytes;  // of a section
    };

    ManifestContent content;  // tensors' names are set at write()
    std::uint64_t segment_bytes = 0;
    std::vector<Entry> entries;
    std::set<std::pair<std::uint32_t, std::string>> names;
    std::uint64_t end = 0;  // of the payload so far
    Package package;

    std::uint32_t add(Entry entry);
    void lay_out();
    [[nodiscard]] std::vector<Digest> write_payload(const StagedFolder& folder, const Digest& salt,
                                                    const Progress& progress) const;
};

std::uint32_t ImageBuilder::Impl::add(Entry entry) {
    const TensorSpec& spec = entry.spec;
    const std::string place = "tensor '" + spec.name + "'";
    if (spec.name.empty() || !is_printable(spec.name)) {
        throw Error(place, "name is not printable ASCII");
    }
    const auto rank = static_cast<std::uint32_t>(spec.shape.size());
    std::array<__u64, M4_IMAGE_RANK_MAX> shape{};
    std::copy_n(spec.shape.begin(), std::min(spec.shape.size(), shape.size()), shape.begin());
    const std::uint64_t bytes =
        m4_manifest_tensor_bytes(spec.dtype, spec.layout, rank, shape.data());
    if (bytes == 0) {
        throw Error(place, "type, layout and shape do not go together");
    }
    require_row_order(spec, place);
    const std::uint64_t offset = round_up(end, M4_IMAGE_TENSOR_ALIGN);
    if (bytes > M4_IMAGE_PAYLOAD_MAX || offset > M4_IMAGE_PAYLOAD_MAX - bytes) {
        throw Error(place, "does not fit a payload of at most 128 GiB");
    }
    if (!names.insert({spec.part, spec.name}).second) {
        throw Error(place, "a second tensor of this name in its part");
    }
    Tensor tensor;
    tensor.dtype = spec.dtype;
    tensor.layout = spec.layout;
    tensor.row_order = spec.row_order;
    tensor.head_dim = spec.head_dim;
    tensor.part = spec.part;
    tensor.rank = rank;
    tensor.shape.fill(1);
    std::copy(spec.shape.begin(), spec.shape.end(), tensor.shape.begin());
    tensor.payload_offset = offset;
    tensor.size_bytes = bytes;
    end = tensor.payload_offset + bytes;
    content.tensors.push_back(tensor);
    entries.push_back(std::move(entry));
    return static_cast<std::uint32_t>(entries.size() - 1);
}

/// Shards, and the views that had to wait until `entries` no longer moves.
void ImageBuilder::Impl::lay_out() {
    for (std::size_t i = 0; i < entries.size(); ++i) {
        content.tensors[i].name = entries[i].spec.name;
    }
    content.segments.clear();
    const std::uint64_t payload_bytes = round_up(end, M4_IMAGE_CHUNK_BYTES);
    for (std::uint64_t at = 0; at < payload_bytes; at += segment_bytes) {
        content.segments.push_back({at, std::min(segment_bytes, payload_bytes - at)});
    }
    if (content.segments.size() > M4_IMAGE_SEGMENTS_MAX) {
        throw Error("image " + content.name,
                    "needs " + std::to_string(content.segments.size()) + " shards, more than 128");
    }
}

std::vector<Digest> ImageBuilder::Impl::write_payload(const StagedFolder& folder,
                                                      const Digest& salt,
                                                      const Progress& progress) const {
    PayloadWriter writer(folder, content.segments, salt, progress);
    for (std::size_t i = 0; i < entries.size(); ++i) {
        const Tensor& tensor = content.tensors[i];
        writer.pad_to(tensor.payload_offset);
        if (entries[i].rows) {
            pack_tensor(entries[i].spec, entries[i].rows, entries[i].blocks,
                        [&](std::span<const std::byte> bytes) { writer.write(bytes); });
        } else {
            writer.write(entries[i].bytes);
        }
        if (writer.position() != tensor.payload_offset + tensor.size_bytes) {
            throw Error("tensor '" + entries[i].spec.name + "'", "packed to an unexpected size");
        }
    }
    return writer.finish();
}

ImageBuilder::ImageBuilder(std::string name, std::string version, std::uint64_t rollback_index,
                           std::uint64_t segment_bytes)
    : impl_(std::make_unique<Impl>()) {
    require_image_name(name);
    require_version(version);
    if (segment_bytes == 0 || segment_bytes > M4_IMAGE_SEGMENT_MAX ||
        segment_bytes % M4_IMAGE_CHUNK_BYTES != 0) {
        throw Error("shard size " + std::to_string(segment_bytes),
                    "is not a multiple of 2 MiB, at most 1 GiB");
    }
    impl_->content.name = std::move(name);
    impl_->content.version = std::move(version);
    impl_->content.rollback_index = rollback_index;
    impl_->segment_bytes = segment_bytes;
}

ImageBuilder::~ImageBuilder() = default;

std::uint32_t ImageBuilder::add_tensor(TensorSpec spec, RowReader rows, BlockReader blocks) {
    if (!rows ||
        (spec.dtype != M4_DTYPE_F32 && spec.dtype != M4_DTYPE_F16 && !is_quantized(spec.dtype))) {
        throw Error("tensor '" + spec.name + "'", "needs a reader and type F32, F16, Q8 or Q4");
    }
    return impl_->add({std::move(spec), std::move(rows), std::move(blocks), {}});
}

std::uint32_t ImageBuilder::add_section(std::string name, std::uint32_t part,
                                        std::vector<std::byte> bytes) {
    TensorSpec spec;
    spec.name = std::move(name);
    spec.dtype = M4_DTYPE_U8;
    spec.part = part;
    spec.shape = {bytes.size()};
    return impl_->add({std::move(spec), {}, {}, std::move(bytes)});
}

void ImageBuilder::set_package(Package package) {
    impl_->package = std::move(package);
}

void ImageBuilder::add_part(Part part) {
    impl_->package.parts.push_back(std::move(part));
}

std::uint32_t ImageBuilder::next_part() const {
    return static_cast<std::uint32_t>(impl_->package.parts.size());
}

const Package& ImageBuilder::package() const {
    return impl_->package;
}

std::vector<Tensor> ImageBuilder::tensors() const {
    std::vector<Tensor> out = impl_->content.tensors;
    for (std::size_t i = 0; i < out.size(); ++i) {
        out[i].name = impl_->entries[i].spec.name;
    }
    return out;
}

void ImageBuilder::write(const std::filesystem::path& folder, bool replace,
                         const Progress& progress) {
    if (impl_->entries.empty()) {
        throw Error("image " + impl_->content.name, "has no tensors");
    }
    impl_->lay_out();
    ManifestContent& content = impl_->content;
    verify_package(impl_->package, content.tensors);
    content.program = encode_package(impl_->package);

    StagedFolder staged(folder, replace);
    const Digest salt = derive_salt(content);
    const std::vector<Digest> leaves = impl_->write_payload(staged, salt, progress);
    const std::vector<std::byte> manifest = encode_manifest(content, salt, leaves);
    const std::string place = staged.place(M4_IMAGE_MANIFEST_NAME);
    // The reader's own checks, so that nothing is written that it refuses.
    static_cast<void>(Image::parse(manifest, place));
    const UniqueFd file = staged.create(M4_IMAGE_MANIFEST_NAME, manifest.size());
    write_all(file, manifest, place);
    sync(file, place);
    staged.commit();
}

}  // namespace m4::firmware
