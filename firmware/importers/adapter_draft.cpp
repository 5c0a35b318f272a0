// SPDX-License-Identifier: MIT
#include "adapter_draft.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "adapters/limits.hpp"
#include "lib/error.hpp"
#include "lib/half.hpp"
#include "lib/tensor_packer.hpp"
#include "program_builder.hpp"

namespace m4::firmware {

namespace {

std::vector<std::byte> stored(const SourceTensor& tensor, m4_dtype dtype) {
    const std::vector<float> values = read_all(tensor);
    std::vector<std::byte> bytes(values.size() * element_bytes(dtype));
    if (dtype == M4_DTYPE_F32) {
        std::memcpy(bytes.data(), values.data(), bytes.size());
        return bytes;
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (!fits_half(values[i])) {
            throw Error(tensor.place(), "element " + std::to_string(i) + " is beyond F16");
        }
        const std::uint16_t half = to_half(values[i]);
        std::memcpy(bytes.data() + i * sizeof(half), &half, sizeof(half));
    }
    return bytes;
}

void require_factor(const SourceTensor& tensor, std::size_t rank_at) {
    constexpr std::uint64_t kMost = M4_IMAGE_DIM_MAX;
    if (tensor.shape.size() != 2 || tensor.shape[0] > kMost || tensor.shape[1] > kMost) {
        throw Error(tensor.place(), "shape " + shape_text(tensor.shape) + " is no factor's");
    }
    if (tensor.shape[rank_at] > kMaxRank) {
        throw Error(tensor.place(), "rank " + std::to_string(tensor.shape[rank_at]) +
                                        " is not 1 to " + std::to_string(kMaxRank));
    }
    if (tensor.type == SourceType::other) {
        throw Error(tensor.place(),
                    "has type " + tensor.type_name + "; factors are F32, F16, BF16, Q8_0 or Q4_0");
    }
}

/// Packs one tensor of a head as the image's packer would.
void add_head_tensor(AdapterDraft& draft, AdapterHead& head, const TensorSpec& spec,
                     const std::vector<float>& values) {
    const std::uint64_t columns = spec.shape.back();
    std::vector<std::byte> bytes;
    pack_tensor(
        spec,
        [&](std::uint64_t first, std::uint64_t count, std::span<float> out) {
            std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(first * columns),
                        count * columns, out.begin());
        },
        {},
        [&](std::span<const std::byte> some) {
            bytes.insert(bytes.end(), some.begin(), some.end());
        });
    Tensor tensor;
    tensor.name = draft.names.emplace_back(spec.name);
    tensor.dtype = spec.dtype;
    tensor.layout = spec.layout;
    tensor.rank = static_cast<std::uint32_t>(spec.shape.size());
    tensor.shape.fill(1);
    std::copy(spec.shape.begin(), spec.shape.end(), tensor.shape.begin());
    tensor.size_bytes = bytes.size();
    head.tensors.push_back(tensor);
    head.bytes.push_back(draft.keep(std::move(bytes)));
}

}  // namespace

std::vector<float> read_all(const SourceTensor& tensor) {
    std::vector<float> values(tensor.element_count());
    tensor.read(0, values);
    const auto bad = std::find_if(values.begin(), values.end(),
                                  [](float value) { return !std::isfinite(value); });
    if (bad != values.end()) {
        throw Error(tensor.place(),
                    "element " + std::to_string(bad - values.begin()) + " is not finite");
    }
    return values;
}

void AdapterDraft::add_pair(std::string tensor, const SourceTensor& a, const SourceTensor& b,
                            double scale, m4_row_order order, std::optional<m4_dtype> wanted) {
    require_factor(a, 0);
    require_factor(b, 1);
    if (a.shape[0] != b.shape[1]) {
        throw Error(b.place(), "shape " + shape_text(b.shape) + " is of another rank than " +
                                   shape_text(a.shape) + " of '" + a.name + "'");
    }
    const bool halves = a.type == SourceType::f16 && b.type == SourceType::f16;
    LowRankPair pair;
    pair.tensor = std::move(tensor);
    pair.rank = static_cast<std::uint32_t>(a.shape[0]);
    pair.rows = static_cast<std::uint32_t>(b.shape[0]);
    pair.columns = static_cast<std::uint32_t>(a.shape[1]);
    pair.scale = static_cast<float>(scale);
    pair.dtype = wanted.value_or(halves ? M4_DTYPE_F16 : M4_DTYPE_F32);
    pair.order = order;
    pair.a = keep(stored(a, pair.dtype));
    pair.b = keep(stored(b, pair.dtype));
    adapter.pairs.push_back(std::move(pair));
}

void add_head(AdapterDraft& draft, const HeadLayer& layer, const HeadInput& input,
              std::optional<m4_dtype> wanted) {
    AdapterHead head;
    head.part.name = "scores";
    head.part.kind = PartKind::head;
    head.part.architecture = "linear";
    head.part.labels = layer.labels;
    head.part.parameters = layer.weight.size() + layer.bias.size();
    TensorSpec weight;
    weight.name = "weight";
    weight.dtype = wanted.value_or(M4_DTYPE_F32);
    weight.layout = M4_LAYOUT_ROWS16;
    weight.shape = {layer.label_count, input.columns};
    add_head_tensor(draft, head, weight, layer.weight);
    auto bias = ProgramBuilder::none();
    if (!layer.bias.empty()) {
        TensorSpec spec;
        spec.name = "bias";
        spec.shape = {layer.label_count};
        add_head_tensor(draft, head, spec, layer.bias);
        bias = ProgramBuilder::tensor(1);
    }
    ProgramBuilder program("score");
    const bool whole = input.pick == HeadInput::Pick::whole;
    auto x = program.item_rows(whole ? Role::embedding : Role::hidden, input.rows, input.columns);
    if (input.pick == HeadInput::Pick::mean) {
        x = program.mean_rows(x);
    } else if (input.pick == HeadInput::Pick::first) {
        x = program.select_row(x, 0);
    }
    program.output(Role::scores,
                   program.linear(x, ProgramBuilder::tensor(0), bias, layer.label_count));
    head.part.programs.push_back(program.finish());
    draft.adapter.head = std::move(head);
}

std::string adapter_name(std::string_view text) {
    std::string name;
    for (const char ch : text.substr(0, kMaxAdapterNameBytes)) {
        const bool letter = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
        const bool other = (ch >= '0' && ch <= '9') || ch == '.' || ch == '_' || ch == '-';
        name += letter || other ? ch : '-';
    }
    const auto first = name.find_first_not_of("._-");
    return first == std::string::npos ? "adapter" : name.substr(first);
}

}  // namespace m4::firmware
