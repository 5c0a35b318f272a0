// SPDX-License-Identifier: MIT
#include "trust/kernel_image.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>

#include "lib/error.hpp"

namespace m4::trust {
namespace {

/// Images change seldom; more changes than this while we read are no change
/// but a fault.
constexpr int kReadAttempts = 8;
constexpr std::size_t kNameBytes = 32;

/// The first line of a small file; empty where it cannot be read (ENODATA:
/// the kernel has nothing to say).
std::string read_line(const std::filesystem::path& file) {
    std::ifstream stream(file);
    std::string line;
    std::getline(stream, line);
    return line;
}

std::uint64_t number_of(std::string_view text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() ? value : 0;
}

/// The value of "key:\tvalue" in fdinfo; empty: no such line.
std::string value_of(std::string_view text, std::string_view key) {
    while (!text.empty()) {
        const std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
        if (line.size() <= key.size() || !line.starts_with(key) || line[key.size()] != ':') {
            continue;
        }
        const std::string_view value = line.substr(key.size() + 1);
        const std::size_t begin = value.find_first_not_of(" \t");
        return std::string(begin == std::string_view::npos ? "" : value.substr(begin));
    }
    return {};
}

}  // namespace

KernelImage::KernelImage(int fd, const KernelPlaces& places) {
    const auto file = places.fdinfo / std::to_string(fd);
    std::ifstream stream(file);
    const std::string text((std::istreambuf_iterator<char>(stream)), {});
    name_ = value_of(text, "m4-name");
    digest_ = value_of(text, "m4-digest");
    generation_ = number_of(value_of(text, "m4-generation"));
    if (name_.empty() || digest_.empty()) {
        throw firmware::Error(file.string(), "names no image, so the node is not one of m4.ko");
    }
    if (name_.size() >= kNameBytes || name_.find('/') != std::string::npos || name_[0] == '.') {
        throw firmware::Error(file.string(), "the image's name is no name");
    }
    folder_ = places.sysfs / name_;
    vouched_ = read_signature();
}

bool KernelImage::read_signature() {
    const bool before = is_ours(current());
    std::string signer = read_line(folder_ / "signer");
    const bool development = read_line(folder_ / "development") == "1";
    // Generations only go up: ours before and after was ours between.
    if (!before || !is_ours(current())) {
        return false;
    }
    signer_ = std::move(signer);
    development_ = development;
    return true;
}

CurrentImage KernelImage::current() const {
    CurrentImage found;
    for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
        found.generation = number_of(read_line(folder_ / "generation"));
        found.digest = read_line(folder_ / "digest");
        found.state = read_line(folder_ / "state");
        found.error = read_line(folder_ / "error");
        if (found.generation == number_of(read_line(folder_ / "generation")) &&
            found.state == read_line(folder_ / "state")) {
            break;
        }
    }
    return found;
}

bool KernelImage::is_ours(const CurrentImage& current) const {
    return current.generation == generation_ && current.digest == digest_;
}

Change judge(const KernelImage& ours, const CurrentImage& current) {
    const bool ready = current.state == "ready" || current.state == "updating";
    // Without a generation the kernel says of nothing that it is newer.
    return ready && current.generation != 0 && !ours.is_ours(current) ? Change::newer
                                                                      : Change::none;
}

bool mapping_refused(int fd) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    void* mapped = ::mmap(nullptr, page, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) {
        return errno == ESTALE;
    }
    ::munmap(mapped, page);
    return false;
}

std::string revoked_text(const CurrentImage& current) {
    const std::string what = "the kernel revoked the image";
    return current.state == "revoked" && !current.error.empty() ? what + " (" + current.error + ")"
                                                                : what;
}

}  // namespace m4::trust
