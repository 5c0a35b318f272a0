// SPDX-License-Identifier: MIT
#pragma once

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <memory>
#include <span>
#include <string>

#include "error.hpp"

/// OpenSSL's objects with owners. For signature*.cpp alone.
namespace m4::firmware {

template <auto function>
struct OpensslFree {
    template <typename T>
    void operator()(T* object) const noexcept {
        function(object);
    }
};
using UniqueBio = std::unique_ptr<BIO, OpensslFree<BIO_free_all>>;
using UniqueBignum = std::unique_ptr<BIGNUM, OpensslFree<BN_free>>;
using UniqueCms = std::unique_ptr<CMS_ContentInfo, OpensslFree<CMS_ContentInfo_free>>;
using UniqueExtension = std::unique_ptr<X509_EXTENSION, OpensslFree<X509_EXTENSION_free>>;
using UniquePkey = std::unique_ptr<EVP_PKEY, OpensslFree<EVP_PKEY_free>>;
using UniqueX509 = std::unique_ptr<X509, OpensslFree<X509_free>>;

/// "<place>: <words> (<why, in the library's words>)"; empties its queue.
[[nodiscard]] inline Error openssl_error(const std::string& place, const std::string& words) {
    const char* why = ERR_reason_error_string(ERR_peek_last_error());
    Error error(place, why == nullptr ? words : words + " (" + why + ")");
    ERR_clear_error();
    return error;
}

/// Reads from `bytes`, which must outlive it.
[[nodiscard]] inline UniqueBio bio_of(std::span<const std::byte> bytes, const std::string& place) {
    UniqueBio bio(BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())));
    if (!bio) {
        throw openssl_error(place, "no memory to read it");
    }
    return bio;
}

/// What was written into a memory BIO.
[[nodiscard]] inline std::string text_of(const UniqueBio& bio) {
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &data);
    return {data, static_cast<std::size_t>(size)};
}

}  // namespace m4::firmware
