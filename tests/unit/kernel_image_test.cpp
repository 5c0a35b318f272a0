// SPDX-License-Identifier: MIT
// What m4.ko says of an image, from folders that look like its own.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <string>

#include "lib/error.hpp"
#include "lib/file.hpp"
#include "temp_folder.hpp"
#include "trust/kernel_image.hpp"

namespace m4::test {
namespace {

const std::string kOurs(64, 'a');
const std::string kOther(64, 'b');

/// /sys/class/m4/backbone and /proc/self/fdinfo/7.
class FakeKernel {
   public:
    FakeKernel() {
        std::filesystem::create_directories(folder_ / "sys/backbone");
        std::filesystem::create_directories(folder_ / "fdinfo");
        hold(1, kOurs);
        show(1, kOurs);
    }

    /// What descriptor 7 holds.
    void hold(int generation, const std::string& digest) const {
        std::ofstream(folder_ / "fdinfo/7")
            << "pos:\t0\nflags:\t02100000\nmnt_id:\t25\nino:\t3\nm4-name:\tbackbone\n"
            << "m4-version:\tnano-1\nm4-generation:\t" << generation << "\nm4-digest:\t" << digest
            << '\n';
    }
    /// What is current.
    void show(int generation, const std::string& digest, const std::string& state = "ready") const {
        write("generation", std::to_string(generation));
        write("digest", digest);
        write("state", state);
        write("error", "");
        write("signer", "CN=M4 release 0123abcd");
        write("development", "0");
    }
    void write(const std::string& attribute, const std::string& value) const {
        std::ofstream(folder_ / ("sys/backbone/" + attribute)) << value << '\n';
    }
    void remove(const std::string& attribute) const {
        std::filesystem::remove(folder_ / ("sys/backbone/" + attribute));
    }
    [[nodiscard]] trust::KernelPlaces places() const {
        return {folder_ / "sys", folder_ / "fdinfo"};
    }
    [[nodiscard]] trust::KernelImage image() const { return trust::KernelImage(7, places()); }
    [[nodiscard]] std::filesystem::path fdinfo() const { return folder_ / "fdinfo/7"; }

   private:
    TempFolder folder_;
};

}  // namespace

TEST_CASE("kernel image: name, generation, digest, signer") {
    const FakeKernel kernel;
    kernel.write("development", "1");
    const trust::KernelImage image = kernel.image();
    CHECK(image.name() == "backbone");
    CHECK(image.generation() == 1);
    CHECK(image.digest() == kOurs);
    CHECK(image.vouched());
    CHECK(image.signer() == "CN=M4 release 0123abcd");
    CHECK(image.development());
    CHECK(image.state_file().filename() == "state");
    CHECK(judge(image, image.current()) == trust::Change::none);
}

TEST_CASE("kernel image: sysfs of another generation says nothing of ours") {
    const FakeKernel kernel;
    SUBCASE("a newer one") {
        kernel.show(2, kOther);
    }
    SUBCASE("the same files loaded once more") {
        kernel.show(2, kOurs);
    }
    SUBCASE("none") {
        kernel.show(1, kOurs, "revoked");
        for (const char* gone : {"generation", "digest", "signer", "development"}) {
            kernel.remove(gone);
        }
    }
    const trust::KernelImage image = kernel.image();
    CHECK(image.generation() == 1);
    CHECK_FALSE(image.vouched());
    CHECK(image.signer().empty());
    CHECK_FALSE(image.development());
}

TEST_CASE("kernel image: only another generation that is ready is newer") {
    const FakeKernel kernel;
    const trust::KernelImage image = kernel.image();
    const auto change = [&](int generation, const std::string& digest, const char* state) {
        kernel.show(generation, digest, state);
        return judge(image, image.current());
    };
    CHECK(change(1, kOurs, "updating") == trust::Change::none);
    CHECK(change(2, kOther, "ready") == trust::Change::newer);
    CHECK(change(2, kOurs, "ready") == trust::Change::newer);
    CHECK(change(2, kOther, "updating") == trust::Change::newer);
    CHECK(change(2, kOther, "revoked") == trust::Change::none);
    CHECK(change(0, "", "loading") == trust::Change::none);
    CHECK(change(0, "", "error") == trust::Change::none);
}

TEST_CASE("kernel image: an older module tells less") {
    const FakeKernel kernel;
    std::ofstream(kernel.fdinfo()) << "m4-name:\tbackbone\nm4-digest:\t" << kOurs << '\n';
    for (const char* gone : {"generation", "signer", "development", "error"}) {
        kernel.remove(gone);
    }
    const trust::KernelImage image = kernel.image();
    CHECK(image.generation() == 0);
    CHECK(image.signer().empty());
    CHECK(judge(image, image.current()) == trust::Change::none);
}

TEST_CASE("kernel image: what is no node of the module is refused by name") {
    const FakeKernel kernel;
    const auto refusal = [&] {
        try {
            (void)kernel.image();
        } catch (const firmware::Error& error) {
            return std::string(error.what());
        }
        return std::string{};
    };
    std::ofstream(kernel.fdinfo()) << "pos:\t0\nflags:\t0100000\n";
    CHECK(refusal().find("fdinfo/7: names no image") != std::string::npos);
    std::ofstream(kernel.fdinfo()) << "m4-name:\t../../etc\nm4-digest:\t" << kOurs << '\n';
    CHECK(refusal().find("is no name") != std::string::npos);
    std::filesystem::remove(kernel.fdinfo());
    CHECK(refusal().find("names no image") != std::string::npos);
}

TEST_CASE("kernel image: why it was revoked, in one sentence") {
    CHECK(trust::revoked_text({"revoked", "chunk 3 altered (-74)", "", 0}) ==
          "the kernel revoked the image (chunk 3 altered (-74))");
    CHECK(trust::revoked_text({"revoked", "", "", 0}) == "the kernel revoked the image");
    // Of another generation: no word of ours.
    CHECK(trust::revoked_text({"ready", "manifest.m4m: short (-22)", kOther, 2}) ==
          "the kernel revoked the image");
}

TEST_CASE("kernel image: a file that maps was not revoked") {
    const firmware::UniqueFd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    CHECK_FALSE(trust::mapping_refused(file.get()));
    CHECK_FALSE(trust::mapping_refused(-1));
}

}  // namespace m4::test
