// SPDX-License-Identifier: MIT
// Device, validation and pipeline cache, on a real driver.
#include <doctest/doctest.h>

#include <fstream>

#include "gpu.hpp"
#include "temp_folder.hpp"
#include "vk/memory.hpp"
#include "vk/pipelines.hpp"

namespace m4::test {

namespace {

std::vector<std::filesystem::path> files_in(const std::filesystem::path& folder) {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        files.push_back(entry.path());
    }
    return files;
}

/// Compiles one small kernel through the cache; returns the cache's note.
std::string compile_one(const vk::Device& device, const std::filesystem::path& folder) {
    vk::Pipelines pipelines(device, folder);
    const std::string note = pipelines.cache().note();
    vk::Kernel* const kernel = pipelines.get(
        shaders::find_variant(shaders::OpCode::add, shaders::Dtype::any_, shaders::Access::texel),
        std::array{32U});
    CHECK(pipelines.known() == 1);
    CHECK(pipelines.compiled() == 0);
    pipelines.compile({&kernel, 1});
    CHECK(pipelines.compiled() == 1);
    pipelines.save_cache();
    return note;
}

}  // namespace

TEST_CASE("device: unknown names list what is there") {
    M4_NEEDS_DEVICE();
    try {
        const vk::Device device({"no such device", false});
        FAIL("found");
    } catch (const vk::DeviceError& error) {
        const std::string text = error.what();
        CHECK(text.find("'no such device'") != std::string::npos);
        CHECK(text.find("0 = ") != std::string::npos);
    }
}

TEST_CASE("device: what the validation layer says is thrown") {
    M4_NEEDS_DEVICE();
    const vk::Device device({test_device(), true});
    CHECK(device.identity().device_name != "");
    CHECK(device.limits().texel_elements >= 65536);
    device.check_validation();
    // A usage of zero is not valid.
    const hpp::raii::Buffer wrong(device.handle(), hpp::BufferCreateInfo{.size = 16});
    CHECK_THROWS_AS(device.check_validation(), vk::DeviceError);
    device.check_validation();  // said once
}

TEST_CASE("pipeline cache: written whole, read again, damage ignored") {
    M4_NEEDS_DEVICE();
    const vk::Device device({test_device(), true});
    const TempFolder folder;
    const auto inside = folder / "made/when/needed";
    CHECK(compile_one(device, inside) == "");
    REQUIRE(files_in(inside).size() == 1);  // and no temporary file
    const auto file = files_in(inside)[0];
    CHECK(file.filename().string().starts_with("pipelines-"));
    CHECK(compile_one(device, inside) == "");
    const auto size = std::filesystem::file_size(file);

    std::filesystem::resize_file(file, size - 1);
    CHECK(compile_one(device, inside).ends_with("is damaged and was not used"));
    CHECK(std::filesystem::file_size(file) == size);  // and replaced
    {
        std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
        bytes.seekp(-1, std::ios::end);
        bytes.put('\x55');
    }
    CHECK(compile_one(device, inside).ends_with("is damaged and was not used"));
    std::filesystem::resize_file(file, 0);
    CHECK(compile_one(device, inside).ends_with("is damaged and was not used"));

    CHECK(compile_one(device, "/proc/no/such/place") == "");  // nothing written, nothing thrown
    device.check_validation();
}

}  // namespace m4::test
