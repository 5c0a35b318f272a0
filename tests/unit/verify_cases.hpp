// SPDX-License-Identifier: MIT
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <string>

#include "image_samples.hpp"
#include "lib/image.hpp"
#include "lib/verify.hpp"

namespace m4::test {

/// One thing broken in a package; Draft has `package` and `tensors`.
template <typename Draft>
struct VerifyCase {
    const char* name;
    void (*change)(Draft&);
    const char* expected;  ///< part of the refusal
};

/// As structs and from its blob, each must be refused.
template <typename Draft, std::size_t count>
void check_cases(const VerifyCase<Draft> (&cases)[count], void (*prepare)(Draft&) = nullptr) {
    for (const VerifyCase<Draft>& one : cases) {
        CAPTURE(std::string(one.name));
        Draft draft;
        if (prepare != nullptr) {
            prepare(draft);
        }
        one.change(draft);
        const std::string text =
            refusal([&] { firmware::verify_package(draft.package, draft.tensors); });
        CAPTURE(text);
        CHECK(contains(text, one.expected));
        const std::string blob_text = refusal([&] {
            (void)firmware::verify_package(firmware::encode_package(draft.package), draft.tensors);
        });
        CAPTURE(blob_text);
        CHECK(blob_text != "accepted");
    }
}

}  // namespace m4::test
