// SPDX-License-Identifier: MIT
#include "kernel_image.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>

#include "handles.hpp"
#include "lib/file.hpp"

namespace m4ctl {

namespace {

/// How often progress is looked at while nothing wakes us.
constexpr int kTickMs = 100;
/// How long the words of an earlier refusal are not taken for this load's. The
/// module clears them before the write returns; whatever plays it may not.
constexpr double kStaleS = 0.5;

/// A file of sysfs, read again and again. Reading arms poll(2); a file that is
/// none of sysfs never wakes, and is looked at every tick.
class Watched {
   public:
    explicit Watched(std::string path)
        : path_(std::move(path)), fd_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)) {
        if (fd_.get() < 0) {
            throw system_failure(path_);
        }
    }

    /// Without its newline; empty where it says ENODATA.
    [[nodiscard]] std::string read() const {
        std::array<char, 4096> bytes{};
        const ssize_t got = ::pread(fd_.get(), bytes.data(), bytes.size(), 0);
        if (got < 0 && errno == ENODATA) {
            return "";
        }
        if (got < 0) {
            throw system_failure(path_);
        }
        std::string text(bytes.data(), static_cast<std::size_t>(got));
        while (!text.empty() && text.back() == '\n') {
            text.pop_back();
        }
        return text;
    }

    void wait(int limit_ms) const {
        pollfd entry = {fd_.get(), POLLPRI, 0};
        (void)::poll(&entry, 1, limit_ms);
    }

   private:
    std::string path_;
    m4::firmware::UniqueFd fd_;
};

class Deadline {
   public:
    explicit Deadline(double limit_s)
        : limited_(limit_s > 0),
          end_(Clock::now() + std::chrono::milliseconds(static_cast<long>(limit_s * 1000))) {}
    [[nodiscard]] bool passed() const { return limited_ && Clock::now() >= end_; }

   private:
    using Clock = std::chrono::steady_clock;
    bool limited_;
    Clock::time_point end_;
};

bool is_under_way(const std::string& state) {
    return state == "loading" || state == "updating";
}

bool has_image(const std::string& state) {
    return state == "ready" || state == "updating";
}

}  // namespace

// The name may be m4d's word, and what is written below is written by root: no
// name may lead out of sysfs.
KernelImage::KernelImage(const std::string& base, const std::string& name)
    : folder_(base + "/" + name) {
    const auto good = [](char ch) {
        return (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '-';
    };
    if (name.empty() || !std::all_of(name.begin(), name.end(), good)) {
        throw Failure(kExitFailed, "'" + name + "' is no name of an image");
    }
}

std::string KernelImage::path(const char* attribute) const {
    return folder_ + "/" + attribute;
}

bool KernelImage::present() const {
    return ::access(path("state").c_str(), F_OK) == 0;
}

void KernelImage::require_present() const {
    if (!present()) {
        throw Failure(kExitFailed, folder_ +
                                       ": is absent: m4.ko is not loaded (modprobe m4), or "
                                       "its parameter names= lacks this image");
    }
}

void KernelImage::require_writable(const char* attribute) const {
    if (::access(path(attribute).c_str(), W_OK) != 0) {
        throw errno == EACCES
            ? Failure(kExitFailed, path(attribute) + ": may be written by root alone")
            : system_failure(path(attribute));
    }
}

std::string KernelImage::text(const char* attribute) const {
    return Watched(path(attribute)).read();
}

std::uint64_t KernelImage::number(const char* attribute) const {
    const std::string digits = text(attribute);
    std::uint64_t value = 0;
    (void)std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
}

void KernelImage::write(const char* attribute, const std::string& value) const {
    require_writable(attribute);
    const m4::firmware::UniqueFd fd(
        ::open(path(attribute).c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
    const std::string line = value + "\n";
    if (fd.get() < 0 ||
        ::write(fd.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
        throw system_failure(path(attribute));
    }
}

KernelImage::Loaded KernelImage::load(const Wait& wait) const {
    require_present();
    const Watched state(path("state"));
    const std::uint64_t before = number("generation");
    const std::string stale_error = text("error");
    bool began = false;
    const Deadline deadline(wait.limit_s);
    if (is_under_way(state.read())) {
        throw Failure(kExitFailed, path("load") + ": a load is under way already");
    }
    if (number("generations") >= 2) {
        throw Failure(kExitFailed, path("load") +
                                       ": an older generation is still in use; stop what maps it "
                                       "(fuser /dev/m4/*), then load");
    }
    write("load", "1");
    const Deadline stale(kStaleS);
    for (;;) {
        Loaded result;
        result.state = state.read();
        began = began || is_under_way(result.state);
        if (!is_under_way(result.state)) {
            // The generation and the error belong to the state just read, or to
            // a later one.
            result.generation = number("generation");
            result.error = text("error");
            result.digest = text("digest");
            if (result.state == "ready" && result.generation > before) {
                return result;
            }
            began = began || result.error != stale_error || stale.passed();
            if (began && (result.state == "error" || !result.error.empty())) {
                result.outcome = Outcome::kRefused;
                return result;
            }
        }
        if (deadline.passed()) {
            result.outcome = Outcome::kStillLoading;
            return result;
        }
        if (wait.progress) {
            wait.progress(static_cast<unsigned>(std::min<std::uint64_t>(number("progress"), 100)));
        }
        state.wait(kTickMs);
    }
}

KernelImage::Scrubbed KernelImage::scrub(const Wait& wait) const {
    require_present();
    require_writable("scrub");
    const Watched state(path("state"));
    const Watched pass(path("scrub"));
    const std::uint64_t passes_before = number("scrubs");
    const std::uint64_t errors_before = number("scrub_errors");
    const Deadline deadline(wait.limit_s);
    if (!has_image(state.read())) {
        throw Failure(kExitFailed, path("scrub") + ": no image is ready (" + state.read() + ")");
    }
    write("scrub", "1");
    for (;;) {
        (void)pass.read();  // arms the wait below, so before the counts are read
        Scrubbed result;
        result.passes = number("scrubs") - passes_before;
        result.state = state.read();
        if (result.passes > 0 || !has_image(result.state)) {
            result.errors = number("scrub_errors") - errors_before;
            result.digest = text("digest");
            return result;
        }
        if (deadline.passed()) {
            throw Failure(kExitFailed, path("scrub") + ": the pass is not over in time");
        }
        if (wait.progress) {
            wait.progress(static_cast<unsigned>(std::min<std::uint64_t>(number("scrub"), 100)));
        }
        pass.wait(kTickMs);
    }
}

}  // namespace m4ctl
