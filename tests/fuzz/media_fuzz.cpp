// SPDX-License-Identifier: MIT
// libFuzzer's side of what an app may say of its bytes: make fuzz-smoke.
#include "media_target.hpp"

extern "C" {

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    (void)m4::fuzz::check_media({data, size});
    return 0;
}

}  // extern "C"
