// SPDX-License-Identifier: MIT
#include "signature.hpp"

#include <openssl/asn1.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>

#include "image.hpp"
#include "openssl.hpp"
#include "small_file.hpp"

namespace m4::firmware {

struct Certificate::Impl {
    UniqueX509 x509;
    std::string place;
    std::string subject;
    std::string key_id;
    std::string not_after;
};

struct SigningKey::Impl {
    UniquePkey key;
    std::string place;
};

struct Signature::Impl {
    UniqueCms cms;
    std::string place;
    std::string author;
};

namespace {

constexpr std::size_t kKeyFileBytesMax = 256UL * 1024;

/// A name on one line, as RFC 2253 writes it, control characters escaped.
std::string name_text(const X509_NAME* name) {
    const UniqueBio bio(BIO_new(BIO_s_mem()));
    if (!bio || X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253) < 0) {
        throw openssl_error("certificate", "its name cannot be shown");
    }
    return text_of(bio);
}

std::string octets_text(const ASN1_OCTET_STRING* octets) {
    return octets == nullptr ? ""
                             : to_hex({ASN1_STRING_get0_data(octets),
                                       static_cast<std::size_t>(ASN1_STRING_length(octets))});
}

/// RSA within bounds: what the kernel can check. Debian 6.1 has no ECDSA, and
/// its big numbers end at 4096 bits.
void require_rsa(const EVP_PKEY* key, const std::string& place) {
    if (key == nullptr) {
        throw openssl_error(place, "its key cannot be read");
    }
    if (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) {
        const char* type = OBJ_nid2sn(EVP_PKEY_get_base_id(key));
        throw Error(place, "is a key of type " + std::string(type == nullptr ? "unknown" : type) +
                               ", not RSA: the kernel could not check what it signs");
    }
    const int bits = EVP_PKEY_get_bits(key);
    if (bits < kSigningBitsMin || bits > kSigningBitsMax) {
        throw Error(place, "is an RSA key of " + std::to_string(bits) + " bits, not " +
                               std::to_string(kSigningBitsMin) + " to " +
                               std::to_string(kSigningBitsMax));
    }
}

/// A PEM_read_bio_* callback: whoever asks learns that there is no passphrase.
int no_passphrase(char* /*out*/, int /*size*/, int /*writing*/, void* asked) {
    *static_cast<bool*>(asked) = true;
    return -1;
}

/// PEM where it looks like it, else DER.
UniqueX509 parse_x509(std::span<const std::byte> bytes, const std::string& place) {
    const UniqueBio bio = bio_of(bytes, place);
    bool asked = false;
    UniqueX509 x509(PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, &asked));
    if (x509) {
        const UniqueX509 second(PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, &asked));
        ERR_clear_error();
        if (second) {
            throw Error(place, "holds more than one certificate: give each in a file of its own");
        }
        return x509;
    }
    ERR_clear_error();
    const auto* at = reinterpret_cast<const unsigned char*>(bytes.data());
    const auto* const end = at + bytes.size();
    x509.reset(d2i_X509(nullptr, &at, static_cast<long>(bytes.size())));
    if (!x509 || at != end) {
        throw openssl_error(place, "is no certificate in PEM or DER");
    }
    return x509;
}

}  // namespace

Certificate Certificate::parse(std::span<const std::byte> bytes, const std::string& place) {
    auto impl = std::make_shared<Impl>();
    impl->place = place;
    impl->x509 = parse_x509(bytes, place);
    X509* x509 = impl->x509.get();
    require_rsa(X509_get0_pubkey(x509), place);
    impl->subject = name_text(X509_get_subject_name(x509));
    impl->key_id = octets_text(X509_get0_subject_key_id(x509));
    const UniqueBio time(BIO_new(BIO_s_mem()));
    if (!time || ASN1_TIME_print(time.get(), X509_get0_notAfter(x509)) != 1) {
        throw openssl_error(place, "its end of validity cannot be read");
    }
    impl->not_after = text_of(time);
    Certificate certificate;
    certificate.impl_ = std::move(impl);
    return certificate;
}

Certificate Certificate::read(const std::string& path) {
    return parse(read_small_file(path, kKeyFileBytesMax), path);
}

const std::string& Certificate::place() const {
    return impl_->place;
}

const std::string& Certificate::subject() const {
    return impl_->subject;
}

const std::string& Certificate::key_id() const {
    return impl_->key_id;
}

const std::string& Certificate::not_after() const {
    return impl_->not_after;
}

bool Certificate::expired() const {
    return X509_cmp_current_time(X509_get0_notAfter(impl_->x509.get())) < 0;
}

