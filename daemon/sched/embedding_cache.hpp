// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "sched/request.hpp"

namespace m4::sched {

/// Results of inputs, so that none is encoded twice for the same client; nobody sees,
/// or learns by time, what another client sent. The least recently used go first. Any
/// thread.
class EmbeddingCache {
   public:
    static constexpr std::size_t kBytesAClient = 4U << 20U;

    using Values = std::shared_ptr<const std::vector<float>>;

    /// Null: it is not there.
    [[nodiscard]] Values find(ClientId client, const InputKey& key);
    /// What is over a quarter of a client's room is not kept, nor what comes of a client
    /// that was forgotten.
    void keep(ClientId client, const InputKey& key, std::vector<float> values);
    /// From here on there is such a client.
    void remember(ClientId client);
    void forget(ClientId client);

   private:
    struct Entry {
        InputKey key{};
        Values values;
    };
    struct Shelf {
        std::list<Entry> entries;  ///< the most recently used first
        std::map<InputKey, std::list<Entry>::iterator> by_key;
        std::size_t bytes = 0;
    };

    std::mutex mutex_;
    std::map<ClientId, Shelf> shelves_;
};

}  // namespace m4::sched
