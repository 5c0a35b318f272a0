// SPDX-License-Identifier: MIT
#include "small_encoders.hpp"

namespace m4::test {

Tensors small_vit(const std::string& root) {
    TensorWriter out;
    const bool distilled = root == "deit.";
    out.add(root + "embeddings.cls_token", {1, 1, 8});
    if (distilled) {
        out.add(root + "embeddings.distillation_token", {1, 1, 8});
    }
    out.add(root + "embeddings.position_embeddings", {1, distilled ? 6U : 5U, 8});
    out.add(root + "embeddings.patch_embeddings.projection.weight", {8, 3, 3, 3});
    out.add(root + "embeddings.patch_embeddings.projection.bias", {8});
    const std::string at = root + "encoder.layer.0.";
    for (const char* name : {"attention.attention.query", "attention.attention.key",
                             "attention.attention.value", "attention.output.dense"}) {
        out.linear(at + name, 8, 8);
    }
    out.norm(at + "layernorm_before", 8);
    out.norm(at + "layernorm_after", 8);
    out.linear(at + "intermediate.dense", 12, 8);
    out.linear(at + "output.dense", 8, 12);
    out.norm(root + "layernorm", 8);
    out.linear("classifier", 2, 8);
    return out.tensors;
}

Tensors small_clip() {
    TensorWriter out;
    out.add("visual.class_embedding", {8});
    out.add("visual.conv1.weight", {8, 3, 3, 3});
    out.add("visual.positional_embedding", {5, 8});
    out.norm("visual.ln_pre", 8);
    out.norm("visual.ln_post", 8);
    out.add("visual.proj", {8, 4});
    out.add("token_embedding.weight", {515, 8});
    out.add("positional_embedding", {4, 8});
    out.norm("ln_final", 8);
    out.add("text_projection", {8, 4});
    out.add("logit_scale", {});
    out.add("input_resolution", {});
    return out.tensors;
}

}  // namespace m4::test
