// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

/// Who made an image: a detached signature over its manifest, in the one form
/// that m4.ko accepts (docs/image-format.md, "Signature"). Everything throws
/// Error; `place` is how an error names the bytes.
namespace m4::firmware {

inline constexpr char kSignatureName[] = "manifest.m4m.p7s";
inline constexpr std::size_t kSignatureBytesMax = 64UL * 1024;
inline constexpr int kSigningBitsMin = 3072;
inline constexpr int kSigningBitsMax = 4096;

/// An X.509 certificate whose key may sign images: RSA of 3072 to 4096 bits.
class Certificate {
   public:
    struct Impl;

    /// One certificate, PEM or DER. Dates are not checked: see expired().
    [[nodiscard]] static Certificate parse(std::span<const std::byte> bytes,
                                           const std::string& place);
    [[nodiscard]] static Certificate read(const std::string& path);

    [[nodiscard]] const std::string& place() const;    ///< where it was read
    [[nodiscard]] const std::string& subject() const;  ///< "CN=M4 release 1"
    [[nodiscard]] const std::string& key_id() const;   ///< hex; empty: it names none
    [[nodiscard]] const std::string& not_after() const;
    /// The end of its time has passed. The kernel does not ask, people should.
    [[nodiscard]] bool expired() const;
    [[nodiscard]] const Impl& impl() const { return *impl_; }

   private:
    std::shared_ptr<const Impl> impl_;
};

/// A private key that may sign images.
class SigningKey {
   public:
    struct Impl;

    /// PEM, not encrypted: nothing here ever asks for a passphrase.
    [[nodiscard]] static SigningKey parse(std::span<const std::byte> pem, const std::string& place);
    [[nodiscard]] static SigningKey read(const std::string& path);

    [[nodiscard]] const Impl& impl() const { return *impl_; }

   private:
    std::shared_ptr<const Impl> impl_;
};

/// A signature that was read: its form is checked, its author is not.
class Signature {
   public:
    struct Impl;

    /// DER of at most kSignatureBytesMax: CMS SignedData, detached, one signer,
    /// SHA-256 and RSA, no signed attributes, no certificates.
    [[nodiscard]] static Signature parse(std::span<const std::byte> der, const std::string& place);

    /// Whom it names as its author: "CN=M4 release 1, serial 0x12ab".
    [[nodiscard]] const std::string& author() const;
    /// The certificate among these whose key made this signature of `manifest`.
    [[nodiscard]] const Certificate& verify(std::span<const std::byte> manifest,
                                            const std::vector<Certificate>& certificates) const;

   private:
    std::shared_ptr<const Impl> impl_;
};

/// DER of a signature over `manifest`; the same bytes as
/// openssl cms -sign -binary -noattr -nocerts -md sha256 -outform DER
/// makes. Refuses a key that is not the certificate's.
[[nodiscard]] std::vector<std::byte> sign(std::span<const std::byte> manifest,
                                          const SigningKey& key, const Certificate& certificate);

struct KeyOptions {
    std::string common_name;
    int days = 0;
    int bits = 0;
};

/// A new key and its own certificate, PEM.
struct KeyPair {
    std::string key;
    std::string certificate;
    KeyPair() = default;
    KeyPair(KeyPair&&) = default;
    KeyPair& operator=(KeyPair&&) = default;
    KeyPair(const KeyPair&) = delete;
    KeyPair& operator=(const KeyPair&) = delete;
    ~KeyPair();  ///< overwrites the key
};
[[nodiscard]] KeyPair generate_key(const KeyOptions& options);

/// The signature file of an image folder; empty where there is none.
[[nodiscard]] std::vector<std::byte> read_signature(const std::string& folder);

}  // namespace m4::firmware
