// SPDX-License-Identifier: MIT
#include "by_unit.hpp"
#include "elementwise.hpp"

namespace m4::ops {

std::unique_ptr<Operator> make_add(const Context& context, const Places& places) {
    if (places.inputs[1].kind != firmware::OperandKind::tensor) {
        return make_elementwise(context, places, {});
    }
    const ValuePlace& a = places.inputs[0].value;
    const TensorPlace& b = places.inputs[1].tensor;
    return make_by_unit(context, places, &b,
                        {a.unit, places.output.unit, a.stride, a.rows.factor, a.columns});
}

}  // namespace m4::ops
