// SPDX-License-Identifier: MIT
#include <iostream>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "lib/error.hpp"
#include "lib/signature.hpp"
#include "lib/small_file.hpp"

namespace m4::tools {

namespace {

constexpr char kKeyName[] = "m4.key";
constexpr char kCertificateName[] = "m4.crt";

std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text));
}

void require_free(const std::filesystem::path& path) {
    std::error_code code;
    if (std::filesystem::symlink_status(path, code).type() !=
        std::filesystem::file_type::not_found) {
        throw firmware::Error(path.string(),
                              "exists already, and a lost key cannot be made again (--force)");
    }
}

}  // namespace

void keygen(const KeygenOptions& options) {
    const auto key_path = options.folder / kKeyName;
    const auto certificate_path = options.folder / kCertificateName;
    if (!options.force) {
        require_free(key_path);
        require_free(certificate_path);
    }
    const firmware::KeyPair pair =
        firmware::generate_key({options.common_name, options.days, options.bits});
    std::error_code code;
    std::filesystem::create_directories(options.folder, code);
    if (code) {
        throw firmware::os_error(options.folder.string(), "create", code.value());
    }
    // The key first: a certificate without its key would be worse than none.
    const std::string folder = options.folder.string();
    firmware::write_small_file(folder, kKeyName, bytes_of(pair.key), 0600, options.force);
    firmware::write_small_file(folder, kCertificateName, bytes_of(pair.certificate), 0644,
                               options.force);
    const auto made = firmware::Certificate::read(certificate_path.string());
    if (options.json) {
        std::cout << nlohmann::ordered_json{{"key", key_path.string()},
                                            {"certificate", certificate_path.string()},
                                            {"subject", made.subject()},
                                            {"key_id", made.key_id()},
                                            {"not_after", made.not_after()}}
                         .dump(2)
                  << '\n';
    } else {
        std::cout << key_path.string() << ": private key, " << options.bits
                  << " bits, not encrypted: keep it away from devices and repositories\n"
                  << certificate_path.string() << ": " << made.subject() << ", key "
                  << made.key_id() << ", until " << made.not_after() << '\n';
    }
}

}  // namespace m4::tools
