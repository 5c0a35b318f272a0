// SPDX-License-Identifier: MIT
#include <adapter_generated.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <string_view>

#include "adapter.hpp"
#include "file_layout.hpp"
#include "lib/error.hpp"
#include "lib/places.hpp"
#include "lib/sha256.hpp"
#include "lib/verify.hpp"
#include "limits.hpp"
#include "rules.hpp"

namespace m4::firmware {

namespace {

constexpr const char* kPlace = "adapter";
constexpr const char* kHeader = "adapter: header";
constexpr flatbuffers::uoffset_t kMaxDepth = 8;
/// No more than an honest file has: one that names a table many times is none.
constexpr flatbuffers::uoffset_t kMaxTables = kMaxPairs + kMaxHeadTensors + 2;

AdapterHeader read_header(std::span<const std::byte> file) {
    if (file.size() > kMaxAdapterBytes) {
        throw Error(kPlace, std::to_string(file.size()) + " bytes, more than 1 GiB");
    }
    AdapterHeader header;
    if (file.size() < sizeof(header)) {
        throw Error(kPlace, std::to_string(file.size()) + " bytes are less than its header");
    }
    std::memcpy(&header, file.data(), sizeof(header));
    if (header.magic != kAdapterMagic) {
        throw Error(kHeader, "is not that of an adapter");
    }
    if (header.version_major != 1) {
        throw Error(kHeader, "version " + std::to_string(header.version_major) +
                                 " is not one that is read; 1 is");
    }
    if (header.incompat != 0) {
        throw Error(kHeader, "has features that are not known");
    }
    if (header.header_bytes != sizeof(header) || header.metadata_offset != sizeof(header)) {
        throw Error(kHeader, "its size is not 128 bytes");
    }
    if (std::any_of(header.reserved.begin(), header.reserved.end(),
                    [](std::uint8_t byte) { return byte != 0; })) {
        throw Error(kHeader, "reserved bytes are not zero");
    }
    return header;
}

/// Sizes that the header claims, against the file's own.
void check_ranges(const AdapterHeader& header, std::uint64_t size) {
    if (header.file_bytes != size) {
        throw Error(kHeader, "says " + std::to_string(header.file_bytes) + " bytes, the file has " +
                                 std::to_string(size));
    }
    if (header.metadata_bytes == 0 || header.metadata_bytes > kMaxAdapterMetadata) {
        throw Error(kHeader, std::to_string(header.metadata_bytes) +
                                 " bytes of metadata are not 1 byte to 4 MiB");
    }
    const std::uint64_t data_offset = align_data(header.metadata_offset + header.metadata_bytes);
    if (header.data_offset != data_offset || data_offset > size ||
        header.data_bytes != size - data_offset) {
        throw Error(kHeader, "the data is not what lies behind the metadata");
    }
}

void require_zero(std::span<const std::byte> bytes, const std::string& place) {
    if (std::any_of(bytes.begin(), bytes.end(),
                    [](std::byte byte) { return byte != std::byte{}; })) {
        throw Error(place, "the bytes before it are not zero");
    }
}

/// Hands out the data front to back; what is asked for must be what comes next, so that
/// nothing overlaps and no byte is without a meaning.
class DataCursor {
   public:
    explicit DataCursor(std::span<const std::byte> data) : data_(data) {}

    std::span<const std::byte> take(std::uint64_t offset, std::uint64_t bytes,
                                    const std::string& place) {
        const std::uint64_t begin = align_data(position_);
        if (offset != begin) {
            throw Error(place, "begins at byte " + std::to_string(offset) +
                                   " of the data instead of " + std::to_string(begin));
        }
        if (begin > data_.size() || bytes > data_.size() - begin) {
            throw Error(place, std::to_string(bytes) + " bytes reach past the data's " +
                                   std::to_string(data_.size()));
        }
        require_zero(data_.subspan(position_, begin - position_), place);
        position_ = begin + bytes;
        return data_.subspan(begin, bytes);
    }
    void finish() const {
        if (position_ != data_.size()) {
            throw Error(kPlace, std::to_string(data_.size() - position_) +
                                    " bytes at its end belong to no tensor");
        }
    }

