// SPDX-License-Identifier: MIT
// Sound files as m4ctl decodes them.
#include <doctest/doctest.h>
#include <sndfile.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "checkpoint_writer.hpp"
#include "image_samples.hpp"
#include "media/media.hpp"
#include "temp_folder.hpp"

namespace m4::test {

namespace {

using client_media::Kind;
using client_media::Media;

void write_sound(const std::string& path, int format, int channels,
                 const std::vector<short>& samples, int rate = 16'000) {
    SF_INFO info{};
    info.samplerate = rate;
    info.channels = channels;
    info.format = format;
    SNDFILE* file = sf_open(path.c_str(), SFM_WRITE, &info);
    REQUIRE(file != nullptr);
    REQUIRE(sf_write_short(file, samples.data(), static_cast<sf_count_t>(samples.size())) ==
            static_cast<sf_count_t>(samples.size()));
    REQUIRE(sf_close(file) == 0);
}

std::vector<short> wave(std::size_t count) {
    std::vector<short> samples(count);
    for (std::size_t i = 0; i < count; ++i) {
        samples[i] = static_cast<short>(static_cast<int>(i * 7919 % 60'001) - 30'000);
    }
    return samples;
}

std::string refused(const std::string& path) {
    return refusal([&] { (void)client_media::load_audio(path); });
}

}  // namespace

TEST_CASE("client media: WAV and FLAC of 16 bits come out as they are") {
    const TempFolder folder;
    const auto samples = wave(70'000 * 2);  // more than a block
    for (const int format : {SF_FORMAT_WAV | SF_FORMAT_PCM_16, SF_FORMAT_FLAC | SF_FORMAT_PCM_16}) {
        const std::string path = (folder / "sound").string();
        write_sound(path, format, 2, samples, 44'100);
        const Media media = client_media::load_audio(path);
        CHECK(media.kind == Kind::pcm16);
        CHECK(media.channels == 2);
        CHECK(media.samples == 70'000);
        CHECK(media.rate_hz == 44'100);
        REQUIRE(media.bytes.size() == samples.size() * sizeof(short));
        CHECK(std::memcmp(media.bytes.data(), samples.data(), media.bytes.size()) == 0);
    }
}

TEST_CASE("client media: other widths become floats within 1") {
    const TempFolder folder;
    const auto samples = wave(1000);
    for (const int format : {SF_FORMAT_WAV | SF_FORMAT_FLOAT, SF_FORMAT_WAV | SF_FORMAT_PCM_24,
                             SF_FORMAT_FLAC | SF_FORMAT_PCM_24, SF_FORMAT_WAV | SF_FORMAT_DOUBLE}) {
        CAPTURE(format);
        const std::string path = (folder / "sound").string();
        write_sound(path, format, 1, samples);
        const Media media = client_media::load_audio(path);
        CHECK(media.kind == Kind::pcm_f32);
        REQUIRE(media.bytes.size() == samples.size() * sizeof(float));
        const bool whole = (format & SF_FORMAT_SUBMASK) == SF_FORMAT_PCM_24;
        for (std::size_t i = 0; i < samples.size(); ++i) {
            float value = 0;
            std::memcpy(&value, media.bytes.data() + i * sizeof(float), sizeof(float));
            // Written as integers into files of floats, they keep their size.
            REQUIRE(value == doctest::Approx(samples[i] / (whole ? 32'768.0 : 1.0)));
        }
    }
}

TEST_CASE("client media: what is no sound, none of it, or cut short is refused") {
    const TempFolder folder;
    const std::string path = (folder / "sound").string();
    write_sound(path, SF_FORMAT_WAV | SF_FORMAT_PCM_16, 1, {});
    CHECK(contains(refused(path), "sound: holds no sound"));
    write_sound(path, SF_FORMAT_AIFF | SF_FORMAT_PCM_16, 1, wave(10));
    CHECK(contains(refused(path), "sound: is neither a WAV nor a FLAC file"));
    write_sound(path, SF_FORMAT_WAVEX | SF_FORMAT_PCM_16, 9, wave(90));
    CHECK(contains(refused(path), "sound: 9 channels; 1 to 8 are taken"));
    write_file(path, "RIFF");
    CHECK(contains(refused(path), "sound: sound cannot be decoded: "));
    write_file(path, "");
    CHECK(contains(refused(path), "sound: sound cannot be decoded: "));
    CHECK(contains(refused((folder / "none").string()), "none: cannot open: No such file"));
    CHECK(refused(folder / ".") != "accepted");

    write_sound(path, SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 1, wave(20'000));
    std::string flac(std::filesystem::file_size(path), '\0');
    std::FILE* file = std::fopen(path.c_str(), "rb");
    REQUIRE(std::fread(flac.data(), 1, flac.size(), file) == flac.size());
    (void)std::fclose(file);
    for (const std::size_t part : {1UL, 2UL, 3UL, 7UL}) {
        write_file(path, flac.substr(0, flac.size() * part / 8));
        CHECK(refused(path) != "accepted");
    }
}

}  // namespace m4::test
