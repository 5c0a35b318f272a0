// SPDX-License-Identifier: MIT
// libFuzzer's side of the files that m4fw pack reads: make fuzz-smoke.
#include <algorithm>
#include <cstring>

#include "importer_target.hpp"

extern "C" {

std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max);
std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max,
                                    unsigned seed);
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

/// Of a safetensors file mostly the header alone, its length following: no mutation gets
/// past that by chance.
std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max,
                                    unsigned seed) {
    constexpr std::size_t kBegin = 1 + sizeof(std::uint64_t);
    std::uint64_t header = 0;
    if (size < kBegin || data[0] % 8 != 0 || seed % 4 == 0) {
        return LLVMFuzzerMutate(data, size, max);
    }
    std::memcpy(&header, data + 1, sizeof header);
    if (header > size - kBegin) {
        return LLVMFuzzerMutate(data, size, max);
    }
    const std::vector<std::uint8_t> rest(data + kBegin + header, data + size);
    const std::size_t room = max - kBegin - rest.size();
    header = LLVMFuzzerMutate(data + kBegin, header, std::min<std::size_t>(room, header + 64));
    std::copy(rest.begin(), rest.end(), data + kBegin + header);
    std::memcpy(data + 1, &header, sizeof header);
    return kBegin + header + rest.size();
}

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    (void)m4::fuzz::check_importer({data, size});
    return 0;
}

}  // extern "C"
