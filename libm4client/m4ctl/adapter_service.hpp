// SPDX-License-Identifier: MIT
#pragma once

#include "commands.hpp"

namespace m4ctl {

/// The commands under "adapter" that the service answers: check, add, list, publish,
/// unpublish, rm, gc.
void add_adapter_service(CLI::App* adapter, const Global& global, Action& action);

}  // namespace m4ctl
