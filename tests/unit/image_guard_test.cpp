// SPDX-License-Identifier: MIT
// Mapped files that are cut under their readers.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "lib/file.hpp"
#include "temp_folder.hpp"
#include "trust/image_guard.hpp"

namespace m4::test {
namespace {

constexpr std::size_t kBytes = std::size_t{64} * 4096;

/// A file of 0x55 bytes, mapped as images are.
class MappedFile {
   public:
    MappedFile() : file_(open(path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
        const std::vector<std::byte> bytes(kBytes, std::byte{0x55});
        firmware::write_all(file_, bytes, path());
        void* mapped = mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, file_.get(), 0);
        REQUIRE(mapped != MAP_FAILED);
        bytes_ = {static_cast<const std::byte*>(mapped), kBytes};
    }
    ~MappedFile() { munmap(const_cast<std::byte*>(bytes_.data()), kBytes); }
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
    void cut() const { REQUIRE(ftruncate(file_.get(), 0) == 0); }
    /// Reads every page anew.
    [[nodiscard]] bool reads(std::byte value) const {
        const volatile std::byte* all = bytes_.data();
        bool same = true;
        for (std::size_t i = 0; i < kBytes; i += 512) {
            same = same && all[i] == value;
        }
        return same;
    }

   private:
    [[nodiscard]] std::string path() const { return folder_ / "shard"; }

    TempFolder folder_;
    firmware::UniqueFd file_;
    std::span<const std::byte> bytes_;
};

std::string cut_text() {
    return "the files changed";
}

/// How a child process ends that does this.
int status_of_child(const std::function<void()>& what) {
    const pid_t child = fork();
    if (child == 0) {
        what();
        _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return status;
}

}  // namespace

TEST_CASE("guard: a cut mapping reads as zeros and is known as lost") {
    const MappedFile file;
    const MappedFile other;
    const trust::ImageGuard guard(file.bytes(), cut_text);
    const trust::ImageGuard other_guard(other.bytes(), cut_text);
    CHECK(file.reads(std::byte{0x55}));
    CHECK(guard.intact());
    guard.check();

    file.cut();
    CHECK(guard.intact());  // nobody has looked yet
    errno = 77;
    CHECK(file.reads(std::byte{0}));
    CHECK(errno == 77);
    CHECK_FALSE(guard.intact());
    CHECK_THROWS_WITH_AS(guard.check(), "the files changed", trust::RevokedError);
    CHECK(other_guard.intact());
    CHECK(other.reads(std::byte{0x55}));
}

TEST_CASE("guard: an image may be taken back without a fault") {
    const MappedFile file;
    trust::ImageGuard guard(file.bytes(), cut_text);
    guard.revoke();
    CHECK_THROWS_AS(guard.check(), trust::RevokedError);
    CHECK(file.reads(std::byte{0x55}));
}

TEST_CASE("guard: threads that block every signal, as drivers' do, survive as well") {
    const MappedFile file;
    const trust::ImageGuard guard(file.bytes(), cut_text);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    REQUIRE(pthread_sigmask(SIG_BLOCK, &all, &before) == 0);
    sigset_t now;
    REQUIRE(pthread_sigmask(SIG_BLOCK, nullptr, &now) == 0);
    CHECK(sigismember(&now, SIGBUS) == 0);
    CHECK(sigismember(&now, SIGTERM) == 1);
    file.cut();
    std::vector<std::thread> readers;
    std::vector<char> zeros(8, 0);
    for (char& zero : zeros) {
        readers.emplace_back([&] { zero = file.reads(std::byte{0}) ? 1 : 0; });
    }
    for (std::thread& reader : readers) {
        reader.join();
    }
    REQUIRE(pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
    CHECK(std::ranges::all_of(zeros, [](char zero) { return zero == 1; }));
    CHECK_FALSE(guard.intact());
}

TEST_CASE("guard: a fault elsewhere ends the process as ever") {
    const MappedFile file;
    const MappedFile stranger;
    const trust::ImageGuard guard(file.bytes(), cut_text);
    stranger.cut();
    // A sanitizer's handler, which was there before ours, exits instead.
    const auto died = [](int status) {
        return WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS : WEXITSTATUS(status) != 0;
    };
    CHECK(died(status_of_child([&] { (void)stranger.reads(std::byte{0}); })));
    CHECK(died(status_of_child([] { raise(SIGBUS); })));
    CHECK(guard.intact());
}

TEST_CASE("guard: places are few, and free again") {
    const MappedFile file;
    std::vector<std::unique_ptr<trust::ImageGuard>> guards;
    for (std::size_t i = 0; i < trust::sigbus::kRangesMax; ++i) {
        guards.push_back(std::make_unique<trust::ImageGuard>(file.bytes(), cut_text));
    }
    CHECK_THROWS_AS(trust::ImageGuard(file.bytes(), cut_text), std::runtime_error);
    guards.pop_back();
    const trust::ImageGuard again(file.bytes(), cut_text);
    CHECK(again.intact());
}

}  // namespace m4::test
