// SPDX-License-Identifier: MIT
// firmware/manifest.c, the checker that the kernel module compiles too: every
// rule refuses what breaks it, by name, and no bytes make it read outside.
#include <doctest/doctest.h>
#include <endian.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "lib/sha256.hpp"
#include "m4/manifest.h"

namespace {

using Bytes = std::vector<unsigned char>;

constexpr std::uint64_t kChunk = M4_IMAGE_CHUNK_BYTES;

/// A place or size in a manifest as it is stored.
__le32 offset32(std::uint64_t value) {
    return htole32(static_cast<std::uint32_t>(value));
}

/// An m4_sha256_fn that keeps to the contract and touches no ctx.
int hash(void* /*ctx*/, const void* a, __u64 a_bytes, const void* b, __u64 b_bytes, __u8* out) {
    m4::firmware::Sha256 sha;
    sha.update(std::span(static_cast<const std::byte*>(a), a_bytes));
    if (b_bytes != 0) {
        sha.update(std::span(static_cast<const std::byte*>(b), b_bytes));
    }
    const auto digest = sha.finish();
    std::memcpy(out, digest.data(), digest.size());
    return 0;
}

int hash_that_fails(void* ctx, const void* /*a*/, __u64 /*a_bytes*/, const void* /*b*/,
                    __u64 /*b_bytes*/, __u8* /*out*/) {
    return *static_cast<int*>(ctx);
}

struct Outcome {
    int structure = 0;
    int digests = 0;
    m4_manifest manifest{};
    m4_manifest_error error{};
    [[nodiscard]] bool refused() const { return structure != 0 || digests != 0; }
};

/// A manifest in a buffer of exactly its size, so that the sanitizer sees the
/// first byte read past it. Offsets of the tables are public: mutations aim.
class Sample {
   public:
    explicit Sample(std::uint32_t chunks = 3) : chunks_(chunks) {
        const std::uint64_t first = (chunks + 1) / 2 * kChunk;
        const std::uint64_t second = chunks * kChunk - first;
        const std::string names{"bulk\0norm\0query", 16};
        tree_bytes = m4_manifest_tree_bytes(chunks);
        segments = sizeof(m4_image_header);
        segment_count = second != 0 ? 2 : 1;
        tensors = segments + segment_count * sizeof(m4_image_segment);
        strings = tensors + 3 * sizeof(m4_image_tensor);
        tree = strings + names.size();
        program = tree + tree_bytes;
        bytes_.resize(program + 16 + sizeof(m4_image_trailer));

        put_header();
        auto* segment = at<m4_image_segment>(segments);
        segment[0].bytes = htole64(first);
        if (segment_count == 2) {
            segment[1].payload_offset = htole64(first);
            segment[1].bytes = htole64(second);
        }
        put_tensor(0, 0, 4, M4_DTYPE_U8, M4_LAYOUT_PLAIN, 0, 0, {100});
        put_tensor(1, 5, 4, M4_DTYPE_F32, M4_LAYOUT_PLAIN, 256, 0, {2, 3, 5, 7});
        put_tensor(2, 10, 5, M4_DTYPE_F16, M4_LAYOUT_ROWS16, 2048, 4, {12, 9});
        std::memcpy(bytes_.data() + strings, names.data(), names.size());
        std::memcpy(bytes_.data() + program, "a program", 9);
        grow_tree();
        seal();
    }

    std::uint64_t segments = 0, tensors = 0, strings = 0, tree = 0, program = 0;
    std::uint64_t tree_bytes = 0;
    std::uint32_t segment_count = 0;

    template <typename T>
    T* at(std::uint64_t offset) {
        return reinterpret_cast<T*>(bytes_.data() + offset);
    }
    m4_image_header& header() { return *at<m4_image_header>(0); }
    m4_image_segment& segment(std::size_t i) { return at<m4_image_segment>(segments)[i]; }
    m4_image_tensor& tensor(std::size_t i) { return at<m4_image_tensor>(tensors)[i]; }
    Bytes& bytes() { return bytes_; }

