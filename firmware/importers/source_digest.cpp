// SPDX-License-Identifier: MIT
#include "source_digest.hpp"

#include <algorithm>
#include <span>
#include <string_view>

#include "lib/half.hpp"
#include "lib/sha256.hpp"

namespace m4::firmware {

namespace {

constexpr std::string_view kDomain = "m4 source digest v1\n";
constexpr std::uint64_t kBatchElements = 1U << 18;  // read at once: 1 MiB of F32

void add(Sha256& hash, std::uint64_t number) {
    hash.update(std::as_bytes(std::span(&number, 1)));
}

void add_values(Sha256& hash, const DigestTensor& tensor) {
    const std::uint64_t rows = tensor.shape.size() == 1 ? 1 : tensor.shape.front();
    const std::uint64_t columns = tensor.shape.back();
    const std::uint64_t batch = std::max<std::uint64_t>(1, kBatchElements / columns);
    std::vector<float> values(std::min(batch, rows) * columns);
    std::vector<std::uint16_t> halves(values.size());
    for (std::uint64_t first = 0; first < rows; first += batch) {
        const std::uint64_t count = std::min(batch, rows - first);
        const std::span<float> part(values.data(), count * columns);
        tensor.rows(first, count, part);
        std::transform(part.begin(), part.end(), halves.begin(), to_half);
        hash.update(std::as_bytes(std::span(halves).first(part.size())));
    }
}

}  // namespace

std::array<std::uint8_t, 32> source_digest(std::vector<DigestTensor> tensors) {
    std::sort(tensors.begin(), tensors.end(),
              [](const DigestTensor& a, const DigestTensor& b) { return a.name < b.name; });
    Sha256 hash;
    hash.update(kDomain);
    for (const auto& tensor : tensors) {
        add(hash, tensor.name.size());
        hash.update(tensor.name);
        add(hash, tensor.shape.size());
        for (const auto extent : tensor.shape) {
            add(hash, extent);
        }
        add_values(hash, tensor);
    }
    return hash.finish();
}

}  // namespace m4::firmware
