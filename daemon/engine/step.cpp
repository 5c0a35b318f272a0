// SPDX-License-Identifier: MIT
// A step: what is asked for is checked, written and run.
#include <algorithm>
#include <bit>
#include <cstring>

#include "engine_impl.hpp"

namespace m4::engine {

namespace {

/// Recorded shapes kept. Decoding meets few; prompts end in any chunk size.
constexpr std::size_t kRecordedShapes = 64;

}  // namespace

void Engine::Impl::check_chunk(const Chunk& chunk, std::uint32_t passes) const {
    const auto* sequence = dynamic_cast<const KvSequence*>(chunk.sequence);
    if (sequence == nullptr || &sequence->pool() != &pool) {
        throw broken("a chunk names no sequence of this engine");
    }
    if (chunk.tokens.empty()) {
        throw broken("a chunk holds no tokens");
    }
    if (sequence->memory_length() != part.memory_rows) {
        throw broken("a sequence has " + std::to_string(sequence->memory_length()) + " of " +
                     std::to_string(part.memory_rows) + " rows of memory");
    }
    if (passes > 1 && (chunk.tokens.size() != 1 || chunk.logits != Logits::greedy)) {
        throw broken("a chunk of several passes is not one token, greedy");
    }
    const std::size_t count = chunk.tokens.size() + passes - 1;
    if (count > sequence->capacity() - sequence->length()) {
        throw broken(std::to_string(count) + " tokens do not fit a sequence of " +
                     std::to_string(sequence->length()) + " of " +
                     std::to_string(sequence->capacity()) + " tokens");
    }
    if (chunk.logits == Logits::top && candidates_each == 0) {
        throw broken("a vocabulary of one token has no candidates");
    }
    for (const std::uint32_t token : chunk.tokens) {
        if (token >= part.vocabulary) {
            throw broken("token " + std::to_string(token) + " is not below the vocabulary, " +
                         std::to_string(part.vocabulary));
        }
    }
}

/// Throws std::invalid_argument, before anything changes.
ops::StepShape Engine::Impl::check(std::span<const Chunk> chunks, std::uint32_t passes) const {
    if (passes == 0 || passes > ops::StepWords::kMostPasses) {
        throw broken("a step has 1 to " + std::to_string(ops::StepWords::kMostPasses) +
                     " passes, not " + std::to_string(passes));
    }
    std::uint64_t tokens = 0;
    std::uint64_t pages = 0;
    ops::StepShape shape;
    for (std::size_t i = 0; i < chunks.size(); ++i) {
        const Chunk& chunk = chunks[i];
        check_chunk(chunk, passes);
        check_embedded(chunk);
        for (std::size_t j = 0; j < i; ++j) {
            if (chunks[j].sequence == chunk.sequence) {
                throw broken("two chunks of a step name the same sequence");
            }
        }
        tokens += chunk.tokens.size();
        if (tokens > max_rows) {
            throw broken("a step holds more than " + std::to_string(max_rows) + " rows");
        }
        const auto count = static_cast<std::uint32_t>(chunk.tokens.size());
        shape.outputs += chunk.logits == Logits::all ? count : chunk.logits != Logits::none;
        shape.greedy += chunk.logits == Logits::greedy;
        shape.top += chunk.logits == Logits::top;
        pages += chunk.sequence->pages_needed(count + passes - 1);
    }
    if (pages > pool.free()) {
        throw broken("a step needs " + std::to_string(pages) + " pages of the KV pool, which has " +
                     std::to_string(pool.free()) + " free");
    }
    check_adapters(chunks);
    shape.tokens = static_cast<std::uint32_t>(tokens);
    shape.chain = passes;
    return shape;
}

/// Each chunk's sequence gets the pages it needs; check() saw that they are there.
std::vector<PageCopy> Engine::Impl::take_pages(std::span<const Chunk> chunks,
                                               std::uint32_t passes) const {
    std::vector<PageCopy> copies;
    for (const Chunk& chunk : chunks) {
        static_cast<KvSequence&>(*chunk.sequence)
            .take_pages(static_cast<std::uint32_t>(chunk.tokens.size()) + passes - 1, copies);
    }
    return copies;
}

void Engine::Impl::record_copies(std::span<const PageCopy> copies) const {
    using Stage = hpp::PipelineStageFlagBits;
    using Access = hpp::AccessFlagBits;
    // A page has a piece in each head's keys and values of each layer (kv.glsl).
    std::vector<hpp::BufferCopy> pieces;
    for (const ops::StatePlace& state : kv.states) {
        const std::uint64_t head_units = ops::kv_head_units(kv_dtype, state.head_dim);
        const std::uint64_t piece = head_units * pool.page_positions() * ops::kUnitBytes;
        for (std::uint32_t half = 0; half < 2 * state.kv_heads; ++half) {
            const std::uint64_t first = plan->context.pool_positions *
                                        (state.layer_units + half * head_units) * ops::kUnitBytes;
            for (const PageCopy& copy : copies) {
                pieces.push_back({.srcOffset = first + copy.from * piece,
                                  .dstOffset = first + copy.to * piece,
                                  .size = piece});
            }
        }
    }
    copying.begin(
        hpp::CommandBufferBeginInfo{.flags = hpp::CommandBufferUsageFlagBits::eOneTimeSubmit});
    // After the steps before, which wrote the one and may have read the other.
    copying.pipelineBarrier(
        Stage::eComputeShader | Stage::eTransfer, Stage::eTransfer, {},
        hpp::MemoryBarrier{.srcAccessMask = Access::eShaderWrite | Access::eTransferWrite,
                           .dstAccessMask = Access::eTransferRead | Access::eTransferWrite},
        {}, {});
    copying.copyBuffer(memory.kv().handle(), memory.kv().handle(), pieces);
    copying.pipelineBarrier(
        Stage::eTransfer, Stage::eComputeShader, {},
        hpp::MemoryBarrier{.srcAccessMask = Access::eTransferWrite,
                           .dstAccessMask = Access::eShaderRead | Access::eShaderWrite},
        {}, {});
    copying.end();
}

void Engine::Impl::write_step(std::span<const Chunk> chunks) const {
    const std::span<std::uint32_t> step = memory.words();
    std::uint32_t row = 0;
    std::uint32_t output = 0;
    std::vector<std::uint32_t> top_rows;     // their outputs come behind the others,
    std::vector<std::uint32_t> greedy_rows;  // and these last
    std::uint32_t table = words.page_tables;
    for (const Chunk& chunk : chunks) {
        const auto& sequence = static_cast<const KvSequence&>(*chunk.sequence);
        std::uint32_t position = sequence.length();
        const std::span<const std::uint32_t> pages = sequence.pages();
        for (std::size_t i = 0; i < pages.size(); ++i) {
            step[table + i] = pages[i];
        }
        for (std::size_t i = 0; i < chunk.tokens.size(); ++i) {
            step[words.token_ids + row] = chunk.tokens[i];
            step[words.positions + row] = position++;
            step[words.kv_tables + row] = table;
            step[words.adapters + row] =
                chunk.adapter == nullptr
                    ? 0
                    : static_cast<const PackedAdapter*>(chunk.adapter)->place();
            const bool last = i + 1 == chunk.tokens.size();
            if (chunk.logits == Logits::all || (chunk.logits == Logits::last && last)) {
                step[words.output_rows + output++] = row;
            }
            if (chunk.logits == Logits::top && last) {
                top_rows.push_back(row);
            }
            if (chunk.logits == Logits::greedy && last) {
                greedy_rows.push_back(row);
            }
            ++row;
        }
        table += words.table_pages;
    }
    const auto behind =
        std::copy(top_rows.begin(), top_rows.end(), step.begin() + words.output_rows + output);
    const auto end = std::copy(greedy_rows.begin(), greedy_rows.end(), behind);
    const auto outputs = static_cast<std::uint32_t>(end - step.begin()) - words.output_rows;
    for (std::uint32_t i = 0; i < outputs; ++i) {
        step[words.output_adapters + i] = step[words.adapters + step[words.output_rows + i]];
    }
}

void Engine::Impl::record(const hpp::raii::CommandBuffer& commands, const ops::StepShape& shape,
                          const Hook& after_embedding) {
    commands.begin(hpp::CommandBufferBeginInfo{});
    commands.bindDescriptorSets(hpp::PipelineBindPoint::eCompute, pipelines.layout(), 0,
                                memory.set(), {});
    for (std::uint32_t pass = 0; pass < shape.chain; ++pass) {
        record_pass(commands, shape, pass, after_embedding);
    }
    record_outputs(commands, shape);
    commands.end();
}

/// What the host will read reaches it.
void Engine::Impl::record_outputs(const hpp::raii::CommandBuffer& commands,
                                  const ops::StepShape& shape) const {
    using Stage = hpp::PipelineStageFlagBits;
    using Access = hpp::AccessFlagBits;
    const std::uint32_t copied = shape.outputs - shape.greedy - shape.top;
    if (shape.greedy + shape.top != 0) {
        commands.pipelineBarrier(Stage::eComputeShader, Stage::eHost, {},
                                 hpp::MemoryBarrier{.srcAccessMask = Access::eShaderWrite,
                                                    .dstAccessMask = Access::eHostRead},
                                 {}, {});
    }
    if (copied != 0) {
        commands.pipelineBarrier(Stage::eComputeShader, Stage::eTransfer, {},
                                 hpp::MemoryBarrier{.srcAccessMask = Access::eShaderWrite,
                                                    .dstAccessMask = Access::eTransferRead},
                                 {}, {});
        const ops::ValuePlace& place = values.places[logits_value];
        const std::uint64_t row_bytes = std::uint64_t{part.vocabulary} * sizeof(float);
        std::vector<hpp::BufferCopy> rows;
        for (std::uint64_t i = 0; i < copied; ++i) {
            rows.push_back({.srcOffset = (place.unit + i * place.stride) * ops::kUnitBytes,
                            .dstOffset = i * row_bytes,
                            .size = row_bytes});
        }
        commands.copyBuffer(memory.values().handle(), logits.handle(), rows);
        // The next step must not write what is copied: transfer before compute.
        commands.pipelineBarrier(Stage::eTransfer, Stage::eHost | Stage::eComputeShader, {},
                                 hpp::MemoryBarrier{.srcAccessMask = Access::eTransferWrite,
                                                    .dstAccessMask = Access::eHostRead},
                                 {}, {});
    }
}

/// Set 0 is bound.
void Engine::Impl::record_pass(const hpp::raii::CommandBuffer& commands,
                               const ops::StepShape& shape, std::uint32_t pass,
                               const Hook& after_embedding) {
    ops::record_barrier(commands);  // after the pass or step before: its KV and tokens are read
    plan->plan.record(commands, shape, embedding.value, after_embedding);
    if (shape.greedy != 0) {
        record_argmax(commands, shape, pass);
    }
    if (shape.top != 0) {
        record_top(commands, shape);
    }
}

void Engine::Impl::record_top(const hpp::raii::CommandBuffer& commands,
                              const ops::StepShape& shape) {
    ops::record_barrier(commands);
    const ops::Dispatch dispatch =
        plan->top.dispatch(shape.outputs - shape.greedy - shape.top, shape.top);
    pipelines.compile({&dispatch.kernel, 1});
    ops::record(commands, pipelines.layout(), {&dispatch, 1});
}

void Engine::Impl::record_argmax(const hpp::raii::CommandBuffer& commands,
                                 const ops::StepShape& shape, std::uint32_t pass) {
    ops::record_barrier(commands);
    const ops::Dispatch dispatch =
        plan->argmax.dispatch(shape.outputs - shape.greedy, shape.greedy,
                              words.next_ids + pass * max_rows, shape.chain > 1);
    pipelines.compile({&dispatch.kernel, 1});
    ops::record(commands, pipelines.layout(), {&dispatch, 1});
}

const hpp::raii::CommandBuffer& Engine::Impl::commands_for(const ops::StepShape& shape) {
    if (const auto found = recorded.find(shape); found != recorded.end()) {
        return found->second;
    }
    if (recorded.size() >= kRecordedShapes) {
        recorded.erase(std::prev(recorded.end()));  // the largest: cheap beside its work
    }
    hpp::raii::CommandBuffer commands = device.create_commands();
    record(commands, shape);
    return recorded.emplace(shape, std::move(commands)).first->second;
}

std::span<const float> Engine::Impl::step(std::span<const Chunk> chunks, std::uint32_t passes) {
    ops::StepShape shape = check(chunks, passes);
    set_adapter_shape(chunks, shape);
    const bool embeds = std::any_of(chunks.begin(), chunks.end(),
                                    [](const Chunk& chunk) { return !chunk.embedded.empty(); });
    compute(chunks, shape,
            [&] { return embeds ? commands_embedding(chunks, shape) : *commands_for(shape); });
    return {reinterpret_cast<const float*>(logits.mapped().data()),
            std::size_t{shape.outputs - shape.greedy - shape.top} * part.vocabulary};
}

void Engine::Impl::run(const std::function<std::vector<hpp::CommandBuffer>()>& buffers) {
    if (lost) {
        throw DeviceError("the Vulkan device failed before");
    }
    try {
        vk::translate([&] { device.run(buffers()); });
    } catch (const DeviceError&) {
        lost = true;
        throw;
    }
    // What was computed over a lost image is nobody's answer.
    if (guard != nullptr) {
        guard->check();
    }
}

/// A checked step; `commands` gives its commands once all they read is written.
void Engine::Impl::compute(std::span<const Chunk> chunks, const ops::StepShape& shape,
                           const Recorded& commands) {
    ids.clear();
    candidates.clear();
    if (shape.tokens == 0 && !lost) {
        return;
    }
    run([&] {
        if (++steps == kColdSteps) {
            end_cold();
        }
        load_adapters(chunks);
        const std::vector<PageCopy> copies = take_pages(chunks, shape.chain);
        write_step(chunks);
        std::vector<hpp::CommandBuffer> buffers;
        if (!copies.empty()) {
            record_copies(copies);
            buffers.push_back(*copying);
        }
        buffers.push_back(commands());
        return buffers;
    });
    for (const Chunk& chunk : chunks) {
        static_cast<KvSequence&>(*chunk.sequence)
            .grow(static_cast<std::uint32_t>(chunk.tokens.size()) + shape.chain - 1);
    }
    for (std::uint32_t pass = 0; pass < shape.chain; ++pass) {
        const auto chosen = memory.words().subspan(words.next_ids + pass * max_rows, shape.greedy);
        ids.insert(ids.end(), chosen.begin(), chosen.end());
    }
    read_candidates(shape);
}

/// In no order, as the kernel leaves them.
void Engine::Impl::read_candidates(const ops::StepShape& shape) {
    for (std::uint32_t row = 0; row < shape.top; ++row) {
        const auto found = memory.words().subspan(
            words.candidates + row * ops::StepWords::kCandidateWords, 2 * candidates_each);
        for (std::size_t i = 0; i < found.size(); i += 2) {
            candidates.push_back({found[i], std::bit_cast<float>(found[i + 1])});
        }
        sort_candidates(std::span(candidates).last(candidates_each));
    }
}

}  // namespace m4::engine