    /// The trailer's digest over whatever stands before it.
    void seal() {
        const std::uint64_t end = bytes_.size() - sizeof(m4_image_trailer);
        hash(nullptr, bytes_.data(), end, nullptr, 0, bytes_.data() + end);
    }

    Outcome check() const {
        const std::unique_ptr<unsigned char[]> exact(new unsigned char[bytes_.size()]);
        std::memcpy(exact.get(), bytes_.data(), bytes_.size());
        Outcome outcome;
        outcome.structure =
            m4_manifest_check(exact.get(), bytes_.size(), &outcome.manifest, &outcome.error);
        if (outcome.structure == 0) {
            outcome.digests =
                m4_manifest_check_digests(&outcome.manifest, hash, nullptr, &outcome.error);
        }
        return outcome;
    }

   private:
    void put_header() {
        auto& h = header();
        std::memcpy(h.magic, M4_IMAGE_MAGIC, M4_IMAGE_MAGIC_BYTES);
        h.version_major = htole16(M4_IMAGE_VERSION_MAJOR);
        h.header_bytes = htole32(sizeof(h));
        h.manifest_bytes = htole64(bytes_.size());
        h.payload_bytes = htole64(chunks_ * kChunk);
        std::memcpy(h.name, "back-bone2", 10);
        std::memcpy(h.version, "1.0 (test)", 10);
        h.rollback_index = htole64(7);
        h.hash_algorithm = htole16(M4_IMAGE_HASH_SHA256);
        h.log2_chunk = M4_IMAGE_LOG2_CHUNK;
        h.log2_block = M4_IMAGE_LOG2_BLOCK;
        std::memset(h.salt, 0x5a, sizeof(h.salt));
        h.segments = range(segments, segment_count);
        h.tensors = range(tensors, 3);
        h.strings = range(strings, tree - strings);
        h.tree = range(tree, tree_bytes);
        h.program = range(program, 9);
    }

    static m4_image_range range(std::uint64_t offset, std::uint64_t count) {
        return {offset32(offset), offset32(count)};
    }

    void put_tensor(std::size_t index, std::uint32_t name, std::uint32_t name_bytes,
                    std::uint16_t dtype, std::uint16_t layout, std::uint64_t offset,
                    std::uint32_t head_dim, const std::vector<__u64>& shape) {
        auto& t = tensor(index);
        t.name_offset = htole32(name);
        t.name_bytes = htole32(name_bytes);
        t.dtype = htole16(dtype);
        t.layout = htole16(layout);
        t.row_order = htole16(head_dim != 0 ? M4_ROW_ORDER_INTERLEAVED : M4_ROW_ORDER_NONE);
        t.head_dim = htole32(head_dim);
        t.rank = htole16(static_cast<std::uint16_t>(shape.size()));
        t.payload_offset = htole64(offset);
        t.bytes = htole64(m4_manifest_tensor_bytes(dtype, layout, static_cast<__u32>(shape.size()),
                                                   shape.data()));
        for (std::size_t i = 0; i < M4_IMAGE_RANK_MAX; i++) {
            t.shape[i] = htole64(i < shape.size() ? shape[i] : 1);
        }
    }

    /// Leaves are made up (no payload here); the levels above are real.
    void grow_tree() {
        std::uint64_t entries = chunks_;
        unsigned char* level = bytes_.data() + tree;
        for (std::uint64_t i = 0; i < entries * M4_IMAGE_DIGEST_BYTES; i++) {
            level[i] = static_cast<unsigned char>(i * 7 + 1);
        }
        for (;;) {
            const std::uint64_t blocks = (entries + 127) / 128;
            unsigned char* above = level + blocks * M4_IMAGE_BLOCK_BYTES;
            for (std::uint64_t i = 0; i < blocks; i++) {
                hash(nullptr, header().salt, sizeof(header().salt),
                     level + i * M4_IMAGE_BLOCK_BYTES, M4_IMAGE_BLOCK_BYTES,
                     blocks == 1 ? header().root : above + i * M4_IMAGE_DIGEST_BYTES);
            }
            if (blocks == 1) {
                return;
            }
            level = above;
            entries = blocks;
        }
    }

