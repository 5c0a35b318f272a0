// SPDX-License-Identifier: MIT
#include "header_mutator.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace m4::fuzz {

std::size_t mutate_safetensors(std::uint8_t* data, std::size_t begin, std::size_t size,
                               std::size_t max, unsigned seed) {
    const std::size_t text = begin + sizeof(std::uint64_t);
    std::uint64_t header = 0;
    if (size < text || seed % 4 == 0) {
        return LLVMFuzzerMutate(data, size, max);
    }
    std::memcpy(&header, data + begin, sizeof header);
    if (header > size - text) {
        return LLVMFuzzerMutate(data, size, max);
    }
    const std::vector<std::uint8_t> rest(data + text + header, data + size);
    const std::size_t room = max - text - rest.size();
    header = LLVMFuzzerMutate(data + text, header, std::min<std::size_t>(room, header + 64));
    std::copy(rest.begin(), rest.end(), data + text + header);
    std::memcpy(data + begin, &header, sizeof header);
    return text + header + rest.size();
}

}  // namespace m4::fuzz
