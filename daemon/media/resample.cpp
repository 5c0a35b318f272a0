// SPDX-License-Identifier: MIT
#include "resample.hpp"

#include <soxr.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "prepare.hpp"

namespace m4::media {

namespace {

constexpr std::size_t kBlock = 8192;  // samples

struct Deleter {
    void operator()(soxr* state) const { soxr_delete(state); }
};

void check(soxr_error_t error) {
    if (error != nullptr) {
        throw MediaError(std::string("rate_hz: resampling failed: ") + error);
    }
}

}  // namespace

std::uint64_t resampled(std::uint64_t samples, Rates rates) {
    const double exact = static_cast<double>(samples) * rates.to / rates.from;
    return exact < 0x1p62 ? static_cast<std::uint64_t>(std::floor(exact + 0.5)) : 1ULL << 62U;
}

void resample(Rates rates, std::uint32_t channels, std::uint64_t samples, std::uint64_t wanted,
              const Source& source, const Sink& sink) {
    soxr_error_t error = nullptr;
    const auto io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
    const auto quality = soxr_quality_spec(SOXR_HQ, 0);
    const auto runtime = soxr_runtime_spec(1);
    const std::unique_ptr<soxr, Deleter> state(
        soxr_create(rates.from, rates.to, channels, &error, &io, &quality, &runtime));
    check(error);
    std::vector<float> in(kBlock * channels);
    std::vector<float> out(kBlock * channels);
    std::uint64_t read = 0;
    std::uint64_t written = 0;
    while (written < wanted) {
        const std::size_t count = std::min<std::uint64_t>(kBlock, samples - read);
        source(read, std::span(in).first(count * channels));
        read += count;
        // An empty block says that no more comes. What is taken is taken whole.
        std::size_t used = 0;
        std::size_t done = 0;
        do {
            std::size_t taken = 0;
            check(soxr_process(state.get(), count == 0 ? nullptr : in.data() + used * channels,
                               count - used, &taken, out.data(), kBlock, &done));
            used += taken;
            const std::size_t kept = std::min<std::uint64_t>(done, wanted - written);
            sink(written, std::span(out).first(kept * channels));
            written += kept;
        } while (written < wanted && (used < count || done == kBlock));
        if (count == 0) {
            return;
        }
    }
}

}  // namespace m4::media
