// SPDX-License-Identifier: MIT
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "lib/image.hpp"
#include "temp_folder.hpp"
#include "tiny_model.hpp"

namespace m4::test {

/// A good package with the tensors it names; cases below break one thing each.
/// Where operators and values are, for a model of two layers:
///   values 0 token_ids, 1 positions, 2 output_rows, 3 embedded rows, ...
///   op 0 gather, 1 norm, 2 q, 3 k, 4 v, 5 rope q, 6 rope k, 7 kv_write,
///   8 attention, 9 o, 10 add, 11 norm, 12 gate, 13 up, 14 activation, 15 mul,
///   16 down, 17 add; 18 .. 34 again; 35 gather, 36 norm, 37 linear
struct PackageSample {
    TempFolder temp;
    firmware::MappedImage mapped;
    std::vector<firmware::Tensor> tensors;

    PackageSample() : mapped(write()), tensors(mapped.image().tensors()) {}

    firmware::MappedImage write() const {
        TinyDims dims;
        dims.query_bias = true;
        write_tiny_model(make_tiny_model(dims, 5), temp / "image");
        return firmware::MappedImage::open_folder(temp / "image");
    }
    [[nodiscard]] firmware::Package package() const { return mapped.image().package(); }
    [[nodiscard]] std::uint32_t tensor(const std::string& name) const {
        for (std::uint32_t i = 0; i < tensors.size(); ++i) {
            if (tensors[i].name == name) {
                return i;
            }
        }
        throw std::runtime_error("no tensor " + name);
    }
};

inline const PackageSample& sample() {
    static const PackageSample instance;
    return instance;
}

}  // namespace m4::test
