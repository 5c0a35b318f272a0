// SPDX-License-Identifier: MIT
#include "store.hpp"

#include <fcntl.h>
#include <m4/image.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <stdexcept>

#include "lib/image.hpp"
#include "lib/segment_name.hpp"
#include "lib/signature.hpp"
#include "lib/small_file.hpp"

namespace m4::store {

using firmware::Error;
using firmware::os_error;
using firmware::UniqueFd;
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kSelectorDigitsMin = 8;
constexpr char kImagesFolder[] = ".images";
constexpr char kPreviousLink[] = "previous";
constexpr char kFloorFile[] = "rollback_floor";
constexpr char kLockFile[] = ".lock";

bool is_hex(const std::string& text) {
    return std::all_of(text.begin(), text.end(), [](char ch) {
        return (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'f');
    });
}

bool is_id(const std::string& text) {
    return text.size() == kIdDigits && is_hex(text);
}

/// As the manifest's rule: it becomes a folder's name here.
void require_name(const std::string& name) {
    const auto good = [](char ch) {
        return (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '-';
    };
    if (name.empty() || name.size() >= M4_IMAGE_NAME_BYTES || name.front() == '-' ||
        !std::all_of(name.begin(), name.end(), good)) {
        throw Error("'" + name + "'", "is no name of an image: [a-z0-9][a-z0-9-]*, at most 31");
    }
}

std::string joined(const std::vector<StoredImage>& images) {
    std::string text;
    for (const StoredImage& image : images) {
        text += (text.empty() ? "" : ", ") + image.id;
    }
    return text;
}

}  // namespace

FirmwareStore::FirmwareStore(fs::path root, std::string name, Disk disk)
    : root_(std::move(root)), name_(std::move(name)), disk_(std::move(disk)) {
    require_name(name_);
    link_ = root_ / name_;
    images_ = root_ / kImagesFolder / name_;
}

void FirmwareStore::lock() {
    std::error_code code;
    fs::create_directories(root_, code);
    if (code) {
        throw os_error(root_.string(), "create", code.value());
    }
    for (const fs::path& folder : {root_ / kImagesFolder, images_}) {
        if (disk_.make_folder(folder)) {
            disk_.sync_folder(folder.parent_path());
        }
    }
    const fs::path path = images_ / kLockFile;
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) {
        throw os_error(path.string(), "open");
    }
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        throw errno == EWOULDBLOCK ? Error(images_.string(), "is being changed by another process")
                                   : os_error(path.string(), "lock");
    }
    lock_ = std::move(file);
}

void FirmwareStore::require_lock() const {
    if (!lock_) {
        throw std::logic_error("image store: changed without its lock");
    }
}

StoredImage FirmwareStore::describe(const fs::path& folder) const {
    StoredImage image;
    image.id = folder.filename().string();
    image.folder = folder;
    std::error_code ignored;
    image.staged = fs::last_write_time(folder, ignored);
    try {
        const std::string place = (folder / M4_IMAGE_MANIFEST_NAME).string();
        const auto bytes =
            firmware::read_small_file_at(firmware::open_directory(folder.string()),
                                         M4_IMAGE_MANIFEST_NAME, place, M4_IMAGE_MANIFEST_SPAN);
        if (!bytes) {
            throw Error(place, "is absent");
        }
        const auto parsed = firmware::Image::parse(*bytes, place);
        image.digest = firmware::to_hex(parsed.digest());
        image.version = parsed.version();
        image.rollback_index = parsed.rollback_index();
        image.bytes = bytes->size() + parsed.payload_bytes();
        image.has_signature = !firmware::read_signature(folder.string()).empty();
        if (!image.digest.starts_with(image.id)) {
            throw Error(place, "is of the image " + image.digest + ", not of its folder's");
        }
    } catch (const Error& error) {
        image.damage = error.what();
    }
    return image;
}

std::string FirmwareStore::link_id(const fs::path& link) const {
    std::error_code code;
    const fs::path target = fs::read_symlink(link, code);
    return code || !is_id(target.filename().string()) ? "" : target.filename().string();
}

