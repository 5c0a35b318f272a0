// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>

#include "adapters/adapter.hpp"
#include "adapters/match.hpp"
#include "commands.hpp"

/// What the commands under "adapter" that need no service share.
namespace m4ctl {

void add_adapter_import(CLI::App* adapter, const Global& global, Action& action);
void add_adapter_inspect(CLI::App* adapter, const Global& global, Action& action);

/// What an adapter is, and what each pair does; with a match, how it fits. `norms` are
/// delta_norms(); `base_bytes` of the part, 0: not known.
struct AdapterReport {
    const m4::firmware::Adapter& adapter;
    std::span<const double> norms;
    const m4::firmware::AdapterMatch* match = nullptr;
    std::uint64_t file_bytes = 0;
    std::uint64_t base_bytes = 0;
};
[[nodiscard]] nlohmann::json to_json(const AdapterReport& report);
/// "12 pairs, rank 4 to 8".
[[nodiscard]] std::string pairs_text(const m4::firmware::Adapter& adapter);
/// "0.8 MiB, 1.2 % of its base".
[[nodiscard]] std::string share_text(const AdapterReport& report);
/// How it is bound, or how to bind it.
[[nodiscard]] std::string base_text(const m4::firmware::Adapter& adapter);

}  // namespace m4ctl
