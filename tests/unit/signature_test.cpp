// SPDX-License-Identifier: MIT
// The signature library, against itself and against the openssl program.
#include "lib/signature.hpp"

#include <doctest/doctest.h>

#include <cstring>

#include "lib/openssl.hpp"
#include "lib/small_file.hpp"
#include "run_tool.hpp"

#include <openssl/pem.h>

using namespace m4::test;
using namespace m4::firmware;

namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text));
}

/// Making a key takes half a second: the cases share two.
const KeyPair& pair_of(int which) {
    static const KeyPair pairs[] = {generate_key({"first", 30, 3072}),
                                    generate_key({"second", 30, 3072})};
    return pairs[which];
}

SigningKey key_of(int which) {
    return SigningKey::parse(bytes_of(pair_of(which).key), "m4.key");
}

Certificate certificate_of(int which) {
    return Certificate::parse(bytes_of(pair_of(which).certificate), "m4.crt");
}

const std::string kManifest = "any bytes\r\nat all, of some length\n";

std::vector<std::byte> signed_manifest() {
    return sign(bytes_of(kManifest), key_of(0), certificate_of(0));
}

std::string parse_refusal(std::span<const std::byte> der) {
    return refusal([&] { (void)Signature::parse(der, "p7s"); });
}

/// Writes key, certificate and manifest for the openssl program; its options.
std::string openssl_sign(const TempFolder& temp, const std::string& options) {
    write_file(temp / "key", bytes_of(pair_of(0).key));
    write_file(temp / "crt", bytes_of(pair_of(0).certificate));
    write_file(temp / "manifest", bytes_of(kManifest));
    const std::string folder = temp.path().string();
    return "openssl cms -sign -binary -in " + folder + "/manifest -signer " + folder +
           "/crt -inkey " + folder + "/key -out " + folder + "/p7s " + options;
}

/// The first certificate again, with another end of its validity.
std::string expired_certificate() {
    const UniqueBio in = bio_of(bytes_of(pair_of(0).certificate), "crt");
    const UniqueX509 x509(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
    X509_gmtime_adj(X509_getm_notAfter(x509.get()), -3600);
    const UniqueBio key_in = bio_of(bytes_of(pair_of(0).key), "key");
    const UniquePkey key(PEM_read_bio_PrivateKey(key_in.get(), nullptr, nullptr, nullptr));
    X509_sign(x509.get(), key.get(), EVP_sha256());
    const UniqueBio out(BIO_new(BIO_s_mem()));
    PEM_write_bio_X509(out.get(), x509.get());
    return text_of(out);
}

}  // namespace

TEST_CASE("signature: what was signed verifies, and names who signed") {
    const auto der = signed_manifest();
    const Signature signature = Signature::parse(der, "p7s");
    CHECK(signature.author().starts_with("CN=first, serial 0x"));
    const std::vector<Certificate> certificates = {certificate_of(1), certificate_of(0)};
    const Certificate& signer = signature.verify(bytes_of(kManifest), certificates);
    CHECK(signer.subject() == "CN=first");
    CHECK(signer.key_id().size() == 40);
    CHECK_FALSE(signer.expired());
    CHECK(der == signed_manifest());  // nothing in it is random, nor the time
}

TEST_CASE("signature: every byte of the manifest counts") {
    const Signature signature = Signature::parse(signed_manifest(), "p7s");
    for (std::size_t i = 0; i <= kManifest.size(); ++i) {
        std::string altered = kManifest;
        if (i == kManifest.size()) {
            altered.pop_back();
        } else {
            altered[i] = static_cast<char>(altered[i] ^ 1);
        }
        CHECK(refusal([&] {
                  (void)signature.verify(bytes_of(altered), {certificate_of(0)});
              }).starts_with("p7s: does not match the manifest"));
    }
}

TEST_CASE("signature: a wrong author, a wrong key") {
    const Signature signature = Signature::parse(signed_manifest(), "p7s");
    CHECK(
        contains(refusal([&] { (void)signature.verify(bytes_of(kManifest), {certificate_of(1)}); }),
                 "none of the certificates given"));
    CHECK(contains(refusal([&] { (void)signature.verify(bytes_of(kManifest), {}); }),
                   "names CN=first"));
    CHECK(refusal([] { (void)sign(bytes_of(kManifest), key_of(1), certificate_of(0)); }) ==
          "m4.key: is not the key of m4.crt");
}

