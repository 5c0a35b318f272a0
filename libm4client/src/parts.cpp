// SPDX-License-Identifier: MIT
#include <algorithm>

#include "boundary.hpp"
#include "embed.hpp"
#include "text.hpp"

using namespace m4::client;
namespace wire = m4::wire;
using m4::protocol::Encoder;
using m4::protocol::text_of;

namespace m4::client {

std::vector<m4_part> parts_of(Connection& connection) {
    connection.require_minor(protocol::kMinorOfSenses, "m4_parts");
    const auto& reply = connection.call<wire::PartsReply>(
        [](Encoder& encoder) { return wire::CreatePartsRequest(encoder.builder()); });
    std::vector<m4_part> parts;
    const auto* entries = reply.entries();
    for (flatbuffers::uoffset_t i = 0; entries != nullptr && i < entries->size(); ++i) {
        const wire::PartEntry& entry = *entries->Get(i);
        m4_part part = {};
        copy_text(part.name, text_of(entry.name()));
        copy_text(part.kind, text_of(entry.kind()));
        copy_text(part.architecture, text_of(entry.architecture()));
        copy_text(part.modality, text_of(entry.modality()));
        copy_text(part.space, text_of(entry.space()));
        part.parameters = entry.parameters();
        part.embedding = entry.embedding();
        part.scores = entry.scores();
        part.labels = entry.labels();
        part.hidden_rows = entry.hidden_rows();
        part.hidden_columns = entry.hidden_columns();
        part.feature_rows = entry.feature_rows();
        part.feature_columns = entry.feature_columns();
        part.rate_hz = entry.rate_hz();
        parts.push_back(part);
    }
    return parts;
}

const m4_part& part_named(Connection& connection, const std::vector<m4_part>& parts,
                          const std::string& name) {
    const auto found = std::find_if(parts.begin(), parts.end(),
                                    [&](const m4_part& part) { return name == part.name; });
    if (found == parts.end()) {
        connection.fail(M4_E_PROTOCOL, "the service named a part it does not have");
    }
    return *found;
}

}  // namespace m4::client

int m4_parts(m4_client* client, struct m4_part** parts, size_t* count) {
    return guarded(client, [&] {
        check_pointer(parts, "parts");
        check_pointer(count, "count");
        const std::vector<m4_part> known = parts_of(*client->connection);
        auto array = caller_array<m4_part>(known.size());
        std::copy(known.begin(), known.end(), array.get());
        *count = known.size();
        *parts = array.release();
        return M4_OK;
    });
}