SigningKey SigningKey::parse(std::span<const std::byte> pem, const std::string& place) {
    auto impl = std::make_shared<Impl>();
    impl->place = place;
    const UniqueBio bio = bio_of(pem, place);
    bool asked = false;
    impl->key.reset(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, &asked));
    if (asked) {
        ERR_clear_error();
        throw Error(place,
                    "is encrypted, and nothing here asks for a passphrase: give the key in clear, "
                    "--key <(openssl pkey -in FILE)");
    }
    if (!impl->key) {
        throw openssl_error(place, "is no private key in PEM");
    }
    require_rsa(impl->key.get(), place);
    SigningKey key;
    key.impl_ = std::move(impl);
    return key;
}

SigningKey SigningKey::read(const std::string& path) {
    auto bytes = read_small_file(path, kKeyFileBytesMax);
    struct Cleanse {
        std::vector<std::byte>& secret;
        ~Cleanse() { OPENSSL_cleanse(secret.data(), secret.size()); }
    } const cleanse{bytes};
    return parse(bytes, path);
}

namespace {

std::string author_of(CMS_SignerInfo* signer, const std::string& place) {
    ASN1_OCTET_STRING* key_id = nullptr;
    X509_NAME* issuer = nullptr;
    ASN1_INTEGER* serial = nullptr;
    if (CMS_SignerInfo_get0_signer_id(signer, &key_id, &issuer, &serial) != 1) {
        throw openssl_error(place, "does not name who signed");
    }
    if (key_id != nullptr) {
        return "key " + octets_text(key_id);
    }
    return name_text(issuer) + ", serial 0x" +
           to_hex({ASN1_STRING_get0_data(serial),
                   static_cast<std::size_t>(ASN1_STRING_length(serial))});
}

/// The object's number, or NID_undef where parameters come with it that mean
/// anything.
int algorithm_of(const X509_ALGOR* algorithm) {
    const ASN1_OBJECT* object = nullptr;
    int parameters = V_ASN1_UNDEF;
    X509_ALGOR_get0(&object, &parameters, nullptr, algorithm);
    return parameters == V_ASN1_UNDEF || parameters == V_ASN1_NULL ? OBJ_obj2nid(object)
                                                                   : NID_undef;
}

/// The one signer, by the algorithms that the kernel knows.
CMS_SignerInfo* checked_signer(CMS_ContentInfo* cms, const std::string& place) {
    STACK_OF(CMS_SignerInfo)* signers = CMS_get0_SignerInfos(cms);
    if (sk_CMS_SignerInfo_num(signers) != 1) {
        throw Error(place, "has " + std::to_string(std::max(0, sk_CMS_SignerInfo_num(signers))) +
                               " signers, not one");
    }
    CMS_SignerInfo* signer = sk_CMS_SignerInfo_value(signers, 0);
    X509_ALGOR* digest = nullptr;
    X509_ALGOR* key = nullptr;
    CMS_SignerInfo_get0_algs(signer, nullptr, nullptr, &digest, &key);
    if (algorithm_of(digest) != NID_sha256) {
        throw Error(place, "its digest is not SHA-256");
    }
    if (algorithm_of(key) != NID_rsaEncryption &&
        algorithm_of(key) != NID_sha256WithRSAEncryption) {
        throw Error(place, "its algorithm is not RSA with PKCS#1 v1.5 padding");
    }
    if (CMS_signed_get_attr_count(signer) > 0) {
        throw Error(place, "has signed attributes (openssl cms: -noattr)");
    }
    return signer;
}

std::span<const unsigned char> der_of(const X509_NAME* name) {
    const unsigned char* bytes = nullptr;
    std::size_t size = 0;
    return X509_NAME_get0_der(name, &bytes, &size) == 1 ? std::span(bytes, size)
                                                        : std::span<const unsigned char>();
}

/// Does the signer name this certificate, byte for byte? The library alone
/// would let names differ in case; the kernel does not.
bool names(CMS_SignerInfo* signer, X509* x509) {
    X509_NAME* issuer = nullptr;
    CMS_SignerInfo_get0_signer_id(signer, nullptr, &issuer, nullptr);
    return CMS_SignerInfo_cert_cmp(signer, x509) == 0 &&
           (issuer == nullptr ||
            std::ranges::equal(der_of(issuer), der_of(X509_get_issuer_name(x509))));
}

bool is_der(const CMS_ContentInfo* cms, std::span<const std::byte> bytes) {
    unsigned char* encoded = nullptr;
    const int size = i2d_CMS_ContentInfo(cms, &encoded);
    const std::unique_ptr<unsigned char, decltype([](unsigned char* p) { OPENSSL_free(p); })> owner(
        encoded);
    const auto* given = reinterpret_cast<const unsigned char*>(bytes.data());
    return size >= 0 && static_cast<std::size_t>(size) == bytes.size() &&
           std::equal(encoded, encoded + size, given);
}

}  // namespace

