// SPDX-License-Identifier: MIT
#include <sndfile.h>
#include <spng.h>
#include <turbojpeg.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "checkpoint_writer.hpp"
#include "decoder_target.hpp"
#include "temp_folder.hpp"

namespace m4::fuzz {

namespace {

using Seed = std::vector<std::uint8_t>;

void require(bool holds) {
    if (!holds) {
        throw std::runtime_error("a seed cannot be made");
    }
}

std::string some(std::size_t count) {
    std::string bytes(count, '\0');
    for (std::size_t i = 0; i < count; ++i) {
        bytes[i] = static_cast<char>(i * 41 + i / 7);
    }
    return bytes;
}

std::string png(spng_color_type type, std::uint8_t depth, std::size_t bytes) {
    spng_ctx* context = spng_ctx_new(SPNG_CTX_ENCODER);
    spng_ihdr header{};
    header.width = 9;
    header.height = 6;
    header.color_type = static_cast<std::uint8_t>(type);
    header.bit_depth = depth;
    const std::string pixels =
        type == SPNG_COLOR_TYPE_INDEXED ? std::string(bytes, '\1') : some(bytes);
    require(spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1) == 0);
    require(spng_set_ihdr(context, &header) == 0);
    if (type == SPNG_COLOR_TYPE_INDEXED) {
        spng_plte palette{};
        palette.n_entries = 2;
        require(spng_set_plte(context, &palette) == 0);
    }
    require(spng_encode_image(context, pixels.data(), pixels.size(), SPNG_FMT_RAW,
                              SPNG_ENCODE_FINALIZE) == 0);
    std::size_t size = 0;
    int error = 0;
    void* made = spng_get_png_buffer(context, &size, &error);
    std::string file(static_cast<const char*>(made), size);
    std::free(made);
    spng_ctx_free(context);
    return file;
}

std::string jpeg(int format, int subsampling, int flags) {
    tjhandle handle = tjInitCompress();
    const std::string pixels = some(20 * 12 * 3);
    unsigned char* bytes = nullptr;
    unsigned long size = 0;
    require(tjCompress2(handle, reinterpret_cast<const unsigned char*>(pixels.data()), 20, 0, 12,
                        format, &bytes, &size, subsampling, 60, flags) == 0);
    std::string file(reinterpret_cast<const char*>(bytes), size);
    tjFree(bytes);
    (void)tjDestroy(handle);
    return file;
}

std::string sound(int format, int channels) {
    const test::TempFolder folder;
    const std::string path = (folder / "sound").string();
    SF_INFO info{};
    info.samplerate = 16'000;
    info.channels = channels;
    info.format = format;
    SNDFILE* file = sf_open(path.c_str(), SFM_WRITE, &info);
    require(file != nullptr);
    std::vector<short> samples(static_cast<std::size_t>(channels) * 120);
    for (std::size_t i = 0; i < samples.size(); ++i) {
        samples[i] = static_cast<short>(i * 7919);
    }
    require(sf_write_short(file, samples.data(), static_cast<sf_count_t>(samples.size())) > 0);
    require(sf_close(file) == 0);
    std::FILE* in = std::fopen(path.c_str(), "rb");
    std::string bytes(std::filesystem::file_size(path), '\0');
    require(std::fread(bytes.data(), 1, bytes.size(), in) == bytes.size());
    (void)std::fclose(in);
    return bytes;
}

std::string tensor(const char* type, const std::vector<std::uint64_t>& shape, std::size_t bytes) {
    return test::safetensors_bytes(
        {{"x", {type, shape, std::string(bytes, '\0')}}, {"y", {"BF16", {2}, "abcd"}}});
}

}  // namespace

std::vector<std::vector<std::uint8_t>> decoder_seeds() {
    const std::vector<std::pair<DecoderInput, std::string>> files = {
        {DecoderInput::image, png(SPNG_COLOR_TYPE_TRUECOLOR, 8, 162)},
        {DecoderInput::image, png(SPNG_COLOR_TYPE_TRUECOLOR_ALPHA, 16, 432)},
        {DecoderInput::image, png(SPNG_COLOR_TYPE_GRAYSCALE, 1, 12)},
        {DecoderInput::image, png(SPNG_COLOR_TYPE_INDEXED, 8, 54)},
        {DecoderInput::image, jpeg(TJPF_RGB, TJSAMP_420, 0)},
        {DecoderInput::image, jpeg(TJPF_RGB, TJSAMP_444, TJFLAG_PROGRESSIVE)},
        {DecoderInput::image, jpeg(TJPF_RGB, TJSAMP_GRAY, 0)},
        {DecoderInput::audio, sound(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 1)},
        {DecoderInput::audio, sound(SF_FORMAT_WAV | SF_FORMAT_PCM_24, 2)},
        {DecoderInput::audio, sound(SF_FORMAT_WAVEX | SF_FORMAT_FLOAT, 2)},
        {DecoderInput::audio, sound(SF_FORMAT_WAV | SF_FORMAT_IMA_ADPCM, 1)},
        {DecoderInput::audio, sound(SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 1)},
        {DecoderInput::audio, sound(SF_FORMAT_FLAC | SF_FORMAT_PCM_24, 2)},
        {DecoderInput::features, tensor("F32", {2, 3, 4}, 96)},
        {DecoderInput::features, tensor("F16", {2, 3}, 12)},
        {DecoderInput::features, tensor("I64", {3}, 24)},
        {DecoderInput::features, tensor("U8", {4, 3, 3}, 36)},
        {DecoderInput::motion, tensor("F32", {2, 3, 4}, 96)},
        {DecoderInput::motion, tensor("I32", {2, 3}, 24)},
        {DecoderInput::motion, tensor("U8", {2, 4, 3}, 24)},
    };
    std::vector<Seed> seeds;
    for (const auto& [kind, file] : files) {
        seeds.emplace_back(1, static_cast<std::uint8_t>(kind));
        seeds.back().insert(seeds.back().end(), file.begin(), file.end());
    }
    return seeds;
}

}  // namespace m4::fuzz
