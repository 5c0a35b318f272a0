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

/// Kept packed though no session names them.
constexpr std::size_t kRecent = 32;

}  // namespace

std::shared_ptr<LoadedAdapter> Core::load_adapter(const AdapterChoice& choice) {
    if (choice.source == nullptr) {
        return nullptr;
    }
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
    if (recent_adapters_.size() > kRecent) {
        recent_adapters_.pop_back();
    }
    std::erase_if(adapters_, [](const auto& entry) { return entry.second.expired(); });
    return adapter;
}

bool Core::find_adapter(const ClientState& client, RequestId request, const AdapterChoice& choice,
                        std::shared_ptr<LoadedAdapter>& found) {
    std::shared_ptr<LoadedAdapter> adapter;
    try {
        adapter = load_adapter(choice);
    } catch (const std::invalid_argument& error) {
        fail(client.who.id, request, M4_E_INTERNAL, error.what());
        return false;
    }
    if (adapter != nullptr && adapter->packed->bytes() > backend_->adapter_pool_bytes()) {
        fail(client.who.id, request, M4_E_TOO_LARGE,
             "the adapter takes " + std::to_string(adapter->packed->bytes()) +
                 " bytes of the device's memory, and all adapters together may take " +
                 std::to_string(backend_->adapter_pool_bytes()));
        return false;
    }
    found = std::move(adapter);
    return true;
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