Links FirmwareStore::links() const {
    std::error_code code;
    const auto kind = fs::symlink_status(link_, code).type();
    Links links;
    links.previous = link_id(images_ / kPreviousLink);
    if (kind == fs::file_type::not_found) {
        return links;
    }
    if (kind == fs::file_type::directory) {
        throw Error(link_.string(),
                    "is a plain folder, not a link into the store: m4ctl firmware activate "
                    "--adopt takes the image in it into the store");
    }
    if (kind != fs::file_type::symlink) {
        throw Error(link_.string(), "is neither a folder nor a link");
    }
    const fs::path target = fs::read_symlink(link_, code);
    const std::string id = link_id(link_);
    if (id.empty() || target != fs::path(kImagesFolder) / name_ / id) {
        throw Error(link_.string(), "links to " + target.string() +
                                        ", which is not in the store: remove the link first");
    }
    links.current = id;
    return links;
}

std::vector<StoredImage> FirmwareStore::list() const {
    std::vector<StoredImage> images;
    std::error_code code;
    Links links;
    links.previous = link_id(images_ / kPreviousLink);
    links.current = link_id(link_);
    for (const auto& entry : fs::directory_iterator(images_, code)) {
        if (is_id(entry.path().filename().string()) && entry.is_directory(code) &&
            !entry.is_symlink(code)) {
            StoredImage image = describe(entry.path());
            image.is_current = image.id == links.current;
            image.is_previous = image.id == links.previous && !image.is_current;
            images.push_back(std::move(image));
        }
    }
    if (code && code != std::errc::no_such_file_or_directory) {
        throw os_error(images_.string(), "read", code.value());
    }
    std::sort(images.begin(), images.end(), [](const StoredImage& a, const StoredImage& b) {
        return a.staged != b.staged ? a.staged > b.staged : a.id < b.id;
    });
    return images;
}

StoredImage FirmwareStore::find(const std::string& selector) const {
    std::vector<StoredImage> images = list();
    if (selector == "latest") {
        std::erase_if(images, [](const StoredImage& image) { return !image.damage.empty(); });
        const auto best = std::max_element(
            images.begin(), images.end(), [](const StoredImage& a, const StoredImage& b) {
                return a.rollback_index != b.rollback_index ? a.rollback_index < b.rollback_index
                                                            : a.staged < b.staged;
            });
        if (best == images.end()) {
            throw Error(images_.string(), "holds no image: stage one");
        }
        return *best;
    }
    const bool by_digest = selector.size() >= kSelectorDigitsMin && is_hex(selector);
    std::erase_if(images, [&](const StoredImage& image) {
        const bool digest_matches =
            by_digest && (image.digest.starts_with(selector) || image.id.starts_with(selector));
        return !digest_matches && image.version != selector;
    });
    if (images.empty()) {
        throw Error(images_.string(), "holds no image '" + selector +
                                          "': give a version or 8 digits or more of a digest");
    }
    if (images.size() > 1) {
        throw Error(images_.string(),
                    "'" + selector + "' may be any of " + joined(images) + ": give its digest");
    }
    return images.front();
}

void FirmwareStore::point_current(const std::string& id) const {
    if (id.empty()) {
        disk_.remove(link_);
    } else {
        disk_.point_link(link_, fs::path(kImagesFolder) / name_ / id);
    }
    disk_.sync_folder(root_);
}

void FirmwareStore::point_previous(const std::string& id) const {
    if (id.empty()) {
        disk_.remove(images_ / kPreviousLink);
    } else {
        disk_.point_link(images_ / kPreviousLink, id);
    }
    disk_.sync_folder(images_);
}

// The order, and what a power cut leaves behind each step:
//   1. sync the images' folder       the image to become current is on the disk
//                                    under its id, whoever staged it
//   2. previous := current, synced   current unchanged; there is no other way
//                                    back for a moment, and none is needed
//   3. current := id                 one rename: the old image or the new one
//   4. sync the store's folder       the new one, for certain
// Were 3 before 2, a cut between them would leave a new, untried image whose
// way back names the one before the last.
Links FirmwareStore::activate(const std::string& id) {
    require_lock();
    Links former = links();
    const StoredImage image = describe(images_ / id);
    if (!image.damage.empty()) {
        throw Error(image.folder.string(), "cannot become current: " + image.damage);
    }
    if (!image.has_signature) {
        throw Error(image.folder.string(), "has no signature, and the kernel takes none without");
    }
    if (former.current == id) {
        return former;
    }
    disk_.sync_folder(images_);
    if (!former.current.empty()) {
        point_previous(former.current);
    }
    point_current(id);
    return former;
}

