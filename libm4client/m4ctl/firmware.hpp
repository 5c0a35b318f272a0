// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>

#include "commands.hpp"
#include "kernel_image.hpp"
#include "store/store.hpp"

/// What the commands under "firmware" share.
namespace m4ctl {

/// Where the images are and who loads them. Options of the commands that do
/// not ask m4d.
struct ImagePlace {
    std::string name = "backbone";
    std::string store = m4::store::kDefaultStore;
    std::string sysfs = kSysfsBase;

    [[nodiscard]] KernelImage kernel() const { return {sysfs, name}; }
    [[nodiscard]] m4::store::FirmwareStore open_store() const { return {store, name}; }
};
/// Adds --name and --sysfs, and --store where `with_store`.
[[nodiscard]] std::shared_ptr<ImagePlace> add_place(CLI::App* command, bool with_store = true);

void add_firmware_verify(CLI::App* firmware, const Global& global, Action& action);
void add_firmware_store(CLI::App* firmware, const Global& global, Action& action);
void add_firmware_load(CLI::App* firmware, const Global& global, Action& action);

/// "device: verified and pinned by the kernel".
[[nodiscard]] const char* source_words(const ModelInfo& m);

}  // namespace m4ctl
