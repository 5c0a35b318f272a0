// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "handles.hpp"

namespace m4ctl {

using ServiceReport = std::unique_ptr<m4_adapter_report, Closer<m4_adapter_report_free>>;

/// 64 hex digits.
[[nodiscard]] std::string hex_of(const m4_adapter_id& id);

/// Brings a file to the service. Throws where there is no report; a refused adapter has
/// one, whose `accepted` is 0.
[[nodiscard]] ServiceReport bring_adapter(const Client& client, const std::string& path, bool keep);

/// Of an adapter that was refused: the cause, and which base is wanted and which present.
[[nodiscard]] Failure refusal(const std::string& path, const m4_adapter_report& report);

/// The adapter that 8 to 64 digits begin the name of, alone among those that the caller
/// may use. Throws Failure.
[[nodiscard]] m4_adapter_id find_adapter(const Client& client, const std::string& digits);

/// What `--adapter` names.
struct ChosenAdapter {
    m4_adapter_id id;
    std::string prompt_template;  ///< of a file; "" of a digest
};

/// `--adapter` FILE or DIGEST: 8 to 64 hex digits are a digest, all else a file, which
/// the service then has for this connection. Empty: none.
[[nodiscard]] std::optional<ChosenAdapter> choose_adapter(const Client& client,
                                                          const std::string& named);
/// As options of the library take it.
[[nodiscard]] inline const m4_adapter_id* id_or_null(const std::optional<ChosenAdapter>& adapter) {
    return adapter ? &adapter->id : nullptr;
}

CLI::Option* add_adapter_option(CLI::App& command, std::string& named);

/// The prompt in the place that the template has for it.
[[nodiscard]] std::string filled(const std::string& prompt_template, const std::string& prompt);

}  // namespace m4ctl
