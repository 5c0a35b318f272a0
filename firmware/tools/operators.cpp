// SPDX-License-Identifier: MIT
#include "lib/operators.hpp"

#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands.hpp"
#include "print.hpp"

namespace m4::tools {

namespace {

using nlohmann::ordered_json;

/// Uses of each operator over all programs of an image.
std::map<std::string, std::size_t> count_uses(const firmware::Image& image) {
    std::map<std::string, std::size_t> uses;
    for (const auto& part : image.package().parts) {
        for (const auto& program : part.programs) {
            for (const auto& [name, count] : operators_used(program)) {
                uses[name] += count;
            }
        }
    }
    return uses;
}

}  // namespace

void operators(const OperatorsOptions& options) {
    std::optional<std::map<std::string, std::size_t>> uses;
    if (!options.folder.empty()) {
        uses = count_uses(load_manifest(options.folder).image);
    }
    ordered_json list = ordered_json::array();
    std::vector<std::vector<std::string>> rows;
    for (const firmware::OpInfo& info : firmware::operator_set()) {
        const std::string name(info.name);
        if (uses && uses->count(name) == 0) {
            continue;
        }
        const std::size_t count = uses ? uses->at(name) : 0;
        ordered_json attributes = ordered_json::array();
        for (const auto* attribute : firmware::attributes_of(info)) {
            attributes.push_back(std::string(attribute->name));
        }
        list.push_back({{"code", static_cast<unsigned>(info.code)},
                        {"name", name},
                        {"inputs", std::string(info.inputs)},
                        {"outputs", info.output_count},
                        {"attributes", attributes},
                        {"summary", std::string(info.summary)}});
        rows.push_back({std::to_string(static_cast<unsigned>(info.code)), name});
        if (uses) {
            list.back()["uses"] = count;
            rows.back().push_back(std::to_string(count));
        }
        rows.back().emplace_back(info.summary);
    }
    if (options.json) {
        std::cout << list.dump(2) << '\n';
    } else if (uses) {
        print_table({"code", "name", "uses", "summary"}, rows);
    } else {
        print_table({"code", "name", "summary"}, rows);
    }
}

}  // namespace m4::tools
