// SPDX-License-Identifier: MIT
#include "adapter.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "boundary.hpp"
#include "options.hpp"
#include "text.hpp"

using namespace m4::client;
namespace wire = m4::wire;
namespace protocol = m4::protocol;
using m4::UniqueFd;
using protocol::Encoder;
using protocol::span_of;
using protocol::text_of;

namespace {

using Digest = flatbuffers::Vector<std::uint8_t>;
static_assert(sizeof(m4_adapter_id) == protocol::kDigestBytes);

/// None where it is absent.
std::optional<m4_adapter_id> id_of(Connection& connection, const Digest* digest) {
    const auto bytes = span_of(digest);
    if (bytes.empty()) {
        return std::nullopt;
    }
    if (bytes.size() != protocol::kDigestBytes) {
        connection.fail(M4_E_PROTOCOL, "the service sent a digest that is not of 32 bytes");
    }
    m4_adapter_id id = {};
    std::copy(bytes.begin(), bytes.end(), id.sha256);
    return id;
}

m4_adapter_id required_id(Connection& connection, const Digest* digest) {
    const auto id = id_of(connection, digest);
    if (!id) {
        connection.fail(M4_E_PROTOCOL, "the service sent an adapter without its digest");
    }
    return *id;
}

/// What the caller gets, with the memory its pointers lead to.
struct OwnedReport : m4_adapter_report {
    OwnedReport(Connection& connection, const wire::AdapterReply& reply) : m4_adapter_report{} {
        size = sizeof(m4_adapter_report);
        id = required_id(connection, reply.digest());
        accepted = reply.accepted() ? 1 : 0;
        kept = reply.kept() ? 1 : 0;
        head = reply.head() ? 1 : 0;
        labels = reply.labels();
        pairs = reply.pairs();
        matched = reply.matched();
        acting = reply.acting();
        rank = reply.rank();
        bytes = reply.bytes();
        device_bytes = reply.device_bytes();
        digests_[0] = id_of(connection, reply.base());
        digests_[1] = id_of(connection, reply.present());
        digests_[2] = id_of(connection, reply.probed());
        digests_[3] = id_of(connection, reply.image());
        keep_texts(reply);
        const auto* faults = reply.unmatched();
        for (flatbuffers::uoffset_t i = 0; faults != nullptr && i < faults->size(); ++i) {
            faults_.emplace_back(text_of(faults->Get(i)));
        }
        point();
    }

   private:
    void keep_texts(const wire::AdapterReply& reply) {
        for (const auto* text :
             {reply.reason(), reply.name(), reply.task(), reply.prompt_template(),
              reply.base_name(), reply.architecture(), reply.source(), reply.part()}) {
            texts_.emplace_back(text_of(text));
        }
    }

    /// Once nothing moves any more.
    void point() {
        const auto digest = [&](std::size_t i) { return digests_[i] ? &*digests_[i] : nullptr; };
        base = digest(0);
        present = digest(1);
        probed = digest(2);
        image = digest(3);
        const char** const fields[] = {&reason,    &name,         &task,   &prompt_template,
                                       &base_name, &architecture, &source, &part};
        for (std::size_t i = 0; i < std::size(fields); ++i) {
            *fields[i] = texts_[i].c_str();
        }
        for (const std::string& fault : faults_) {
            fault_pointers_.push_back(fault.c_str());
        }
        unmatched = fault_pointers_.data();
        unmatched_count = fault_pointers_.size();
    }

