// SPDX-License-Identifier: MIT
#include "pipeline_cache.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <system_error>

namespace m4::vk {

namespace {

constexpr char kMagic[8] = {'M', '4', 'P', 'C', '\r', '\n', '\x1a', '\1'};

/// In front of the driver's bytes.
struct Header {
    char magic[8];
    std::uint64_t data_bytes;
    std::uint64_t checksum;
    char key[48];  ///< as in the file's name, cut, NUL padded
};

/// FNV-1a: guards against a torn or damaged file, not against an enemy; the
/// folder is the daemon's own.
std::uint64_t checksum(std::span<const std::byte> bytes) {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const std::byte byte : bytes) {
        hash = (hash ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3ULL;
    }
    return hash;
}

Header make_header(const std::string& key, std::span<const std::byte> data) {
    Header header{};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    header.data_bytes = data.size();
    header.checksum = checksum(data);
    key.copy(header.key, sizeof header.key - 1);
    return header;
}

/// The driver's bytes of the file; empty and a note where it does not hold up.
std::vector<std::byte> read_cache(const std::filesystem::path& file, const std::string& key,
                                  std::string& note) {
    std::ifstream in(file, std::ios::binary | std::ios::ate);
    if (!in) {
        return {};
    }
    const auto size = static_cast<std::uint64_t>(in.tellg());
    Header header{};
    std::vector<std::byte> data;
    in.seekg(0);
    if (size >= sizeof header && in.read(reinterpret_cast<char*>(&header), sizeof header) &&
        header.data_bytes == size - sizeof header) {
        data.resize(header.data_bytes);
        in.read(reinterpret_cast<char*>(data.data()), static_cast<std::streamsize>(data.size()));
        const Header expected = make_header(key, data);
        if (in && std::memcmp(&header, &expected, sizeof header) == 0) {
            return data;
        }
    }
    note = "pipeline cache " + file.string() + " is damaged and was not used";
    return {};
}

/// Whole or not at all: written beside, flushed, renamed over.
bool write_atomically(const std::filesystem::path& file, std::span<const std::byte> header,
                      std::span<const std::byte> data) {
    std::string temporary = file.string() + ".XXXXXX";
    const int fd = ::mkostemp(temporary.data(), O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    bool good = true;
    for (std::span<const std::byte> rest : {header, data}) {
        while (good && !rest.empty()) {
            const ssize_t written = ::write(fd, rest.data(), rest.size());
            good = written > 0;
            rest = rest.subspan(good ? static_cast<std::size_t>(written) : 0);
        }
    }
    good = good && ::fsync(fd) == 0;
    good = ::close(fd) == 0 && good;
    good = good && ::rename(temporary.c_str(), file.c_str()) == 0;
    if (!good) {
        ::unlink(temporary.c_str());
    }
    return good;
}

}  // namespace

std::string cache_key(const Identity& identity, std::string_view kernels_digest) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string key;
    for (const std::uint8_t byte : identity.device_uuid) {
        key += kDigits[byte >> 4];
        key += kDigits[byte & 15];
    }
    key.resize(16);
    return key + "-" + std::to_string(identity.driver_version) + "-" +
           std::string(kernels_digest.substr(0, 16));
}

PipelineCache::PipelineCache(const Device& device, const std::filesystem::path& folder,
                             std::string_view kernels_digest)
    : key_(cache_key(device.identity(), kernels_digest)) {
    if (!folder.empty()) {
        file_ = folder / ("pipelines-" + key_ + ".bin");
        stored_ = read_cache(file_, key_, note_);
    }
    cache_ = hpp::raii::PipelineCache(
        device.handle(), hpp::PipelineCacheCreateInfo{.initialDataSize = stored_.size(),
                                                      .pInitialData = stored_.data()});
}

void PipelineCache::save() {
    if (file_.empty()) {
        return;
    }
    const std::vector<std::uint8_t> data = cache_.getData();
    const auto bytes = std::as_bytes(std::span(data));
    if (bytes.size() == stored_.size() &&
        std::memcmp(bytes.data(), stored_.data(), bytes.size()) == 0) {
        return;
    }
    std::error_code error;
    std::filesystem::create_directories(file_.parent_path(), error);
    const Header header = make_header(key_, bytes);
    if (!write_atomically(file_, std::as_bytes(std::span(&header, 1)), bytes)) {
        note_ = "pipeline cache " + file_.string() + " could not be written";
        return;
    }
    stored_.assign(bytes.begin(), bytes.end());
}

}  // namespace m4::vk
