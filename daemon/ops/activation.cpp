// SPDX-License-Identifier: MIT
#include "elementwise.hpp"

namespace m4::ops {

std::unique_ptr<Operator> make_activation(const Context& context, const Places& places) {
    const std::array constants = {
        static_cast<std::uint32_t>(places.op.integer(firmware::AttrId::function))};
    return make_elementwise(context, places, constants);
}

}  // namespace m4::ops
