// SPDX-License-Identifier: MIT
#include "importers/synth.hpp"

#include "commands.hpp"
#include "importers/import.hpp"
#include "importers/synth_vit.hpp"
#include "lib/builder.hpp"
#include "lib/error.hpp"
#include "write_image.hpp"

namespace m4::tools {

namespace {

void set(std::uint32_t& size, std::uint32_t wanted) {
    size = wanted == 0 ? size : wanted;
}

firmware::LlamaConfig shape_of(const SynthOptions& options) {
    auto shape = firmware::synth_shape(options.like);
    if (!shape) {
        throw firmware::Error("--like '" + options.like + "'", "is not one of " + synth_names());
    }
    set(shape->dim, options.dim);
    set(shape->layers, options.layers);
    set(shape->heads, options.heads);
    set(shape->kv_heads, options.kv_heads != 0 ? options.kv_heads : options.heads);
    shape->head_dim = options.head_dim != 0 ? options.head_dim : shape->dim / shape->heads;
    set(shape->ffn, options.ffn);
    set(shape->vocabulary, options.vocabulary);
    set(shape->context, options.context);
    shape->tied = options.tied;
    return *shape;
}

/// Heads, pictures and patches of a vision transformer are as published.
firmware::VitShape sized(firmware::VitShape shape, const SynthOptions& options) {
    const auto refuse = [&](const char* option, bool given) {
        if (given) {
            throw firmware::Error(option, "is nothing that " + options.like + " has");
        }
    };
    refuse("--heads", options.heads != 0);
    refuse("--kv-heads", options.kv_heads != 0);
    refuse("--head-dim", options.head_dim != 0);
    refuse("--vocabulary", options.vocabulary != 0);
    refuse("--context", options.context != 0);
    refuse("--tied", options.tied);
    set(shape.dim, options.dim);
    set(shape.layers, options.layers);
    set(shape.ffn, options.ffn);
    return shape;
}

}  // namespace

std::string synth_names() {
    return std::string(firmware::synth_shape_names()) + ", " +
           std::string(firmware::synth_vit_names());
}

void synth(const SynthOptions& options) {
    const auto vit = firmware::synth_vit_shape(options.like);
    firmware::ImageBuilder builder(options.name, options.version, 0);
    firmware::ImportOptions import;
    import.stored = stored_type(options.quantize);
    if (vit) {
        firmware::synthesize_vit(sized(*vit, options), options.seed, import, builder);
    } else {
        firmware::synthesize_llama(shape_of(options), options.seed, import, builder);
    }
    write_image(builder, options.out, options.force, options.json);
}

}  // namespace m4::tools
