// SPDX-License-Identifier: MIT
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace m4::firmware {

/// An image, checkpoint or program that is not what it should be, or a file
/// that cannot be read. what() is "<place>: <reason>", a sentence for people;
/// the place names the file, table entry or operator. Thrown by everything in
/// firmware/; callers at a boundary (tool main, daemon start) catch it.
class Error : public std::runtime_error {
   public:
    Error(std::string place, const std::string& reason)
        : std::runtime_error(place + ": " + reason), place_(std::move(place)) {}

    [[nodiscard]] const std::string& place() const noexcept { return place_; }

   private:
    std::string place_;
};

/// More than a limit allows.
class TooLarge : public Error {
   public:
    using Error::Error;
};

}  // namespace m4::firmware
