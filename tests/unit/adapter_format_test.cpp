// SPDX-License-Identifier: MIT
// The adapter file: what is written is what is read, and what lies is refused.
#include <adapter_generated.h>
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "adapter_samples.hpp"
#include "adapters/file_layout.hpp"
#include "image_samples.hpp"
#include "lib/sha256.hpp"
#include "lib/verify.hpp"
#include "temp_folder.hpp"

namespace m4::firmware {

namespace {

using test::AdapterSample;
using test::contains;
using test::refusal;

void fill(AdapterSample& sample) {
    Adapter& adapter = sample.adapter;
    adapter.task = "CAUSAL_LM";
    adapter.prompt_template = "### Human: {prompt}\n### Assistant: \u00e4";
    adapter.base_name = "tiny";
    adapter.architecture = "llama";
    adapter.source = "peft";
    adapter.base.fill(7);
    adapter.probed.fill(9);
    sample.add("layer.0.q.weight", 64, 64, 4);
    sample.add("layer.0.v.weight", 32, 64, 3, M4_DTYPE_F16).order = M4_ROW_ORDER_NONE;
    sample.add_head(24, {"yes", "no", "\u00fcber"});
}

bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string write_refusal(void (*change)(AdapterSample&)) {
    AdapterSample sample;
    fill(sample);
    change(sample);
    return refusal([&] { (void)encode_adapter(sample.adapter); });
}

struct Case {
    const char* name;
    void (*change)(AdapterSample&);
    const char* expected;
};

template <std::size_t N>
void refuse(const Case (&cases)[N]) {
    for (const Case& one : cases) {
        CAPTURE(one.name);
        const std::string text = write_refusal(one.change);
        CAPTURE(text);
        CHECK(contains(text, one.expected));
    }
}

LowRankPair& first(AdapterSample& sample) {
    return sample.adapter.pairs.front();
}

/// A pair's factors, made to fit its numbers.
void refit(AdapterSample& sample, LowRankPair& pair) {
    const std::uint64_t row = std::uint64_t{pair.rank} * element_bytes(pair.dtype);
    pair.a = sample.keep(std::vector<std::byte>(row * pair.columns));
    pair.b = sample.keep(std::vector<std::byte>(row * pair.rows));
}

template <typename T>
void put(AdapterSample& sample, std::span<const std::byte>& bytes, std::size_t index, T bits) {
    std::vector<std::byte> copy(bytes.begin(), bytes.end());
    std::memcpy(copy.data() + index * sizeof(T), &bits, sizeof(T));
    bytes = sample.keep(std::move(copy));
}

/// Metadata as they are, and zeros behind them.
std::vector<std::byte> file_of(const flatbuffers::FlatBufferBuilder& buffer,
                               std::uint64_t data_bytes) {
    AdapterHeader header;
    header.metadata_offset = sizeof(header);
    header.metadata_bytes = buffer.GetSize();
    header.data_offset = align_data(sizeof(header) + buffer.GetSize());
    header.data_bytes = data_bytes;
    header.file_bytes = header.data_offset + header.data_bytes;
    std::vector<std::byte> file(header.file_bytes);
    std::memcpy(file.data(), &header, sizeof(header));
    std::memcpy(file.data() + sizeof(header), buffer.GetBufferPointer(), buffer.GetSize());
    return file;
}

/// A file of one pair of rank 1 over a 16 x 8 matrix, as an attacker may write it.
struct RawPair {
    std::uint32_t rank = 1;
    std::uint32_t rows = 16;
    std::uint32_t columns = 8;
    std::uint16_t dtype = M4_DTYPE_F32;
    std::uint16_t order = 0;
    std::uint64_t a = 0;
    std::uint64_t b = 64;
    std::size_t copies = 1;
    std::uint64_t data_bytes = 128;
    std::size_t digest_bytes = 0;
    std::uint8_t digest_fill = 1;
    const char* tensor = "w";
};

std::vector<std::byte> raw_file(const RawPair& raw) {
    flatbuffers::FlatBufferBuilder buffer;
    const auto tensor = raw.tensor == nullptr ? flatbuffers::Offset<flatbuffers::String>{}
                                              : buffer.CreateString(raw.tensor);
    const auto pair = fb::CreateLowRankPair(buffer, tensor, raw.rank, raw.rows, raw.columns, 1.0F,
                                            raw.dtype, raw.order, raw.a, raw.b);
    const auto pairs =
        buffer.CreateVector(std::vector<flatbuffers::Offset<fb::LowRankPair>>(raw.copies, pair));
    const auto name = buffer.CreateString("raw");
    const auto digest =
        buffer.CreateVector(std::vector<std::uint8_t>(raw.digest_bytes, raw.digest_fill));
    fb::AdapterBuilder adapter(buffer);
    adapter.add_name(name);
    adapter.add_pairs(pairs);
    adapter.add_base(digest);
    fb::FinishAdapterBuffer(buffer, adapter.Finish());
    return file_of(buffer, raw.data_bytes);
}

/// A file with a head whose bias has its shape `pad` bytes past where FlatBuffers puts it.
std::vector<std::byte> raw_head(std::size_t pad) {
    AdapterSample sample;
    const AdapterHead& head = sample.add_head(4, {"a", "b"});
    const auto blob = encode_package(Package{{head.part}});
    flatbuffers::FlatBufferBuilder buffer;
    const auto name = buffer.CreateString("raw");
    const auto weight = buffer.CreateString("weight");
    const auto bias = buffer.CreateString("bias");
    const auto program =
        buffer.CreateVector(reinterpret_cast<const std::uint8_t*>(blob.data()), blob.size());
    const auto sides = buffer.CreateVector(std::vector<std::uint64_t>{2, 4});
    buffer.Pad(pad);
    const std::uint64_t side = 2;
    buffer.StartVector(sizeof(side), 1);
    buffer.PushBytes(reinterpret_cast<const std::uint8_t*>(&side), sizeof(side));
    const flatbuffers::Offset<flatbuffers::Vector<std::uint64_t>> shape(buffer.EndVector(1));
    const std::vector tensors = {
        fb::CreateHeadTensor(buffer, weight, M4_DTYPE_F32, M4_LAYOUT_ROWS16, sides, 0, 256),
        fb::CreateHeadTensor(buffer, bias, M4_DTYPE_F32, M4_LAYOUT_PLAIN, shape, 256, 8)};
    const auto packed = fb::CreateHead(buffer, program, buffer.CreateVector(tensors));
    fb::AdapterBuilder adapter(buffer);
    adapter.add_name(name);
    adapter.add_head(packed);
    fb::FinishAdapterBuffer(buffer, adapter.Finish());
    return file_of(buffer, 264);
}

std::string raw_refusal(const RawPair& raw) {
    const auto file = raw_file(raw);
    return refusal([&] { (void)read_adapter(file); });
}

}  // namespace

TEST_CASE("adapter: what is written is read back, byte for byte") {
    AdapterSample sample;
    fill(sample);
    const Adapter& wrote = sample.adapter;
    const auto file = encode_adapter(wrote);
    const Adapter read = read_adapter(file);
    CHECK(read.name == "sample");
    CHECK(read.task == wrote.task);
    CHECK(read.prompt_template == wrote.prompt_template);
    CHECK(read.base_name == wrote.base_name);
    CHECK(read.architecture == wrote.architecture);
    CHECK(read.source == wrote.source);
    CHECK(read.base == wrote.base);
    CHECK(read.probed == wrote.probed);
    CHECK(is_bound(read));
    CHECK(data_bytes(read) == data_bytes(wrote));
    REQUIRE(read.pairs.size() == 2);
    for (std::size_t i = 0; i < read.pairs.size(); ++i) {
        CAPTURE(i);
        CHECK(read.pairs[i].tensor == wrote.pairs[i].tensor);
        CHECK(read.pairs[i].rank == wrote.pairs[i].rank);
        CHECK(read.pairs[i].rows == wrote.pairs[i].rows);
        CHECK(read.pairs[i].columns == wrote.pairs[i].columns);
        CHECK(read.pairs[i].scale == wrote.pairs[i].scale);
        CHECK(read.pairs[i].dtype == wrote.pairs[i].dtype);
        CHECK(read.pairs[i].order == wrote.pairs[i].order);
        CHECK(same(read.pairs[i].a, wrote.pairs[i].a));
        CHECK(same(read.pairs[i].b, wrote.pairs[i].b));
        CHECK((read.pairs[i].a.data() - file.data()) % 64 == 0);
        CHECK((read.pairs[i].b.data() - file.data()) % 64 == 0);
    }
    REQUIRE(read.head.has_value());
    CHECK(read.head->part.labels == wrote.head->part.labels);
    REQUIRE(read.head->tensors.size() == 2);
    CHECK(read.head->tensors[0].name == "weight");
    CHECK(read.head->tensors[0].shape[1] == 24);
    CHECK(read.head->bytes[1].data() == file.data() + read.head->tensors[1].payload_offset);
    CHECK(same(read.head->bytes[0], wrote.head->bytes[0]));
    // Names are views into the file, not into what it was decoded from.
    const auto* name = reinterpret_cast<const std::byte*>(read.head->tensors[0].name.data());
    CHECK((name > file.data() && name < file.data() + file.size()));

    Sha256 hash;
    hash.update(file);
    CHECK(read.digest == hash.finish());
    CHECK(encode_adapter(read) == file);
}

TEST_CASE("adapter: a head alone is one, and so is an unbound pair") {
    AdapterSample head("head-only");
    head.adapter.source = "safetensors";
    head.add_head(8, {"a", "b"}, Role::hidden);
    const auto file = encode_adapter(head.adapter);
    const Adapter read = read_adapter(file);
    CHECK(read.pairs.empty());
    CHECK(read.head->part.programs[0].inputs[0].role == Role::hidden);
    CHECK(!is_bound(read));
    CHECK(!is_set(read.probed));
}

TEST_CASE("adapter: a file that was cut is refused at every length") {
    AdapterSample sample;
    fill(sample);
    const auto file = encode_adapter(sample.adapter);
    for (std::size_t size = 0; size < file.size(); ++size) {
        const auto text = refusal([&] { (void)read_adapter(std::span(file).first(size)); });
        CHECK(text.starts_with("adapter: "));
        CHECK(text != "accepted");
    }
    auto longer = file;
    longer.push_back(std::byte{});
    CHECK(contains(refusal([&] { (void)read_adapter(longer); }), "the file has"));
}

TEST_CASE("adapter: a flipped bit is refused or gives another identity") {
    AdapterSample sample;
    fill(sample);
    auto file = encode_adapter(sample.adapter);
    const Digest digest = read_adapter(file).digest;
    std::size_t refused = 0;
    std::size_t header_accepted = 0;
    for (std::size_t bit = 0; bit < file.size() * 8; ++bit) {
        file[bit / 8] ^= std::byte{1} << (bit % 8);
        std::optional<Digest> other;
        try {
            other = read_adapter(file).digest;
        } catch (const Error&) {
            ++refused;
        }
        if (other) {
            CHECK(*other != digest);
            header_accepted += bit / 8 < sizeof(AdapterHeader) ? 1 : 0;
        }
        file[bit / 8] ^= std::byte{1} << (bit % 8);
    }
    // The minor version, and metadata that is said to reach into its padding.
    CHECK(header_accepted < 16 + 6);
    CHECK(refused > sizeof(AdapterHeader) * 8);
    CHECK(read_adapter(file).digest == digest);
}

TEST_CASE("adapter: headers that lie are refused") {
    AdapterSample sample;
    fill(sample);
    const auto file = encode_adapter(sample.adapter);
    const auto with = [&](void (*change)(AdapterHeader&)) {
        auto copy = file;
        AdapterHeader header;
        std::memcpy(&header, copy.data(), sizeof(header));
        change(header);
        std::memcpy(copy.data(), &header, sizeof(header));
        return refusal([&] { (void)read_adapter(copy); });
    };
    CHECK(contains(with([](AdapterHeader& h) { h.magic[0] = 'X'; }), "is not that of an adapter"));
    CHECK(contains(with([](AdapterHeader& h) { h.version_major = 2; }), "version 2 is not"));
    CHECK(contains(with([](AdapterHeader& h) { h.incompat = 1; }), "features"));
    CHECK(contains(with([](AdapterHeader& h) { h.header_bytes = 256; }), "128 bytes"));
    CHECK(contains(with([](AdapterHeader& h) { h.reserved[63] = 1; }), "reserved"));
    CHECK(contains(with([](AdapterHeader& h) { h.file_bytes += 64; }), "the file has"));
    CHECK(contains(with([](AdapterHeader& h) { h.metadata_bytes = 0; }), "metadata"));
    CHECK(contains(with([](AdapterHeader& h) { h.metadata_bytes = ~0ULL; }), "metadata"));
    CHECK(
        contains(with([](AdapterHeader& h) { h.metadata_bytes = 4U << 20U; }), "the data is not"));
    CHECK(contains(with([](AdapterHeader& h) { h.data_offset += 64; }), "the data is not"));
    CHECK(contains(with([](AdapterHeader& h) { h.data_bytes = ~0ULL; }), "the data is not"));
    CHECK(contains(with([](AdapterHeader& h) {
                       h.metadata_bytes -= 64;
                       h.data_offset -= 64;
                       h.data_bytes += 64;
                   }),
                   "adapter: "));
}

TEST_CASE("adapter: metadata that lies about its data is refused by the pair's name") {
    CHECK(raw_refusal({}) == "accepted");
    CHECK(
        contains(raw_refusal({.a = 1}), "pair 'w': a: begins at byte 1 of the data instead of 0"));
    CHECK(contains(raw_refusal({.b = 0}), "b: begins at byte 0 of the data instead of 64"));
    CHECK(contains(raw_refusal({.b = ~0ULL}), "instead of 64"));
    CHECK(contains(raw_refusal({.data_bytes = 127}), "b: 64 bytes reach past the data's 127"));
    CHECK(contains(raw_refusal({.data_bytes = 0}), "a: 32 bytes reach past the data's 0"));
    CHECK(contains(raw_refusal({.data_bytes = 192}), "64 bytes at its end belong to no tensor"));
    CHECK(contains(raw_refusal({.columns = 0x8000'0000U}), "reach past"));
    CHECK(contains(raw_refusal({.rows = 0x8000'0001U}), "not 1 to 2^31"));
    CHECK(contains(raw_refusal({.dtype = 5}), "type 5 is neither F32 nor F16"));
    CHECK(contains(raw_refusal({.order = 3}), "unknown row order 3"));
    CHECK(contains(raw_refusal({.copies = 2}), "pair 'w': is the second for this tensor"));
    CHECK(contains(raw_refusal({.copies = 5000}), "not well-formed"));
    CHECK(contains(raw_refusal({.tensor = nullptr}), "pair 0: its tensor's name"));
    CHECK(contains(raw_refusal({.tensor = "a\n"}), "pair 0: its tensor's name"));
    CHECK(contains(raw_refusal({.digest_bytes = 31}), "base digest of 31 bytes"));
    CHECK(contains(raw_refusal({.digest_bytes = 32, .digest_fill = 0}), "all zero"));
    auto file = raw_file({});
    file[file.size() - 128 + 40] = std::byte{1};  // between a and b
    CHECK(contains(refusal([&] { (void)read_adapter(file); }), "bytes before it are not zero"));
}

TEST_CASE("adapter: a shape may lie where its numbers are not aligned") {
    for (const std::size_t pad : {0U, 4U}) {
        const auto file = raw_head(pad);
        const Adapter adapter = read_adapter(file);
        CHECK(adapter.head->tensors[1].shape[0] == 2);
    }
}

TEST_CASE("adapter: ranks, values and texts out of bounds are refused by name") {
    static constexpr Case kCases[] = {
        {"rank bomb",
         [](AdapterSample& s) {
             first(s).rank = 257;
             first(s).rows = first(s).columns = 1024;
             refit(s, first(s));
         },
         "pair 'layer.0.q.weight': rank 257 is not 1 to 256"},
        {"rank of 0",
         [](AdapterSample& s) {
             first(s).rank = 0;
             refit(s, first(s));
         },
         "rank 0 is not"},
        {"rank above its matrix",
         [](AdapterSample& s) {
             first(s).rank = 65;
             refit(s, first(s));
         },
         "rank 65 of a matrix of 64 x 64"},
        {"factors of another size", [](AdapterSample& s) { first(s).rows = 63; },
         "its factors are not of its rank and sizes"},
        {"scale", [](AdapterSample& s) { first(s).scale = std::nanf(""); }, "scale is not finite"},
        {"NaN in a", [](AdapterSample& s) { put<std::uint32_t>(s, first(s).a, 17, 0x7FC0'0001); },
         "pair 'layer.0.q.weight': a: element 17 is not finite"},
        {"infinity in b",
         [](AdapterSample& s) { put<std::uint32_t>(s, first(s).b, 255, 0xFF80'0000); },
         "b: element 255 is not finite"},
        {"infinity in F16",
         [](AdapterSample& s) { put<std::uint16_t>(s, s.adapter.pairs[1].b, 5, 0xFC00); },
         "pair 'layer.0.v.weight': b: element 5 is not finite"},
        {"NaN in the head",
         [](AdapterSample& s) { put<std::uint32_t>(s, s.adapter.head->bytes[1], 2, 0x7FFF'FFFF); },
         "head: tensor 'bias': element 2 is not finite"},
        {"no name", [](AdapterSample& s) { s.adapter.name.clear(); }, "its name is not"},
        {"a path", [](AdapterSample& s) { s.adapter.name = "../x"; }, "its name is not"},
        {"a long name", [](AdapterSample& s) { s.adapter.name.assign(65, 'a'); }, "its name is"},
        {"task", [](AdapterSample& s) { s.adapter.task = "a\x1b"; }, "task is not printable"},
        {"base name", [](AdapterSample& s) { s.adapter.base_name.assign(257, 'a'); },
         "257 bytes of the base's name"},
        {"no hole", [](AdapterSample& s) { s.adapter.prompt_template = "x"; }, "{prompt}"},
        {"two holes", [](AdapterSample& s) { s.adapter.prompt_template = "{prompt}{prompt}"; },
         "{prompt} exactly once"},
        {"no UTF-8", [](AdapterSample& s) { s.adapter.prompt_template = "{prompt}\xFF"; },
         "not UTF-8"},
        {"a bell", [](AdapterSample& s) { s.adapter.prompt_template = "{prompt}\a"; },
         "control characters"},
        {"a long template", [](AdapterSample& s) { s.adapter.prompt_template.assign(16'385, 'a'); },
         "16385 bytes of"},
        {"nothing",
         [](AdapterSample& s) {
             s.adapter.pairs.clear();
             s.adapter.head.reset();
         },
         "neither a pair nor a head"},
    };
    refuse(kCases);
}

TEST_CASE("adapter: heads pass the verifier of images, or are refused by operator") {
    static constexpr Case kCases[] = {
        {"another kind", [](AdapterSample& s) { s.adapter.head->part.kind = PartKind::encoder; },
         "adapter: head: part scores: is not of kind head"},
        {"features",
         [](AdapterSample& s) { s.adapter.head->part.programs[0].inputs[0].role = Role::features; },
         "unknown role 5"},
        {"gives an embedding",
         [](AdapterSample& s) {
             s.adapter.head->part.labels.clear();
             s.adapter.head->part.programs[0].outputs[0].role = Role::embedding;
         },
         "unknown role 6"},
        {"gives nothing",
         [](AdapterSample& s) {
             s.adapter.head->part.labels.clear();
             s.adapter.head->part.programs[0].outputs.clear();
         },
         "no output"},
        {"another program",
         [](AdapterSample& s) { s.adapter.head->part.programs[0].name = "encode"; },
         "no program 'score'"},
        {"a state",
         [](AdapterSample& s) {
             s.adapter.head->part.programs[0].states.push_back({1, 8});
         },
         "state 0: is never written"},
        {"labels", [](AdapterSample& s) { s.adapter.head->part.labels.pop_back(); },
         "2 labels for 3 scores"},
        {"a recipe",
         [](AdapterSample& s) { s.adapter.head->part.recipe = ImageRecipe{1, 0, 6, 4, {0}, {1}}; },
         "has a recipe"},
        {"a space", [](AdapterSample& s) { s.adapter.head->part.space = "x"; },
         "a head has a space"},
        {"a weight of another shape",
         [](AdapterSample& s) { s.adapter.head->part.programs[0].values[0].dims[1].factor = 23; },
         "score: op 0 (linear): input 1"},
        {"bytes of another shape",
         [](AdapterSample& s) {
             auto& bytes = s.adapter.head->bytes[1];
             bytes = bytes.first(bytes.size() - 4);
         },
         "tensor 'bias': 8 bytes instead of the shape's 12"},
        {"a weight that is a vector", [](AdapterSample& s) { s.adapter.head->tensors[0].rank = 1; },
         "do not go together"},
        {"many tensors",
         [](AdapterSample& s) {
             AdapterHead& head = *s.adapter.head;
             head.tensors.resize(65, head.tensors[1]);
             head.bytes.resize(65, head.bytes[1]);
         },
         "65 tensors, more than 64"},
    };
    refuse(kCases);
}

TEST_CASE("adapter: writing is all or nothing, and does not overwrite unasked") {
    const test::TempFolder temp;
    AdapterSample sample;
    fill(sample);
    const auto path = temp / "x.m4ad";
    write_adapter(path, sample.adapter, false);
    CHECK(test::read_file(path) == encode_adapter(sample.adapter));
    CHECK(contains(refusal([&] { write_adapter(path, sample.adapter, false); }), "exists already"));
    sample.adapter.name = "other";
    write_adapter(path, sample.adapter, true);
    CHECK(read_adapter(test::read_file(path)).name == "other");
    sample.adapter.name.clear();
    CHECK(refusal([&] { write_adapter(path, sample.adapter, true); }) != "accepted");
    CHECK(read_adapter(test::read_file(path)).name == "other");
    CHECK(std::distance(std::filesystem::directory_iterator(temp.path()), {}) == 1);
}

}  // namespace m4::firmware
