// SPDX-License-Identifier: MIT
#include "match.hpp"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "lib/part_ports.hpp"

namespace m4::firmware {

namespace {

/// What the programs do with a tensor.
struct Uses {
    bool linear = false;  ///< the weight of one
    bool other = false;
};

std::vector<Uses> uses_of(const Part& part, std::size_t tensor_count) {
    std::vector<Uses> uses(tensor_count);
    for (const Program& program : part.programs) {
        for (const Op& op : program.ops) {
            for (std::size_t slot = 0; slot < op.inputs.size(); ++slot) {
                const Operand& operand = op.inputs[slot];
                if (operand.kind == OperandKind::tensor && operand.index < tensor_count) {
                    const bool weight = op.code == OpCode::linear && slot == 1;
                    (weight ? uses[operand.index].linear : uses[operand.index].other) = true;
                }
            }
        }
    }
    return uses;
}

std::string sides(std::uint64_t rows, std::uint64_t columns) {
    return "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

std::string pair_fault(const LowRankPair& pair, const Tensor& tensor, const Uses& uses) {
    if (tensor.rank != 2) {
        return "is no matrix";
    }
    if (tensor.shape[0] != pair.rows || tensor.shape[1] != pair.columns) {
        return "the pair is for shape " + sides(pair.rows, pair.columns) + ", the tensor's is " +
               sides(tensor.shape[0], tensor.shape[1]);
    }
    if (!uses.linear || uses.other) {
        return "is not, or not only, the weight of a linear";
    }
    if (tensor.row_order != M4_ROW_ORDER_NONE && pair.order == M4_ROW_ORDER_NONE) {
        return "its rows are rotated, and the pair does not say in which order it has them";
    }
    return {};
}

/// Of one part: every pair, tried.
struct Candidate {
    std::uint32_t part = 0;
    std::vector<PairMatch> pairs;
    std::size_t matched = 0;
    std::string head_fault;
};

/// What a head takes: the verifier saw that it is one of these.
Role head_input(const Part& head) {
    return port_shape(head, Role::embedding).rows != 0 ? Role::embedding : Role::hidden;
}

std::string input_text(const Part& head) {
    const Role role = head_input(head);
    const FeatureShape shape = port_shape(head, role);
    return (role == Role::embedding ? "embedding of " : "hidden of ") +
           sides(shape.rows, shape.columns);
}

std::string head_fault(const Part& head, const Part& part) {
    const Role role = head_input(head);
    const FeatureShape given =
        part.kind == PartKind::encoder ? port_shape(part, role) : FeatureShape{};
    if (given == port_shape(head, role)) {
        return {};
    }
    return "the head takes " + input_text(head) + ", part " + part.name + " gives " +
           (given.rows == 0 ? "none" : sides(given.rows, given.columns));
}

Candidate try_part(const Adapter& adapter, const Package& package, std::span<const Tensor> tensors,
                   std::uint32_t index) {
    const Part& part = package.parts[index];
    std::unordered_map<std::string_view, std::uint32_t> names;
    for (std::uint32_t i = 0; i < tensors.size(); ++i) {
        if (tensors[i].part == index) {
            names.emplace(tensors[i].name, i);
        }
    }
    const std::vector<Uses> uses = uses_of(part, tensors.size());
    Candidate out;
    out.part = index;
    for (const LowRankPair& pair : adapter.pairs) {
        const auto found = names.find(pair.tensor);
        PairMatch match;
        if (found == names.end()) {
            match.fault = "no such tensor";
        } else {
            match.fault = pair_fault(pair, tensors[found->second], uses[found->second]);
            if (match.fault.empty()) {
                match.tensor = found->second;
                ++out.matched;
            }
        }
        out.pairs.push_back(std::move(match));
    }
    if (adapter.head) {
        out.head_fault = head_fault(adapter.head->part, part);
    }
    return out;
}

/// Whether `a` is the better home.
bool is_better(const Candidate& a, const Candidate& b) {
    return a.matched != b.matched ? a.matched > b.matched
                                  : a.head_fault.empty() && !b.head_fault.empty();
}

std::string digests_of(const Package& package) {
    std::string text;
    for (const Part& part : package.parts) {
        text += (text.empty() ? "" : ", ") + part.name + " is " + to_hex(part.source_digest);
    }
    return text;
}

/// Why what was found for an adapter without a digest is no home; empty: it is one.
std::string unbound_fault(const Adapter& adapter, const Candidate& best, std::size_t equals) {
    if (best.matched == 0 && !adapter.pairs.empty()) {
        return "no part has any of its " + std::to_string(adapter.pairs.size()) +
               " tensors: pair '" + adapter.pairs.front().tensor + "': " + best.pairs.front().fault;
    }
    if (best.matched == 0 && !best.head_fault.empty()) {
        return "no part gives what its head takes, " + input_text(adapter.head->part);
    }
    if (best.matched == 0 && equals > 1) {
        return "its head fits " + std::to_string(equals) +
               " parts, and it is bound to none: import it with --base";
    }
    return best.head_fault;
}

std::string sentence(const Adapter& adapter, const Package& package, const AdapterMatch& match) {
    const std::string name = "adapter " + adapter.name;
    if (!match.part) {
        return name + ": " + match.fault;
    }
    std::string text = name + ": " + std::to_string(match.matched) + " of " +
                       std::to_string(match.pairs.size()) + " pairs match part " +
                       package.parts[*match.part].name;
    if (!match.fault.empty()) {
        text += "; " + match.fault;
    }
    const auto bad = std::find_if(match.pairs.begin(), match.pairs.end(),
                                  [](const PairMatch& pair) { return !pair.tensor; });
    if (bad == match.pairs.end()) {
        return text;
    }
    const std::size_t others = match.pairs.size() - match.matched - 1;
    text += "; pair '" + adapter.pairs[static_cast<std::size_t>(bad - match.pairs.begin())].tensor +
            "': " + bad->fault;
    return others == 0 ? text : text + "; and " + std::to_string(others) + " more";
}

}  // namespace

AdapterMatch match_adapter(const Adapter& adapter, const Package& package,
                           std::span<const Tensor> tensors) {
    std::optional<Candidate> best;
    std::size_t equals = 0;  // parts that are as good
    for (std::uint32_t i = 0; i < package.parts.size(); ++i) {
        if (is_bound(adapter) && package.parts[i].source_digest != adapter.base) {
            continue;
        }
        Candidate candidate = try_part(adapter, package, tensors, i);
        if (!best || is_better(candidate, *best)) {
            best = std::move(candidate);
            equals = 1;
        } else if (!is_better(*best, candidate)) {
            ++equals;
        }
    }
    AdapterMatch out;
    out.pairs.resize(adapter.pairs.size());
    if (!best) {
        out.fault =
            "is for a base of source digest " + to_hex(adapter.base) + "; " + digests_of(package);
        for (PairMatch& pair : out.pairs) {
            pair.fault = "its base is not here";
        }
    } else {
        out.fault = is_bound(adapter) ? best->head_fault : unbound_fault(adapter, *best, equals);
        out.pairs = std::move(best->pairs);
        out.matched = best->matched;
        if (is_bound(adapter) || out.matched != 0 || out.fault.empty()) {
            out.part = best->part;
        }
    }
    out.summary = sentence(adapter, package, out);
    return out;
}

AdapterMatch match_adapter(const Adapter& adapter, const Image& image) {
    return match_adapter(adapter, image.package(), image.tensors());
}

}  // namespace m4::firmware
