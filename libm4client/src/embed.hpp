// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "connection.hpp"
#include "m4client.h"

namespace m4::client {

/// Results of inputs, one behind the other.
struct Encoded {
    std::string part;  ///< that made them
    std::size_t dim = 0;
    std::vector<float> values;

    [[nodiscard]] const float* row(std::size_t input) const { return &values[input * dim]; }
};

/// Runs inputs through a part; `part` empty: the first that suits; `adapter` null: none.
/// Throws Error.
[[nodiscard]] Encoded encode(Connection& connection, const m4_media* const* inputs,
                             std::size_t count, const std::string& part, wire::EncodeOutput output,
                             const m4_adapter_id* adapter = nullptr);
/// The same for texts.
[[nodiscard]] Encoded encode_texts(Connection& connection, const char* const* texts,
                                   std::size_t count, const std::string& part);

/// The parts of the model, as the service tells them.
[[nodiscard]] std::vector<m4_part> parts_of(Connection& connection);
/// The one of that name, which a reply gave.
[[nodiscard]] const m4_part& part_named(Connection& connection, const std::vector<m4_part>& parts,
                                        const std::string& name);

}  // namespace m4::client