    std::uint32_t chunks_;
    Bytes bytes_;
};

struct Mutation {
    const char* name;
    std::function<void(Sample&)> apply;
    const char* where;
    int code = -EINVAL;
};

const std::vector<Mutation> kHeaderMutations = {
    {"no bytes", [](Sample& s) { s.bytes().clear(); }, "manifest"},
    {"a header alone", [](Sample& s) { s.bytes() = Bytes(sizeof(m4_image_header)); }, "manifest"},
    {"over 2 MiB", [](Sample& s) { s.bytes() = Bytes(M4_IMAGE_MANIFEST_SPAN + 8); }, "manifest"},
    {"odd size", [](Sample& s) { s.bytes().push_back(0); }, "manifest"},
    {"magic", [](Sample& s) { s.header().magic[7] = 0; }, "header.magic"},
    {"major", [](Sample& s) { s.header().version_major = htole16(2); }, "header.version_major",
     -EOPNOTSUPP},
    {"header size", [](Sample& s) { s.header().header_bytes = htole32(264); },
     "header.header_bytes"},
    {"incompat", [](Sample& s) { s.header().incompat = htole64(1); }, "header.incompat",
     -EOPNOTSUPP},
    {"cut by 8 bytes", [](Sample& s) { s.bytes().erase(s.bytes().end() - 8, s.bytes().end()); },
     "header.manifest_bytes"},
    {"hash", [](Sample& s) { s.header().hash_algorithm = htole16(2); }, "header.hash_algorithm",
     -EOPNOTSUPP},
    {"chunk", [](Sample& s) { s.header().log2_chunk = 20; }, "header.log2_chunk"},
    {"block", [](Sample& s) { s.header().log2_block = 13; }, "header.log2_block"},
    {"reserved0", [](Sample& s) { s.header().reserved0 = htole32(1); }, "header.reserved0"},
    {"reserved1", [](Sample& s) { s.header().reserved1[15] = 1; }, "header.reserved1"},
    {"no name", [](Sample& s) { std::memset(s.header().name, 0, 32); }, "header.name"},
    {"name without end", [](Sample& s) { std::memset(s.header().name, 'a', 32); }, "header.name"},
    {"name with a slash", [](Sample& s) { s.header().name[1] = '/'; }, "header.name"},
    {"name with a capital", [](Sample& s) { s.header().name[0] = 'B'; }, "header.name"},
    {"name begins with a dash", [](Sample& s) { s.header().name[0] = '-'; }, "header.name"},
    {"bytes behind the name", [](Sample& s) { s.header().name[31] = 'x'; }, "header.name"},
    {"version with a newline", [](Sample& s) { s.header().version[0] = '\n'; }, "header.version"},
    {"version with a high byte", [](Sample& s) { s.header().version[1] = 0xc3; }, "header.version"},
    {"no version", [](Sample& s) { std::memset(s.header().version, 0, 24); }, "header.version"},
    {"no payload", [](Sample& s) { s.header().payload_bytes = 0; }, "header.payload_bytes"},
    {"part of a chunk", [](Sample& s) { s.header().payload_bytes = htole64(kChunk / 2); },
     "header.payload_bytes"},
    {"huge payload", [](Sample& s) { s.header().payload_bytes = htole64(~0ULL << 21); },
     "header.payload_bytes"},
    {"other payload", [](Sample& s) { s.header().payload_bytes = htole64(4 * kChunk); },
     "header.payload_bytes"},
};

const std::vector<Mutation> kRangeMutations = {
    {"unaligned", [](Sample& s) { s.header().program.offset = offset32(s.program + 1); },
     "header.program"},
    {"in the header", [](Sample& s) { s.header().segments.offset = htole32(248); },
     "header.segments"},
    {"in the trailer", [](Sample& s) { s.header().program.count = htole32(17); }, "header.program"},
    {"far outside", [](Sample& s) { s.header().strings.offset = htole32(0xfffffff8); },
     "header.strings"},
    {"count overflows", [](Sample& s) { s.header().tensors.count = htole32(0xffffffff); },
     "header.tensors"},
    {"tree on the strings", [](Sample& s) { s.header().tree.offset = offset32(s.strings); },
     "header.tree"},
    {"one tensor too many", [](Sample& s) { s.header().tensors.count = htole32(4); },
     "header.strings"},
    {"bytes in a gap", [](Sample& s) { s.bytes()[s.program + 12] = 1; }, "manifest"},
    {"no segments",
     [](Sample& s) {
         s.header().segments.count = 0;
         std::memset(&s.segment(0), 0, 64);
     },
     "header.segments"},
    {"no tensors",
     [](Sample& s) {
         s.header().tensors.count = 0;
         std::memset(&s.tensor(0), 0, 3 * sizeof(m4_image_tensor));
     },
     "header.tensors"},
    {"segment gap", [](Sample& s) { s.segment(1).payload_offset = htole64(3 * kChunk); },
     "segment"},
    {"segment overlap", [](Sample& s) { s.segment(1).payload_offset = htole64(kChunk); },
     "segment"},
    {"empty segment", [](Sample& s) { s.segment(0).bytes = 0; }, "segment"},
    {"part of a chunk", [](Sample& s) { s.segment(0).bytes = htole64(kChunk + 4096); }, "segment"},
    {"segment over 1 GiB", [](Sample& s) { s.segment(0).bytes = htole64((1ULL << 30) + kChunk); },
     "segment"},
    {"segment reserved", [](Sample& s) { s.segment(1).reserved[1] = htole64(1); }, "segment"},
    {"segments say more", [](Sample& s) { s.segment(1).bytes = htole64(2 * kChunk); },
     "header.payload_bytes"},
    {"strings without end", [](Sample& s) { s.bytes()[s.tree - 1] = 'x'; }, "strings"},
    {"tree of another size",
     [](Sample& s) {
         s.header().tree.count = offset32(s.tree_bytes - 8);
         std::memset(s.bytes().data() + s.program - 8, 0, 8);
     },
     "tree"},
    {"bytes behind the leaves", [](Sample& s) { s.bytes()[s.program - 1] = 1; }, "tree"},
};

const std::vector<Mutation> kTensorMutations = {
    {"empty name", [](Sample& s) { s.tensor(0).name_bytes = 0; }, "tensor"},
    {"name outside", [](Sample& s) { s.tensor(2).name_bytes = htole32(6); }, "tensor"},
    {"name far outside", [](Sample& s) { s.tensor(0).name_offset = htole32(~0U); }, "tensor"},
    {"name and its end overflow", [](Sample& s) { s.tensor(1).name_bytes = htole32(0xfffffffb); },
     "tensor"},
    {"half a name", [](Sample& s) { s.tensor(0).name_bytes = htole32(3); }, "tensor"},
    {"end of a name",
     [](Sample& s) {
         s.tensor(1).name_offset = htole32(6);
         s.tensor(1).name_bytes = htole32(3);
     },
     "tensor"},
    {"control byte in a name", [](Sample& s) { s.bytes()[s.strings + 1] = 0x1b; }, "tensor"},
    {"dtype 0", [](Sample& s) { s.tensor(1).dtype = 0; }, "tensor"},
    {"U32 stored", [](Sample& s) { s.tensor(1).dtype = htole16(M4_DTYPE_U32); }, "tensor"},
    {"U8 of rank 2", [](Sample& s) { s.tensor(0).rank = htole16(2); }, "tensor"},
    {"layout 3", [](Sample& s) { s.tensor(1).layout = htole16(3); }, "tensor"},
    {"ROWS16 of rank 4", [](Sample& s) { s.tensor(1).layout = htole16(2); }, "tensor"},
    {"rank 0", [](Sample& s) { s.tensor(1).rank = 0; }, "tensor"},
    {"rank 5", [](Sample& s) { s.tensor(1).rank = htole16(5); }, "tensor"},
    {"dimension 0", [](Sample& s) { s.tensor(1).shape[2] = 0; }, "tensor"},
    {"shape past the rank", [](Sample& s) { s.tensor(2).shape[3] = htole64(2); }, "tensor"},
    {"shape overflows",
     [](Sample& s) {
         for (auto& dim : s.tensor(1).shape) {
             dim = htole64(1ULL << 31);
         }
     },
     "tensor"},
    {"bytes of another shape", [](Sample& s) { s.tensor(1).bytes = htole64(836); }, "tensor"},
    {"row order 3", [](Sample& s) { s.tensor(2).row_order = htole16(3); }, "tensor"},
    {"rotated without head_dim", [](Sample& s) { s.tensor(2).head_dim = 0; }, "tensor"},
    {"odd head_dim", [](Sample& s) { s.tensor(2).head_dim = htole32(3); }, "tensor"},
    {"part of a head", [](Sample& s) { s.tensor(2).head_dim = htole32(8); }, "tensor"},
    {"head_dim, not rotated", [](Sample& s) { s.tensor(1).head_dim = htole32(2); }, "tensor"},
    {"rotated bulk",
     [](Sample& s) {
         s.tensor(0).row_order = htole16(1);
         s.tensor(0).head_dim = htole32(2);
     },
     "tensor"},
    {"unaligned tensor", [](Sample& s) { s.tensor(0).payload_offset = htole64(16); }, "tensor"},
    {"not sorted", [](Sample& s) { s.tensor(1).payload_offset = htole64(4096); }, "tensor"},
    {"overlap", [](Sample& s) { s.tensor(2).payload_offset = htole64(1024); }, "tensor"},
    {"outside the payload",
     [](Sample& s) { s.tensor(2).payload_offset = htole64(3 * kChunk - 256); }, "tensor"},
    {"offset overflows", [](Sample& s) { s.tensor(2).payload_offset = htole64(~0ULL << 8); },
     "tensor"},
    {"reserved", [](Sample& s) { s.tensor(2).reserved[2] = htole64(1); }, "tensor"},
};

void expect_refusals(const std::vector<Mutation>& mutations) {
    for (const auto& mutation : mutations) {
        CAPTURE(mutation.name);
        Sample sample;
        mutation.apply(sample);
        const auto outcome = sample.check();
        CHECK(outcome.structure == mutation.code);
        REQUIRE(outcome.error.where != nullptr);
        CAPTURE(outcome.error.what);
        CHECK(std::string(outcome.error.where) == mutation.where);
        CHECK(outcome.manifest.header == nullptr);  // untouched on failure
    }
}

}  // namespace

