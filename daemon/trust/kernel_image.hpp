// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace m4::trust {

/// Where the kernel tells of images; tests have folders of their own.
struct KernelPlaces {
    std::filesystem::path sysfs = "/sys/class/m4";
    std::filesystem::path fdinfo = "/proc/self/fdinfo";
};

/// What sysfs says of a name at one moment. Empty or 0 where the kernel says
/// nothing (no image is current, or an older module has no such file).
struct CurrentImage {
    std::string state;
    std::string error;
    std::string digest;
    std::uint64_t generation = 0;
};

/// The image that an open descriptor of m4.ko's node holds. The descriptor
/// keeps one generation for ever, while sysfs tells of the one that is current
/// now: what sysfs says is taken for ours only while its generation and digest
/// are ours. Immutable; any thread.
class KernelImage {
   public:
    /// Reads fdinfo of `fd` (not kept). Throws firmware::Error where it names
    /// no image.
    explicit KernelImage(int fd, const KernelPlaces& places = {});

    [[nodiscard]] const std::string& name() const { return name_; }
    /// 0: the module does not count them.
    [[nodiscard]] std::uint64_t generation() const { return generation_; }
    /// 64 hex digits.
    [[nodiscard]] const std::string& digest() const { return digest_; }

    /// Did sysfs speak of this very generation when it was read? Signer and
    /// development key are known then.
    [[nodiscard]] bool vouched() const { return vouched_; }
    [[nodiscard]] const std::string& signer() const { return signer_; }
    [[nodiscard]] bool development() const { return development_; }

    /// What is current under our name now.
    [[nodiscard]] CurrentImage current() const;
    [[nodiscard]] bool is_ours(const CurrentImage& current) const;
    /// The sysfs file that poll(2) wakes on.
    [[nodiscard]] std::filesystem::path state_file() const { return folder_ / "state"; }

   private:
    bool read_signature();

    std::filesystem::path folder_;
    std::string name_;
    std::string digest_;
    std::string signer_;
    std::uint64_t generation_ = 0;
    bool development_ = false;
    bool vouched_ = false;
};

/// What a change of sysfs means for who serves `ours`.
enum class Change : std::uint8_t {
    none,
    newer,  ///< another generation is ready
};
[[nodiscard]] Change judge(const KernelImage& ours, const CurrentImage& current);

/// Was the generation that `fd` holds revoked? Asks the kernel by mapping a
/// page: only a revoked one refuses with ESTALE.
[[nodiscard]] bool mapping_refused(int fd);

/// One sentence for clients: "the kernel revoked the image (...)".
[[nodiscard]] std::string revoked_text(const CurrentImage& current);

}  // namespace m4::trust
