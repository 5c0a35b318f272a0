// SPDX-License-Identifier: MIT
// libFuzzer's side of what clients send: make fuzz-smoke.
#include "request_target.hpp"

extern "C" {

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    (void)m4::fuzz::check_request({data, size});
    return 0;
}

}  // extern "C"
