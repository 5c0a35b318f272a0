// SPDX-License-Identifier: MIT
#include "fusion.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <span>

namespace m4::firmware {

namespace {

/// rms_norm, three linears, a rope each, kv_write.
constexpr std::uint32_t kLongestGroup = 8;
constexpr std::size_t kMostLinears = 3;

/// Operators of one group, taken front to back. Each step says what it expects
/// and takes it, or keeps the first thing that is amiss.
class Group {
   public:
    explicit Group(std::span<const Op> ops) : ops_(ops) {}

    void projection() {
        const std::uint32_t normed = norm();
        std::vector<std::uint32_t> results;
        while (results.size() < kMostLinears && next(OpCode::linear)) {
            results.push_back(linear_of(normed));
        }
        expect(!results.empty(), "has no linear behind its norm");
        const Op* first_rope = next(OpCode::rope) ? &ops_[at_] : nullptr;
        while (next(OpCode::rope)) {
            rope(*first_rope, results);
        }
        if (next(OpCode::kv_write)) {
            const Op& write = take();
            for (const std::size_t slot : {1U, 2U}) {
                const std::uint32_t value = write.inputs[slot].index;
                expect(std::count(results.begin(), results.end(), value) == 1,
                       "stores a value that it does not compute");
                hidden_.push_back(value);
            }
        }
    }

    void gated() {
        const std::uint32_t normed = norm();
        const std::uint32_t gate = linear_of(normed);
        const std::uint32_t up = linear_of(normed);
        const bool silu =
            !next(OpCode::activation) ||
            ops_[at_].integer(AttrId::function) == static_cast<std::int64_t>(Activation::silu);
        expect(silu, "has another activation than SiLU");
        const std::uint32_t active = unary(OpCode::activation, gate);
        (void)binary(OpCode::mul, active, up);
    }

    void residual() {
        if (!expect(next(OpCode::linear), "does not begin with a linear")) {
            return;
        }
        const std::uint32_t projected = take().outputs.front();
        hidden_.push_back(projected);
        (void)binary(OpCode::add, projected, std::nullopt);
    }

    /// `uses`: of each value, in the whole program.
    std::string fault(std::span<const std::uint32_t> uses) {
        expect(at_ == ops_.size(), "goes on behind its end");
        for (const std::uint32_t value : hidden_) {
            const auto inside =
                static_cast<std::uint32_t>(std::count(read_.begin(), read_.end(), value));
            expect(fault_ != nullptr || uses[value] == inside,
                   "computes a value on the way that is used elsewhere, too");
        }
        return fault_ == nullptr ? std::string() : "the group " + std::string(fault_);
    }

   private:
    bool expect(bool good, const char* fault) {
        if (!good && fault_ == nullptr) {
            fault_ = fault;
        }
        return good;
    }
    [[nodiscard]] bool next(OpCode code) const {
        return fault_ == nullptr && at_ < ops_.size() && ops_[at_].code == code;
    }
    const Op& take() {
        for (const Operand& input : ops_[at_].inputs) {
            if (input.kind == OperandKind::value) {
                read_.push_back(input.index);
            }
        }
        return ops_[at_++];
    }

    std::uint32_t norm() {
        if (!expect(next(OpCode::rms_norm), "does not begin with a norm")) {
            return 0;
        }
        hidden_.push_back(take().outputs.front());
        return hidden_.back();
    }

    std::uint32_t linear_of(std::uint32_t x) {
        if (!expect(next(OpCode::linear), "lacks a linear")) {
            return 0;
        }
        const Op& op = take();
        expect(op.inputs[0].index == x, "has a linear of another value than its norm's");
        expect(op.inputs[2].kind == OperandKind::none, "has a linear with a bias");
        return op.outputs.front();
    }

