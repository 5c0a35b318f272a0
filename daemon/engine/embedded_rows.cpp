// SPDX-License-Identifier: MIT
// Rows that stand for inputs of other senses: they come from the host and take the
// place of what their tokens' rows of the embedding were.
#include <cstring>
#include <string>

#include "engine_impl.hpp"

namespace m4::engine {

Engine::Impl::Embedding Engine::Impl::find_embedding() const {
    Embedding found;
    for (const firmware::Port& port : program.inputs) {
        if (port.role == firmware::Role::embedded_rows) {
            found.value = port.value;
            found.place = values.places[port.value];
            found.columns = found.place.columns;
        }
    }
    return found;
}

void Engine::Impl::check_embedded(const Chunk& chunk) const {
    if (!chunk.embedded.empty() && embedding.columns == 0) {
        throw broken("the image's backbone takes no rows of other senses");
    }
    std::uint32_t next = 0;
    for (const EmbeddedRow& row : chunk.embedded) {
        if (row.at < next || row.at >= chunk.tokens.size()) {
            throw broken("embedded row " + std::to_string(row.at) +
                         " is none of the chunk's, or out of order");
        }
        if (row.values.size() != embedding.columns) {
            throw broken("an embedded row of " + std::to_string(row.values.size()) +
                         " values instead of " + std::to_string(embedding.columns));
        }
        next = row.at + 1;
    }
}

hpp::CommandBuffer Engine::Impl::commands_embedding(std::span<const Chunk> chunks,
                                                    const ops::StepShape& shape) {
    using Stage = hpp::PipelineStageFlagBits;
    using Access = hpp::AccessFlagBits;
    const std::uint64_t row_bytes = std::uint64_t{embedding.columns} * sizeof(float);
    if (embedding.host.size_bytes() == 0) {
        embedding.host = vk::Buffer(device, row_bytes * max_rows,
                                    hpp::BufferUsageFlagBits::eTransferSrc, vk::MemoryKind::upload);
        embedding.commands = device.create_commands();
    }
    // The padding of a row stays what gather_rows wrote: zeros.
    std::vector<hpp::BufferCopy> rows;
    std::uint32_t first = 0;
    for (const Chunk& chunk : chunks) {
        for (const EmbeddedRow& row : chunk.embedded) {
            const std::uint64_t from = rows.size() * row_bytes;
            std::memcpy(embedding.host.mapped().data() + from, row.values.data(), row_bytes);
            const std::uint64_t unit =
                embedding.place.unit + std::uint64_t{first + row.at} * embedding.place.stride;
            rows.push_back(
                {.srcOffset = from, .dstOffset = unit * ops::kUnitBytes, .size = row_bytes});
        }
        first += static_cast<std::uint32_t>(chunk.tokens.size());
    }
    record(embedding.commands, shape, [&](const hpp::raii::CommandBuffer& commands) {
        commands.pipelineBarrier(Stage::eComputeShader, Stage::eTransfer, {},
                                 hpp::MemoryBarrier{.srcAccessMask = Access::eShaderWrite,
                                                    .dstAccessMask = Access::eTransferWrite},
                                 {}, {});
        commands.copyBuffer(embedding.host.handle(), memory.values().handle(), rows);
        commands.pipelineBarrier(
            Stage::eTransfer, Stage::eComputeShader, {},
            hpp::MemoryBarrier{.srcAccessMask = Access::eTransferWrite,
                               .dstAccessMask = Access::eShaderRead | Access::eShaderWrite},
            {}, {});
    });
    return *embedding.commands;
}

}  // namespace m4::engine
