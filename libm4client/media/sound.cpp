// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sndfile.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>

#include "lib/error.hpp"
#include "lib/file.hpp"
#include "media.hpp"

namespace m4::client_media {

namespace {

constexpr int kMaxChannels = 8;

struct Closer {
    void operator()(SNDFILE* file) const { (void)sf_close(file); }
};

bool is_known(int format) {
    const int type = format & SF_FORMAT_TYPEMASK;
    return type == SF_FORMAT_WAV || type == SF_FORMAT_WAVEX || type == SF_FORMAT_RF64 ||
           type == SF_FORMAT_FLAC;
}

void check(const SF_INFO& info, std::uint64_t sample_bytes, const std::string& path) {
    if (!is_known(info.format)) {
        throw firmware::Error(path, "is neither a WAV nor a FLAC file");
    }
    if (info.channels < 1 || info.channels > kMaxChannels) {
        throw firmware::Error(path, std::to_string(info.channels) + " channels; 1 to " +
                                        std::to_string(kMaxChannels) + " are taken");
    }
    if (info.frames <= 0) {
        throw firmware::Error(path, "holds no sound");
    }
    const std::uint64_t row = static_cast<std::uint64_t>(info.channels) * sample_bytes;
    if (static_cast<std::uint64_t>(info.frames) > kMaxBytes / row) {
        throw TooLarge(path, "is too long: " + std::to_string(info.frames) +
                                 " samples are more than " + std::to_string(kMaxBytes) + " bytes");
    }
}

/// A file in memory, as libsndfile reads it.
struct Memory {
    std::span<const std::byte> bytes;
    sf_count_t at = 0;

    [[nodiscard]] sf_count_t size() const { return static_cast<sf_count_t>(bytes.size()); }
};

sf_count_t memory_size(void* user) {
    return static_cast<Memory*>(user)->size();
}

sf_count_t memory_seek(sf_count_t offset, int whence, void* user) {
    auto& memory = *static_cast<Memory*>(user);
    const sf_count_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? memory.at : memory.size();
    sf_count_t to = 0;
    if (__builtin_add_overflow(from, offset, &to) || to < 0) {
        return -1;
    }
    memory.at = to;
    return to;
}

sf_count_t memory_read(void* to, sf_count_t count, void* user) {
    auto& memory = *static_cast<Memory*>(user);
    const sf_count_t got =
        std::clamp<sf_count_t>(count, 0, std::max<sf_count_t>(memory.size() - memory.at, 0));
    if (got > 0) {
        std::memcpy(to, memory.bytes.data() + memory.at, static_cast<std::size_t>(got));
        memory.at += got;
    }
    return got;
}

sf_count_t memory_write(const void* /*from*/, sf_count_t /*count*/, void* /*user*/) {
    return 0;
}

sf_count_t memory_tell(void* user) {
    return static_cast<Memory*>(user)->at;
}

using Sound = std::unique_ptr<SNDFILE, Closer>;

/// Why an open failed libsndfile keeps for the whole process.
template <typename Open>
Sound opened(Open&& open, const std::string& place) {
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    Sound file(open());
    if (file == nullptr) {
        throw firmware::Error(place,
                              std::string("sound cannot be decoded: ") + sf_strerror(nullptr));
    }
    return file;
}

Media read_all(const Sound& file, const SF_INFO& info, const std::string& path) {
    const bool short_samples = (info.format & SF_FORMAT_SUBMASK) == SF_FORMAT_PCM_16;
    const std::uint64_t sample_bytes = short_samples ? sizeof(short) : sizeof(float);
    check(info, sample_bytes, path);
    Media media;
    media.kind = short_samples ? Kind::pcm16 : Kind::pcm_f32;
    media.channels = static_cast<std::uint32_t>(info.channels);
    media.samples = static_cast<std::uint64_t>(info.frames);
    media.rate_hz = static_cast<float>(info.samplerate);
    // Block by block: a header may promise more than there is.
    const std::uint64_t row = media.channels * sample_bytes;
    constexpr std::uint64_t kBlock = 1U << 16U;  // samples
    for (std::uint64_t done = 0; done < media.samples;) {
        const std::uint64_t count = std::min(kBlock, media.samples - done);
        media.bytes.resize((done + count) * row);
        void* to = media.bytes.data() + done * row;
        const auto frames = static_cast<sf_count_t>(count);
        const sf_count_t read = short_samples
                                    ? sf_readf_short(file.get(), static_cast<short*>(to), frames)
                                    : sf_readf_float(file.get(), static_cast<float*>(to), frames);
        if (read != frames) {
            throw firmware::Error(
                path, "ends before its " + std::to_string(media.samples) + " samples do");
        }
        done += count;
    }
    return media;
}

}  // namespace

Media load_audio(const std::string& path) {
    const firmware::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
        throw firmware::os_error(path, "open");
    }
    SF_INFO info{};
    const Sound file =
        opened([&] { return sf_open_fd(fd.get(), SFM_READ, &info, SF_FALSE); }, path);
    return read_all(file, info, path);
}

Media decode_audio(std::span<const std::byte> bytes, const std::string& place) {
    Memory memory{bytes};
    SF_VIRTUAL_IO reader = {memory_size, memory_seek, memory_read, memory_write, memory_tell};
    SF_INFO info{};
    const Sound file =
        opened([&] { return sf_open_virtual(&reader, SFM_READ, &info, &memory); }, place);
    return read_all(file, info, place);
}

}  // namespace m4::client_media