TEST_CASE("a valid manifest is read as it was written") {
    for (const std::uint32_t chunks : {1U, 2U, 3U, 128U, 129U, 1024U}) {
        CAPTURE(chunks);
        Sample sample(chunks);
        const auto outcome = sample.check();
        CAPTURE(outcome.error.where);
        CAPTURE(outcome.error.what);
        REQUIRE(!outcome.refused());
    }
    Sample sample(129);
    const auto m = sample.check().manifest;
    CHECK(m.payload_bytes == 129 * kChunk);
    CHECK(m.chunk_count == 129);
    CHECK(m.segment_count == 2);
    CHECK(m.tensor_count == 3);
    CHECK(m.strings_bytes == 16);
    CHECK(m.tree_bytes == 3 * 4096);
    CHECK(m.program_bytes == 9);
    CHECK(m.rollback_index == 7);
    CHECK(m.manifest_bytes == sample.bytes().size());
    CHECK(m4_manifest_leaf(&m, 128) == m.tree + 128 * 32);
}

TEST_CASE("ranges may stand in any order, a program may be empty, minors are compatible") {
    Sample sample;
    sample.header().version_minor = htole16(9);
    sample.header().ro_compat = htole64(1);
    sample.header().program.count = 0;
    std::memset(sample.bytes().data() + sample.program, 0, 9);
    sample.seal();
    CHECK(!sample.check().refused());
}

