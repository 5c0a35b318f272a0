// SPDX-License-Identifier: MIT
#include "error.hpp"

#include <system_error>

namespace m4::client {

Error system_error(const char* call, int error_number) {
    return {M4_E_SYSTEM, std::string(call) + ": " + std::generic_category().message(error_number)};
}

Error invalid(std::string message) {
    return {M4_E_INVALID, std::move(message)};
}

void LastError::keep(int new_code, const char* words, std::uint32_t retry_ms) noexcept {
    code = new_code;
    retry_after_ms = retry_ms;
    try {
        message = words;
    } catch (...) {
        message.clear();
    }
}

}  // namespace m4::client
