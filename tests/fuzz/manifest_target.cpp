// SPDX-License-Identifier: MIT
#include "manifest_target.hpp"

#include <m4/manifest.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "lib/error.hpp"
#include "lib/image.hpp"
#include "lib/sha256.hpp"

namespace m4::fuzz {

namespace {

void require(bool holds, const char* promise) {
    if (!holds) {
        (void)std::fprintf(stderr, "promise broken: %s\n", promise);
        std::abort();
    }
}

bool inside(std::span<const std::uint8_t> bytes, const void* begin, std::uint64_t size) {
    const auto* at = static_cast<const std::uint8_t*>(begin);
    const auto* end = bytes.data() + bytes.size();
    return at >= bytes.data() && at <= end && size <= static_cast<std::uint64_t>(end - at);
}

int hash(void* /*ctx*/, const void* a, __u64 a_bytes, const void* b, __u64 b_bytes, __u8* out) {
    static thread_local firmware::Sha256 sha;
    sha.update(std::span(static_cast<const std::byte*>(a), a_bytes));
    if (b_bytes != 0) {
        sha.update(std::span(static_cast<const std::byte*>(b), b_bytes));
    }
    const auto digest = sha.finish();
    std::copy(digest.begin(), digest.end(), out);
    return 0;
}

void check_refusal(int code, const m4_manifest_error& error, bool digests) {
    require(code == -EINVAL || code == -EOPNOTSUPP || (digests && code == -EBADMSG),
            "a refusal has one of the documented codes");
    require(error.what != nullptr && error.where != nullptr, "a refusal says what and where");
}

void check_structure(std::span<const std::uint8_t> bytes, const m4_manifest& m) {
    require(m.manifest_bytes == bytes.size(), "the size is the file's");
    require(inside(bytes, m.header, sizeof(*m.header)), "header inside");
    require(inside(bytes, m.segments, sizeof(*m.segments) * std::uint64_t{m.segment_count}),
            "segments inside");
    require(inside(bytes, m.tensors, sizeof(*m.tensors) * std::uint64_t{m.tensor_count}),
            "tensors inside");
    require(inside(bytes, m.strings, m.strings_bytes), "strings inside");
    require(inside(bytes, m.tree, m.tree_bytes), "tree inside");
    require(inside(bytes, m.program, m.program_bytes), "program inside");
    require(m.digest == bytes.data() + bytes.size() - M4_IMAGE_DIGEST_BYTES, "trailer last");
    require(m.payload_bytes == m.chunk_count * M4_IMAGE_CHUNK_BYTES, "chunks make the payload");
    require(m.tree_bytes == m4_manifest_tree_bytes(m.chunk_count), "the tree fits the chunks");
    require(inside(bytes, m4_manifest_leaf(&m, 0), M4_IMAGE_DIGEST_BYTES), "first leaf inside");
    require(inside(bytes, m4_manifest_leaf(&m, m.chunk_count - 1), M4_IMAGE_DIGEST_BYTES),
            "last leaf inside");
}

void check_image(const firmware::Image& image) {
    std::uint64_t end = 0;
    for (const firmware::Segment& segment : image.segments()) {
        require(segment.payload_offset == end, "segments without gaps");
        end += segment.size_bytes;
    }
    require(end == image.payload_bytes(), "segments make the payload");
    for (const firmware::Tensor& tensor : image.tensors()) {
        require(tensor.size_bytes <= end && tensor.payload_offset <= end - tensor.size_bytes,
                "tensors inside the payload");
        require(!tensor.name.empty() && tensor.rank >= 1 && tensor.rank <= tensor.shape.size(),
                "tensors have a name and a shape");
    }
    require(!image.name().empty() && image.name().size() < M4_IMAGE_NAME_BYTES, "name");
    require(!image.package().parts.empty(), "a package has a part");
}

}  // namespace

Depth check_manifest(std::span<const std::uint8_t> bytes) {
    m4_manifest manifest{};
    m4_manifest_error error{};
    int code = m4_manifest_check(bytes.data(), bytes.size(), &manifest, &error);
    Depth depth = Depth::kStructure;
    if (code == 0) {
        check_structure(bytes, manifest);
        code = m4_manifest_check_digests(&manifest, hash, nullptr, &error);
        depth = code == 0 ? Depth::kPrograms : Depth::kDigests;
    }
    if (code != 0) {
        check_refusal(code, error, depth == Depth::kDigests);
    }
    // The same bytes through the door that user space takes. Its first checks
    // are those above, so it is only worth the time where they passed.
    if (depth == Depth::kPrograms) {
        try {
            check_image(firmware::Image::parse(std::as_bytes(bytes), "manifest"));
            depth = Depth::kAccepted;
        } catch (const firmware::Error& refused) {
            require(!refused.place().empty(), "an error names its place");
        }
    }
    return depth;
}

}  // namespace m4::fuzz
