// SPDX-License-Identifier: MIT
#include <adapter_generated.h>

#include <cstring>
#include <string>

#include "adapter.hpp"
#include "file_layout.hpp"
#include "lib/error.hpp"
#include "lib/staged_file.hpp"
#include "lib/verify.hpp"
#include "limits.hpp"

namespace m4::firmware {

namespace {

using Buffer = flatbuffers::FlatBufferBuilder;

template <typename T>
using Offset = flatbuffers::Offset<T>;
using Text = Offset<flatbuffers::String>;
using Bytes = Offset<flatbuffers::Vector<std::uint8_t>>;

/// Where the tensors go: one behind the other, each aligned.
class Layout {
   public:
    std::uint64_t add(std::span<const std::byte> bytes) {
        const std::uint64_t offset = align_data(end_);
        places_.push_back({offset, bytes});
        end_ = offset + bytes.size();
        return offset;
    }
    [[nodiscard]] std::uint64_t size_bytes() const { return end_; }
    /// `data` is zero and of size_bytes().
    void copy_to(std::span<std::byte> data) const {
        for (const auto& place : places_) {
            if (!place.bytes.empty()) {
                std::memcpy(data.data() + place.offset, place.bytes.data(), place.bytes.size());
            }
        }
    }

   private:
    struct Place {
        std::uint64_t offset;
        std::span<const std::byte> bytes;
    };
    std::vector<Place> places_;
    std::uint64_t end_ = 0;
};

Text text(Buffer& buffer, const std::string& value) {
    return value.empty() ? Text{} : buffer.CreateString(value);
}

Bytes digest(Buffer& buffer, const Digest& value) {
    return is_set(value) ? buffer.CreateVector(value.data(), value.size()) : Bytes{};
}

Offset<fb::LowRankPair> encode(Buffer& buffer, const LowRankPair& pair, Layout& layout) {
    const std::string place = "adapter: pair '" + pair.tensor + "'";
    const std::uint64_t row = std::uint64_t{pair.rank} * element_bytes(pair.dtype);
    if (pair.a.size() != row * pair.columns || pair.b.size() != row * pair.rows) {
        throw Error(place, "its factors are not of its rank and sizes");
    }
    const auto name = buffer.CreateString(pair.tensor);
    const std::uint64_t a = layout.add(pair.a);
    const std::uint64_t b = layout.add(pair.b);
    return fb::CreateLowRankPair(buffer, name, pair.rank, pair.rows, pair.columns, pair.scale,
                                 static_cast<std::uint16_t>(pair.dtype),
                                 static_cast<std::uint16_t>(pair.order), a, b);
}

Offset<fb::Head> encode(Buffer& buffer, const AdapterHead& head, Layout& layout) {
    if (head.tensors.size() != head.bytes.size()) {
        throw Error("adapter: head", "has not the bytes of each tensor");
    }
    std::vector<Offset<fb::HeadTensor>> tensors;
    for (std::size_t i = 0; i < head.tensors.size(); ++i) {
        const Tensor& tensor = head.tensors[i];
        if (tensor.rank > tensor.shape.size()) {
            throw Error("adapter: head", "has a tensor of more than 4 dimensions");
        }
        const auto name = buffer.CreateString(tensor.name.data(), tensor.name.size());
        const auto shape = buffer.CreateVector(tensor.shape.data(), tensor.rank);
        const std::uint64_t offset = layout.add(head.bytes[i]);
        tensors.push_back(fb::CreateHeadTensor(
            buffer, name, static_cast<std::uint16_t>(tensor.dtype),
            static_cast<std::uint16_t>(tensor.layout), shape, offset, head.bytes[i].size()));
    }
    const auto blob = encode_package(Package{{head.part}});
    const auto program =
        buffer.CreateVector(reinterpret_cast<const std::uint8_t*>(blob.data()), blob.size());
    return fb::CreateHead(buffer, program, buffer.CreateVector(tensors));
}

void encode(Buffer& buffer, const Adapter& adapter, Layout& layout) {
    std::vector<Offset<fb::LowRankPair>> pairs;
    for (const LowRankPair& pair : adapter.pairs) {
        pairs.push_back(encode(buffer, pair, layout));
    }
    const auto pair_vector = buffer.CreateVector(pairs);
    const auto head = adapter.head ? encode(buffer, *adapter.head, layout) : Offset<fb::Head>{};
    const auto name = text(buffer, adapter.name);
    const auto task = text(buffer, adapter.task);
    const auto prompt_template = text(buffer, adapter.prompt_template);
    const auto base_name = text(buffer, adapter.base_name);
    const auto architecture = text(buffer, adapter.architecture);
    const auto source = text(buffer, adapter.source);
    const auto base = digest(buffer, adapter.base);
    const auto probed = digest(buffer, adapter.probed);
    fb::FinishAdapterBuffer(
        buffer, fb::CreateAdapter(buffer, name, task, prompt_template, base_name, architecture,
                                  source, base, probed, pair_vector, head));
}

}  // namespace

std::vector<std::byte> encode_adapter(const Adapter& adapter) {
    if (data_bytes(adapter) > kMaxAdapterBytes || adapter.pairs.size() > kMaxPairs) {
        throw Error("adapter", std::to_string(adapter.pairs.size()) + " pairs of " +
                                   std::to_string(data_bytes(adapter)) +
                                   " bytes, more than 4096 or 1 GiB");
    }
    Buffer buffer(4096);
    Layout layout;
    encode(buffer, adapter, layout);
    AdapterHeader header;
    header.metadata_offset = sizeof(header);
    header.metadata_bytes = buffer.GetSize();
    header.data_offset = align_data(header.metadata_offset + header.metadata_bytes);
    header.data_bytes = layout.size_bytes();
    header.file_bytes = header.data_offset + header.data_bytes;
    std::vector<std::byte> file(header.file_bytes);
    std::memcpy(file.data(), &header, sizeof(header));
    std::memcpy(file.data() + header.metadata_offset, buffer.GetBufferPointer(), buffer.GetSize());
    layout.copy_to(std::span(file).subspan(header.data_offset));
    // The reader's own checks, so that nothing is written that it refuses.
    static_cast<void>(read_adapter(file));
    return file;
}

void write_adapter(const std::filesystem::path& path, const Adapter& adapter, bool replace) {
    const std::vector<std::byte> file = encode_adapter(adapter);
    StagedFile staged(path, 0644, replace);
    staged.write(file);
    staged.commit();
}

}  // namespace m4::firmware
