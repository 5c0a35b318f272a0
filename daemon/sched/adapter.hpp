// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.hpp"

namespace m4::sched {

/// SHA-256 of an adapter's file: which adapter it is, whatever it is called.
using AdapterDigest = std::array<std::uint8_t, 32>;

/// An adapter that was accepted: where its pairs go in the image, and their bytes.
struct AdapterSource {
    AdapterDigest digest{};
    std::string name;  ///< for people
    std::vector<engine::LowRankPair> pairs;
    std::shared_ptr<const void> keep;  ///< what holds the bytes
};

/// The same as the engine has it. Who computes with it holds it, so the same adapter is
/// the same object for as long as anybody does. Engine thread only.
struct LoadedAdapter {
    std::shared_ptr<const AdapterSource> source;
    std::unique_ptr<engine::Adapter> packed;
};

/// Which adapter a request asks for. Whoever makes one has looked it up for the client.
struct AdapterChoice {
    /// Given by the client; zeros: the bare base.
    std::optional<AdapterDigest> digest;
    std::shared_ptr<const AdapterSource> source;  ///< of the digest; null: the bare base
};

}  // namespace m4::sched
