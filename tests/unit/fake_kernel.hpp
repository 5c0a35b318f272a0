// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>

namespace m4::test {

/// A folder that looks like /sys/class/m4/<name>, and a thread that plays the
/// module: it loads what STORE/<name> names, and scrubs.
class FakeKernel {
   public:
    FakeKernel(std::filesystem::path base, std::filesystem::path image);
    ~FakeKernel();
    FakeKernel(const FakeKernel&) = delete;
    FakeKernel& operator=(const FakeKernel&) = delete;

    void set(const char* attribute, const std::string& value) const;
    [[nodiscard]] std::string get(const char* attribute) const;

    /// Versions of images that loads refuse.
    std::atomic<bool> refuses_version_2 = false;
    std::atomic<bool> never_ends = false;
    std::atomic<bool> finds_altered = false;
    std::atomic<int> loads = 0;

   private:
    void play();
    void load();
    void scrub();

    std::filesystem::path folder_;
    std::filesystem::path image_;
    int generation_ = 0;
    std::atomic<bool> stopping_ = false;
    std::thread thread_;
};

}  // namespace m4::test
