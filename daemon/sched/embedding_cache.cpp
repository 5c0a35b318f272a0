// SPDX-License-Identifier: MIT
#include "sched/embedding_cache.hpp"

#include <utility>

namespace m4::sched {
namespace {

/// Of a kept result beside its values.
constexpr std::size_t kEntryBytes = 256;

std::size_t bytes_of(const std::vector<float>& values) {
    return values.size() * sizeof(float) + kEntryBytes;
}

}  // namespace

EmbeddingCache::Values EmbeddingCache::find(ClientId client, const InputKey& key) {
    const std::lock_guard lock(mutex_);
    const auto shelf = shelves_.find(client);
    if (shelf == shelves_.end()) {
        return nullptr;
    }
    auto& [entries, by_key, bytes] = shelf->second;
    const auto found = by_key.find(key);
    if (found == by_key.end()) {
        return nullptr;
    }
    entries.splice(entries.begin(), entries, found->second);
    return found->second->values;
}

void EmbeddingCache::keep(ClientId client, const InputKey& key, std::vector<float> values) {
    if (bytes_of(values) > kBytesAClient / 4) {
        return;
    }
    const std::lock_guard lock(mutex_);
    const auto shelf = shelves_.find(client);
    if (shelf == shelves_.end()) {
        return;
    }
    auto& [entries, by_key, bytes] = shelf->second;
    if (by_key.contains(key)) {
        return;
    }
    bytes += bytes_of(values);
    entries.push_front({key, std::make_shared<const std::vector<float>>(std::move(values))});
    by_key.emplace(key, entries.begin());
    while (bytes > kBytesAClient) {
        bytes -= bytes_of(*entries.back().values);
        by_key.erase(entries.back().key);
        entries.pop_back();
    }
}

void EmbeddingCache::remember(ClientId client) {
    const std::lock_guard lock(mutex_);
    shelves_.try_emplace(client);
}

void EmbeddingCache::forget(ClientId client) {
    const std::lock_guard lock(mutex_);
    shelves_.erase(client);
}

}  // namespace m4::sched
