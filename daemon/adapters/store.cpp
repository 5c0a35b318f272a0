// SPDX-License-Identifier: MIT
#include "store.hpp"

#include <algorithm>

namespace m4::adapters {

namespace {

bool has(const std::vector<uid_t>& owners, uid_t uid) {
    return std::find(owners.begin(), owners.end(), uid) != owners.end();
}

}  // namespace

/// Why he may have no more of them; nothing: he may.
std::optional<std::string> Store::over_count(const User& user, bool keep) const {
    const auto count = static_cast<std::size_t>(
        std::count_if(entries_.begin(), entries_.end(), [&](const auto& entry) {
            return keep ? has(entry.second.owners, user.uid)
                        : entry.second.clients.count(user.client) != 0;
        }));
    if (keep && count >= quota_.count_per_uid) {
        return "a user may keep " + std::to_string(quota_.count_per_uid) + " adapters";
    }
    if (!keep && count >= quota_.count_per_client) {
        return "a connection may bring " + std::to_string(quota_.count_per_client) +
               " adapters that are not kept";
    }
    return std::nullopt;
}

std::optional<std::string> Store::add(const User& user, const Report& report, const Source& source,
                                      bool keep) {
    const auto known = entries_.find(report.digest);
    const bool has_so =
        known != entries_.end() && (keep ? has(known->second.owners, user.uid)
                                         : known->second.clients.count(user.client) != 0);
    if (!has_so) {
        if (auto refusal = over_count(user, keep)) {
            return refusal;
        }
    }
    if (known == entries_.end() || !counts_for(known->second, user.uid)) {
        const std::uint64_t used = bytes_of(user.uid);
        if (report.bytes > quota_.bytes_per_uid - std::min(used, quota_.bytes_per_uid)) {
            return "it has " + std::to_string(report.bytes) + " bytes, and the user's adapters " +
                   std::to_string(used) + " of the " + std::to_string(quota_.bytes_per_uid) +
                   " that they may have";
        }
    }
    Entry& entry = entries_[report.digest];
    if (entry.source == nullptr) {
        entry.report = report;
        entry.source = source;
    }
    entry.used_s = user.now_s;
    if (!keep) {
        entry.clients.emplace(user.client, user.uid);
    } else if (!has(entry.owners, user.uid)) {
        entry.owners.push_back(user.uid);
    }
    return std::nullopt;
}

bool Store::counts_for(const Entry& entry, uid_t uid) {
    return has(entry.owners, uid) ||
           std::any_of(entry.clients.begin(), entry.clients.end(),
                       [&](const auto& client) { return client.second == uid; });
}

bool Store::may_use(const Entry& entry, const User& user) {
    return entry.published || has(entry.owners, user.uid) || entry.clients.count(user.client) != 0;
}

Store::Source Store::find(const User& user, const Digest& digest) {
    const auto found = entries_.find(digest);
    if (found == entries_.end() || !may_use(found->second, user)) {
        return nullptr;
    }
    found->second.used_s = user.now_s;
    return found->second.source;
}

std::vector<Store::Row> Store::list(const User& user) const {
    std::vector<Row> rows;
    for (const auto& [digest, entry] : entries_) {
        if (user.uid == 0 || may_use(entry, user)) {
            uid_t brought = user.uid;
            if (!counts_for(entry, user.uid)) {
                brought = !entry.owners.empty()    ? entry.owners.front()
                          : !entry.clients.empty() ? entry.clients.begin()->second
                                                   : 0;
            }
            rows.push_back({digest, &entry.report, brought, entry.published,
                            user.now_s - std::min(user.now_s, entry.used_s)});
        }
    }
    return rows;
}

bool Store::remove(const User& user, const Digest& digest) {
    const auto found = entries_.find(digest);
    if (found == entries_.end()) {
        return false;
    }
    Entry& entry = found->second;
    if (user.uid == 0) {
        entries_.erase(found);
        return true;
    }
    const bool had = std::erase(entry.owners, user.uid) + entry.clients.erase(user.client) != 0;
    drop_unowned();
    return had;
}

bool Store::publish(const Digest& digest, bool published) {
    const auto found = entries_.find(digest);
    if (found == entries_.end()) {
        return false;
    }
    found->second.published = published;
    drop_unowned();
    return true;
}

Store::Removed Store::collect(const User& user, std::uint64_t unused_s) {
    Removed removed;
    for (auto at = entries_.begin(); at != entries_.end();) {
        Entry& entry = at->second;
        const bool old = user.now_s - std::min(user.now_s, entry.used_s) >= unused_s;
        if (!old || entry.published || !entry.clients.empty() ||
            (user.uid != 0 && std::erase(entry.owners, user.uid) == 0)) {
            ++at;
            continue;
        }
        ++removed.count;
        removed.bytes += entry.report.bytes;
        at = user.uid == 0 || entry.owners.empty() ? entries_.erase(at) : std::next(at);
    }
    return removed;
}

void Store::forget(sched::ClientId client) {
    for (auto& [digest, entry] : entries_) {
        entry.clients.erase(client);
    }
    drop_unowned();
}

std::uint64_t Store::bytes_of(uid_t uid) const {
    std::uint64_t bytes = 0;
    for (const auto& [digest, entry] : entries_) {
        bytes += counts_for(entry, uid) ? entry.report.bytes : 0;
    }
    return bytes;
}

std::uint64_t Store::bytes() const {
    std::uint64_t bytes = 0;
    for (const auto& [digest, entry] : entries_) {
        bytes += entry.report.bytes;
    }
    return bytes;
}

void Store::drop_unowned() {
    std::erase_if(entries_, [](const auto& entry) {
        return entry.second.owners.empty() && entry.second.clients.empty() &&
               !entry.second.published;
    });
}

}  // namespace m4::adapters
