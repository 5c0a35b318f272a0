// SPDX-License-Identifier: MIT
#include "by_row.hpp"

namespace m4::ops {

std::unique_ptr<Operator> make_l2_norm(const Context& context, const Places& places) {
    const std::array push = {bits(places.op.real(firmware::AttrId::scale))};
    return make_by_row(context, places, {}, push);
}

}  // namespace m4::ops
