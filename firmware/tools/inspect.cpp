// SPDX-License-Identifier: MIT
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "lib/segment_name.hpp"
#include "lib/signature.hpp"
#include "print.hpp"
#include "recipe_text.hpp"

namespace m4::tools {

namespace {

using firmware::Image;
using firmware::Part;
using firmware::Tensor;
using firmware::to_hex;
using nlohmann::ordered_json;

std::uint64_t bytes_of_part(const Image& image, std::size_t part) {
    std::uint64_t bytes = 0;
    for (const Tensor& tensor : image.tensors()) {
        bytes += tensor.part == part ? tensor.size_bytes : 0;
    }
    return bytes;
}

const char* kind_name(firmware::PartKind kind) {
    switch (kind) {
        case firmware::PartKind::backbone:
            return "backbone";
        case firmware::PartKind::projector:
            return "projector";
        case firmware::PartKind::decoder:
            return "decoder";
        case firmware::PartKind::head:
            return "head";
        case firmware::PartKind::encoder:
            break;
    }
    return "encoder";
}

/// Multiply-adds of one token, without its context; of one item of an encoder.
std::uint64_t multiply_adds(const Image& image, const firmware::Program& program) {
    const auto rows = [&](const firmware::Op& op, std::size_t slot) -> std::uint64_t {
        return program.values[op.inputs[slot].index].dims[0].factor;
    };
    std::uint64_t sum = 0;
    for (const firmware::Op& op : program.ops) {
        if (op.code == firmware::OpCode::linear) {
            const Tensor& weight = image.tensors()[op.inputs[1].index];
            sum += rows(op, 0) * weight.shape[0] * weight.shape[1];
        } else if (op.code == firmware::OpCode::self_attention) {
            const std::uint64_t width = program.values[op.inputs[0].index].dims[1].factor;
            sum += 2 * rows(op, 0) * rows(op, 1) * width;  // scores, and values
        }
    }
    return sum;
}

/// Operators, and groups of them that may run as one.
std::size_t kernels_of(const firmware::Program& program) {
    std::size_t count = program.ops.size();
    for (const firmware::Fusion& fusion : program.fusions) {
        count -= fusion.count - 1;
    }
    return count;
}

std::string uuid_text(const Image& image) {
    const std::string digits = to_hex(std::span(image.manifest().header->uuid));
    std::string text;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        if (i == 8 || i == 12 || i == 16 || i == 20) {
            text += '-';
        }
        text += digits[i];
    }
    return text;
}

ordered_json tensors_json(const Image& image) {
    ordered_json list = ordered_json::array();
    for (std::size_t i = 0; i < image.tensors().size(); ++i) {
        const Tensor& tensor = image.tensors()[i];
        list.push_back(
            {{"index", i},
             {"name", std::string(tensor.name)},
             {"part", tensor.part},
             {"dtype", dtype_name(tensor.dtype)},
             {"layout", layout_name(tensor.layout)},
             {"rotated", tensor.row_order != M4_ROW_ORDER_NONE},
             {"head_dim", tensor.head_dim},
             {"shape", std::vector(tensor.shape.begin(), tensor.shape.begin() + tensor.rank)},
             {"payload_offset", tensor.payload_offset},
             {"bytes", tensor.size_bytes}});
    }
    return list;
}

ordered_json part_json(const Image& image, std::size_t index) {
    const Part& part = image.package().parts[index];
    ordered_json programs = ordered_json::array();
    for (const auto& program : part.programs) {
        programs.push_back({{"name", program.name},
                            {"operators", program.ops.size()},
                            {"values", program.values.size()},
                            {"states", program.states.size()},
                            {"fusions", program.fusions.size()},
                            {"multiply_adds", multiply_adds(image, program)},
                            {"operators_used", operators_used(program)}});
    }
    return {{"name", part.name},
            {"kind", kind_name(part.kind)},
            {"architecture", part.architecture},
            {"parameters", part.parameters},
            {"bytes", bytes_of_part(image, index)},
            {"context_length", part.context_length},
            {"vocabulary", part.vocabulary},
            {"tokenizer_tensor", part.tokenizer_tensor},
            {"memory_rows", part.memory_rows},
            {"recipe", recipe_json(part.recipe)},
            {"space", part.space},
            {"labels", part.labels},
            {"source_digest", to_hex(part.source_digest)},
            {"programs", programs}};
}

ordered_json image_json(const Image& image, std::size_t signature_bytes, bool with_tensors) {
    ordered_json parts = ordered_json::array();
    for (std::size_t i = 0; i < image.package().parts.size(); ++i) {
        parts.push_back(part_json(image, i));
    }
    ordered_json segments = ordered_json::array();
    for (std::size_t i = 0; i < image.segments().size(); ++i) {
        segments.push_back({{"file", firmware::segment_name(i)},
                            {"payload_offset", image.segments()[i].payload_offset},
                            {"bytes", image.segments()[i].size_bytes}});
    }
    ordered_json result = {{"name", std::string(image.name())},
                           {"version", std::string(image.version())},
                           {"rollback_index", image.rollback_index()},
                           {"uuid", uuid_text(image)},
                           {"digest", to_hex(image.digest())},
                           {"root", to_hex(image.root())},
                           {"manifest_bytes", image.manifest().manifest_bytes},
                           {"payload_bytes", image.payload_bytes()},
                           {"signature_bytes", signature_bytes},
                           {"tensor_count", image.tensors().size()},
                           {"parts", parts},
                           {"segments", segments}};
    if (with_tensors) {
        result["tensors"] = tensors_json(image);
    }
    return result;
}

/// What a part takes and gives, beside its programs.
void print_senses(const Part& part) {
    if (part.vocabulary != 0) {
        std::cout << "  context        " << count_text(part.context_length) << " positions\n"
                  << "  vocabulary     " << count_text(part.vocabulary) << " tokens, "
                  << (part.tokenizer_tensor != 0 ? "with" : "without") << " a tokenizer\n";
    }
    if (part.kind == firmware::PartKind::encoder) {
        const std::string recipe = recipe_text(part.recipe);
        std::cout << "  recipe         "
                  << (!recipe.empty()        ? recipe
                      : part.vocabulary != 0 ? "none: takes tokens"
                                             : "none: takes features")
                  << '\n';
    }
    if (!part.space.empty()) {
        std::cout << "  space          " << part.space << '\n';
    }
    if (!part.labels.empty()) {
        std::cout << "  labels         " << count_text(part.labels.size()) << ", " << part.labels[0]
                  << " ...\n";
    }
}

void print_parts(const Image& image) {
    for (std::size_t i = 0; i < image.package().parts.size(); ++i) {
        const Part& part = image.package().parts[i];
        std::cout << "\npart " << part.name << " (" << kind_name(part.kind) << ")\n"
                  << "  architecture   " << part.architecture << '\n'
                  << "  parameters     " << count_text(part.parameters) << '\n'
                  << "  stored         " << size_text(bytes_of_part(image, i)) << '\n'
                  << "  source digest  " << to_hex(part.source_digest) << '\n';
        print_senses(part);
        const bool decoder = part.kind == firmware::PartKind::decoder;
        const bool tokens = decoder || part.kind == firmware::PartKind::backbone;
        for (const auto& program : part.programs) {
            std::cout << "  program        " << program.name << ": " << program.ops.size()
                      << " operators in " << kernels_of(program) << " groups, "
                      << program.states.size() << " states\n"
                      << "  multiply-adds  " << count_text(multiply_adds(image, program))
                      << (decoder && program.name == "prepare" ? " a row of an input\n   "
                          : tokens ? " a token, without its context\n   "
                                   : " an input\n   ");
            for (const auto& [name, count] : operators_used(program)) {
                std::cout << ' ' << name << " x" << count;
            }
            std::cout << '\n';
        }
    }
}

void print_shards(const Image& image) {
    std::vector<std::vector<std::string>> rows;
    for (std::size_t i = 0; i < image.segments().size(); ++i) {
        rows.push_back({firmware::segment_name(i),
                        std::to_string(image.segments()[i].payload_offset),
                        std::to_string(image.segments()[i].size_bytes)});
    }
    std::cout << "\nshards\n";
    print_table({"file", "payload offset", "bytes"}, rows);
}

void print_tensors(const Image& image) {
    std::vector<std::vector<std::string>> rows;
    for (std::size_t i = 0; i < image.tensors().size(); ++i) {
        const Tensor& tensor = image.tensors()[i];
        rows.push_back({std::to_string(i), std::string(tensor.name), dtype_name(tensor.dtype),
                        layout_name(tensor.layout), shape_text(tensor),
                        std::to_string(tensor.payload_offset), std::to_string(tensor.size_bytes)});
    }
    std::cout << "\ntensors\n";
    print_table({"index", "name", "type", "layout", "shape", "payload offset", "bytes"}, rows);
}

}  // namespace

void inspect(const InspectOptions& options) {
    const LoadedManifest loaded = load_manifest(options.folder);
    const Image& image = loaded.image;
    const std::size_t signature_bytes = firmware::read_signature(options.folder.string()).size();
    if (options.json) {
        std::cout << image_json(image, signature_bytes, options.tensors).dump(2) << '\n';
        return;
    }
    std::cout << "image " << image.name() << ' ' << image.version() << '\n'
              << "  digest         " << to_hex(image.digest()) << '\n'
              << "  root           " << to_hex(image.root()) << '\n'
              << "  uuid           " << uuid_text(image) << '\n'
              << "  rollback index " << image.rollback_index() << '\n'
              << "  signature      "
              << (signature_bytes == 0
                      ? "none"
                      : count_text(signature_bytes) + " bytes; not checked, see m4fw verify --cert")
              << '\n'
              << "  manifest       " << size_text(image.manifest().manifest_bytes) << '\n'
              << "  payload        " << size_text(image.payload_bytes()) << ", "
              << image.tensors().size() << " tensors; not read, see m4fw verify\n";
    print_parts(image);
    print_shards(image);
    if (options.tensors) {
        print_tensors(image);
    }
}

}  // namespace m4::tools
