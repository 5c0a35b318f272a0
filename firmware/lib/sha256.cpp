// SPDX-License-Identifier: MIT
#include "sha256.hpp"

#include <openssl/evp.h>

#include "error.hpp"

namespace m4::firmware {

namespace {

/// Fetched once: a fetch by name for each message costs more than a short one.
const EVP_MD* algorithm() {
    static EVP_MD* const fetched = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    return fetched;
}

void require(bool ok) {
    if (!ok) {
        throw Error("SHA-256", "the cryptography library refused it");
    }
}

}  // namespace

struct Sha256::Context {
    EVP_MD_CTX* evp = EVP_MD_CTX_new();

    Context() = default;
    ~Context() { EVP_MD_CTX_free(evp); }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    void begin() const {
        require(evp != nullptr && algorithm() != nullptr &&
                EVP_DigestInit_ex2(evp, algorithm(), nullptr) == 1);
    }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
    context_->begin();
}

Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
    require(EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size()) == 1);
}

void Sha256::update(std::string_view text) {
    update(std::as_bytes(std::span(text)));
}

Digest Sha256::finish() {
    Digest digest{};
    require(EVP_DigestFinal_ex(context_->evp, digest.data(), nullptr) == 1);
    context_->begin();
    return digest;
}

Digest sha256(std::span<const std::byte> bytes) {
    Sha256 sha;
    sha.update(bytes);
    return sha.finish();
}

}  // namespace m4::firmware
