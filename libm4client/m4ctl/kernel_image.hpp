// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace m4ctl {

inline constexpr char kSysfsBase[] = "/sys/class/m4";

/// One image as m4.ko shows it in sysfs: docs/kernel-module.md. Everything
/// throws Failure naming the file.
class KernelImage {
   public:
    struct Wait {
        std::function<void(unsigned percent)> progress;
        double limit_s = 0;  ///< 0: none
    };

    /// Throws where `name` is none that an image may have.
    KernelImage(const std::string& base, const std::string& name);

    /// The module is loaded, and knows the name.
    [[nodiscard]] bool present() const;
    /// Throws unless present().
    void require_present() const;
    /// Throws where this process may not ask for loads and the like.
    void require_writable(const char* attribute) const;

    /// A file's line; empty where there is no image to tell of.
    [[nodiscard]] std::string text(const char* attribute) const;
    [[nodiscard]] std::uint64_t number(const char* attribute) const;
    void write(const char* attribute, const std::string& value) const;

    enum class Outcome { kAccepted, kRefused, kStillLoading };
    struct Loaded {
        Outcome outcome = Outcome::kAccepted;
        std::string error;  ///< the kernel's words, where it refused
        std::string state;
        std::string digest;  ///< of the current image now; may be empty
        std::uint64_t generation = 0;
    };
    /// Asks for a load and waits for its end. Throws where it does not begin.
    [[nodiscard]] Loaded load(const Wait& wait) const;

    struct Scrubbed {
        std::string state;
        std::string digest;
        std::uint64_t passes = 0;  ///< that ended meanwhile
        std::uint64_t errors = 0;  ///< chunks found altered meanwhile
    };
    /// Asks for a whole pass of the re-hash and waits for its end.
    [[nodiscard]] Scrubbed scrub(const Wait& wait) const;

   private:
    [[nodiscard]] std::string path(const char* attribute) const;

    std::string folder_;
};

}  // namespace m4ctl