   private:
    std::span<const std::byte> data_;
    std::uint64_t position_ = 0;
};

template <typename T>
std::size_t count_of(const T* vector) {
    return vector == nullptr ? 0 : vector->size();
}

template <typename T>
std::size_t bounded(const T* vector, std::size_t limit, const std::string& place,
                    const char* what) {
    const std::size_t count = count_of(vector);
    if (count > limit) {
        throw Error(place,
                    std::to_string(count) + " " + what + ", more than " + std::to_string(limit));
    }
    return count;
}

/// Bytes of its own are left for check_texts() to judge; this bounds the copy.
std::string text_of(const flatbuffers::String* text) {
    bounded(text, kMaxTemplateBytes, kPlace, "bytes of a text");
    return text == nullptr ? std::string{} : text->str();
}

Digest digest_of(const flatbuffers::Vector<std::uint8_t>* bytes, const char* what) {
    Digest digest{};
    const std::size_t count = count_of(bytes);
    if (count != 0 && count != digest.size()) {
        throw Error(kPlace, std::string(what) + " of " + std::to_string(count) +
                                " bytes instead of 32 or none");
    }
    if (count != 0) {
        std::copy(bytes->begin(), bytes->end(), digest.begin());
        if (!is_set(digest)) {
            throw Error(kPlace, std::string(what) + " is all zero instead of absent");
        }
    }
    return digest;
}

std::string_view tensor_name(const flatbuffers::String* text, const std::string& place) {
    const std::string_view name = text == nullptr ? std::string_view{} : text->string_view();
    if (name.empty() || name.size() > kMaxTensorNameBytes || !is_printable(name)) {
        throw Error(place, "its tensor's name is empty, over " +
                               std::to_string(kMaxTensorNameBytes) +
                               " bytes or not printable ASCII");
    }
    return name;
}

/// The enumerations are C's: a number that is none of theirs must not become one.
m4_dtype dtype_of(std::uint16_t number, const std::string& place) {
    if (number != M4_DTYPE_F32 && number != M4_DTYPE_F16) {
        throw Error(place, "type " + std::to_string(number) + " is neither F32 nor F16");
    }
    return number == M4_DTYPE_F16 ? M4_DTYPE_F16 : M4_DTYPE_F32;
}

m4_row_order order_of(std::uint16_t number, const std::string& place) {
    if (number > M4_ROW_ORDER_HALF_SPLIT) {
        throw Error(place, "unknown row order " + std::to_string(number));
    }
    return static_cast<m4_row_order>(number);
}

m4_layout layout_of(std::uint16_t number, const std::string& place) {
    if (number != M4_LAYOUT_PLAIN && number != M4_LAYOUT_ROWS16) {
        throw Error(place, "unknown layout " + std::to_string(number));
    }
    return number == M4_LAYOUT_PLAIN ? M4_LAYOUT_PLAIN : M4_LAYOUT_ROWS16;
}

class AdapterReader {
   public:
    explicit AdapterReader(std::span<const std::byte> file)
        : file_(file), header_(checked_header(file)), metadata_(copy_metadata()), data_(data()) {}

    Adapter read() {
        flatbuffers::Verifier verifier(metadata_.data(), metadata_.size(), kMaxDepth, kMaxTables);
        if (metadata_.size() < 8 || !fb::AdapterBufferHasIdentifier(metadata_.data()) ||
            !fb::VerifyAdapterBuffer(verifier)) {
            throw Error("adapter: metadata", "is not well-formed");
        }
        const fb::Adapter& in = *fb::GetAdapter(metadata_.data());
        Adapter adapter;
        adapter.name = text_of(in.name());
        adapter.task = text_of(in.task());
        adapter.prompt_template = text_of(in.prompt_template());
        adapter.base_name = text_of(in.base_name());
        adapter.architecture = text_of(in.architecture());
        adapter.source = text_of(in.source());
        adapter.base = digest_of(in.base(), "a base digest");
        adapter.probed = digest_of(in.probed(), "a probed digest");
        const std::size_t pairs = bounded(in.pairs(), kMaxPairs, kPlace, "pairs");
        for (std::size_t i = 0; i < pairs; ++i) {
            adapter.pairs.push_back(
                read_pair(*in.pairs()->Get(static_cast<flatbuffers::uoffset_t>(i)), i));
        }
        if (in.head() != nullptr) {
            adapter.head = read_head(*in.head());
        }
        data_.finish();
        check_texts(adapter);
        Sha256 hash;
        hash.update(file_);
        adapter.digest = hash.finish();
        return adapter;
    }

   private:
    static AdapterHeader checked_header(std::span<const std::byte> file) {
        const AdapterHeader header = read_header(file);
        check_ranges(header, file.size());
        return header;
    }

