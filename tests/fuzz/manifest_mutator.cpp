// SPDX-License-Identifier: MIT
#include "manifest_mutator.hpp"

#include <m4/image.h>
#include <m4/manifest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "lib/sha256.hpp"

namespace m4::fuzz {

namespace {

constexpr std::size_t kTrailer = M4_IMAGE_DIGEST_BYTES;
constexpr std::size_t kSmallest = sizeof(m4_image_header) + kTrailer;
constexpr std::size_t kAlign = 8;

using Random = std::minstd_rand;

/// A number below `count`.
std::size_t pick(Random& random, std::size_t count) {
    return random() % count;
}

/// What sits at the edges of checks.
std::uint64_t edge(Random& random) {
    constexpr std::uint64_t kEdges[] = {0,
                                        1,
                                        2,
                                        3,
                                        4,
                                        7,
                                        8,
                                        15,
                                        16,
                                        31,
                                        32,
                                        64,
                                        127,
                                        128,
                                        129,
                                        255,
                                        256,
                                        257,
                                        4095,
                                        4096,
                                        0x7fff,
                                        0xffff,
                                        1U << 21U,
                                        (1U << 21U) + 1,
                                        1U << 30U,
                                        0x7fffffffU,
                                        0x80000000U,
                                        0xffffffffU,
                                        1ULL << 32U,
                                        1ULL << 37U,
                                        0x7fffffffffffffffULL,
                                        0xffffffffffffffffULL};
    return kEdges[pick(random, std::size(kEdges))];
}

/// A manifest under change: nothing about its bytes is taken for granted.
class Editor {
   public:
    Editor(std::uint8_t* data, std::size_t size, std::size_t max, Random& random)
        : data_(data), size_(size), max_(max), random_(random) {}

    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] bool has_header() const { return size_ >= kSmallest; }

    m4_image_header header() const {
        m4_image_header header{};
        std::memcpy(&header, data_, sizeof(header));
        return header;
    }
    void set_header(const m4_image_header& header) { std::memcpy(data_, &header, sizeof(header)); }

    /// An aligned field of `width` bytes in [begin, end) becomes another value.
    void change_field(std::size_t begin, std::size_t end) {
        constexpr std::size_t kWidths[] = {1, 2, 4, 8};
        const std::size_t width = kWidths[pick(random_, 4)];
        if (end > size_ || end < begin + width) {
            return;
        }
        const std::size_t at = begin + pick(random_, (end - begin) / width) * width;
        std::uint64_t value = 0;
        std::memcpy(&value, data_ + at, width);
        switch (pick(random_, 4)) {
            case 0:
                value = edge(random_);
                break;
            case 1:
                value += edge(random_);
                break;
            case 2:
                value -= edge(random_);
                break;
            default:
                value ^= 1ULL << pick(random_, 8 * width);
        }
        std::memcpy(data_ + at, &value, width);
    }

    /// One entry of a table.
    void change_entry(const m4_image_range& range, std::size_t entry_bytes) {
        const std::size_t begin = range.offset;
        const std::size_t count = range.count;
        if (count == 0 || begin >= size_ || count > (size_ - begin) / entry_bytes) {
            return;
        }
        const std::size_t at = begin + pick(random_, count) * entry_bytes;
        if (pick(random_, 8) == 0) {  // as another is
            const std::size_t from = begin + pick(random_, count) * entry_bytes;
            std::memmove(data_ + at, data_ + from, entry_bytes);
        } else {
            change_field(at, at + entry_bytes);
        }
    }

    /// The program's bytes, of another length where it lies last.
    void change_program(const ByteMutator& bytes) {
        m4_image_header now = header();
        const std::size_t begin = now.program.offset;
        const std::size_t count = now.program.count;
        if (count == 0 || begin >= size_ - kTrailer || count > size_ - kTrailer - begin) {
            return;
        }
        const bool is_last =
            begin + count + kAlign > size_ - kTrailer && begin + count + kAlign + kTrailer <= max_;
        const std::size_t room = is_last ? max_ - begin - kTrailer - kAlign : count;
        if (pick(random_, 3) == 0) {
            change_field(begin, begin + count / kAlign * kAlign);
            return;
        }
        std::vector<std::uint8_t> blob(data_ + begin, data_ + begin + count);
        blob.resize(std::max(room, count));
        const std::size_t changed = bytes(blob.data(), count, room);
        if (is_last && changed != 0) {
            const std::size_t padded = (changed + kAlign - 1) / kAlign * kAlign;
            std::memset(data_ + begin, 0, padded + kTrailer);
            size_ = begin + padded + kTrailer;
            now.program.count = static_cast<__le32>(changed);
            now.manifest_bytes = size_;
            set_header(now);
        }
        std::memcpy(data_ + begin, blob.data(), std::min(changed, room));
    }