TEST_CASE("signature: no altered or shortened byte of it passes") {
    const auto der = signed_manifest();
    for (std::size_t size = 0; size < der.size(); ++size) {
        CHECK(contains(parse_refusal(std::span(der).first(size)), "cut short"));
    }
    std::size_t accepted = 0;
    for (std::size_t bit = 0; bit < 8 * der.size(); ++bit) {
        auto altered = der;
        altered[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
        const std::string text = refusal([&] {
            (void)Signature::parse(altered, "p7s").verify(bytes_of(kManifest), {certificate_of(0)});
        });
        accepted += text == "accepted" ? 1 : 0;
    }
    CHECK(accepted <= 2UL * 8);  // the two version numbers, which say nothing
    auto longer = der;
    longer.push_back(std::byte{0});
    CHECK(parse_refusal(longer) == "p7s: has 1 bytes behind its end");
    CHECK(contains(parse_refusal(std::vector<std::byte>(kSignatureBytesMax + 1)),
                   "more than 64 KiB"));
}

TEST_CASE("signature: the openssl program makes the same bytes and accepts ours") {
    if (!have_openssl()) {
        M4_SKIP("no openssl program");
    }
    const TempFolder temp;
    const Ran made = run_shell(openssl_sign(temp, "-noattr -nocerts -md sha256 -outform DER"));
    REQUIRE(made.status == 0);
    const auto der = signed_manifest();
    CHECK(read_file(temp / "p7s") == der);

    write_file(temp / "ours", der);
    const std::string folder = temp.path().string();
    const std::string verify = "openssl cms -verify -binary -inform DER -in " + folder +
                               "/ours -certfile " + folder + "/crt -CAfile " + folder +
                               "/crt -purpose any -out /dev/null -content " + folder;
    CHECK(run_shell(verify + "/manifest").status == 0);
    CHECK(run_shell(verify + "/key").status != 0);
}

TEST_CASE("signature: other forms of CMS, which the kernel would refuse") {
    if (!have_openssl()) {
        M4_SKIP("no openssl program");
    }
    const auto form = [](const char* options) {
        const TempFolder temp;
        REQUIRE(run_shell(openssl_sign(temp, options)).status == 0);
        return parse_refusal(read_file(temp / "p7s"));
    };
    CHECK(contains(form("-noattr -nocerts -md sha256 -outform PEM"), "no signature (CMS in DER)"));
    CHECK(contains(form("-nocerts -md sha256 -outform DER"), "-noattr"));
    CHECK(contains(form("-noattr -md sha256 -outform DER"), "-nocerts"));
    CHECK(contains(form("-noattr -nocerts -md sha512 -outform DER"), "not SHA-256"));
    CHECK(contains(form("-noattr -nocerts -md sha256 -outform DER -nodetach"), "detached"));
    CHECK(contains(form("-noattr -nocerts -md sha256 -outform DER -keyopt rsa_padding_mode:pss"),
                   "PKCS#1 v1.5"));
    CHECK(form("-noattr -nocerts -md sha256 -outform DER -keyid") == "accepted");
}

TEST_CASE("signature: keys and certificates that may not sign") {
    const auto key_refusal = [](const std::string& text) {
        return refusal([&] { (void)SigningKey::parse(bytes_of(text), "k"); });
    };
    const auto certificate_refusal = [](const std::string& text) {
        return refusal([&] { (void)Certificate::parse(bytes_of(text), "c"); });
    };
    CHECK(contains(key_refusal(""), "k: is no private key in PEM"));
    CHECK(contains(key_refusal(pair_of(0).certificate), "k: is no private key in PEM"));
    CHECK(contains(certificate_refusal(""), "c: is no certificate"));
    CHECK(contains(certificate_refusal(pair_of(0).key), "c: is no certificate"));
    CHECK(contains(certificate_refusal(pair_of(0).certificate + pair_of(1).certificate),
                   "more than one certificate"));
    CHECK(Certificate::parse(bytes_of(expired_certificate()), "c").expired());

    if (!have_openssl()) {
        M4_SKIP("no openssl program");
    }
    const TempFolder temp;
    const std::string folder = temp.path().string();
    const auto openssl = [&](const std::string& arguments, const char* file) {
        REQUIRE(run_shell("cd " + folder + " && openssl " + arguments).status == 0);
        return file_text(temp / file);
    };
    CHECK(contains(key_refusal(openssl("genpkey -algorithm EC -pkeyopt "
                                       "ec_paramgen_curve:P-256 -out ec",
                                       "ec")),
                   "k: is a key of type id-ecPublicKey, not RSA"));
    CHECK(contains(key_refusal(openssl("genpkey -algorithm ED25519 -out ed", "ed")), "not RSA"));
    CHECK(contains(key_refusal(openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 "
                                       "-out small",
                                       "small")),
                   "k: is an RSA key of 2048 bits, not 3072 to 4096"));
    const std::string encrypted =
        openssl("pkey -in small -aes128 -passout pass:word -out locked", "locked");
    CHECK(contains(key_refusal(encrypted), "k: is encrypted, and nothing here asks"));
    CHECK(contains(
        certificate_refusal(openssl("req -x509 -new -key ec -subj /CN=ec -out ec.crt", "ec.crt")),
        "c: is a key of type id-ecPublicKey"));
    write_file(temp / "crt", bytes_of(pair_of(0).certificate));
    const std::string der = openssl("x509 -in crt -outform DER -out der", "der");
    CHECK(Certificate::parse(bytes_of(der), "c").subject() == "CN=first");
    CHECK(contains(certificate_refusal(der + "x"), "is no certificate"));
}

