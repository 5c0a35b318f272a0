// SPDX-License-Identifier: MIT
#include "safetensors.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "byte_reader.hpp"
#include "json_file.hpp"
#include "lib/error.hpp"

namespace m4::firmware {

namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kHeaderMostBytes = 100'000'000;  // the format's own limit
constexpr std::size_t kRankMost = 8;
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

SourceType type_of(const std::string& name) {
    if (name == "F32") {
        return SourceType::f32;
    }
    if (name == "F16") {
        return SourceType::f16;
    }
    return name == "BF16" ? SourceType::bf16 : SourceType::other;
}

/// An array of exactly or at most `most` unsigned integers.
std::vector<std::uint64_t> read_integers(const Json& entry, const char* key, std::size_t most,
                                         const std::string& place) {
    const auto found = entry.find(key);
    if (found == entry.end() || !found->is_array() || found->size() > most) {
        throw Error(place, std::string("has no usable ") + key);
    }
    std::vector<std::uint64_t> out;
    for (const auto& item : *found) {
        if (!item.is_number_unsigned()) {
            throw Error(place, std::string(key) + " is not made of unsigned integers");
        }
        out.push_back(item.get<std::uint64_t>());
    }
    return out;
}

SourceTensor read_entry(const std::string& name, const Json& entry, const std::string& file,
                        std::span<const std::byte> data, std::vector<ByteRange>& ranges) {
    SourceTensor tensor;
    tensor.name = name;
    tensor.file = file;
    const auto place = tensor.place();
    if (!entry.is_object()) {
        throw Error(place, "its entry is not an object");
    }
    const auto dtype = entry.find("dtype");
    if (dtype == entry.end() || !dtype->is_string()) {
        throw Error(place, "has no usable dtype");
    }
    tensor.type_name = dtype->get<std::string>();
    tensor.type = type_of(tensor.type_name);
    tensor.shape = read_integers(entry, "shape", kRankMost, place);
    const auto offsets = read_integers(entry, "data_offsets", 2, place);
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data.size()) {
        throw Error(place, "data_offsets leave the file's data");
    }
    tensor.bytes = data.subspan(offsets[0], offsets[1] - offsets[0]);
    ranges.push_back({offsets[0], offsets[1], name});
    return tensor;
}

/// Text by text; what else there is says nothing here.
void read_metadata(const Json& entry, Checkpoint& checkpoint) {
    if (!entry.is_object()) {
        return;
    }
    for (const auto& [key, value] : entry.items()) {
        if (value.is_string()) {
            checkpoint.set_metadata(key, value.get<std::string>());
        }
    }
}

/// The reference library refuses holes and trailing bytes; so does this one,
/// since a wrong offset shows as one or the other.
void refuse_holes(std::vector<ByteRange> ranges, std::uint64_t data_bytes,
                  const std::string& place) {
    std::sort(ranges.begin(), ranges.end(),
              [](const ByteRange& a, const ByteRange& b) { return a.begin < b.begin; });
    std::uint64_t covered = 0;
    for (const auto& range : ranges) {
        if (range.begin != covered && range.begin != range.end) {
            throw Error(place, "data before tensor " + shown(range.name) + " belongs to no tensor");
        }
        covered = std::max(covered, range.end);
    }
    if (covered != data_bytes) {
        throw Error(place, "data at its end belongs to no tensor");
    }
}

std::string shard_name(const Json& value, const std::string& place) {
    if (!value.is_string()) {
        throw Error(place, "is not the name of a file");
    }
    auto name = value.get<std::string>();
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos) {
        throw Error(place, shown(name) + " is not the name of a file in this folder");
    }
    return name;
}

void add_shards(const std::filesystem::path& folder, Checkpoint& checkpoint) {
    const auto index = JsonObject::read(folder / kIndexFile);
    const auto map = index.object_value("weight_map");
    if (!map) {
        throw Error(index.key_place("weight_map"), "is missing");
    }
    std::map<std::string, std::string> shard_of;
    std::set<std::string> shards;
    for (const auto& [tensor, shard] : map->json().items()) {
        const auto name = shard_name(shard, map->key_place(tensor));
        shard_of.emplace(tensor, name);
        shards.insert(name);
    }
    for (const auto& shard : shards) {
        add_safetensors(folder / shard, checkpoint);
    }
    for (const auto& tensor : checkpoint.tensors()) {
        const auto found = shard_of.find(tensor.name);
        if (found == shard_of.end() || (folder / found->second).string() != tensor.file) {
            throw Error(tensor.place(), "is not listed for this shard in " + index.place());
        }
    }
    for (const auto& [tensor, shard] : shard_of) {
        if (checkpoint.find(tensor) == nullptr) {
            throw Error(map->key_place(tensor), "is not in " + shard);
        }
    }
}

}  // namespace

void add_safetensors(const std::filesystem::path& file, Checkpoint& checkpoint) {
    add_safetensors(checkpoint.adopt(MappedFile(file)), file.string(), checkpoint);
}

void add_safetensors(std::span<const std::byte> bytes, const std::string& place,
                     Checkpoint& checkpoint) {
    ByteReader in(bytes, place);
    const auto header_bytes = in.read<std::uint64_t>("the header's length");
    if (header_bytes > kHeaderMostBytes) {
        throw Error(place,
                    "its header is said to be " + std::to_string(header_bytes) + " bytes long");
    }
    const auto text = as_text(in.take(header_bytes, "the header"));
    const auto header = parse_json_object(text, place + ": header");
    const auto data = in.take(in.remaining(), "the data");
    std::vector<ByteRange> ranges;
    for (const auto& [name, entry] : header.items()) {
        if (name == "__metadata__") {
            read_metadata(entry, checkpoint);
        } else {
            checkpoint.add(read_entry(name, entry, place, data, ranges));
        }
    }
    refuse_overlaps(ranges, place);
    refuse_holes(std::move(ranges), data.size(), place);
}

std::shared_ptr<const Checkpoint> open_safetensors_folder(const std::filesystem::path& folder) {
    auto checkpoint = std::make_shared<Checkpoint>(folder.string());
    if (is_there(folder / kSingleFile)) {
        add_safetensors(folder / kSingleFile, *checkpoint);
    } else if (is_there(folder / kIndexFile)) {
        add_shards(folder, *checkpoint);
    } else {
        throw Error(folder.string(),
                    std::string("has neither ") + kSingleFile + " nor " + kIndexFile);
    }
    return checkpoint;
}

}  // namespace m4::firmware
