// SPDX-License-Identifier: MIT
#include "by_unit.hpp"

namespace m4::ops {

std::unique_ptr<Operator> make_select_row(const Context& context, const Places& places) {
    const ValuePlace& x = places.inputs[0].value;
    const auto row = static_cast<std::uint32_t>(places.op.integer(firmware::AttrId::row));
    return make_by_unit(context, places, nullptr,
                        {x.unit, places.output.unit, x.stride, x.rows.factor, row});
}

}  // namespace m4::ops
