// SPDX-License-Identifier: MIT
#include "shape_rules.hpp"

#include <algorithm>
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
        const char* symbol = dim.symbol == Symbol::tokens    ? "tokens"
                             : dim.symbol == Symbol::outputs ? "outputs"
                                                             : "items";
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
void require_positions(const OpUse& use, std::size_t slot, Dim rows,
                       Role wanted = Role::positions) {
    if (use.role(slot) != wanted) {
        use.fail(slot, wanted == Role::positions ? "is not the positions input"
                                                 : "is not the memory_positions input");
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
        return use.position_bound();
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
    if (data.rows.symbol == Symbol::items) {
        if (use.role(1) != Role::picked_rows) {
            use.fail(1, "rows of items are chosen by the picked_rows input");
        }
        // Its entries count an item's rows as its tokens.
        if (data.rows.factor != use.part().context_length) {
            use.fail(0, describe(use.value(0)) + " has not a row for each of an item's " +
                            std::to_string(use.part().context_length) + " tokens");
        }
        return matrix_of(rows.dims[0], data.columns);
    }
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
        (table.shape[0] - fine_rows) * fine_rows < use.position_bound()) {
        use.fail(2, name + " of " + std::to_string(table.shape[0]) + " rows, " +
                        std::to_string(fine_rows) + " of them fine, covers less than context " +
                        std::to_string(use.position_bound()));
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
    // All rows of a memory, of the rest those up to the row's own.
    require_positions(use, 2, q.rows,
                      state.kind == StateKind::memory ? Role::memory_positions : Role::positions);
    use.require_positive(AttrId::scale);
    return matrix_of(q.rows, q.columns);
}

/// Rows that each item has of a matrix.
std::uint64_t rows_of_item(const OpUse& use, std::size_t slot) {
    const Dim rows = matrix(use, slot).rows;
    if (rows.symbol != Symbol::items) {
        use.fail(slot, describe(use.value(slot)) + " has not its rows item by item");
    }
    return rows.factor;
}

/// `count` rows an item; a shape that no value has is refused where it is declared.
Dim rows_by_item(std::uint64_t count) {
    return {static_cast<std::uint32_t>(std::min<std::uint64_t>(count, M4_IMAGE_DIM_MAX)),
            Symbol::items};
}

/// Rows of a tensor that lie between an item's, or are added to them.
std::uint64_t plain_rows(const OpUse& use, std::size_t slot, std::uint64_t columns) {
    require_plain_f32(use, slot, 2);
    const Tensor& tensor = use.tensor(slot);
    if (tensor.shape[1] != columns) {
        use.fail(slot, "tensor '" + std::string(tensor.name) + "' has " +
                           std::to_string(tensor.shape[1]) + " columns instead of " +
                           std::to_string(columns));
    }
    return tensor.shape[0];
}

std::optional<Value> shape_add(const OpUse& use) {
    if (!use.holds(1, OperandKind::tensor)) {
        return same_matrices(use);
    }
    const Matrix a = matrix(use, 0);
    const std::uint64_t rows = plain_rows(use, 1, a.columns);
    if (rows != rows_of_item(use, 0)) {
        use.fail(1, "tensor '" + std::string(use.tensor(1).name) + "' has " + std::to_string(rows) +
                        " rows; an item of " + describe(use.value(0)) + " has others");
    }
    return matrix_of(a.rows, a.columns);
}

std::optional<Value> shape_mul(const OpUse& use) {
    return same_matrices(use);
}

std::optional<Value> shape_activation(const OpUse& use) {
    const Matrix x = matrix(use, 0);
    switch (static_cast<Activation>(use.integer(AttrId::function))) {
        case Activation::silu:
        case Activation::gelu:
        case Activation::gelu_tanh:
        case Activation::gelu_quick:
        case Activation::relu:
        case Activation::tanh:
            return matrix_of(x.rows, x.columns);
    }
    use.fail(AttrId::function,
             std::to_string(use.integer(AttrId::function)) + " is not a function");
}

std::optional<Value> shape_layer_norm(const OpUse& use) {
    const Matrix x = matrix(use, 0);
    require_vector(use, 1, x.columns);
    require_vector(use, 2, x.columns);
    use.require_positive(AttrId::eps);
    return matrix_of(x.rows, x.columns);
}

std::optional<Value> shape_self_attention(const OpUse& use) {
    const Matrix q = matrix(use, 0);
    const Matrix k = matrix(use, 1);
    const std::uint64_t heads = use.count(AttrId::heads);
    const std::uint64_t kv_heads = use.count(AttrId::kv_heads);
    const std::uint64_t rows = rows_of_item(use, 0);
    const std::uint64_t kv_rows = rows_of_item(use, 1);
    if (use.value(2).dims != use.value(1).dims || use.value(2).dtype != M4_DTYPE_F32) {
        use.fail(2, describe(use.value(2)) + " is not " + describe(use.value(1)) + " as the keys");
    }
    if (heads % kv_heads != 0) {
        use.fail(AttrId::heads, std::to_string(heads) + " is no multiple of " +
                                    std::to_string(kv_heads) + " KV heads");
    }
    if (q.columns % heads != 0 || k.columns != q.columns / heads * kv_heads) {
        use.fail(1, describe(use.value(1)) + " and " + describe(use.value(0)) +
                        " are not KV heads and heads of one width");
    }
    const std::int64_t causal = use.integer(AttrId::causal);
    if (causal != 0 && (causal != 1 || rows != kv_rows)) {
        use.fail(AttrId::causal,
                 std::to_string(causal) + " is not 0, nor 1 with as many keys as rows in an item");
    }
    use.require_positive(AttrId::scale);
    return matrix_of(q.rows, q.columns);
}

/// Windows along one side of a plane.
std::uint64_t windows(const OpUse& use, std::uint64_t side, AttrId kernel, AttrId stride,
                      AttrId pad) {
    const std::int64_t padding = use.integer(pad);
    const std::uint64_t width = use.count(kernel);
    if (padding < 0 || static_cast<std::uint64_t>(padding) >= width) {
        use.fail(pad, std::to_string(padding) + " is not 0 up to below the kernel's " +
                          std::to_string(width));
    }
    const std::uint64_t padded = side + 2 * static_cast<std::uint64_t>(padding);
    if (width > padded) {
        use.fail(kernel,
                 std::to_string(width) + " is wider than a plane of " + std::to_string(padded));
    }
    return (padded - width) / use.count(stride) + 1;
}

std::optional<Value> shape_unfold(const OpUse& use) {
    const Matrix x = matrix(use, 0);
    const std::uint64_t rows = rows_of_item(use, 0);
    const std::uint64_t channels = use.count(AttrId::channels);
    if (rows % channels != 0) {
        use.fail(AttrId::channels, describe(use.value(0)) + " has not " + std::to_string(channels) +
                                       " planes an item");
    }
    const std::uint64_t down =
        windows(use, rows / channels, AttrId::kernel_h, AttrId::stride_h, AttrId::pad_h);
    const std::uint64_t across =
        windows(use, x.columns, AttrId::kernel_w, AttrId::stride_w, AttrId::pad_w);
    const std::uint64_t window = use.count(AttrId::kernel_h) * use.count(AttrId::kernel_w);
    if (window > M4_IMAGE_DIM_MAX / channels) {
        use.fail(AttrId::channels, "a window of " + std::to_string(channels) + " planes of " +
                                       std::to_string(window) + " is more than 2^31");
    }
    return matrix_of(rows_by_item(down * across), channels * window);
}

std::optional<Value> shape_prepend(const OpUse& use) {
    const Matrix x = matrix(use, 0);
    const std::uint64_t rows = plain_rows(use, 1, x.columns);
    return matrix_of(rows_by_item(rows + rows_of_item(use, 0)), x.columns);
}

std::optional<Value> shape_mean_rows(const OpUse& use) {
    const Matrix x = matrix(use, 0);
    (void)rows_of_item(use, 0);
    return matrix_of({1, Symbol::items}, x.columns);
}

std::optional<Value> shape_select_row(const OpUse& use) {
    const Matrix x = matrix(use, 0);
    const std::uint64_t rows = rows_of_item(use, 0);
    const std::int64_t row = use.integer(AttrId::row);
    if (row < 0 || static_cast<std::uint64_t>(row) >= rows) {
        use.fail(AttrId::row,
                 std::to_string(row) + " is none of an item's " + std::to_string(rows) + " rows");
    }
    return matrix_of({1, Symbol::items}, x.columns);
}

std::optional<Value> shape_l2_norm(const OpUse& use) {
    const Matrix x = matrix(use, 0);
    use.require_positive(AttrId::scale);
    return matrix_of(x.rows, x.columns);
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
