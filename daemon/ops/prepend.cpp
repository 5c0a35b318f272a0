// SPDX-License-Identifier: MIT
#include "by_unit.hpp"

namespace m4::ops {

std::unique_ptr<Operator> make_prepend(const Context& context, const Places& places) {
    const ValuePlace& x = places.inputs[0].value;
    const TensorPlace& rows = places.inputs[1].tensor;
    return make_by_unit(
        context, places, &rows,
        {x.unit, places.output.unit, x.stride, x.rows.factor, rows.rows, x.columns});
}

}  // namespace m4::ops
