// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <vector>

#include "m4client.h"
#include "protocol/codec.hpp"

namespace m4::client {

/// Inputs of a call as a request carries them: a table each, and all bytes as one
/// payload. The caller's memory is read by put().
class MediaInputs {
   public:
    /// Throws M4_E_INVALID where a description is none.
    MediaInputs(const m4_media* const* inputs, std::size_t count);

    struct Placed {
        std::vector<flatbuffers::Offset<wire::Media>> tables;
        flatbuffers::Offset<wire::Bulk> data;
    };
    [[nodiscard]] Placed put(protocol::Encoder& encoder) const;
    [[nodiscard]] std::size_t count() const { return inputs_.size(); }

   private:
    std::vector<m4_media> inputs_;
};

}  // namespace m4::client