    std::optional<m4_adapter_id> digests_[4];
    std::vector<std::string> texts_;
    std::vector<std::string> faults_;
    std::vector<const char*> fault_pointers_;
};

m4_adapter_entry entry_of(Connection& connection, const wire::AdapterEntry& from) {
    m4_adapter_entry entry = {};
    entry.id = required_id(connection, from.digest());
    copy_text(entry.name, text_of(from.name()));
    copy_text(entry.task, text_of(from.task()));
    copy_text(entry.part, text_of(from.part()));
    entry.bytes = from.bytes();
    entry.unused_s = from.unused_s();
    entry.uid = from.uid();
    entry.rank = from.rank();
    entry.pairs = from.pairs();
    entry.head = from.head() ? 1 : 0;
    entry.published = from.published() ? 1 : 0;
    entry.sessions = from.sessions();
    entry.resident = from.resident() ? 1 : 0;
    return entry;
}

struct AdapterFile {
    UniqueFd fd;  ///< a sealed memfd of ours
    std::uint64_t size_bytes = 0;
};

/// What a caller's descriptor leads to, where nobody can change it.
AdapterFile sealed(int fd) {
    struct stat info = {};
    if (::fstat(fd, &info) != 0) {
        throw invalid("the adapter's descriptor: " + std::generic_category().message(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        throw invalid("the adapter's descriptor is of no regular file");
    }
    const auto size_bytes = static_cast<std::uint64_t>(info.st_size);
    if (size_bytes > protocol::kMaxAdapterBytes) {
        throw Error(M4_E_TOO_LARGE,
                    "an adapter of " + std::to_string(size_bytes) + " bytes is over 256 MiB");
    }
    if (!protocol::is_sealed(fd)) {
        return {protocol::copy_to_sealed_memfd(fd, size_bytes), size_bytes};
    }
    UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) {
        throw system_error("fcntl", errno);
    }
    return {std::move(copy), size_bytes};
}

Connection& adapters_of(m4_client& client, const char* call) {
    client.connection->require_minor(protocol::kMinorOfAdapters, call);
    return *client.connection;
}

}  // namespace

namespace m4::client {

flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> put_adapter(const Connection& connection,
                                                                   Encoder& encoder,
                                                                   const m4_adapter_id* adapter) {
    if (adapter == nullptr) {
        return {};
    }
    connection.require_minor(protocol::kMinorOfAdapters, "an adapter");
    return encoder.builder().CreateVector(adapter->sha256, sizeof adapter->sha256);
}

}  // namespace m4::client

int m4_adapter_add(m4_client* client, int fd, const struct m4_adapter_add_options* options,
                   struct m4_adapter_report** report) {
    return guarded(client, [&] {
        const m4_adapter_add_options known = read_options(options, "m4_adapter_add_options");
        check_pointer(report, "report");
        if (known.keep > 1) {
            throw invalid("keep is neither 0 nor 1");
        }
        Connection& connection = adapters_of(*client, "m4_adapter_add");
        AdapterFile file = sealed(fd);
        const auto& reply = connection.call<wire::AdapterReply>([&](Encoder& encoder) {
            const auto bulk = encoder.put_memfd(std::move(file.fd), file.size_bytes);
            return wire::CreateAdapterAddRequest(encoder.builder(), bulk, known.keep != 0);
        });
        auto made = std::make_unique<OwnedReport>(connection, reply);
        const bool accepted = made->accepted != 0;
        *report = made.release();
        if (!accepted) {
            throw Error(M4_E_ADAPTER, (*report)->reason);
        }
        return M4_OK;
    });
}

void m4_adapter_report_free(struct m4_adapter_report* report) {
    delete static_cast<OwnedReport*>(report);
}

int m4_adapter_list(m4_client* client, struct m4_adapter_entry** entries, size_t* count,
                    struct m4_adapter_usage* usage) {
    return guarded(client, [&] {
        check_pointer(entries, "entries");
        check_pointer(count, "count");
        if (usage != nullptr) {
            check_output(usage, "m4_adapter_usage");
        }
        Connection& connection = adapters_of(*client, "m4_adapter_list");
        const auto& reply = connection.call<wire::AdapterListReply>(
            [](Encoder& encoder) { return wire::CreateAdapterListRequest(encoder.builder()); });
        const std::size_t found = reply.entries() == nullptr ? 0 : reply.entries()->size();
        auto list = caller_array<m4_adapter_entry>(found);
        for (std::size_t i = 0; i < found; ++i) {
            list[i] =
                entry_of(connection, *reply.entries()->Get(static_cast<flatbuffers::uoffset_t>(i)));
        }
        if (usage != nullptr) {
            m4_adapter_usage all = {};
            all.used_bytes = reply.used_bytes();
            all.quota_bytes = reply.quota_bytes();
            all.truncated = reply.truncated() ? 1 : 0;
            write_struct(usage, all);
        }
        *entries = list.release();
        *count = found;
        return M4_OK;
    });
}

int m4_adapter_remove(m4_client* client, const struct m4_adapter_id* id) {
    return guarded(client, [&] {
        check_pointer(id, "id");
        Connection& connection = adapters_of(*client, "m4_adapter_remove");
        (void)connection.call<wire::OkReply>([&](Encoder& encoder) {
            const auto digest = put_adapter(connection, encoder, id);
            return wire::CreateAdapterRemoveRequest(encoder.builder(), digest);
        });
        return M4_OK;
    });
}

int m4_adapter_publish(m4_client* client, const struct m4_adapter_id* id, uint32_t published) {
    return guarded(client, [&] {
        check_pointer(id, "id");
        if (published > 1) {
            throw invalid("published is neither 0 nor 1");
        }
        Connection& connection = adapters_of(*client, "m4_adapter_publish");
        (void)connection.call<wire::OkReply>([&](Encoder& encoder) {
            const auto digest = put_adapter(connection, encoder, id);
            return wire::CreateAdapterPublishRequest(encoder.builder(), digest, published != 0);
        });
        return M4_OK;
    });
}

int m4_adapter_collect(m4_client* client, uint64_t unused_s, uint32_t* removed, uint64_t* bytes) {
    return guarded(client, [&] {
        Connection& connection = adapters_of(*client, "m4_adapter_collect");
        const auto& reply = connection.call<wire::AdapterCollectReply>([&](Encoder& encoder) {
            return wire::CreateAdapterCollectRequest(encoder.builder(), unused_s);
        });
        if (removed != nullptr) {
            *removed = reply.removed();
        }
        if (bytes != nullptr) {
            *bytes = reply.bytes();
        }
        return M4_OK;
    });
}
