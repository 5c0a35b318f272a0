// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/file.hpp"
#include "lib/image.hpp"
#include "vk/memory.hpp"
#include "windows.hpp"

namespace m4::weights {

enum class Import : std::uint8_t {
    automatic,  ///< dma-buf where it serves, else host pointer, else staging
    staging,
};

struct StoreOptions {
    Import import = Import::automatic;
    std::uint64_t window_bytes = 0;  ///< at most a buffer; 0: as the device allows
    std::uint64_t slice_bytes = 0;   ///< at most what a kernel binds; likewise
    /// See engine::Options.
    std::function<firmware::UniqueFd(std::uint64_t offset, std::uint64_t bytes)> export_window = {};
};

/// Where a kernel finds a tensor. At least one of the two ways is there.
struct TensorBuffer {
    hpp::BufferView view;  ///< of 16-byte units; null: larger than a texel buffer may be
    bool storage = false;  ///< small enough for a storage buffer binding
    hpp::Buffer buffer;
    std::uint64_t offset_bytes = 0;
    std::uint64_t size_bytes = 0;  ///< whole units
    std::uint64_t address = 0;     ///< on the device; 0: it knows none
};

/// Rows of a tensor in a buffer of their own.
struct SliceBuffer {
    TensorBuffer buffer;
    std::uint32_t first_row = 0;
    std::uint32_t rows = 0;
};

/// The tensors of an image as the device reads them. Where the driver can, the
/// device reads the mapped pages themselves, without a copy. Engine thread
/// only.
class Store {
   public:
    /// `used`: indices into `tensors` that kernels will read. The payload must
    /// outlive the store. Throws vk::DeviceError.
    Store(vk::Device& device, std::span<const std::byte> payload,
          std::span<const firmware::Tensor> tensors, std::span<const std::uint32_t> used,
          const StoreOptions& options = {});

    /// Slices of the rows of a tensor, whole groups of 16: one, unless no buffer
    /// of the device is so large. `index` is one of `used`.
    [[nodiscard]] const std::vector<SliceBuffer>& slices(std::uint32_t index) const {
        return tensors_.at(index);
    }
    /// One binding over these tensors, all of `used`, and what lies between
    /// them; nothing where they lie in several windows or too far apart.
    [[nodiscard]] std::optional<TensorBuffer> span(const vk::Device& device,
                                                   std::span<const std::uint32_t> tensors);
    /// "dma_buf", "host_pointer" or "staging".
    [[nodiscard]] std::string_view import_name() const { return import_name_; }
    /// Why not by the ways that are tried before; empty where it is the first.
    [[nodiscard]] const std::string& note() const { return note_; }
    [[nodiscard]] std::uint64_t weight_bytes() const { return weight_bytes_; }
    [[nodiscard]] std::uint64_t copied_bytes() const { return copied_bytes_; }
    [[nodiscard]] std::size_t window_count() const { return windows_.size(); }

   private:
    /// Tries `way`; false, and a word in note(), where it does not serve.
    template <typename Way>
    bool attempt(const char* name, Way&& way);
    void import_dma_bufs(const vk::Device& device, std::uint64_t payload_bytes,
                         std::span<const Wanted> wanted);
    void import_pages(const vk::Device& device, std::span<const std::byte> payload,
                      std::span<const Wanted> wanted);
    void stage(vk::Device& device, std::span<const std::byte> payload,
               std::span<const Wanted> wanted);
    void create_views(const vk::Device& device, std::span<const firmware::Tensor> tensors,
                      std::span<const Wanted> wanted, std::span<const std::uint32_t> order);
    std::vector<SliceBuffer> cut(const vk::Device& device, const vk::Buffer& window,
                                 const firmware::Tensor& tensor, const Extent& bytes);
    std::optional<TensorBuffer> bind(const vk::Device& device, const vk::Buffer& window,
                                     const Extent& bytes);

    std::vector<vk::Buffer> windows_;
    std::vector<hpp::raii::BufferView> views_;
    std::vector<std::vector<SliceBuffer>> tensors_;  // by the image's tensor index
    WindowPlan plan_;
    std::string_view import_name_;
    std::string note_;
    StoreOptions options_;
    std::uint64_t weight_bytes_ = 0;
    std::uint64_t copied_bytes_ = 0;
};

}  // namespace m4::weights