    /// FlatBuffers reads eight-byte scalars in place: operator new aligns a copy for them.
    [[nodiscard]] std::vector<std::uint8_t> copy_metadata() const {
        std::vector<std::uint8_t> copy(header_.metadata_bytes);
        std::memcpy(copy.data(), file_.data() + header_.metadata_offset, copy.size());
        return copy;
    }

    [[nodiscard]] std::span<const std::byte> data() const {
        const std::uint64_t end = header_.metadata_offset + header_.metadata_bytes;
        require_zero(file_.subspan(end, header_.data_offset - end), "adapter: data");
        return file_.subspan(header_.data_offset, header_.data_bytes);
    }

    LowRankPair read_pair(const fb::LowRankPair& in, std::size_t index) {
        const std::string number = "adapter: pair " + std::to_string(index);
        LowRankPair pair;
        pair.tensor = tensor_name(in.tensor(), number);
        const std::string place = "adapter: pair '" + pair.tensor + "'";
        if (!tensors_.insert(pair.tensor).second) {
            throw Error(place, "is the second for this tensor");
        }
        pair.rank = in.rank();
        pair.rows = in.rows();
        pair.columns = in.columns();
        pair.scale = in.scale();
        pair.dtype = dtype_of(in.dtype(), place);
        pair.order = order_of(in.order(), place);
        check_pair(pair, place);
        const std::uint64_t row = std::uint64_t{pair.rank} * element_bytes(pair.dtype);
        pair.a = data_.take(in.a(), row * pair.columns, place + ": a");
        pair.b = data_.take(in.b(), row * pair.rows, place + ": b");
        require_finite(pair.a, pair.dtype, place + ": a");
        require_finite(pair.b, pair.dtype, place + ": b");
        return pair;
    }

    Tensor read_head_tensor(const fb::HeadTensor& in, std::size_t index, AdapterHead& head) {
        const std::string number = "adapter: head: tensor " + std::to_string(index);
        Tensor tensor;
        const std::string_view name = tensor_name(in.name(), number);
        tensor.name = in_file(name);
        const std::string place = "adapter: head: tensor '" + std::string(name) + "'";
        tensor.dtype = dtype_of(in.dtype(), place);
        tensor.layout = layout_of(in.layout(), place);
        tensor.rank =
            static_cast<std::uint32_t>(bounded(in.shape(), M4_IMAGE_RANK_MAX, place, "dimensions"));
        tensor.shape.fill(1);
        // FlatBuffers' verifier sees to the alignment of a vector's length, which is
        // that of 4 bytes, and not of what it holds.
        if (tensor.rank != 0) {
            std::memcpy(tensor.shape.data(), in.shape()->Data(),
                        tensor.rank * sizeof(tensor.shape[0]));
        }
        tensor.size_bytes = checked_head_bytes(tensor, place);
        if (in.bytes() != tensor.size_bytes) {
            throw Error(place, std::to_string(in.bytes()) + " bytes instead of the shape's " +
                                   std::to_string(tensor.size_bytes));
        }
        head.bytes.push_back(data_.take(in.offset(), tensor.size_bytes, place));
        require_finite(head.bytes.back(), tensor.dtype, place);
        tensor.payload_offset = header_.data_offset + in.offset();
        return tensor;
    }

    AdapterHead read_head(const fb::Head& in) {
        AdapterHead head;
        const std::size_t count =
            bounded(in.tensors(), kMaxHeadTensors, "adapter: head", "tensors");
        for (std::size_t i = 0; i < count; ++i) {
            head.tensors.push_back(read_head_tensor(
                *in.tensors()->Get(static_cast<flatbuffers::uoffset_t>(i)), i, head));
        }
        const auto* program = in.program();
        if (program == nullptr) {
            throw Error("adapter: head", "has no program");
        }
        try {
            head.part = verify_head(std::as_bytes(std::span(program->data(), program->size())),
                                    head.tensors);
        } catch (const Error& error) {
            throw under("adapter: head", error);
        }
        return head;
    }

    /// The same text in the file itself, which outlives the copy.
    [[nodiscard]] std::string_view in_file(std::string_view text) const {
        const auto at = reinterpret_cast<const std::uint8_t*>(text.data()) - metadata_.data();
        return {reinterpret_cast<const char*>(file_.data()) + header_.metadata_offset + at,
                text.size()};
    }

    std::span<const std::byte> file_;
    AdapterHeader header_;
    std::vector<std::uint8_t> metadata_;
    DataCursor data_;
    std::set<std::string, std::less<>> tensors_;
};

}  // namespace

Adapter read_adapter(std::span<const std::byte> file) {
    return AdapterReader(file).read();
}

}  // namespace m4::firmware
