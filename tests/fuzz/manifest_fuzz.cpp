// SPDX-License-Identifier: MIT
// libFuzzer's side of the manifest's readers: make fuzz-smoke.
#include "manifest_mutator.hpp"
#include "manifest_target.hpp"

extern "C" {

std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max);
std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max,
                                    unsigned seed);
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max,
                                    unsigned seed) {
    return m4::fuzz::mutate_manifest(data, size, max, seed, LLVMFuzzerMutate);
}

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    (void)m4::fuzz::check_manifest({data, size});
    return 0;
}

}  // extern "C"
