// SPDX-License-Identifier: MIT
// What the kernel tells of DRM devices, from sample texts; no device needed.
#include <doctest/doctest.h>

#include <fstream>
#include <string>
#include <vector>

#include "temp_folder.hpp"
#include "vk/drm.hpp"

namespace m4::test {
namespace {

// As drm-usage-stats has it; from an msm and an amdgpu kernel.
constexpr const char* kMsm =
    "pos:\t0\nflags:\t02400002\nmnt_id:\t26\nino:\t284\ndrm-driver:\tmsm\ndrm-client-id:\t7\n"
    "drm-engine-gpu:\t12345678 ns\ndrm-cycles-gpu:\t5555\ndrm-maxfreq-gpu:\t800000000 Hz\n";
constexpr const char* kAmdgpu =
    "drm-driver:\tamdgpu\ndrm-client-id:\t3\ndrm-pdev:\t0000:03:00.0\n"
    "drm-engine-capacity-compute:\t4\ndrm-engine-compute:\t2000000 ns\ndrm-engine-gfx:\t0 ns\n"
    "drm-memory-vram:\t2048 KiB\ndrm-memory-gtt: \t1 MiB\ndrm-memory-cpu:\t4096\n";

}  // namespace

TEST_CASE("drm: busy time and memory from fdinfo") {
    const auto msm = vk::drm::parse_usage(kMsm);
    CHECK(msm.driver == "msm");
    CHECK(msm.client == "7");
    CHECK(msm.engine_ns == std::map<std::string, std::uint64_t>{{"gpu", 12345678}});
    CHECK(msm.memory_bytes.empty());
    const auto amdgpu = vk::drm::parse_usage(kAmdgpu);
    CHECK(amdgpu.engine_ns ==
          std::map<std::string, std::uint64_t>{{"compute", 2000000}, {"gfx", 0}});
    CHECK(amdgpu.memory_bytes == std::map<std::string, std::uint64_t>{
                                     {"cpu", 4096}, {"gtt", 1U << 20}, {"vram", 2U << 20}});
    CHECK(vk::drm::usage_text(std::vector{msm}) == "msm: gpu 12.3 ms");
    CHECK(vk::drm::usage_text(std::vector{msm, amdgpu}) ==
          "msm: gpu 12.3 ms | amdgpu: compute 2.0 ms gfx 0.0 ms cpu 0.0 MiB gtt 1.0 MiB vram "
          "2.0 MiB");
    CHECK(vk::drm::usage_text({}).empty());
}

TEST_CASE("drm: what is no DRM descriptor, or broken, is nothing") {
    for (const char* text :
         {"", "\n\n", "pos:\t0\nflags:\t02\n", "drm-engine-gpu", ":", "drm-\n:x"}) {
        CAPTURE(text);
        CHECK(vk::drm::parse_usage(text).driver.empty());
    }
    CHECK(vk::drm::parse_usage("drm-driver:\tx\ndrm-engine-a:\tmany ns\n").engine_ns.at("a") == 0);
}

TEST_CASE("drm: two descriptors of one client count once") {
    const TempFolder folder;
    std::ofstream(folder / "3") << kMsm;
    std::ofstream(folder / "4") << kMsm;
    std::ofstream(folder / "5") << kAmdgpu;
    std::ofstream(folder / "6") << "pos:\t0\n";
    CHECK(vk::drm::usage_of_process(folder.path()).size() == 2);
    CHECK(vk::drm::usage_of_process(folder / "absent").empty());
}

TEST_CASE("drm: a node is found by its number") {
    const std::vector<vk::drm::Node> nodes = {{"/dev/dri/renderD128", {226, 128}},
                                              {"/dev/dri/renderD129", {226, 129}}};
    CHECK(vk::drm::find_node(nodes, {226, 129}) == "/dev/dri/renderD129");
    CHECK(vk::drm::find_node(nodes, {226, 130}).empty());
    CHECK(vk::drm::find_node({}, {226, 128}).empty());
    for (const auto& node : vk::drm::render_nodes()) {  // of this machine, if any
        CHECK(vk::drm::find_node(std::vector{node}, node.number) == node.path);
        CHECK_FALSE(vk::drm::driver_of(node.path).empty());
    }
    CHECK(vk::drm::driver_of("/dev/null").empty());
    CHECK(vk::drm::import_refusal("/dev/null", 0) == "the driver of /dev/null imports no dma-buf");
    CHECK(vk::drm::import_refusal("/nonexistent", 0) ==
          "/nonexistent cannot be opened: No such file or directory");
}

}  // namespace m4::test