    /// Two ranges of the header change places, or one moves.
    void change_ranges() {
        m4_image_header now = header();
        std::array<m4_image_range*, 5> ranges = {&now.segments, &now.tensors, &now.strings,
                                                 &now.tree, &now.program};
        m4_image_range* one = ranges[pick(random_, ranges.size())];
        if (pick(random_, 2) == 0) {
            std::swap(*one, *ranges[pick(random_, ranges.size())]);
        } else {
            one->offset += static_cast<__le32>(kAlign * (pick(random_, 64) - 32));
        }
        set_header(now);
    }

    void repair_size() {
        m4_image_header now = header();
        now.manifest_bytes = size_;
        set_header(now);
    }

    /// Every block of the tree above the leaves, and the root.
    void repair_tree() {
        m4_image_header now = header();
        const std::uint64_t chunks = now.payload_bytes / M4_IMAGE_CHUNK_BYTES;
        const std::uint64_t bytes = chunks <= 65'536 ? m4_manifest_tree_bytes(chunks) : 0;
        if (bytes == 0 || now.tree.offset > size_ || bytes > size_ - now.tree.offset) {
            return;
        }
        std::uint8_t* level = data_ + now.tree.offset;
        std::uint64_t digests = chunks;
        for (;;) {
            const std::uint64_t blocks = (digests + 127) / 128;
            std::uint8_t* next = level + blocks * M4_IMAGE_BLOCK_BYTES;
            std::uint8_t* out = blocks == 1 ? now.root : next;
            for (std::uint64_t i = 0; i < blocks; ++i) {
                const auto digest = salted(now, level + i * M4_IMAGE_BLOCK_BYTES);
                std::copy(digest.begin(), digest.end(), out + i * kTrailer);
            }
            if (blocks == 1) {
                break;
            }
            level = next;
            digests = blocks;
        }
        set_header(now);
    }

    void repair_digest() {
        firmware::Sha256 sha;
        sha.update(std::as_bytes(std::span(data_, size_ - kTrailer)));
        const auto digest = sha.finish();
        std::copy(digest.begin(), digest.end(), data_ + size_ - kTrailer);
    }

   private:
    static firmware::Digest salted(const m4_image_header& header, const std::uint8_t* block) {
        firmware::Sha256 sha;
        sha.update(std::as_bytes(std::span(header.salt)));
        sha.update(std::as_bytes(std::span(block, M4_IMAGE_BLOCK_BYTES)));
        return sha.finish();
    }

    std::uint8_t* data_;
    std::size_t size_;
    std::size_t max_;
    Random& random_;
};

}  // namespace

std::size_t mutate_manifest(std::uint8_t* data, std::size_t size, std::size_t max,
                            std::uint32_t seed, const ByteMutator& bytes) {
    Random random(seed);
    const bool by_bytes = size < kSmallest || pick(random, 8) == 0;
    Editor editor(data, by_bytes ? bytes(data, size, max) : size, max, random);
    if (!by_bytes) {
        const std::size_t times = 1 + pick(random, 3);
        for (std::size_t i = 0; i < times && editor.has_header(); ++i) {
            const m4_image_header header = editor.header();
            switch (pick(random, 6)) {
                case 0:
                    editor.change_field(0, sizeof(m4_image_header));
                    break;
                case 1:
                    editor.change_entry(header.segments, sizeof(m4_image_segment));
                    break;
                case 2:
                    editor.change_entry(header.tensors, sizeof(m4_image_tensor));
                    break;
                case 3:
                    editor.change_ranges();
                    break;
                default:
                    editor.change_program(bytes);
            }
        }
    }
    if (editor.has_header() && pick(random, 4) != 0) {
        editor.repair_size();
        if (pick(random, 4) != 0) {
            editor.repair_tree();
            editor.repair_digest();
        }
    }
    return editor.size();
}

}  // namespace m4::fuzz
