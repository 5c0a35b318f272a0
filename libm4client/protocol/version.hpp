// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

/// What both ends of the wire agree on before they speak. docs/protocol.md
/// says when each number changes.
namespace m4::protocol {

/// Peers of different majors refuse each other in the hello.
inline constexpr std::uint16_t kVersionMajor = 1;
/// Additions an older peer may ignore.
inline constexpr std::uint16_t kVersionMinor = 5;
/// The first minor that knows a request added since major 1.
inline constexpr std::uint16_t kMinorOfClone = 2;
inline constexpr std::uint16_t kMinorOfBench = 3;
inline constexpr std::uint16_t kMinorOfSenses = 4;
inline constexpr std::uint16_t kMinorOfAdapters = 5;
/// Feature bits this code knows; a bit is in force when both sides offer it.
inline constexpr std::uint64_t kFeatures = 0;

/// Largest message, and the largest inline payload that leaves it room for
/// its frame.
inline constexpr std::size_t kMaxMessageBytes = std::size_t{64} * 1024;
inline constexpr std::size_t kMaxInlineBytes = std::size_t{48} * 1024;
/// Largest payload in a memfd.
inline constexpr std::size_t kMaxBulkBytes = std::size_t{64} * 1024 * 1024;

/// The same for what encoders are given: pictures of a phone's camera fit.
inline constexpr std::size_t kMaxMediaBytes = std::size_t{256} * 1024 * 1024;
/// Largest adapter file.
inline constexpr std::size_t kMaxAdapterBytes = std::size_t{256} << 20U;
/// Largest payload that is read where it lies.
inline constexpr std::size_t kMaxViewBytes = std::max(kMaxMediaBytes, kMaxAdapterBytes);
/// Bytes that name an adapter: SHA-256.
inline constexpr std::size_t kDigestBytes = 32;
/// Inputs of one encode request.
inline constexpr std::size_t kMaxInputs = 1024;

/// Where the service listens unless told otherwise.
inline constexpr char kDefaultSocketPath[] = "/run/m4/m4d.sock";

}  // namespace m4::protocol
