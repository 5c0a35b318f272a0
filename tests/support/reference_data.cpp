// SPDX-License-Identifier: MIT
#include "reference_data.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace m4::test {

ReferenceData::ReferenceData(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::uint64_t header_bytes = 0;
    file.read(reinterpret_cast<char*>(&header_bytes), sizeof header_bytes);
    if (!file || header_bytes > std::filesystem::file_size(path)) {
        throw std::runtime_error(path.string() + " cannot be read");
    }
    std::string header(header_bytes, '\0');
    file.read(header.data(), static_cast<std::streamsize>(header_bytes));
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    const auto entries = nlohmann::json::parse(header);
    for (const auto& [name, entry] : entries.items()) {
        if (name != "__metadata__") {
            const auto& offsets = entry.at("data_offsets");
            tensors_[name] = {entry.at("shape").get<std::vector<std::size_t>>(),
                              offsets.at(0).get<std::size_t>(), offsets.at(1).get<std::size_t>()};
        }
    }
}

std::span<const char> ReferenceData::bytes_of(const std::string& name) const {
    const Tensor& tensor = tensors_.at(name);
    if (tensor.first > tensor.end || tensor.end > bytes_.size()) {
        throw std::runtime_error("tensor " + name + " is cut short");
    }
    return std::span<const char>(bytes_).subspan(tensor.first, tensor.end - tensor.first);
}

double relative(std::span<const float> got, std::span<const float> wanted) {
    if (got.size() != wanted.size() || got.empty()) {
        return HUGE_VAL;
    }
    double largest = 0;
    double difference = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
        const double distance = std::abs(double{got[i]} - double{wanted[i]});
        largest = std::max(largest, std::abs(double{wanted[i]}));
        difference = std::isnan(distance) ? HUGE_VAL : std::max(difference, distance);
    }
    return difference / largest;
}

}  // namespace m4::test
