// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <exception>
#include <string>

#include "m4client.h"

namespace m4::client {

/// How every failure travels inside the library. The C boundary turns it into
/// a code and keeps the words for m4_client_error().
class Error : public std::exception {
   public:
    Error(int code, std::string message, std::uint32_t retry_after_ms = 0)
        : code_(code), retry_after_ms_(retry_after_ms), message_(std::move(message)) {}

    [[nodiscard]] int code() const noexcept { return code_; }
    [[nodiscard]] std::uint32_t retry_after_ms() const noexcept { return retry_after_ms_; }
    [[nodiscard]] const std::string& message() const noexcept { return message_; }
    [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

   private:
    int code_;
    std::uint32_t retry_after_ms_;
    std::string message_;
};

/// M4_E_SYSTEM with the call's name and errno in words.
[[nodiscard]] Error system_error(const char* call, int error_number);

/// M4_E_INVALID.
[[nodiscard]] Error invalid(std::string message);

/// The last failure, kept without ever throwing.
struct LastError {
    int code = 0;
    std::uint32_t retry_after_ms = 0;
    std::string message;

    void keep(int new_code, const char* words, std::uint32_t retry_ms) noexcept;
};

}  // namespace m4::client
