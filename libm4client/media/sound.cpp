// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sndfile.h>

#include <algorithm>
#include <memory>

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
        throw firmware::Error(path, "is too long: " + std::to_string(info.frames) +
                                        " samples are more than " + std::to_string(kMaxBytes) +
                                        " bytes");
    }
}

}  // namespace

Media load_audio(const std::string& path) {
    const firmware::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
        throw firmware::os_error(path, "open");
    }
    SF_INFO info{};
    const std::unique_ptr<SNDFILE, Closer> file(sf_open_fd(fd.get(), SFM_READ, &info, SF_FALSE));
    if (file == nullptr) {
        throw firmware::Error(path,
                              std::string("sound cannot be decoded: ") + sf_strerror(nullptr));
    }
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

}  // namespace m4::client_media