TEST_CASE("a broken header is refused by the rule it breaks") {
    expect_refusals(kHeaderMutations);
}

TEST_CASE("broken ranges, segments, strings and trees are refused") {
    expect_refusals(kRangeMutations);
}

TEST_CASE("broken tensors are refused") {
    expect_refusals(kTensorMutations);
}

TEST_CASE("an unaligned buffer is refused, not read") {
    Sample sample;
    Bytes shifted(sample.bytes().size() + 8);
    std::memcpy(shifted.data() + 1, sample.bytes().data(), sample.bytes().size());
    m4_manifest manifest{};
    m4_manifest_error error{};
    CHECK(m4_manifest_check(shifted.data() + 1, sample.bytes().size(), &manifest, &error) ==
          -EINVAL);
    CHECK(std::string(error.where) == "manifest");
}

TEST_CASE("every single flipped bit of a manifest is caught") {
    Sample sample;
    std::size_t missed = 0;
    for (std::size_t bit = 0; bit < sample.bytes().size() * 8; bit++) {
        sample.bytes()[bit / 8] ^= static_cast<unsigned char>(1U << (bit % 8));
        missed += sample.check().refused() ? 0 : 1;
        sample.bytes()[bit / 8] ^= static_cast<unsigned char>(1U << (bit % 8));
    }
    CHECK(missed == 0);
    CHECK(!sample.check().refused());
}

