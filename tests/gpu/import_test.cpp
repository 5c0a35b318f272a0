// SPDX-License-Identifier: MIT
// How weights reach the device: the ways in their order, and dma-bufs where the
// driver takes them.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gpu.hpp"
#include "lib/error.hpp"
#include "vk/drm.hpp"
#include "vk/memory.hpp"
#include "weights/store.hpp"

namespace m4::test {
namespace {

constexpr std::size_t kChunk = M4_IMAGE_CHUNK_BYTES;
constexpr std::size_t kPayload = 3 * kChunk;
constexpr hpp::BufferUsageFlags kUsage =
    hpp::BufferUsageFlagBits::eTransferSrc | hpp::BufferUsageFlagBits::eStorageBuffer;

struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
};

std::byte sample(std::size_t i) {
    return static_cast<std::byte>(i * 7 + i / 251);
}

/// A payload of three chunks in host memory: a tensor in each, one across two.
class Payload {
   public:
    Payload() : bytes_(static_cast<std::byte*>(std::aligned_alloc(kChunk, kPayload))) {
        for (std::size_t i = 0; i < kPayload; ++i) {
            bytes_.get()[i] = sample(i);
        }
        add("a", 0, 4096);
        add("b", kChunk - 4096, 8192);
        add("c", kPayload - 1024, 1000);
    }
    [[nodiscard]] std::span<const std::byte> bytes() const { return {bytes_.get(), kPayload}; }
    [[nodiscard]] const std::vector<firmware::Tensor>& tensors() const { return tensors_; }

   private:
    void add(const char* name, std::uint64_t offset, std::uint64_t size) {
        firmware::Tensor tensor;
        tensor.name = name;
        tensor.payload_offset = offset;
        tensor.size_bytes = size;
        tensors_.push_back(tensor);
    }
    std::unique_ptr<std::byte, Free> bytes_;
    std::vector<firmware::Tensor> tensors_;
};

constexpr std::array<std::uint32_t, 3> kUsed = {0, 1, 2};

/// A dma-buf over memory of ours, by the kernel's udmabuf; none where absent.
firmware::UniqueFd make_dma_buf() {
    const firmware::UniqueFd maker(open("/dev/udmabuf", O_RDWR | O_CLOEXEC));
    const firmware::UniqueFd memory(memfd_create("m4-test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    std::vector<std::byte> bytes(kPayload);
    for (std::size_t i = 0; i < kPayload; ++i) {
        bytes[i] = sample(i);
    }
    if (!maker || !memory ||
        write(memory.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(kPayload) ||
        fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
        return {};
    }
    udmabuf_create request{};
    request.memfd = static_cast<std::uint32_t>(memory.get());
    request.flags = UDMABUF_FLAGS_CLOEXEC;
    request.size = kPayload;
    return firmware::UniqueFd(ioctl(maker.get(), UDMABUF_CREATE, &request));
}

/// What the device reads there.
std::vector<std::byte> contents(vk::Device& device, const vk::Buffer& buffer) {
    const vk::Buffer out(device, buffer.size_bytes(), hpp::BufferUsageFlagBits::eTransferDst,
                         vk::MemoryKind::readback);
    const hpp::raii::CommandBuffer commands = device.create_commands();
    commands.begin(hpp::CommandBufferBeginInfo{});
    commands.copyBuffer(buffer.handle(), out.handle(),
                        hpp::BufferCopy{.size = buffer.size_bytes()});
    commands.pipelineBarrier(
        hpp::PipelineStageFlagBits::eTransfer, hpp::PipelineStageFlagBits::eHost, {},
        hpp::MemoryBarrier{.srcAccessMask = hpp::AccessFlagBits::eTransferWrite,
                           .dstAccessMask = hpp::AccessFlagBits::eHostRead},
        {}, {});
    commands.end();
    device.run(commands);
    return {out.mapped().begin(), out.mapped().end()};
}

}  // namespace

TEST_CASE("import: the ways are tried in order, and the note says why not the earlier") {
    M4_NEEDS_DEVICE();
    vk::Device device({test_device(), true});
    const Payload payload;
    const auto store_of = [&](const weights::StoreOptions& options) {
        return weights::Store(device, payload.bytes(), payload.tensors(), kUsed, options);
    };
    const bool shares = device.identity().type == vk::DeviceType::cpu ||
                        device.identity().type == vk::DeviceType::integrated;
    SUBCASE("no dma-bufs") {
        const auto store = store_of({});
        if (shares) {
            CHECK(store.note().starts_with("not by dma_buf: a folder's image has none"));
        } else {
            CHECK(store.note() == "the device has memory of its own");
        }
        CHECK(store.copied_bytes() == (store.import_name() == "staging" ? kPayload : 0));
    }
    SUBCASE("the kernel refuses") {
        weights::StoreOptions options;
        options.export_window = [](std::uint64_t, std::uint64_t) -> firmware::UniqueFd {
            throw firmware::Error("/dev/m4/control", "cannot open: No such file or directory");
        };
        const auto store = store_of(options);
        CHECK(store.import_name() != "dma_buf");
        if (shares && device.limits().dma_buf) {
            CHECK(store.note().find("/dev/m4/control: cannot open") != std::string::npos);
        } else if (shares) {
            CHECK(store.note().find("VK_EXT_external_memory_dma_buf") != std::string::npos);
        }
    }
    SUBCASE("what is no dma-buf") {
        weights::StoreOptions options;
        options.export_window = [](std::uint64_t, std::uint64_t) {
            return firmware::UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC));
        };
        CHECK(store_of(options).import_name() != "dma_buf");
    }
    SUBCASE("staging was asked for") {
        const auto store = store_of({.import = weights::Import::staging});
        CHECK(store.note() == "staging was asked for");
        CHECK(store.copied_bytes() == kPayload);
    }
    device.check_validation();
}

TEST_CASE("import: a dma-buf is read where it lies, and its descriptor stays ours") {
    M4_NEEDS_DEVICE();
    vk::Device device({test_device(), true});
    if (!device.limits().dma_buf) {
        M4_SKIP("the driver has no VK_EXT_external_memory_dma_buf");
    }
    const firmware::UniqueFd window = make_dma_buf();
    if (!window) {
        M4_SKIP("no /dev/udmabuf to make a dma-buf with");
    }
    const std::string& node = device.identity().render_node;
    if (const std::string why =
            node.empty() ? std::string{} : vk::drm::import_refusal(node, window.get());
        !why.empty()) {
        M4_SKIP(why);
    }
    const std::size_t size = kPayload - 1024;
    REQUIRE(vk::Buffer::dma_buf_bytes(device, size, kUsage) <= kPayload);
    {
        const auto buffer = vk::Buffer::import_dma_buf(device, window.get(), size, kUsage);
        const auto read = contents(device, buffer);
        bool same = read.size() == size;
        for (std::size_t i = 0; same && i < size; ++i) {
            same = read[i] == sample(i);
        }
        CHECK(same);
    }
    CHECK(fcntl(window.get(), F_GETFD) >= 0);
    device.check_validation();
}

}  // namespace m4::test