Signature Signature::parse(std::span<const std::byte> der, const std::string& place) {
    if (der.size() > kSignatureBytesMax) {
        throw Error(place, std::to_string(der.size()) + " bytes, more than 64 KiB");
    }
    auto impl = std::make_shared<Impl>();
    impl->place = place;
    const auto* at = reinterpret_cast<const unsigned char*>(der.data());
    const auto* const end = at + der.size();
    impl->cms.reset(d2i_CMS_ContentInfo(nullptr, &at, static_cast<long>(der.size())));
    CMS_ContentInfo* cms = impl->cms.get();
    if (cms == nullptr) {
        throw openssl_error(place, "is no signature (CMS in DER), or was cut short");
    }
    if (at != end) {
        throw Error(place, "has " + std::to_string(end - at) + " bytes behind its end");
    }
    if (OBJ_obj2nid(CMS_get0_type(cms)) != NID_pkcs7_signed) {
        throw Error(place, "is CMS, but not SignedData");
    }
    if (!is_der(cms, der)) {
        throw Error(place, "is not in DER (openssl cms: -outform DER)");
    }
    if (OBJ_obj2nid(CMS_get0_eContentType(cms)) != NID_pkcs7_data) {
        throw Error(place, "signs another type of content than data");
    }
    if (CMS_is_detached(cms) != 1) {
        throw Error(place, "holds the signed bytes themselves: it must be detached");
    }
    STACK_OF(X509)* certificates = CMS_get1_certs(cms);
    const bool has_certificates = sk_X509_num(certificates) > 0;
    sk_X509_pop_free(certificates, X509_free);
    if (has_certificates) {
        throw Error(place, "holds certificates (openssl cms: -nocerts)");
    }
    impl->author = author_of(checked_signer(cms, place), place);
    ERR_clear_error();
    Signature signature;
    signature.impl_ = std::move(impl);
    return signature;
}

const std::string& Signature::author() const {
    return impl_->author;
}

const Certificate& Signature::verify(std::span<const std::byte> manifest,
                                     const std::vector<Certificate>& certificates) const {
    CMS_ContentInfo* cms = impl_->cms.get();
    CMS_SignerInfo* signer = sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(cms), 0);
    bool known = false;
    for (const Certificate& certificate : certificates) {
        X509* x509 = certificate.impl().x509.get();
        if (!names(signer, x509)) {
            continue;
        }
        known = true;
        // The certificates given are the trust: no chain is built from them.
        CMS_SignerInfo_set1_signer_cert(signer, x509);
        const UniqueBio content = bio_of(manifest, impl_->place);
        if (CMS_verify(cms, nullptr, nullptr, content.get(), nullptr,
                       CMS_BINARY | CMS_NOINTERN | CMS_NO_SIGNER_CERT_VERIFY) == 1) {
            return certificate;
        }
        ERR_clear_error();
    }
    throw Error(impl_->place, known
                                  ? "does not match the manifest: one of them was altered, or "
                                    "another key made it"
                                  : "names " + impl_->author +
                                        " as its author, which is none of the certificates given");
}

std::vector<std::byte> sign(std::span<const std::byte> manifest, const SigningKey& key,
                            const Certificate& certificate) {
    X509* x509 = certificate.impl().x509.get();
    EVP_PKEY* pkey = key.impl().key.get();
    if (X509_check_private_key(x509, pkey) != 1) {
        ERR_clear_error();
        throw Error(key.impl().place, "is not the key of " + certificate.place());
    }
    constexpr unsigned kFlags = CMS_BINARY | CMS_DETACHED | CMS_NOATTR | CMS_NOCERTS | CMS_PARTIAL;
    const UniqueCms cms(CMS_sign(nullptr, nullptr, nullptr, nullptr, kFlags));
    const UniqueBio content = bio_of(manifest, "manifest");
    if (!cms || CMS_add1_signer(cms.get(), x509, pkey, EVP_sha256(), kFlags) == nullptr ||
        CMS_final(cms.get(), content.get(), nullptr, kFlags) != 1) {
        throw openssl_error(key.impl().place, "cannot sign");
    }
    unsigned char* encoded = nullptr;
    const int size = i2d_CMS_ContentInfo(cms.get(), &encoded);
    if (size < 0) {
        throw openssl_error(key.impl().place, "cannot write the signature");
    }
    const auto bytes = std::as_bytes(std::span(encoded, static_cast<std::size_t>(size)));
    std::vector<std::byte> der(bytes.begin(), bytes.end());
    OPENSSL_free(encoded);
    // What is handed out was read back, by the checks every reader makes.
    (void)Signature::parse(der, "signature").verify(manifest, {certificate});
    return der;
}

std::vector<std::byte> read_signature(const std::string& folder) {
    const std::string place = (std::filesystem::path(folder) / kSignatureName).string();
    auto bytes =
        read_small_file_at(open_directory(folder), kSignatureName, place, kSignatureBytesMax);
    if (bytes && bytes->empty()) {
        throw Error(place, "is empty");
    }
    return std::move(bytes).value_or(std::vector<std::byte>());
}

}  // namespace m4::firmware
