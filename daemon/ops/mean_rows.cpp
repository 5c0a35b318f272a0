// SPDX-License-Identifier: MIT
#include "by_unit.hpp"

namespace m4::ops {

std::unique_ptr<Operator> make_mean_rows(const Context& context, const Places& places) {
    const ValuePlace& x = places.inputs[0].value;
    return make_by_unit(context, places, nullptr,
                        {x.unit, places.output.unit, x.stride, x.rows.factor});
}

}  // namespace m4::ops
