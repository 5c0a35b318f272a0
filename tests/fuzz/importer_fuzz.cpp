// SPDX-License-Identifier: MIT
// libFuzzer's side of the files that m4fw pack reads: make fuzz-smoke.
#include "header_mutator.hpp"
#include "importer_target.hpp"

extern "C" {

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max,
                                    unsigned seed);
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max,
                                    unsigned seed) {
    if (size == 0 || !m4::fuzz::is_safetensors(data[0])) {
        return LLVMFuzzerMutate(data, size, max);
    }
    return m4::fuzz::mutate_safetensors(data, 1, size, max, seed);
}

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    (void)m4::fuzz::check_importer({data, size});
    return 0;
}

}  // extern "C"
