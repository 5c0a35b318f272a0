// SPDX-License-Identifier: MIT
// libFuzzer's side of adapter files: make fuzz-smoke.
#include "adapter_target.hpp"

extern "C" {

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    (void)m4::fuzz::check_adapter({data, size});
    return 0;
}

}  // extern "C"
