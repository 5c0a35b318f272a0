// SPDX-License-Identifier: MIT
#include "adapter_args.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <vector>

#include "lib/file.hpp"

namespace m4ctl {

namespace {

constexpr std::size_t kLeastDigits = 8;
constexpr std::size_t kDigits = 2 * sizeof(m4_adapter_id);
constexpr char kPlace[] = "{prompt}";

bool is_digits(const std::string& text) {
    return text.size() >= kLeastDigits && text.size() <= kDigits &&
           std::all_of(text.begin(), text.end(),
                       [](unsigned char c) { return std::isxdigit(c) != 0; });
}

}  // namespace

std::string hex_of(const m4_adapter_id& id) {
    static constexpr char kHex[] = "0123456789abcdef";
    std::string text;
    for (const std::uint8_t byte : id.sha256) {
        text += kHex[byte >> 4U];
        text += kHex[byte & 15U];
    }
    return text;
}

ServiceReport bring_adapter(const Client& client, const std::string& path, bool keep) {
    const m4::firmware::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file) {
        throw system_failure(path);
    }
    m4_adapter_add_options options = M4_INIT(m4_adapter_add_options);
    options.keep = keep ? 1 : 0;
    m4_adapter_report* raw = nullptr;
    const int code = m4_adapter_add(client.get(), file.get(), &options, &raw);
    ServiceReport report(raw);
    if (code != M4_E_ADAPTER) {
        check(code, client.get());
    }
    if (report == nullptr) {
        throw Failure(kExitRefused, path + ": " + words_of(client.get(), code));
    }
    return report;
}

Failure refusal(const std::string& path, const m4_adapter_report& report) {
    std::string words = path + ": " + report.reason;
    // The cause may name them already.
    const auto add = [&](const char* what, const m4_adapter_id* id) {
        const std::string digest = id == nullptr ? "" : hex_of(*id);
        if (!digest.empty() && words.find(digest) == std::string::npos) {
            words += std::string("; ") + what + " " + digest;
        }
    };
    add("it is for the base with source digest", report.base);
    add("the image's part has", report.present);
    return {kExitRefused, words};
}

m4_adapter_id find_adapter(const Client& client, const std::string& digits) {
    if (!is_digits(digits)) {
        throw Failure(kExitUsage, "'" + digits + "' is no digest: 8 to 64 hex digits");
    }
    std::string wanted = digits;
    std::transform(wanted.begin(), wanted.end(), wanted.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (wanted.size() == kDigits) {
        m4_adapter_id id = {};
        for (std::size_t i = 0; i < sizeof id.sha256; ++i) {
            id.sha256[i] =
                static_cast<std::uint8_t>(std::stoul(wanted.substr(2 * i, 2), nullptr, 16));
        }
        return id;
    }
    m4_adapter_entry* entries = nullptr;
    std::size_t count = 0;
    m4_adapter_usage usage = M4_INIT(m4_adapter_usage);
    check(m4_adapter_list(client.get(), &entries, &count, &usage), client.get());
    const Array<m4_adapter_entry> owned(entries);
    std::optional<m4_adapter_id> found;
    for (std::size_t i = 0; i < count; ++i) {
        const std::string name = hex_of(entries[i].id);
        if (!name.starts_with(wanted)) {
            continue;
        }
        if (found && hex_of(*found) != name) {
            throw Failure(kExitFailed, "several adapters' digests begin with " + wanted);
        }
        found = entries[i].id;
    }
    if (usage.truncated != 0) {
        throw Failure(kExitFailed, "there are too many adapters to list: all 64 digits are needed");
    }
    if (!found) {
        throw Failure(kExitFailed, "no adapter's digest begins with " + wanted);
    }
    return *found;
}

std::optional<ChosenAdapter> choose_adapter(const Client& client, const std::string& named) {
    if (named.empty()) {
        return std::nullopt;
    }
    if (is_digits(named)) {
        return ChosenAdapter{find_adapter(client, named), {}};
    }
    const ServiceReport report = bring_adapter(client, named, false);
    if (report->accepted == 0) {
        throw refusal(named, *report);
    }
    return ChosenAdapter{report->id, report->prompt_template};
}

CLI::Option* add_adapter_option(CLI::App& command, std::string& named) {
    return command.add_option("--adapter", named, "With this adapter: a file, or a digest's begin")
        ->type_name("FILE|DIGEST")
        ->check([](const std::string& text) {
            return text.empty() ? "a file or a digest is needed" : "";
        });
}

std::string filled(const std::string& prompt_template, const std::string& prompt) {
    const std::size_t at = prompt_template.find(kPlace);
    if (at == std::string::npos) {
        return prompt;
    }
    std::string text = prompt_template;
    return text.replace(at, sizeof kPlace - 1, prompt);
}

}  // namespace m4ctl
