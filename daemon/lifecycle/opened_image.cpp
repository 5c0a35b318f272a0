// SPDX-License-Identifier: MIT
#include "lifecycle/opened_image.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <utility>

#include "lib/error.hpp"

namespace m4::lifecycle {
namespace {

OpenedImage open_device(const std::filesystem::path& node) {
    // Should another generation become current while we look, it is opened
    // instead; if that goes on we serve what we have.
    constexpr int kAttempts = 3;
    for (int attempt = 1;; ++attempt) {
        firmware::MappedImage mapped = firmware::MappedImage::open_device(node);
        trust::KernelImage kernel(mapped.device_fd());
        const std::string digest = firmware::to_hex(mapped.image().digest());
        if (kernel.digest() != digest) {
            throw firmware::Error(
                node.string(), "shows an image of digest " + digest + ", not " + kernel.digest());
        }
        if (kernel.vouched() || attempt == kAttempts ||
            judge(kernel, kernel.current()) != trust::Change::newer) {
            return {std::move(mapped), std::move(kernel)};
        }
    }
}

OpenedImage open_folder(const std::filesystem::path& folder, const Notifier& notifier) {
    std::atomic<std::uint64_t> shown{0};
    firmware::MappedImage mapped = firmware::MappedImage::open_folder(
        folder, [&](std::uint64_t done_bytes, std::uint64_t total_bytes) {
            const std::uint64_t percent =
                done_bytes * 100 / std::max<std::uint64_t>(total_bytes, 1);
            // Several threads report; each tenth is told once.
            std::uint64_t before = shown.load();
            while (percent >= before + 10) {
                if (shown.compare_exchange_weak(before, percent)) {
                    notifier.say("STATUS=Verifying the image: %u %%\nEXTEND_TIMEOUT_USEC=%u",
                                 static_cast<unsigned>(percent), 60'000'000U);
                    return;
                }
            }
        });
    return {std::move(mapped), std::nullopt};
}

std::vector<std::byte> tokenizer_section(const OpenedImage& opened, const firmware::Part& part) {
    const auto bytes =
        opened.mapped.bytes(opened.mapped.image().tensors().at(part.tokenizer_tensor));
    return {bytes.begin(), bytes.end()};
}

}  // namespace

const firmware::Part* OpenedImage::backbone() const {
    for (const firmware::Part& part : mapped.image().package().parts) {
        if (part.kind == firmware::PartKind::backbone) {
            return &part;
        }
    }
    return nullptr;
}

std::string OpenedImage::lost_text() const {
    return kernel ? trust::revoked_text(kernel->current())
                  : std::string("the image's files changed under us");
}

OpenedImage open_image(const std::filesystem::path& folder,
                       const std::filesystem::path& device_node, const Notifier& notifier) {
    return folder.empty() ? open_device(device_node) : open_folder(folder, notifier);
}

OwnedTokenizer::OwnedTokenizer(const OpenedImage& opened, const firmware::Part& part)
    : section_(tokenizer_section(opened, part)),
      tokenizer_(section_,
                 std::string(opened.mapped.image().name()) + ": tokeniser of part " + part.name) {}

OwnedTokenizers::OwnedTokenizers(const OpenedImage& opened) {
    const auto& parts = opened.mapped.image().package().parts;
    for (std::uint32_t i = 0; i < parts.size(); ++i) {
        const bool backbone = &parts[i] == opened.backbone();
        // Of an encoder 0 is none.
        if (backbone || parts[i].tokenizer_tensor != 0) {
            const auto made = all_.try_emplace(i, opened, parts[i]).first;
            backbone_ = backbone ? &made->second.get() : backbone_;
        }
    }
}

std::map<std::uint32_t, const firmware::Tokenizer*> OwnedTokenizers::by_part() const {
    std::map<std::uint32_t, const firmware::Tokenizer*> all;
    for (const auto& [part, owned] : all_) {
        all.emplace(part, &owned.get());
    }
    return all;
}

}  // namespace m4::lifecycle
