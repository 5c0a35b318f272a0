// SPDX-License-Identifier: MIT
#include "shape_rules.hpp"

#include <cmath>

#include "error.hpp"
#include "operators.hpp"
#include "places.hpp"
#include "quant.hpp"

namespace m4::firmware {

std::optional<Role> OpUse::role(std::size_t slot) const {
    const Role role = roles_[op_.inputs[slot].index];
    return role == Role{} ? std::nullopt : std::optional(role);
}

std::uint64_t OpUse::count(AttrId id) const {
    const std::int64_t number = op_.integer(id);
    if (number < 1 || number > std::int64_t{M4_IMAGE_DIM_MAX}) {
        fail(id, std::to_string(number) + " is not 1 to 2^31");
    }
    return static_cast<std::uint64_t>(number);
}

void OpUse::require_positive(AttrId id) const {
    if (!std::isfinite(op_.real(id)) || op_.real(id) <= 0.0) {
        fail(id, std::to_string(op_.real(id)) + " is not a finite number above 0");
    }
}

void OpUse::fail(std::size_t slot, const std::string& reason) const {
    const OpInfo* info = find_op(static_cast<std::uint16_t>(op_.code));
    throw Error(op_place(program_place_, index_, info->name) + ": input " + std::to_string(slot),
                reason);
}

void OpUse::fail(AttrId id, const std::string& reason) const {
    const OpInfo* info = find_op(static_cast<std::uint16_t>(op_.code));
    const AttrInfo* attribute = find_attribute(static_cast<std::uint16_t>(id));
    throw Error(op_place(program_place_, index_, info->name) + ": attribute " +
                    std::string(attribute->name),
                reason);
}

std::string describe(const Value& value) {
    std::string text = value.dtype == M4_DTYPE_U32 ? "u32[" : "f32[";
    for (std::size_t i = 0; i < value.dims.size(); ++i) {
        const Dim& dim = value.dims[i];
        const char* symbol = dim.symbol == Symbol::tokens ? "tokens" : "outputs";
        text += i == 0 ? "" : ", ";
        if (dim.symbol == Symbol::none) {
            text += std::to_string(dim.factor);
        } else {
            text += dim.factor == 1 ? symbol : std::to_string(dim.factor) + " " + symbol;
        }
    }
    return text + "]";
}

namespace {

/// Rows x columns of an F32 operand.
struct Matrix {
    Dim rows;
    std::uint64_t columns;
};

Value matrix_of(Dim rows, std::uint64_t columns) {
    return {M4_DTYPE_F32, {rows, {static_cast<std::uint32_t>(columns), Symbol::none}}};
}

Matrix matrix(const OpUse& use, std::size_t slot) {
    const Value& value = use.value(slot);
    if (value.dtype != M4_DTYPE_F32 || value.dims.size() != 2) {
        use.fail(slot, describe(value) + " is not an F32 matrix");
    }
    return {value.dims[0], value.dims[1].factor};
}

/// Both operands alike.
Value same_matrices(const OpUse& use) {
    const Matrix a = matrix(use, 0);
    matrix(use, 1);
    if (use.value(1).dims != use.value(0).dims) {
        use.fail(1,
                 describe(use.value(1)) + " is not " + describe(use.value(0)) + " as input 0 is");
    }
    return matrix_of(a.rows, a.columns);
}

/// The positions port, one for each of `rows`. Only the port will do: its
/// entries are the ones the daemon keeps below the context length.
void require_positions(const OpUse& use, std::size_t slot, Dim rows) {
    if (use.role(slot) != Role::positions) {
        use.fail(slot, "is not the positions input");
    }
    if (use.value(slot).dims[0] != rows) {
        use.fail(slot, describe(use.value(slot)) + " has not one position a row");
    }
}

/// A matrix as the shaders read it.
void require_rows16(const OpUse& use, std::size_t slot) {
    const Tensor& tensor = use.tensor(slot);
    if (tensor.layout != M4_LAYOUT_ROWS16 || tensor.rank != 2) {
        use.fail(slot, "tensor '" + std::string(tensor.name) + "' is not a ROWS16 matrix");
    }
    if (tensor.dtype != M4_DTYPE_F32 && tensor.dtype != M4_DTYPE_F16 &&
        !is_quantized(tensor.dtype)) {
        use.fail(slot, "tensor '" + std::string(tensor.name) + "' is not F32, F16, Q8 or Q4");
    }
    if (tensor.row_order == M4_ROW_ORDER_HALF_SPLIT) {
        use.fail(slot, "tensor '" + std::string(tensor.name) + "' has half-split rows");
    }
}

void require_plain_f32(const OpUse& use, std::size_t slot, std::uint32_t rank) {
    const Tensor& tensor = use.tensor(slot);
    if (tensor.layout != M4_LAYOUT_PLAIN || tensor.dtype != M4_DTYPE_F32 || tensor.rank != rank) {
        use.fail(slot, "tensor '" + std::string(tensor.name) + "' is not plain F32 of rank " +
                           std::to_string(rank));
    }
}

void require_vector(const OpUse& use, std::size_t slot, std::uint64_t length) {
    require_plain_f32(use, slot, 1);
    const Tensor& tensor = use.tensor(slot);
    if (tensor.shape[0] != length) {
        use.fail(slot, "tensor '" + std::string(tensor.name) + "' has " +
                           std::to_string(tensor.shape[0]) + " elements instead of " +
                           std::to_string(length));
    }
}

/// Rows of a matrix of the image must cover all that the port may name.
std::uint64_t gather_bound(const OpUse& use) {
    if (use.role(1) == Role::token_ids) {
        return use.part().vocabulary;
    }
    if (use.role(1) == Role::positions) {
        return use.part().context_length;
    }
    use.fail(1, "rows of a tensor are chosen by the token_ids or positions input");
}

std::optional<Value> shape_gather_rows(const OpUse& use) {
    const Value& rows = use.value(1);
    if (rows.dtype != M4_DTYPE_U32 || rows.dims.size() != 1) {
        use.fail(1, describe(rows) + " is not a u32 vector");
    }
    if (use.holds(0, OperandKind::tensor)) {
        require_rows16(use, 0);
        const Tensor& data = use.tensor(0);
        const std::uint64_t bound = gather_bound(use);
        if (data.shape[0] < bound) {
            use.fail(0, "tensor '" + std::string(data.name) + "' has " +
                            std::to_string(data.shape[0]) + " rows; input 1 may name " +
                            std::to_string(bound));
        }
        return matrix_of(rows.dims[0], data.shape[1]);
    }
    const Matrix data = matrix(use, 0);
    if (data.rows != Dim{1, Symbol::tokens}) {
        use.fail(0, describe(use.value(0)) + " has not one row a token");
    }
    if (use.role(1) != Role::output_rows) {
        use.fail(1, "rows of a value are chosen by the output_rows input");
    }
    return matrix_of(rows.dims[0], data.columns);
}

std::optional<Value> shape_rms_norm(const OpUse& use) {
    const Matrix x = matrix(use, 0);
    require_vector(use, 1, x.columns);
    use.require_positive(AttrId::eps);
    return matrix_of(x.rows, x.columns);
}

std::optional<Value> shape_linear(const OpUse& use) {
    const Matrix x = matrix(use, 0);
    require_rows16(use, 1);
    const Tensor& weight = use.tensor(1);
    if (weight.shape[1] != x.columns) {
        use.fail(1, "tensor '" + std::string(weight.name) + "' has " +
                        std::to_string(weight.shape[1]) + " columns instead of " +
                        std::to_string(x.columns));
    }
    if (use.holds(2, OperandKind::tensor)) {
        require_vector(use, 2, weight.shape[0]);
    }
    return matrix_of(x.rows, weight.shape[0]);
}

std::optional<Value> shape_rope(const OpUse& use) {
    const Matrix x = matrix(use, 0);
    require_positions(use, 1, x.rows);
    require_plain_f32(use, 2, 2);
    const std::uint64_t head_dim = use.count(AttrId::head_dim);
    const std::uint64_t fine_rows = use.count(AttrId::fine_rows);
    if (use.count(AttrId::heads) * head_dim != x.columns) {
        use.fail(0, describe(use.value(0)) + " is not heads times head_dim wide");
    }
    if ((fine_rows & (fine_rows - 1)) != 0) {
        use.fail(AttrId::fine_rows, std::to_string(fine_rows) + " is not a power of two");
    }
    const Tensor& table = use.tensor(2);
    const std::string name = "tensor '" + std::string(table.name) + "'";
    if (table.shape[1] % 2 != 0 || table.shape[1] > head_dim) {
        use.fail(2, name + " rotates " + std::to_string(table.shape[1]) + " of " +
                        std::to_string(head_dim) + " dimensions; even, and at most all");
    }
    if (table.shape[0] <= fine_rows ||
        (table.shape[0] - fine_rows) * fine_rows < use.part().context_length) {
        use.fail(2, name + " of " + std::to_string(table.shape[0]) + " rows, " +
                        std::to_string(fine_rows) + " of them fine, covers less than context " +
                        std::to_string(use.part().context_length));
    }
    return matrix_of(x.rows, x.columns);
}

std::optional<Value> shape_kv_write(const OpUse& use) {
    const State& state = use.state(0);
    const std::uint64_t width = std::uint64_t{state.kv_heads} * state.head_dim;
    const Matrix k = matrix(use, 1);
    if (k.columns != width) {
        use.fail(1, describe(use.value(1)) +
                        " is not kv_heads times head_dim = " + std::to_string(width) + " wide");
    }
    matrix(use, 2);
    if (use.value(2).dims != use.value(1).dims) {
        use.fail(2, describe(use.value(2)) + " is not " + describe(use.value(1)) + " as the keys");
    }
    require_positions(use, 3, k.rows);
    return std::nullopt;
}

std::optional<Value> shape_attention(const OpUse& use) {
    const Matrix q = matrix(use, 0);
    const State& state = use.state(1);
    const std::uint64_t heads = use.count(AttrId::heads);
    if (q.columns != heads * state.head_dim) {
        use.fail(0, describe(use.value(0)) + " is not heads times head_dim = " +
                        std::to_string(heads * state.head_dim) + " wide");
    }
    if (heads % state.kv_heads != 0) {
        use.fail(AttrId::heads, std::to_string(heads) + " is no multiple of " +
                                    std::to_string(state.kv_heads) + " KV heads");
    }
    require_positions(use, 2, q.rows);
    use.require_positive(AttrId::scale);
    return matrix_of(q.rows, q.columns);
}

std::optional<Value> shape_add(const OpUse& use) {
    return same_matrices(use);
}

std::optional<Value> shape_mul(const OpUse& use) {
    return same_matrices(use);
}

std::optional<Value> shape_activation(const OpUse& use) {
    const Matrix x = matrix(use, 0);
    switch (static_cast<Activation>(use.integer(AttrId::function))) {
        case Activation::silu:
            return matrix_of(x.rows, x.columns);
    }
    use.fail(AttrId::function,
             std::to_string(use.integer(AttrId::function)) + " is not a function");
}

}  // namespace

/// Built from ops.def: an operator without its shape_<name> above does not
/// compile, nor does a rule without an operator.
ShapeRule shape_rule(OpCode code) {
    switch (code) {
#define M4_OP(code_, name, inputs, outputs, attributes, summary) \
    case OpCode::name:                                           \
        return &shape_##name;
#include "../ops.def"
    }
    throw Error("operator " + std::to_string(static_cast<unsigned>(code)), "has no shape rule");
}

}  // namespace m4::firmware
