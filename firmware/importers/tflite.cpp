// SPDX-License-Identifier: MIT
#include "tflite.hpp"

#include <tflite_generated.h>

#include <algorithm>

#include "checkpoint.hpp"
#include "lib/error.hpp"
#include "mapped_file.hpp"

namespace m4::firmware {

namespace {

namespace fb = m4::tflite;

constexpr std::size_t kMostBytes = 1U << 30;
constexpr int kDepthMost = 16;
constexpr int kTablesMost = 1 << 18;
constexpr std::size_t kRankMost = 8;

class Reader {
   public:
    Reader(const fb::Model& model, const std::string& place) : model_(model), place_(place) {}

    TfliteGraph read() {
        if (model_.subgraphs() == nullptr || model_.subgraphs()->size() != 1 ||
            model_.buffers() == nullptr || model_.operator_codes() == nullptr) {
            throw Error(place_, "is not a model of one graph");
        }
        const fb::SubGraph& graph = *model_.subgraphs()->Get(0);
        if (graph.tensors() == nullptr || graph.operators() == nullptr) {
            throw Error(place_, "its graph has no tensors or operators");
        }
        out_.place = place_;
        for (const auto* tensor : *graph.tensors()) {
            read_tensor(*tensor);
        }
        for (const auto* op : *graph.operators()) {
            read_operator(*op);
        }
        out_.inputs = indices(graph.inputs(), place_ + ": inputs", false);
        out_.outputs = indices(graph.outputs(), place_ + ": outputs", false);
        return std::move(out_);
    }

   private:
    void read_tensor(const fb::Tensor& tensor) {
        TfliteTensor out;
        out.name = tensor.name() == nullptr ? "" : tensor.name()->str();
        const std::string place = place_ + ": tensor " + shown(out.name);
        if (tensor.shape() != nullptr) {
            if (tensor.shape()->size() > kRankMost) {
                throw Error(place, "has more than " + std::to_string(kRankMost) + " dimensions");
            }
            for (const std::int32_t extent : *tensor.shape()) {
                if (extent <= 0) {
                    throw Error(place, "has an extent of " + std::to_string(extent));
                }
                out.shape.push_back(static_cast<std::uint64_t>(extent));
            }
        }
        if (tensor.buffer() >= model_.buffers()->size()) {
            throw Error(place, "has a buffer that is not there");
        }
        out.is_f32 = tensor.type() == fb::ElementType::float32;
        const std::uint64_t elements = checked_element_count(out.shape, place);
        const auto* data = model_.buffers()->Get(tensor.buffer())->data();
        if (data != nullptr && data->size() != 0) {
            if (out.is_f32 && data->size() != elements * sizeof(float)) {
                throw Error(place, std::to_string(data->size()) + " bytes for " +
                                       std::to_string(elements) + " elements");
            }
            out.bytes = std::as_bytes(std::span(data->data(), data->size()));
        }
        out_.tensors.push_back(std::move(out));
    }

    void read_operator(const fb::Operator& op) {
        const std::string place = place_ + ": operator " + std::to_string(out_.operators.size());
        if (op.opcode_index() >= model_.operator_codes()->size()) {
            throw Error(place, "has a code that is not there");
        }
        const fb::OperatorCode& code = *model_.operator_codes()->Get(op.opcode_index());
        TfliteOperator out;
        out.code = static_cast<TfliteCode>(
            std::max(static_cast<std::int32_t>(code.short_code()), code.code()));
        out.inputs = indices(op.inputs(), place, true);
        out.outputs = indices(op.outputs(), place, false);
        const bool may_activate = out.code == TfliteCode::fully_connected ||
                                  out.code == TfliteCode::add || out.code == TfliteCode::mul ||
                                  out.code == TfliteCode::sub;
        out.activates =
            may_activate && op.options() != nullptr && op.options()->fused_activation() != 0;
        out_.operators.push_back(std::move(out));
    }

    [[nodiscard]] std::vector<std::int32_t> indices(const flatbuffers::Vector<std::int32_t>* in,
                                                    const std::string& place, bool optional) const {
        std::vector<std::int32_t> out;
        if (in == nullptr) {
            return out;
        }
        for (const std::int32_t index : *in) {
            if (index < (optional ? -1 : 0) ||
                index >= static_cast<std::int64_t>(out_.tensors.size())) {
                throw Error(place, "names tensor " + std::to_string(index) + " of " +
                                       std::to_string(out_.tensors.size()));
            }
            out.push_back(index);
        }
        return out;
    }

    const fb::Model& model_;
    const std::string& place_;
    TfliteGraph out_;
};

}  // namespace

TfliteGraph read_tflite(std::span<const std::byte> bytes, const std::string& place) {
    if (bytes.size() < 8 || bytes.size() > kMostBytes) {
        throw Error(place, std::to_string(bytes.size()) + " bytes are not 8 to 2^30");
    }
    const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    flatbuffers::Verifier verifier(data, bytes.size(), kDepthMost, kTablesMost);
    if (!fb::VerifyModelBuffer(verifier)) {
        throw Error(place, "is not a TensorFlow Lite model");
    }
    return Reader(*fb::GetModel(data), place).read();
}

}  // namespace m4::firmware
