// SPDX-License-Identifier: MIT
// Adapters: packed for the engine once, whoever asks; and of a step no more of them
// than the device has memory for.
#include <algorithm>
#include <set>
#include <stdexcept>
#include <utility>

#include "sched/core.hpp"

namespace m4::sched {
namespace {

/// Kept packed though no session names them: so many, and as many times the pool's bytes.
constexpr std::size_t kRecent = 32;
constexpr std::uint64_t kRecentPools = 2;

/// No more than it takes once it is packed.
std::uint64_t least_bytes(const AdapterSource& source) {
    std::uint64_t bytes = 0;
    for (const engine::LowRankPair& pair : source.pairs) {
        bytes += pair.a.size() + pair.b.size();
    }
    return bytes;
}

}  // namespace

std::shared_ptr<LoadedAdapter> Core::load_adapter(const AdapterChoice& choice) {
    std::weak_ptr<LoadedAdapter>& known = adapters_[choice.source->digest];
    std::shared_ptr<LoadedAdapter> adapter = known.lock();
    if (adapter == nullptr) {
        adapter = std::make_shared<LoadedAdapter>();
        adapter->source = choice.source;
        adapter->packed = backend_->create_adapter(choice.source->pairs);
        known = adapter;
    }
    std::erase(recent_adapters_, adapter);
    recent_adapters_.push_front(adapter);
    std::uint64_t bytes = 0;
    for (const auto& recent : recent_adapters_) {
        bytes += recent->packed->bytes();
    }
    while (recent_adapters_.size() > 1 && (recent_adapters_.size() > kRecent ||
                                           bytes > kRecentPools * backend_->adapter_pool_bytes())) {
        bytes -= recent_adapters_.back()->packed->bytes();
        recent_adapters_.pop_back();
    }
    std::erase_if(adapters_, [](const auto& entry) { return entry.second.expired(); });
    return adapter;
}

bool Core::find_adapter(const ClientState& client, RequestId request, const AdapterChoice& choice,
                        std::shared_ptr<LoadedAdapter>& found) {
    if (choice.source == nullptr) {
        found = nullptr;
        return true;
    }
    const std::uint64_t room = backend_->adapter_pool_bytes();
    const auto too_large = [&](std::uint64_t bytes) {
        if (bytes > room) {
            fail(client.who.id, request, M4_E_TOO_LARGE,
                 "the adapter takes " + std::to_string(bytes) +
                     " bytes of the device's memory, and all adapters together may take " +
                     std::to_string(room));
        }
        return bytes > room;
    };
    // Before the work of packing it.
    if (too_large(least_bytes(*choice.source))) {
        return false;
    }
    try {
        std::shared_ptr<LoadedAdapter> adapter = load_adapter(choice);
        if (too_large(adapter->packed->bytes())) {
            return false;
        }
        // The pool's memory is taken here: that there is none is this request's end alone.
        backend_->prefetch(*adapter->packed);
        found = std::move(adapter);
        return true;
    } catch (const std::invalid_argument& error) {
        fail(client.who.id, request, M4_E_INTERNAL, error.what());
    } catch (const engine::DeviceError& error) {
        fail(client.who.id, request, M4_E_NO_MEMORY,
             std::string("the device has no room for adapters: ") + error.what());
    }
    return false;
}

/// Who would be over is left out, and has waited longer in the next step.
void Core::keep_to_adapter_pool(std::vector<Share>& shares) const {
    const std::uint64_t room = backend_->adapter_pool_bytes();
    std::set<const engine::Adapter*> taken;
    std::uint64_t bytes = 0;
    std::erase_if(shares, [&](const Share& share) {
        const auto& adapter = works_[share.index]->session().computed_with;
        if (adapter == nullptr || taken.count(adapter->packed.get()) != 0) {
            return false;
        }
        if (bytes + adapter->packed->bytes() > room) {
            return true;
        }
        bytes += adapter->packed->bytes();
        taken.insert(adapter->packed.get());
        return false;
    });
}

std::vector<AdapterFigures> Core::adapter_figures() const {
    std::map<AdapterDigest, AdapterFigures> figures;
    for (const auto& [digest, known] : adapters_) {
        if (const auto adapter = known.lock()) {
            figures[digest] = {digest, 0, adapter->packed->resident()};
        }
    }
    for (const auto& [id, session] : sessions_) {
        for (const auto& adapter : {session.adapter, session.computed_with}) {
            if (adapter != nullptr) {
                ++figures[adapter->source->digest].sessions;
            }
            if (session.adapter == session.computed_with) {
                break;
            }
        }
    }
    std::vector<AdapterFigures> all;
    for (const auto& [digest, one] : figures) {
        all.push_back(one);
    }
    return all;
}

}  // namespace m4::sched
