// SPDX-License-Identifier: MIT
#include "runtime.hpp"

#include <algorithm>
#include <vector>

#include "plan.hpp"

namespace m4::engine {

namespace {

/// Tensors that any program of the image reads, ascending.
std::vector<std::uint32_t> all_used(const firmware::Package& package) {
    std::vector<std::uint32_t> all;
    for (const firmware::Part& part : package.parts) {
        for (const firmware::Program& program : part.programs) {
            const auto own = used_tensors(program);
            all.insert(all.end(), own.begin(), own.end());
        }
    }
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
}

}  // namespace

Runtime::Runtime(const firmware::MappedImage& mapped, const Options& options)
    : image_(mapped.image()),
      guard_(options.guard),
      device_({options.device, options.validation, options.subgroups, options.timestamps}),
      pipelines_(device_, options.cache_dir),
      weights_(device_, mapped.payload(), image_.tensors(), all_used(image_.package()),
               {.export_window = options.export_window}) {}

DeviceReport Runtime::report() const {
    const vk::Identity& identity = device_.identity();
    DeviceReport report;
    report.device_name = identity.device_name;
    report.driver_name = identity.driver_name;
    report.driver_info = identity.driver_info;
    report.api_version = identity.api_version;
    report.weights_import = std::string(weights_.import_name());
    report.weight_bytes = weights_.weight_bytes();
    report.copied_bytes = weights_.copied_bytes();
    report.render_node = identity.render_node;
    report.drm_driver = identity.drm_driver;
    report.import_note = weights_.note();
    return report;
}

}  // namespace m4::engine
