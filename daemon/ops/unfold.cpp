// SPDX-License-Identifier: MIT
#include "by_unit.hpp"

namespace m4::ops {

std::unique_ptr<Operator> make_unfold(const Context& context, const Places& places) {
    using firmware::AttrId;
    const ValuePlace& x = places.inputs[0].value;
    const ValuePlace& y = places.output;
    const auto number = [&](AttrId id) {
        return static_cast<std::uint32_t>(places.op.integer(id));
    };
    const std::uint32_t across =
        (x.columns + 2 * number(AttrId::pad_w) - number(AttrId::kernel_w)) /
            number(AttrId::stride_w) +
        1;
    const std::uint32_t channels = number(AttrId::channels);
    return make_by_unit(context, places, nullptr,
                        {x.unit, y.unit, x.stride, y.stride, channels, x.rows.factor / channels,
                         x.columns, y.rows.factor, across, number(AttrId::kernel_h),
                         number(AttrId::kernel_w), number(AttrId::stride_h),
                         number(AttrId::stride_w), number(AttrId::pad_h), number(AttrId::pad_w)});
}

}  // namespace m4::ops
