// SPDX-License-Identifier: MIT
// m4ctl adapter check, add, list, publish, unpublish, rm, gc: adapters and the service.
#include "adapter_service.hpp"

#include <charconv>
#include <nlohmann/json.hpp>
#include <span>

#include "adapter_args.hpp"
#include "print.hpp"

namespace m4ctl {

namespace {

using nlohmann::json;

constexpr std::size_t kDigestColumns = 8;

json digest_json(const m4_adapter_id* id) {
    return id == nullptr ? json() : json(hex_of(*id));
}

json report_json(const m4_adapter_report& r) {
    return {{"accepted", r.accepted != 0},
            {"kept", r.kept != 0},
            {"reason", r.reason},
            {"digest", hex_of(r.id)},
            {"name", r.name},
            {"task", r.task},
            {"prompt_template", r.prompt_template},
            {"base_name", r.base_name},
            {"architecture", r.architecture},
            {"source", r.source},
            {"base", digest_json(r.base)},
            {"present", digest_json(r.present)},
            {"probed", digest_json(r.probed)},
            {"image", digest_json(r.image)},
            {"part", r.part},
            {"pairs", r.pairs},
            {"matched", r.matched},
            {"acting", r.acting},
            {"rank", r.rank},
            {"head", r.head != 0},
            {"labels", r.labels},
            {"bytes", r.bytes},
            {"device_bytes", r.device_bytes},
            {"unmatched", std::vector<std::string>(r.unmatched, r.unmatched + r.unmatched_count)}};
}

std::string base_words(const m4_adapter_report& r) {
    if (r.base == nullptr) {
        return "not bound to one";
    }
    const std::string name = *r.base_name == '\0' ? "" : std::string(", ") + r.base_name;
    return hex_of(*r.base) + name;
}

void print_report(const m4_adapter_report& r) {
    std::vector<std::pair<std::string, std::string>> rows = {
        {r.accepted != 0 ? "accepted" : "REFUSED", r.reason},
        {"name", *r.name == '\0' ? "not read" : r.name},
        {"digest", hex_of(r.id)},
    };
    const auto add = [&](const char* what, const std::string& text) {
        if (!text.empty()) {
            rows.emplace_back(what, text);
        }
    };
    add("task", r.task);
    add("template", r.prompt_template);
    if (*r.name != '\0') {
        add("base wanted", base_words(r));
        add("base present", r.present == nullptr ? "none of the image's" : hex_of(*r.present));
        add("made of", r.source);
        add("part", r.part);
        add("matrices", std::to_string(r.pairs) + ", " + std::to_string(r.matched) +
                            " in the image, " + std::to_string(r.acting) + " changed; rank " +
                            std::to_string(r.rank));
        add("head", r.head == 0 ? "none" : std::to_string(r.labels) + " labels");
    }
    add("size", size_text(r.bytes) + ", " + size_text(r.device_bytes) +
                    " of the device's memory while it is used");
    add("kept", r.kept != 0 ? "yes" : "no");
    for (std::size_t i = 0; i < r.unmatched_count; ++i) {
        add("without place", r.unmatched[i]);
    }
    print_pairs(rows);
}

int bring(const Global& global, const std::string& path, bool keep) {
    const Client client = connect(global);
    const ServiceReport report = bring_adapter(client, path, keep);
    if (global.json) {
        print_json(report_json(*report));
    } else {
        print_report(*report);
    }
    if (report->accepted == 0) {
        throw refusal(path, *report);
    }
    return kExitOk;
}

/// "3 d", "5 h", "10 min", "9 s": at most six columns.
std::string idle_text(std::uint64_t seconds) {
    constexpr std::uint64_t kDay = 86'400;
    constexpr std::uint64_t kMostDays = 9'999;
    if (seconds >= kDay) {
        return std::to_string(std::min(seconds / kDay, kMostDays)) + " d";
    }
    if (seconds >= 3600) {
        return std::to_string(seconds / 3600) + " h";
    }
    return seconds >= 60 ? std::to_string(seconds / 60) + " min" : std::to_string(seconds) + " s";
}

json entry_json(const m4_adapter_entry& e) {
    return {{"digest", hex_of(e.id)}, {"name", e.name},
            {"task", e.task},         {"part", e.part},
            {"uid", e.uid},           {"bytes", e.bytes},
            {"rank", e.rank},         {"pairs", e.pairs},
            {"head", e.head != 0},    {"published", e.published != 0},
            {"sessions", e.sessions}, {"resident", e.resident != 0},
            {"unused_s", e.unused_s}};
}

void print_entries(std::span<const m4_adapter_entry> entries, const m4_adapter_usage& usage) {
    std::vector<std::vector<std::string>> rows;
    for (const m4_adapter_entry& e : entries) {
        const bool fits = e.part[0] != '\0';
        rows.push_back({hex_of(e.id).substr(0, kDigestColumns), clip(printable(e.name, true), 12),
                        fits ? clip(printable(e.part, true), 8) : "-", size_text(e.bytes),
                        clip(std::to_string(e.uid), 7),
                        std::to_string(std::min(e.sessions, 9'999U)),
                        e.sessions != 0 ? "in use" : idle_text(e.unused_s),
                        !fits              ? "orphan"
                        : e.published != 0 ? "public"
                                           : "own",
                        e.resident != 0 ? "yes" : ""});
    }
    print_table({{"DIGEST"},
                 {"NAME"},
                 {"PART"},
                 {"SIZE", true},
                 {"UID", true},
                 {"USES", true},
                 {"IDLE", true},
                 {"STATE"},
                 {"MEM"}},
                rows);
    print_raw(size_text(usage.used_bytes) + " kept, of " + size_text(usage.quota_bytes) +
              " for each user" + (usage.truncated != 0 ? "; there are more" : "") + "\n");
}

int list(const Global& global) {
    const Client client = connect(global);
    m4_adapter_entry* raw = nullptr;
    std::size_t count = 0;
    m4_adapter_usage usage = M4_INIT(m4_adapter_usage);
    check(m4_adapter_list(client.get(), &raw, &count, &usage), client.get());
    const Array<m4_adapter_entry> owned(raw);
    const std::span<const m4_adapter_entry> entries(raw, count);
    if (!global.json) {
        print_entries(entries, usage);
        return kExitOk;
    }
    json all = json::array();
    for (const m4_adapter_entry& entry : entries) {
        all.push_back(entry_json(entry));
    }
    print_json({{"adapters", std::move(all)},
                {"used_bytes", usage.used_bytes},
                {"quota_bytes", usage.quota_bytes},
                {"truncated", usage.truncated != 0}});
    return kExitOk;
}

/// What was done to one adapter.
int tell(const Global& global, const m4_adapter_id& id, const char* key, bool value,
         const char* words) {
    if (global.json) {
        print_json({{"digest", hex_of(id)}, {key, value}});
    } else {
        print_raw(hex_of(id) + " " + words + "\n");
    }
    return kExitOk;
}

int publish(const Global& global, const std::string& digits, bool published) {
    const Client client = connect(global);
    const m4_adapter_id id = find_adapter(client, digits);
    check(m4_adapter_publish(client.get(), &id, published ? 1 : 0), client.get());
    return tell(global, id, "published", published,
                published ? "is everybody's to use" : "is its owner's alone");
}

int remove(const Global& global, const std::string& digits) {
    const Client client = connect(global);
    const m4_adapter_id id = find_adapter(client, digits);
    check(m4_adapter_remove(client.get(), &id), client.get());
    return tell(global, id, "removed", true, "is kept no more");
}

/// "90", "90s", "15m", "12h", "30d", "4w" in seconds.
std::uint64_t parse_duration(const std::string& text) {
    constexpr std::uint64_t kMost = 1'000'000'000;
    std::uint64_t count = 0;
    const char* const end = text.data() + text.size();
    const auto [unit, error] = std::from_chars(text.data(), end, count);
    const std::string_view rest(unit, static_cast<std::size_t>(end - unit));
    std::uint64_t seconds = 0;
    if (rest.empty() || rest == "s") {
        seconds = 1;
    } else if (rest == "m") {
        seconds = 60;
    } else if (rest == "h") {
        seconds = 3600;
    } else if (rest == "d") {
        seconds = 86'400;
    } else if (rest == "w") {
        seconds = 604'800;
    }
    if (error != std::errc{} || seconds == 0 || count > kMost) {
        throw Failure(kExitUsage, "--unused takes a number of s, m, h, d or w: 30d");
    }
    return count * seconds;
}

int collect(const Global& global, const std::string& unused) {
    const std::uint64_t unused_s = unused.empty() ? UINT64_MAX : parse_duration(unused);
    const Client client = connect(global);
    std::uint32_t removed = 0;
    std::uint64_t bytes = 0;
    check(m4_adapter_collect(client.get(), unused_s, &removed, &bytes), client.get());
    if (global.json) {
        print_json({{"removed", removed}, {"bytes", bytes}});
    } else {
        print_raw(std::to_string(removed) + " removed, " + size_text(bytes) + "\n");
    }
    return kExitOk;
}

/// A command over one file or one digest.
template <typename Run>
void add_one(CLI::App* adapter, Action& action, const char* name, const char* help,
             const char* argument, const char* type, Run run) {
    CLI::App* command = adapter->add_subcommand(name, help);
    auto value = std::make_shared<std::string>();
    command
        ->add_option(argument, *value,
                     type == std::string("FILE") ? "An adapter, NAME.m4ad"
                                                 : "Its digest, or 8 digits or more of it")
        ->required()
        ->type_name(type);
    command->callback([&action, value, run] { action = [value, run] { return run(*value); }; });
}

}  // namespace

void add_adapter_service(CLI::App* adapter, const Global& global, Action& action) {
    add_one(adapter, action, "check", "Would the service take it, and why not", "file", "FILE",
            [&global](const std::string& path) { return bring(global, path, false); });
    add_one(adapter, action, "add", "Check it and keep it for this user", "file", "FILE",
            [&global](const std::string& path) { return bring(global, path, true); });
    CLI::App* command = adapter->add_subcommand("list", "Adapters that you may use");
    command->callback([&] { action = [&global] { return list(global); }; });
    add_one(adapter, action, "publish", "Let everybody use it", "digest", "DIGEST",
            [&global](const std::string& digits) { return publish(global, digits, true); });
    add_one(adapter, action, "unpublish", "Let its owner alone use it", "digest", "DIGEST",
            [&global](const std::string& digits) { return publish(global, digits, false); });
    add_one(adapter, action, "rm", "Keep it no more", "digest", "DIGEST",
            [&global](const std::string& digits) { return remove(global, digits); });

    command = adapter->add_subcommand("gc", "Remove those that fit the image no more");
    auto unused = std::make_shared<std::string>();
    command->add_option("--unused", *unused, "And those that nobody asked for in so long: 30d")
        ->type_name("DURATION");
    command->callback(
        [&, unused] { action = [&global, unused] { return collect(global, *unused); }; });
}

}  // namespace m4ctl