TEST_CASE("keygen: what a certificate says, and what may be asked for") {
    const auto key_refusal = [](const KeyOptions& options) {
        return refusal([&] { (void)generate_key(options); });
    };
    CHECK(contains(key_refusal({"", 1, 3072}), "common name"));
    CHECK(contains(key_refusal({std::string(65, 'x'), 1, 3072}), "common name"));
    CHECK(contains(key_refusal({"new\nline", 1, 3072}), "common name"));
    CHECK(contains(key_refusal({"x", 0, 3072}), "0 days"));
    CHECK(contains(key_refusal({"x", 1, 2048}), "2048 bits"));
    if (!have_openssl()) {
        M4_SKIP("no openssl program");
    }
    const TempFolder temp;
    write_file(temp / "crt", bytes_of(pair_of(0).certificate));
    const std::string shown =
        run_shell("openssl x509 -noout -text -in " + (temp / "crt").string()).out;
    for (const char* part :
         {"Version: 3", "sha256WithRSAEncryption", "Public-Key: (3072 bit)", "CN = first",
          "X509v3 Key Usage: critical\n                Digital Signature\n",
          "X509v3 Subject Key Identifier", "CA:FALSE"}) {
        CAPTURE(part);
        CHECK(contains(shown, part));
    }
}

TEST_CASE("small file: whole or as it was") {
    const TempFolder temp;
    const std::string folder = temp.path().string();
    write_small_file(folder, "f", bytes_of("one"), 0600, false);
    CHECK(contains(refusal([&] { write_small_file(folder, "f", bytes_of("two"), 0600, false); }),
                   "f: exists already"));
    CHECK(file_text(temp / "f") == "one");
    write_small_file(folder, "f", bytes_of("two"), 0600, true);
    CHECK(file_text(temp / "f") == "two");
    CHECK(std::distance(std::filesystem::directory_iterator(temp.path()), {}) == 1);

    const UniqueFd directory = open_directory(folder);
    CHECK_FALSE(read_small_file_at(directory, "absent", "absent", 9).has_value());
    CHECK(contains(refusal([&] { (void)read_small_file_at(directory, "f", "f", 2); }),
                   "f: has more than 2 bytes"));
    std::filesystem::create_symlink("f", temp / "link");
    CHECK(contains(refusal([&] { (void)read_small_file_at(directory, "link", "link", 9); }),
                   "symbolic link"));
}
