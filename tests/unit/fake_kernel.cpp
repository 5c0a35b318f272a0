// SPDX-License-Identifier: MIT
#include "fake_kernel.hpp"

#include <chrono>
#include <fstream>

#include "lib/image.hpp"

namespace m4::test {

namespace fs = std::filesystem;

FakeKernel::FakeKernel(fs::path base, fs::path image)
    : folder_(std::move(base) / image.filename()), image_(std::move(image)) {
    fs::create_directories(folder_);
    for (const char* empty : {"error", "generation", "digest", "load"}) {
        set(empty, "");
    }
    for (const char* zero : {"generations", "rollback_floor", "scrubs", "scrub_errors"}) {
        set(zero, "0");
    }
    set("progress", "100");
    set("scrub", "100");
    set("state", "empty");
    thread_ = std::thread([this] { play(); });
}

FakeKernel::~FakeKernel() {
    stopping_ = true;
    thread_.join();
}

void FakeKernel::set(const char* attribute, const std::string& value) const {
    std::ofstream(folder_ / attribute, std::ios::trunc) << value << '\n';
}

std::string FakeKernel::get(const char* attribute) const {
    std::ifstream file(folder_ / attribute);
    std::string line;
    std::getline(file, line);
    return line;
}

void FakeKernel::play() {
    while (!stopping_) {
        if (get("load") == "1") {
            set("load", "");
            load();
        }
        if (get("scrub") == "1") {
            scrub();
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

void FakeKernel::load() {
    ++loads;
    const bool had_one = get("state") == "ready";
    set("error", "");
    set("state", had_one ? "updating" : "loading");
    set("progress", "50");
    if (never_ends) {
        return;
    }
    std::string error;
    try {
        const auto mapped = firmware::MappedImage::open_folder(image_);
        if (std::to_string(mapped.image().rollback_index()) < get("rollback_floor")) {
            error = "manifest.m4m: rollback index below the floor (-1)";
        } else if (refuses_version_2 && mapped.image().version() == "2") {
            error = "manifest.m4m.p7s: no key for this signature (-126)";
        } else {
            set("digest", firmware::to_hex(mapped.image().digest()));
            set("generation", std::to_string(++generation_));
        }
    } catch (const std::exception& failure) {
        error = failure.what();
    }
    set("progress", "100");
    set("error", error);
    set("state", error.empty() || had_one ? "ready" : "error");
}

void FakeKernel::scrub() {
    set("scrub", "50");
    if (finds_altered) {
        set("scrub_errors", "1");
        set("state", "revoked");
        set("digest", "");
    }
    set("scrub", "100");
    set("scrubs", std::to_string(std::stoi("0" + get("scrubs")) + 1));
}

}  // namespace m4::test