// Current first: at each step it names an image that was loaded before.
void FirmwareStore::restore(const Links& former) {
    require_lock();
    const Links now = links();
    if (now.current != former.current) {
        point_current(former.current);
    }
    if (now.previous != former.previous) {
        point_previous(former.previous);
    }
}

// The id goes first, in one step, so that no half image is ever called by one.
void FirmwareStore::remove(const std::string& id) {
    require_lock();
    const bool is_current = id == link_id(link_);
    if (is_current || id == link_id(images_ / kPreviousLink)) {
        throw Error((images_ / id).string(), is_current
                                                 ? "is the current image, and is kept"
                                                 : "is the previous image: rollback needs it");
    }
    sweep();
    const fs::path hidden = images_ / (".removed-" + id);
    disk_.rename(images_ / id, hidden);
    disk_.sync_folder(images_);
    disk_.remove(hidden);
}

void FirmwareStore::sweep() const {
    require_lock();
    std::error_code code;
    std::vector<fs::path> leftovers;
    for (const auto& entry : fs::directory_iterator(images_, code)) {
        const std::string name = entry.path().filename().string();
        const bool is_link_by_id = is_id(name) && entry.is_symlink(code);
        if (is_link_by_id || (name.starts_with(".") && name != kLockFile)) {
            leftovers.push_back(entry.path());
        }
    }
    for (const fs::path& path : leftovers) {
        disk_.remove(path);
    }
}

// A link is put where the image shall be, saying where the image shall be seen
// from the store's folder; then link and folder change places at once. Before,
// STORE/<name> is the folder it was; behind, the link to it.
std::string FirmwareStore::adopt(const Progress& progress) {
    require_lock();
    std::error_code code;
    if (fs::symlink_status(link_, code).type() != fs::file_type::directory) {
        throw Error(link_.string(), "is no plain folder: there is nothing to adopt");
    }
    sweep();
    const std::string digest =
        firmware::to_hex(firmware::MappedImage::open_folder(link_, progress).image().digest());
    if (firmware::read_signature(link_.string()).empty()) {
        throw Error((link_ / firmware::kSignatureName).string(),
                    "is absent, and the kernel takes no image without");
    }
    std::string id = digest.substr(0, kIdDigits);
    if (fs::exists(images_ / id)) {
        throw Error(link_.string(),
                    "is in the store already, as " + id + ": remove the folder and activate that");
    }
    disk_.make_link(images_ / id, fs::path(kImagesFolder) / name_ / id);
    disk_.exchange(link_, images_ / id);
    disk_.sync_folder(images_);
    disk_.sync_folder(root_);
    return id;
}

std::optional<std::uint64_t> FirmwareStore::rollback_floor() const {
    const fs::path path = images_ / kFloorFile;
    std::error_code code;
    if (fs::symlink_status(path, code).type() == fs::file_type::not_found) {
        return std::nullopt;
    }
    const auto bytes = firmware::read_small_file_at(firmware::open_directory(images_.string()),
                                                    kFloorFile, path.string(), 32);
    std::string text;
    for (const std::byte byte : bytes.value_or(std::vector<std::byte>())) {
        text += static_cast<char>(byte);
    }
    if (!text.empty() && text.back() == '\n') {
        text.pop_back();
    }
    std::uint64_t floor = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), floor);
    if (error != std::errc() || end != text.data() + text.size()) {
        throw Error(path.string(), "does not hold a number");
    }
    return floor;
}

void FirmwareStore::set_rollback_floor(std::uint64_t floor) {
    require_lock();
    const std::string text = std::to_string(floor) + "\n";
    disk_.replace_file(images_ / kFloorFile, std::as_bytes(std::span(text)));
}

void FirmwareStore::drop_cache(const StoredImage& image) const {
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(image.folder, code)) {
        const UniqueFd file(
            ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
        if (file) {
            ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
        }
    }
}

}  // namespace m4::store