TEST_CASE("a changed digest is caught on every level, even under a new trailer") {
    Sample sample(300);
    for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{299 * 32},
                                       std::uint64_t{3 * 4096}, std::uint64_t{3 * 4096 + 2 * 32}}) {
        CAPTURE(offset);
        Sample changed(300);
        changed.bytes()[changed.tree + offset] ^= 0x10;
        changed.seal();
        const auto outcome = changed.check();
        CHECK(outcome.structure == 0);
        CHECK(outcome.digests == -EBADMSG);
    }
    sample.header().root[0] ^= 1;
    sample.seal();
    const auto outcome = sample.check();
    CHECK(outcome.digests == -EBADMSG);
    CHECK(std::string(outcome.error.where) == "header.root");
}

TEST_CASE("the hash's own failure is passed on") {
    Sample sample;
    m4_manifest manifest{};
    m4_manifest_error error{};
    int failure = -ENOMEM;
    REQUIRE(m4_manifest_check(sample.bytes().data(), sample.bytes().size(), &manifest, &error) ==
            0);
    CHECK(m4_manifest_check_digests(&manifest, hash_that_fails, &failure, &error) == -ENOMEM);
}

TEST_CASE("arbitrary damage never makes the checker read outside") {
    std::mt19937_64 random(20240117);
    const Sample whole(140);
    std::size_t accepted = 0;
    for (int round = 0; round < 4000; round++) {
        Sample sample = whole;
        auto& bytes = sample.bytes();
        // Mostly the header and the tables, where offsets and counts stand.
        const std::size_t reach = round % 4 == 0 ? bytes.size() : sample.tree;
        for (std::uint64_t n = random() % 4 + 1; n > 0; n--) {
            const std::size_t at = random() % reach;
            bytes[at] = static_cast<unsigned char>(round % 2 == 0 ? random() : ~bytes[at]);
        }
        if (round % 5 == 0) {
            bytes.resize(random() % (bytes.size() + 1) & ~std::uint64_t{7});
            if (bytes.size() >= sizeof(m4_image_header)) {
                sample.header().manifest_bytes = htole64(bytes.size());
            }
        }
        if (bytes.size() > sizeof(m4_image_trailer)) {
            sample.seal();  // so that damage to uuid or salt gets far
        }
        accepted += sample.check().refused() ? 0 : 1;
    }
    CHECK(accepted < 4000);
}

