// SPDX-License-Identifier: MIT
#include <endian.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "error.hpp"
#include "file.hpp"
#include "image.hpp"
#include "segment_name.hpp"

namespace m4::firmware {

namespace {

constexpr std::size_t kHugePage = M4_IMAGE_CHUNK_BYTES;
constexpr unsigned kHashThreadsMax = 8;

/// Address space without memory behind it, on a 2 MiB boundary so that huge
/// pages can back it; `size` is a multiple of 2 MiB.
std::byte* reserve(std::size_t size, const std::string& place) {
    void* raw = ::mmap(nullptr, size + kHugePage, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED) {
        throw os_error(place, "reserve address space");
    }
    auto* first = static_cast<std::byte*>(raw);
    const std::size_t head = -reinterpret_cast<std::uintptr_t>(first) % kHugePage;
    if (head != 0) {
        ::munmap(first, head);
    }
    ::munmap(first + head + size, kHugePage - head);
    return first + head;
}

void map_file(const UniqueFd& file, std::byte* where, std::size_t size, const std::string& place) {
    if (::mmap(where, size, PROT_READ, MAP_SHARED | MAP_FIXED, file.get(), 0) == MAP_FAILED) {
        throw os_error(place, "map");
    }
}

/// Payload bytes as a header claims them, or 0 where it is not plausible: only
/// good for sizing a reservation. The checker has the last word.
std::uint64_t claimed_payload(std::span<const std::byte> start) {
    m4_image_header header{};
    if (start.size() < sizeof(header)) {
        return 0;
    }
    std::memcpy(&header, start.data(), sizeof(header));
    const std::uint64_t bytes = le64toh(header.payload_bytes);
    const bool plausible = std::memcmp(header.magic, M4_IMAGE_MAGIC, M4_IMAGE_MAGIC_BYTES) == 0 &&
                           bytes <= M4_IMAGE_PAYLOAD_MAX && bytes % M4_IMAGE_CHUNK_BYTES == 0;
    return plausible ? bytes : 0;
}

std::string folder_place(const std::filesystem::path& folder, const std::string& name) {
    return (folder / name).string();
}

/// "seg-001.m4w: chunk 3 (bytes 6291456..8388607)": counted in the shard, for
/// whoever goes and looks at the file.
std::string chunk_place(const Image& image, const std::filesystem::path& folder,
                        std::uint64_t chunk) {
    const std::uint64_t offset = chunk * M4_IMAGE_CHUNK_BYTES;
    std::size_t shard = 0;
    while (offset >= image.segments()[shard].payload_offset + image.segments()[shard].size_bytes) {
        ++shard;
    }
    const std::uint64_t begin = offset - image.segments()[shard].payload_offset;
    return folder_place(folder, segment_name(shard)) + ": chunk " +
           std::to_string(begin / M4_IMAGE_CHUNK_BYTES) + " (bytes " + std::to_string(begin) +
           ".." + std::to_string(begin + M4_IMAGE_CHUNK_BYTES - 1) + ")";
}

/// Hashes all chunks of a payload on a few threads. Chunks are handed out in
/// order and none behind a bad one is begun, so that the chunk reported is the
/// first bad one whatever the timing.
class ChunkCheck {
   public:
    ChunkCheck(const Image& image, std::span<const std::byte> payload,
               const MappedImage::Progress& progress)
        : image_(image),
          payload_(payload),
          progress_(progress),
          count_(payload.size() / M4_IMAGE_CHUNK_BYTES) {}

    /// Index of the first chunk that does not match, or the number of chunks.
    std::uint64_t run() {
        const unsigned wanted =
            std::clamp(std::thread::hardware_concurrency(), 1U, kHashThreadsMax);
        std::vector<std::thread> threads;
        for (std::uint64_t i = 1; i < std::min<std::uint64_t>(wanted, count_); ++i) {
            try {
                threads.emplace_back([this] { work(); });
            } catch (const std::system_error&) {
                break;  // fewer threads will do
            }
        }
        work();
        for (std::thread& thread : threads) {
            thread.join();
        }
        if (failure_) {
            std::rethrow_exception(failure_);
        }
        return first_bad_.load() < count_ ? first_bad_.load() : count_;
    }

   private:
    void work() {
        try {
            for (std::uint64_t i = next_++; i < count_ && i < first_bad_.load(); i = next_++) {
                const auto chunk = payload_.subspan(i * M4_IMAGE_CHUNK_BYTES, M4_IMAGE_CHUNK_BYTES);
                if (!image_.chunk_matches(static_cast<std::uint32_t>(i), chunk)) {
                    note_bad(i);
                    return;
                }
                const std::uint64_t done = done_bytes_ += M4_IMAGE_CHUNK_BYTES;
                if (progress_) {
                    progress_(done, payload_.size());
                }
            }
        } catch (...) {
            const std::lock_guard lock(mutex_);
            failure_ = std::current_exception();
            first_bad_ = 0;
        }
    }

    void note_bad(std::uint64_t index) {
        std::uint64_t seen = first_bad_.load();
        while (index < seen && !first_bad_.compare_exchange_weak(seen, index)) {
        }
    }

