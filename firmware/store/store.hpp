// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "disk.hpp"

/// The image store: docs/updates.md.
///
///     STORE/<name>                          link to the current image's folder
///     STORE/.images/<name>/<id>/            images; the id is 16 hex digits,
///                                           the beginning of the image digest
///     STORE/.images/<name>/previous         link to the one before the current
///     STORE/.images/<name>/rollback_floor   a number
///
/// Whenever the process dies or the power goes, the links name whole images
/// and a folder called by an id holds a whole image: it got that name by one
/// rename, after everything in it was on the disk. What was cut short has a
/// name that begins with a dot, and the next stage() or remove() sweeps it.
namespace m4::store {

inline constexpr char kDefaultStore[] = "/lib/firmware/m4";
inline constexpr std::size_t kIdDigits = 16;  ///< of an image's digest: its id

struct StoredImage {
    std::string id;
    std::string digest;
    std::string version;
    std::uint64_t rollback_index = 0;
    std::uint64_t bytes = 0;  ///< manifest and payload
    bool has_signature = false;
    bool is_current = false;
    bool is_previous = false;
    std::string damage;  ///< why its manifest cannot be used; else empty
    std::filesystem::path folder;
    std::filesystem::file_time_type staged;
};

/// Ids; empty: the link does not exist.
struct Links {
    std::string current;
    std::string previous;
};

struct Staged {
    StoredImage image;
    std::string author;  ///< whom the signature names; not checked here
    bool was_there = false;
    bool signature_replaced = false;  ///< it was there, signed by another key
};

class FirmwareStore {
   public:
    using Progress = std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)>;

    FirmwareStore(std::filesystem::path root, std::string name, Disk disk = {});

    /// For everything below that changes the store: makes its folders and
    /// keeps others out until the object goes. Throws where it is locked.
    void lock();

    /// Newest first. Nothing where there is no store.
    [[nodiscard]] std::vector<StoredImage> list() const;
    /// By a beginning of its digest (8 digits or more), by its version, or
    /// "latest": of those with the highest rollback index the last staged.
    [[nodiscard]] StoredImage find(const std::string& selector) const;
    /// Throws where STORE/<name> is something else than a link into the store.
    [[nodiscard]] Links links() const;

    /// Copy an image into the store, every byte checked on its way. Refuses one
    /// of another name, one without a signature, and where room is short.
    Staged stage(const std::filesystem::path& source, const Progress& progress = {});
    /// Let STORE/<name> name this image, and `previous` the one it named.
    /// Returns what the links were.
    Links activate(const std::string& id);
    /// The links as they were before activate().
    void restore(const Links& former);
    /// Refuses the current and the previous image.
    void remove(const std::string& id);
    /// Where STORE/<name> is a plain folder: take it into the store, as the
    /// current image, in one step. Returns its id.
    std::string adopt(const Progress& progress = {});

    [[nodiscard]] std::optional<std::uint64_t> rollback_floor() const;
    void set_rollback_floor(std::uint64_t floor);

    /// Let the page cache forget an image's files: they were read, and will
    /// not be again.
    void drop_cache(const StoredImage& image) const;

    [[nodiscard]] const std::filesystem::path& root() const { return root_; }
    [[nodiscard]] const std::string& name() const { return name_; }

   private:
    friend class Stager;

    [[nodiscard]] StoredImage describe(const std::filesystem::path& folder) const;
    [[nodiscard]] std::string link_id(const std::filesystem::path& link) const;
    void point_current(const std::string& id) const;
    void point_previous(const std::string& id) const;
    void sweep() const;
    void require_lock() const;

    std::filesystem::path root_;
    std::string name_;
    std::filesystem::path link_;    ///< STORE/<name>
    std::filesystem::path images_;  ///< STORE/.images/<name>
    Disk disk_;
    firmware::UniqueFd lock_;
};

}  // namespace m4::store
