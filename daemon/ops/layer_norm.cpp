// SPDX-License-Identifier: MIT
#include "by_row.hpp"

namespace m4::ops {

std::unique_ptr<Operator> make_layer_norm(const Context& context, const Places& places) {
    const std::array tensors = {&places.inputs[1].tensor, &places.inputs[2].tensor};
    const std::array push = {places.output.columns, bits(places.op.real(firmware::AttrId::eps))};
    return make_by_row(context, places, tensors, push);
}

}  // namespace m4::ops
