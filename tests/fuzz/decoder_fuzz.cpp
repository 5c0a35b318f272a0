// SPDX-License-Identifier: MIT
// libFuzzer's side of the files that apps decode: make fuzz-smoke.
#include "decoder_target.hpp"
#include "header_mutator.hpp"

using m4::fuzz::DecoderInput;

extern "C" {

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max,
                                    unsigned seed);
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max,
                                    unsigned seed) {
    const DecoderInput kind = m4::fuzz::decoder_input(size == 0 ? 0 : data[0]);
    if (kind == DecoderInput::features || kind == DecoderInput::motion) {
        return m4::fuzz::mutate_safetensors(data, 1, size, max, seed);
    }
    size = LLVMFuzzerMutate(data, size, max);
    if (size > 1 && m4::fuzz::decoder_input(data[0]) == DecoderInput::image) {
        m4::fuzz::tame_image({data + 1, size - 1});
    }
    return size;
}

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    (void)m4::fuzz::check_decoder({data, size});
    return 0;
}

}  // extern "C"
