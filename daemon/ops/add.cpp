// SPDX-License-Identifier: MIT
#include "elementwise.hpp"

namespace m4::ops {

std::unique_ptr<Operator> make_add(const Context& context, const Places& places) {
    return make_elementwise(context, places, {});
}

}  // namespace m4::ops