    /// Turns one of `results`, which then stands for what came of it.
    void rope(const Op& like, std::vector<std::uint32_t>& results) {
        const Op& op = take();
        const auto turned = std::find(results.begin(), results.end(), op.inputs[0].index);
        if (!expect(turned != results.end(), "turns a value that it does not compute")) {
            return;
        }
        expect(op.inputs[1].index == like.inputs[1].index &&
                   op.inputs[2].index == like.inputs[2].index &&
                   op.integer(AttrId::head_dim) == like.integer(AttrId::head_dim) &&
                   op.integer(AttrId::fine_rows) == like.integer(AttrId::fine_rows),
               "turns its values in different ways");
        hidden_.push_back(*turned);
        *turned = op.outputs.front();
    }

    std::uint32_t unary(OpCode code, std::uint32_t x) {
        if (!expect(next(code), "lacks an operator")) {
            return 0;
        }
        const Op& op = take();
        expect(op.inputs[0].index == x, "takes another value than the one before");
        hidden_.push_back(x);
        return op.outputs.front();
    }

    /// a with b in either order; b: any other value where it is not given.
    std::uint32_t binary(OpCode code, std::uint32_t a, std::optional<std::uint32_t> b) {
        if (!expect(next(code), "lacks an operator")) {
            return 0;
        }
        const Op& op = take();
        expect(op.inputs[1].kind == OperandKind::value, "joins a tensor to its value");
        const std::uint32_t left = op.inputs[0].index;
        const std::uint32_t right = op.inputs[1].index;
        const std::uint32_t other = left == a ? right : left;
        expect((left == a || right == a) && other != a && (!b || other == *b),
               "joins other values than the ones before");
        if (b) {
            hidden_.push_back(a);
            hidden_.push_back(*b);
        }
        return op.outputs.front();
    }

    std::span<const Op> ops_;
    std::size_t at_ = 0;
    std::vector<std::uint32_t> hidden_;  ///< values that only the group may see
    std::vector<std::uint32_t> read_;    ///< by its operators, one entry a use
    const char* fault_ = nullptr;
};

}  // namespace

FusionRules::FusionRules(const Program& program)
    : program_(program), uses_(program.values.size(), 0) {
    for (const Op& op : program.ops) {
        for (const Operand& input : op.inputs) {
            if (input.kind == OperandKind::value) {
                ++uses_[input.index];
            }
        }
    }
    for (const Port& port : program.outputs) {
        ++uses_[port.value];
    }
}

std::string FusionRules::fault(const Fusion& fusion) const {
    if (fusion.count == 0 || fusion.count > kLongestGroup || fusion.first > program_.ops.size() ||
        fusion.count > program_.ops.size() - fusion.first) {
        return "operators " + std::to_string(fusion.first) + " and " +
               std::to_string(fusion.count) + " on are no group";
    }
    Group group(std::span(program_.ops).subspan(fusion.first, fusion.count));
    switch (fusion.kind) {
        case FusionKind::projection:
            group.projection();
            break;
        case FusionKind::gated:
            group.gated();
            break;
        case FusionKind::residual:
            group.residual();
            break;
        default:
            return "unknown kind " + std::to_string(static_cast<unsigned>(fusion.kind));
    }
    return group.fault(uses_);
}

std::vector<Fusion> find_fusions(const Program& program) {
    constexpr std::array kKinds = {FusionKind::gated, FusionKind::projection, FusionKind::residual};
    const FusionRules rules(program);
    std::vector<Fusion> found;
    const auto longest_at = [&](std::uint32_t first) -> std::optional<Fusion> {
        const auto left = static_cast<std::uint32_t>(program.ops.size()) - first;
        for (std::uint32_t count = std::min(kLongestGroup, left); count > 1; --count) {
            for (const FusionKind kind : kKinds) {
                if (const Fusion fusion{kind, first, count}; rules.fault(fusion).empty()) {
                    return fusion;
                }
            }
        }
        return std::nullopt;
    };
    for (std::uint32_t first = 0; first < program.ops.size();) {
        const auto fusion = longest_at(first);
        if (fusion) {
            found.push_back(*fusion);
        }
        first += fusion ? fusion->count : 1;
    }
    return found;
}

}  // namespace m4::firmware
