// SPDX-License-Identifier: MIT
#include "payload_writer.hpp"

#include <algorithm>

#include "segment_name.hpp"

namespace m4::firmware {

PayloadWriter::PayloadWriter(const StagedFolder& folder, std::vector<Segment> segments,
                             const Digest& salt, const ImageBuilder::Progress& progress)
    : folder_(folder), segments_(std::move(segments)), salt_(salt), progress_(progress) {
    chunk_.reserve(M4_IMAGE_CHUNK_BYTES);
}

void PayloadWriter::write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const std::size_t room = M4_IMAGE_CHUNK_BYTES - chunk_.size();
        const auto part = bytes.first(std::min(room, bytes.size()));
        chunk_.insert(chunk_.end(), part.begin(), part.end());
        position_ += part.size();
        bytes = bytes.subspan(part.size());
        if (chunk_.size() == M4_IMAGE_CHUNK_BYTES) {
            flush_chunk();
        }
    }
}

void PayloadWriter::pad_to(std::uint64_t offset) {
    while (position_ < offset) {
        const std::size_t room = M4_IMAGE_CHUNK_BYTES - chunk_.size();
        const std::uint64_t count = std::min<std::uint64_t>(room, offset - position_);
        chunk_.resize(chunk_.size() + count);
        position_ += count;
        if (chunk_.size() == M4_IMAGE_CHUNK_BYTES) {
            flush_chunk();
        }
    }
}

std::vector<Digest> PayloadWriter::finish() {
    pad_to(segments_.back().payload_offset + segments_.back().size_bytes);
    return std::move(leaves_);
}

void PayloadWriter::flush_chunk() {
    const std::string name = segment_name(shard_);
    if (!file_) {
        file_ = folder_.create(name, segments_[shard_].size_bytes);
    }
    sha_.update(std::as_bytes(std::span(salt_)));
    sha_.update(chunk_);
    leaves_.push_back(sha_.finish());
    write_all(file_, chunk_, folder_.place(name));
    chunk_.clear();
    const Segment& segment = segments_[shard_];
    if (position_ == segment.payload_offset + segment.size_bytes) {
        end_shard();
    }
    if (progress_) {
        progress_(position_, segments_.back().payload_offset + segments_.back().size_bytes);
    }
}

void PayloadWriter::end_shard() {
    sync(file_, folder_.place(segment_name(shard_)));
    file_.reset();
    ++shard_;
}

}  // namespace m4::firmware
