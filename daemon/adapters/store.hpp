// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "check.hpp"
#include "sched/request.hpp"

namespace m4::adapters {

/// What a user may have here.
struct Quota {
    /// Kept, and lent to his connections: all of it is memory of ours.
    std::uint64_t bytes_per_uid = 256ULL << 20;
    std::size_t count_per_uid = 256;
    /// Lent to a connection, beside what is kept.
    std::size_t count_per_client = 16;
};

/// Adapters that were accepted, by digest: who brought them, who may use them. One of
/// another user is no adapter at all unless it is published. Loop thread only.
class Store {
   public:
    using Digest = sched::AdapterDigest;
    using Source = std::shared_ptr<const sched::AdapterSource>;

    explicit Store(const Quota& quota) : quota_(quota) {}

    struct User {
        uid_t uid = 0;
        sched::ClientId client = 0;
        std::uint64_t now_s = 0;  ///< of a clock that does not jump
    };
    struct Row {
        Digest digest{};
        const Report* report = nullptr;
        uid_t uid = 0;  ///< of who brought it; of several, the first
        bool published = false;
        std::uint64_t unused_s = 0;
    };
    struct Removed {
        std::uint32_t count = 0;
        std::uint64_t bytes = 0;
    };

    /// For the user (`keep`), or for his connection alone. Returns why not.
    [[nodiscard]] std::optional<std::string> add(const User& user, const Report& report,
                                                 const Source& source, bool keep);
    /// Null: he has none such.
    [[nodiscard]] Source find(const User& user, const Digest& digest);
    /// What he may use; for root all.
    [[nodiscard]] std::vector<Row> list(const User& user) const;
    /// False: there is none. Root takes it from everybody.
    bool remove(const User& user, const Digest& digest);
    bool publish(const Digest& digest, bool published);
    /// His, unused for `unused_s`; root: anybody's.
    Removed collect(const User& user, std::uint64_t unused_s);
    /// The connection is gone, and what was lent to it.
    void forget(sched::ClientId client);
    /// Of what he keeps and what his connections have.
    [[nodiscard]] std::uint64_t bytes_of(uid_t uid) const;
    [[nodiscard]] std::uint64_t bytes() const;
    [[nodiscard]] std::size_t count() const { return entries_.size(); }
    [[nodiscard]] const Quota& quota() const { return quota_; }

   private:
    struct Entry {
        Report report;
        Source source;
        std::vector<uid_t> owners;
        std::map<sched::ClientId, uid_t> clients;  ///< to whom it is lent
        bool published = false;
        std::uint64_t used_s = 0;
    };

    [[nodiscard]] static bool may_use(const Entry& entry, const User& user);
    [[nodiscard]] static bool counts_for(const Entry& entry, uid_t uid);
    [[nodiscard]] std::optional<std::string> over_count(const User& user, bool keep) const;
    void drop_unowned();

    Quota quota_;
    std::map<Digest, Entry> entries_;
};

}  // namespace m4::adapters