    const Image& image_;
    std::span<const std::byte> payload_;
    const MappedImage::Progress& progress_;
    std::uint64_t count_;
    std::atomic<std::uint64_t> next_ = 0;
    std::atomic<std::uint64_t> first_bad_ = UINT64_MAX;
    std::atomic<std::uint64_t> done_bytes_ = 0;
    std::mutex mutex_;
    std::exception_ptr failure_;  // guarded by mutex_ until the threads joined
};

}  // namespace

MappedImage MappedImage::open_folder(const std::filesystem::path& folder,
                                     const Progress& progress) {
    const UniqueFd directory = open_directory(folder.string());
    const std::string place = folder_place(folder, M4_IMAGE_MANIFEST_NAME);
    std::size_t manifest_bytes = 0;
    const UniqueFd manifest =
        open_regular(directory, M4_IMAGE_MANIFEST_NAME, place, manifest_bytes);
    if (manifest_bytes == 0 || manifest_bytes > M4_IMAGE_MANIFEST_SPAN) {
        throw Error(place, std::to_string(manifest_bytes) + " bytes, not 1 byte to 2 MiB");
    }
    std::array<std::byte, sizeof(m4_image_header)> start{};
    const ssize_t got = ::pread(manifest.get(), start.data(), start.size(), 0);
    if (got < 0) {
        throw os_error(place, "read");
    }
    const std::uint64_t payload_bytes =
        claimed_payload(std::span(start).first(static_cast<std::size_t>(got)));

    MappedImage result;
    result.mapped_bytes_ = M4_IMAGE_MANIFEST_SPAN + payload_bytes;
    result.base_ = reserve(result.mapped_bytes_, place);
    // What follows the file in the manifest's span reads as zeros.
    if (::mprotect(result.base_, M4_IMAGE_MANIFEST_SPAN, PROT_READ) != 0) {
        throw os_error(place, "map");
    }
    map_file(manifest, result.base_, manifest_bytes, place);
    result.image_ = Image::parse({result.base_, manifest_bytes}, place);
    if (result.image_.payload_bytes() != payload_bytes) {
        throw Error(place, "changed while it was being read");
    }

    const auto& segments = result.image_.segments();
    for (std::size_t i = 0; i < segments.size(); ++i) {
        const std::string name = segment_name(i);
        const std::string shard_place = folder_place(folder, name);
        std::size_t shard_bytes = 0;
        const UniqueFd shard = open_regular(directory, name, shard_place, shard_bytes);
        if (shard_bytes != segments[i].size_bytes) {
            throw Error(shard_place, std::to_string(shard_bytes) + " bytes instead of " +
                                         std::to_string(segments[i].size_bytes));
        }
        std::byte* where = result.base_ + M4_IMAGE_MANIFEST_SPAN + segments[i].payload_offset;
        map_file(shard, where, shard_bytes, shard_place);
        // Hints only: a file system without huge pages is no fault.
        ::madvise(where, shard_bytes, MADV_HUGEPAGE);
        ::madvise(where, shard_bytes, MADV_WILLNEED);
    }

    const auto payload = result.payload();
    const std::uint64_t bad = ChunkCheck(result.image_, payload, progress).run();
    if (bad < payload.size() / M4_IMAGE_CHUNK_BYTES) {
        throw Error(chunk_place(result.image_, folder, bad), "digest does not match");
    }
    return result;
}

MappedImage MappedImage::open_device(const std::filesystem::path& node) {
    const std::string place = node.string();
    UniqueFd device(::open(place.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!device) {
        throw os_error(place, "open");
    }
    struct stat status {};
    if (::fstat(device.get(), &status) != 0) {
        throw os_error(place, "stat");
    }
    if (!S_ISCHR(status.st_mode)) {
        throw Error(place, "is not a character device");
    }
    // The header says how much there is to map.
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    void* first = ::mmap(nullptr, page, PROT_READ, MAP_SHARED, device.get(), 0);
    if (first == MAP_FAILED) {
        throw os_error(place, "map");
    }
    const std::uint64_t payload_bytes = claimed_payload({static_cast<std::byte*>(first), page});
    m4_image_header header{};
    std::memcpy(&header, first, sizeof(header));
    ::munmap(first, page);
    const std::uint64_t manifest_bytes = le64toh(header.manifest_bytes);
    if (payload_bytes == 0 || manifest_bytes > M4_IMAGE_MANIFEST_SPAN) {
        throw Error(place, "does not begin with the header of an image");
    }

    MappedImage result;
    result.mapped_bytes_ = M4_IMAGE_MANIFEST_SPAN + payload_bytes;
    result.base_ = reserve(result.mapped_bytes_, place);
    map_file(device, result.base_, result.mapped_bytes_, place);
    result.image_ = Image::parse({result.base_, manifest_bytes}, place);
    result.device_ = std::move(device);
    return result;
}

MappedImage::MappedImage(MappedImage&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)),
      mapped_bytes_(std::exchange(other.mapped_bytes_, 0)),
      device_(std::move(other.device_)),
      image_(std::move(other.image_)) {}

MappedImage& MappedImage::operator=(MappedImage&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
    std::swap(device_, other.device_);
    std::swap(image_, other.image_);
    return *this;
}

MappedImage::~MappedImage() {
    if (base_ != nullptr) {
        ::munmap(base_, mapped_bytes_);
    }
}

std::span<const std::byte> MappedImage::payload() const {
    return {base_ + M4_IMAGE_MANIFEST_SPAN, mapped_bytes_ - M4_IMAGE_MANIFEST_SPAN};
}

std::span<const std::byte> MappedImage::bytes(const Tensor& tensor) const {
    return payload().subspan(tensor.payload_offset, tensor.size_bytes);
}

}  // namespace m4::firmware