TEST_CASE("tree sizes") {
    CHECK(m4_manifest_tree_bytes(0) == 0);
    CHECK(m4_manifest_tree_bytes(1) == 4096);
    CHECK(m4_manifest_tree_bytes(128) == 4096);
    CHECK(m4_manifest_tree_bytes(129) == 3 * 4096);
    CHECK(m4_manifest_tree_bytes(128 * 128) == 129 * 4096);
    CHECK(m4_manifest_tree_bytes(128 * 128 + 1) == (129 + 2 + 1) * 4096);
    CHECK(m4_manifest_tree_bytes(65536) == (512 + 4 + 1) * 4096);
    CHECK(m4_manifest_tree_bytes(65537) == 0);
    CHECK(m4_manifest_tree_bytes(~0ULL) == 0);
}

TEST_CASE("tensor sizes") {
    const auto size = [](__u32 dtype, __u32 layout, const std::vector<__u64>& shape) {
        return m4_manifest_tensor_bytes(dtype, layout, static_cast<__u32>(shape.size()),
                                        shape.data());
    };
    CHECK(size(M4_DTYPE_U8, M4_LAYOUT_PLAIN, {777}) == 777);
    CHECK(size(M4_DTYPE_U8, M4_LAYOUT_PLAIN, {7, 7}) == 0);
    CHECK(size(M4_DTYPE_U8, M4_LAYOUT_ROWS16, {16, 16}) == 0);
    CHECK(size(M4_DTYPE_F32, M4_LAYOUT_PLAIN, {3, 5}) == 60);
    CHECK(size(M4_DTYPE_F16, M4_LAYOUT_PLAIN, {3, 5, 7, 2}) == 420);
    CHECK(size(M4_DTYPE_F32, M4_LAYOUT_ROWS16, {1, 1}) == 256);
    CHECK(size(M4_DTYPE_F16, M4_LAYOUT_ROWS16, {1, 1}) == 256);
    CHECK(size(M4_DTYPE_F32, M4_LAYOUT_ROWS16, {17, 5}) == 32 * 8 * 4);
    CHECK(size(M4_DTYPE_F16, M4_LAYOUT_ROWS16, {17, 9}) == 32 * 16 * 2);
    CHECK(size(M4_DTYPE_F16, M4_LAYOUT_ROWS16, {16}) == 0);
    CHECK(size(M4_DTYPE_F16, M4_LAYOUT_ROWS16, {16, 16, 1}) == 0);
    CHECK(size(M4_DTYPE_U32, M4_LAYOUT_PLAIN, {4}) == 0);
    CHECK(size(M4_DTYPE_F32, M4_LAYOUT_PLAIN, {}) == 0);
    CHECK(size(M4_DTYPE_F32, M4_LAYOUT_PLAIN, {1, 1, 1, 1, 1}) == 0);
    CHECK(size(M4_DTYPE_F32, M4_LAYOUT_PLAIN, {1ULL << 31}) == 1ULL << 33);
    CHECK(size(M4_DTYPE_F32, M4_LAYOUT_PLAIN, {(1ULL << 31) + 1}) == 0);
    CHECK(size(M4_DTYPE_F32, M4_LAYOUT_PLAIN, {1ULL << 31, 1ULL << 31}) == 0);
}
