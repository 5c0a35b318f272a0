// SPDX-License-Identifier: MIT
#include "sched/session.hpp"

#include <utility>

namespace m4::sched {

bool Session::append(std::span<const std::uint32_t> ids) {
    if (ids.size() > capacity - tokens.size()) {
        return false;
    }
    tokens.insert(tokens.end(), ids.begin(), ids.end());
    return true;
}

std::vector<engine::EmbeddedRow> Session::missing_rows(std::uint32_t count) const {
    const std::uint32_t first = sequence->length();
    std::vector<engine::EmbeddedRow> missing;
    for (auto at = rows.lower_bound(first); at != rows.end() && at->first < first + count; ++at) {
        missing.push_back({at->first - first, *at->second});
    }
    return missing;
}

void Session::append_rows(std::span<const float> values, std::uint32_t columns) {
    for (std::size_t at = 0; at < values.size(); at += columns) {
        const auto row = values.subspan(at, columns);
        rows.emplace(position(),
                     std::make_shared<const std::vector<float>>(row.begin(), row.end()));
        tokens.push_back(0);
    }
}

void Session::compute_with(std::shared_ptr<LoadedAdapter> wanted) {
    if (computed_with != wanted) {
        sequence->rewind(0);
        computed_with = std::move(wanted);
    }
}

void Session::truncate(std::uint32_t position) {
    tokens.resize(position);
    rows.erase(rows.lower_bound(position), rows.end());
    if (sequence->length() > position) {
        sequence->rewind(position);
    }
}

void Session::prepare_logits() {
    if (sequence->length() == position() && position() > 0) {
        sequence->rewind(position() - 1);
    }
}

}  // namespace m4::sched
