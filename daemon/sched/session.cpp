// SPDX-License-Identifier: MIT
#include "sched/session.hpp"

namespace m4::sched {

bool Session::append(std::span<const std::uint32_t> ids) {
    if (ids.size() > capacity - tokens.size()) {
        return false;
    }
    tokens.insert(tokens.end(), ids.begin(), ids.end());
    return true;
}

void Session::truncate(std::uint32_t position) {
    tokens.resize(position);
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
