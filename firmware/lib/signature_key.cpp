// SPDX-License-Identifier: MIT
// Making a key and its certificate.
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "openssl.hpp"
#include "places.hpp"
#include "signature.hpp"

namespace m4::firmware {

namespace {

constexpr std::size_t kCommonNameMax = 64;  // X.520
constexpr int kDaysMax = 36'500;
constexpr int kSerialBits = 159;  // positive, and at most 20 bytes: RFC 5280

const std::string kPlace = "keygen";

void require(bool ok, const char* words) {
    if (!ok) {
        throw openssl_error(kPlace, words);
    }
}

void check(const KeyOptions& options) {
    if (options.common_name.empty() || options.common_name.size() > kCommonNameMax ||
        !is_printable(options.common_name)) {
        throw Error(kPlace, "the common name must be 1 to 64 characters of printable ASCII");
    }
    if (options.bits != kSigningBitsMin && options.bits != kSigningBitsMax) {
        throw Error(kPlace, std::to_string(options.bits) + " bits, not 3072 or 4096");
    }
    if (options.days < 1 || options.days > kDaysMax) {
        throw Error(kPlace, std::to_string(options.days) + " days, not 1 to 36500");
    }
}

void add_extension(X509* x509, int kind, const char* value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, x509, x509, nullptr, nullptr, 0);
    const UniqueExtension extension(X509V3_EXT_conf_nid(nullptr, &context, kind, value));
    require(extension && X509_add_ext(x509, extension.get(), -1) == 1,
            "cannot extend the certificate");
}

UniqueX509 self_signed(EVP_PKEY* key, const KeyOptions& options) {
    UniqueX509 owner(X509_new());
    X509* x509 = owner.get();
    const UniqueBignum serial(BN_new());
    require(x509 != nullptr && serial != nullptr && X509_set_version(x509, X509_VERSION_3) == 1 &&
                BN_rand(serial.get(), kSerialBits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
                BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(x509)) != nullptr,
            "cannot begin a certificate");
    X509_NAME* name = X509_get_subject_name(x509);
    const auto* common = reinterpret_cast<const unsigned char*>(options.common_name.c_str());
    require(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common, -1, -1, 0) == 1 &&
                X509_set_issuer_name(x509, name) == 1,
            "cannot name the certificate");
    require(X509_gmtime_adj(X509_getm_notBefore(x509), 0) != nullptr &&
                X509_time_adj_ex(X509_getm_notAfter(x509), options.days, 0, nullptr) != nullptr &&
                X509_set_pubkey(x509, key) == 1,
            "cannot fill the certificate");
    add_extension(x509, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(x509, NID_key_usage, "critical,digitalSignature");
    add_extension(x509, NID_subject_key_identifier, "hash");
    require(X509_sign(x509, key, EVP_sha256()) > 0, "cannot sign the certificate");
    return owner;
}

}  // namespace

KeyPair::~KeyPair() {
    OPENSSL_cleanse(key.data(), key.size());
}

KeyPair generate_key(const KeyOptions& options) {
    check(options);
    const UniquePkey key(EVP_RSA_gen(static_cast<unsigned>(options.bits)));
    require(key != nullptr, "cannot make a key");
    const UniqueX509 x509 = self_signed(key.get(), options);
    const UniqueBio key_text(BIO_new(BIO_s_secmem()));
    const UniqueBio certificate_text(BIO_new(BIO_s_mem()));
    require(key_text && certificate_text &&
                PEM_write_bio_PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr,
                                         nullptr) == 1 &&
                PEM_write_bio_X509(certificate_text.get(), x509.get()) == 1,
            "cannot write the key");
    KeyPair pair;
    pair.key = text_of(key_text);
    pair.certificate = text_of(certificate_text);
    return pair;
}

}  // namespace m4::firmware
