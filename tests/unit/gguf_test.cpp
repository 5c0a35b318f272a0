// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <importers/gguf.hpp>
#include <lib/error.hpp>

#include <string>
#include <vector>

#include "checkpoint_writer.hpp"
#include "temp_folder.hpp"

using m4::firmware::Error;
using m4::firmware::GgufFile;
using m4::test::Bytes;
using m4::test::GgufWriter;
using m4::test::Stored;
using m4::test::TempFolder;

namespace {

GgufWriter small_writer() {
    GgufWriter out;
    out.string("general.architecture", "llama").u32("a.count", 7).f32("a.real", 0.5F);
    out.boolean("a.flag", true).strings("a.names", {"one", "", "three"});
    out.floats("a.floats", {1.0F, -2.0F}).i32s("a.integers", {3, -4, 5});
    out.tensor("m", {2, 3}, 0, m4::test::store_values({1, 2, 3, 4, 5, 6}, Stored::f32));
    out.tensor("v", {3}, 1, m4::test::store_values({1, -0.5F, 65504}, Stored::f16));
    out.tensor("b", {2}, 30, m4::test::store_values({1.5F, -2}, Stored::bf16));
    return out;
}

/// Opens the bytes as a file and reads all there is.
void read_all(const TempFolder& folder, const std::string& bytes) {
    const auto path = folder / "t.gguf";
    m4::test::write_file(path, bytes);
    const GgufFile file(path);
    for (const auto& [key, value] : file.metadata()) {
        for (int getter = 0; getter < 7; ++getter) {
            try {
                getter == 0   ? (void)file.unsigned_value(key)
                : getter == 1 ? (void)file.real_value(key)
                : getter == 2 ? (void)file.bool_value(key)
                : getter == 3 ? (void)file.string_value(key)
                : getter == 4 ? (void)file.string_array(key)
                : getter == 5 ? (void)file.float_array(key)
                              : (void)file.integer_array(key);
            } catch (const Error&) {
                // Another type than this getter's.
            }
        }
    }
    for (const auto& tensor : file.checkpoint()->tensors()) {
        if (tensor.type != m4::firmware::SourceType::other) {
            std::vector<float> values(tensor.element_count());
            tensor.read(0, values);
        }
    }
}

/// what() of the Error that opening and reading throws; empty: none.
std::string fault_of(const TempFolder& folder, const std::string& bytes) {
    try {
        read_all(folder, bytes);
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

/// A header with one key or tensor written by hand.
std::string header(std::uint64_t tensors, std::uint64_t keys) {
    Bytes out;
    out.data = "GGUF";
    out.number(std::uint32_t{3}).number(tensors).number(keys);
    return out.data;
}

}  // namespace

TEST_CASE("gguf: typed metadata and tensors of every imported type") {
    const TempFolder folder;
    const auto path = folder / "t.gguf";
    m4::test::write_file(path, small_writer().bytes());
    const GgufFile file(path);
    CHECK(file.string_value("general.architecture") == "llama");
    CHECK(file.unsigned_value("a.count") == 7);
    CHECK(file.real_value("a.real") == 0.5);
    CHECK(file.bool_value("a.flag") == true);
    CHECK_FALSE(file.unsigned_value("absent").has_value());
    CHECK(*file.string_array("a.names") == std::vector<std::string_view>{"one", "", "three"});
    CHECK(*file.float_array("a.floats") == std::vector<float>{1.0F, -2.0F});
    CHECK(*file.integer_array("a.integers") == std::vector<std::int64_t>{3, -4, 5});
    CHECK_THROWS_AS((void)file.string_value("a.count"), Error);

    const auto* matrix = file.checkpoint()->find("m");
    REQUIRE(matrix != nullptr);
    CHECK(matrix->shape == std::vector<std::uint64_t>{2, 3});
    std::vector<float> row(3);
    matrix->read(3, row);
    CHECK(row == std::vector<float>{4, 5, 6});
    CHECK_THROWS_AS(matrix->read(4, row), Error);
    file.checkpoint()->find("v")->read(0, row);
    CHECK(row == std::vector<float>{1, -0.5F, 65504});
    std::vector<float> two(2);
    file.checkpoint()->find("b")->read(0, two);
    CHECK(two == std::vector<float>{1.5F, -2});
}

TEST_CASE("gguf: version 2 is read; other versions and byte orders are refused by name") {
    const TempFolder folder;
    auto bytes = small_writer().bytes();
    bytes[4] = 2;
    CHECK(fault_of(folder, bytes).empty());
    bytes[4] = 1;
    CHECK(contains(fault_of(folder, bytes), "version 1"));
    bytes[4] = 0;
    bytes[7] = 3;
    CHECK(contains(fault_of(folder, bytes), "big-endian"));
    bytes[0] = 'g';
    CHECK(contains(fault_of(folder, bytes), "not a GGUF file"));
}

TEST_CASE("gguf: a file cut anywhere is refused") {
    const TempFolder folder;
    const auto bytes = small_writer().bytes();
    REQUIRE(fault_of(folder, bytes).empty());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        CAPTURE(size);
        CHECK_FALSE(fault_of(folder, bytes.substr(0, size)).empty());
    }
}

TEST_CASE("gguf: a flipped bit is read or refused, never worse") {
    const TempFolder folder;
    const auto bytes = small_writer().bytes();
    std::size_t refused = 0;
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        auto flipped = bytes;
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
        refused += fault_of(folder, flipped).empty() ? 0 : 1;
    }
    CHECK(refused > bytes.size());
}

TEST_CASE("gguf: absurd counts, lengths and shapes are refused by name") {
    const TempFolder folder;
    constexpr std::uint64_t kHuge = 1ULL << 61;
    CHECK(contains(fault_of(folder, header(0, kHuge)), "cannot hold 2305843009213693952 keys"));
    CHECK(contains(fault_of(folder, header(kHuge, 0)), "tensors"));

    Bytes key;
    key.data = header(0, 1);
    key.text("k").number(std::uint32_t{8}).number(kHuge).data += std::string(64, 'x');
    CHECK(contains(fault_of(folder, key.data), "key 'k'"));

    for (const std::uint32_t element : {0U, 5U, 8U, 12U}) {
        Bytes array;
        array.data = header(0, 1);
        array.text("k").number(std::uint32_t{9}).number(element).number(kHuge);
        array.data += std::string(64, 'x');
        CHECK(contains(fault_of(folder, array.data), "key 'k'"));
    }
    Bytes nested;
    nested.data = header(0, 1);
    nested.text("k").number(std::uint32_t{9}).number(std::uint32_t{9}).number(std::uint64_t{1});
    nested.data += std::string(64, 'x');
    CHECK(contains(fault_of(folder, nested.data), "type 9 as array element"));

    const auto refused = [&](const GgufWriter& writer) { return fault_of(folder, writer.bytes()); };
    CHECK(contains(refused(GgufWriter().tensor("t", {1ULL << 40, 1ULL << 40}, 0, "")), "'t'"));
    CHECK(contains(refused(GgufWriter().tensor("t", {0, 4}, 0, "")), "extent of 0"));
    CHECK(contains(refused(GgufWriter().tensor("t", {8}, 0, std::string(16, 'x'))),
                   "beyond the end"));
    CHECK(contains(refused(GgufWriter().tensor("t", {1, 1, 1, 1, 1}, 0, "xxxx")), "5 dimensions"));
    CHECK(contains(refused(GgufWriter().u32("k", 1).u32("k", 2)), "occurs twice"));
    CHECK(contains(refused(GgufWriter().tensor("t", {1}, 0, "1234").tensor("t", {1}, 0, "1234")),
                   "occurs twice"));
    CHECK(contains(refused(GgufWriter().u32("general.alignment", 3)), "general.alignment"));
    CHECK(contains(refused(GgufWriter()
                               .u32("general.alignment", 64)
                               .tensor("t", {1}, 0, "1234")
                               .tensor("u", {1}, 0, "1234")),
                   "'u'"));
}

TEST_CASE("gguf: overlapping tensors are refused") {
    const TempFolder folder;
    Bytes out;
    out.data = header(2, 0);
    for (const char* name : {"a", "b"}) {
        out.text(name).number(std::uint32_t{1}).number(std::uint64_t{16});
        out.number(std::uint32_t{0}).number(std::uint64_t{name[0] == 'a' ? 0U : 32U});
    }
    out.data.resize((out.data.size() + 31) / 32 * 32 + 128);
    CHECK(contains(fault_of(folder, out.data), "overlap"));
}

TEST_CASE("gguf: Q8_0 and Q4_0 blocks, whole and from the middle") {
    // One block each of the file's own form: a scale, then bytes, or nibbles
    // whose low halves come first.
    Bytes q8;
    Bytes q4;
    for (const std::uint16_t scale : {std::uint16_t{0x3c00}, std::uint16_t{0xb800}}) {  // 1, -0.5
        q8.number(scale);
        q4.number(scale);
        for (int i = 0; i < 32; ++i) {
            q8.number(static_cast<std::int8_t>(i * 8 - 128));
        }
        for (int i = 0; i < 16; ++i) {
            q4.number(static_cast<std::uint8_t>(i | (15 - i) << 4));
        }
    }
    const TempFolder folder;
    const auto path = folder / "t.gguf";
    m4::test::write_file(
        path,
        GgufWriter().tensor("q8", {2, 32}, 8, q8.data).tensor("q4", {1, 64}, 2, q4.data).bytes());
    const GgufFile file(path);
    std::vector<float> values(40);  // the last 24 of a block, the first 16 of the next
    file.checkpoint()->find("q8")->read(8, values);
    for (int i = 0; i < 24; ++i) {
        CHECK(values[i] == static_cast<float>((i + 8) * 8 - 128));
    }
    CHECK(values[24] == 64.0F);
    CHECK(values[39] == -0.5F * (15 * 8 - 128));
    file.checkpoint()->find("q4")->read(0, values);
    for (int i = 0; i < 16; ++i) {
        CHECK(values[i] == static_cast<float>(i - 8));
        CHECK(values[16 + i] == static_cast<float>(7 - i));
    }
    CHECK(values[32] == 4.0F);
    CHECK_THROWS_AS(file.checkpoint()->find("q4")->read(32, values), Error);
}

TEST_CASE("gguf: rows that are not whole blocks are refused") {
    const TempFolder folder;
    CHECK(
        contains(fault_of(folder, GgufWriter().tensor("q", {4, 16}, 8, std::string(68, 0)).bytes()),
                 "tensor 'q': rows of 16 elements are not whole blocks of 32"));
}

TEST_CASE("gguf: a tensor of another type is refused by name and type when it is read") {
    const TempFolder folder;
    const auto path = folder / "t.gguf";
    m4::test::write_file(path, GgufWriter().tensor("q", {32}, 3, std::string(20, 0)).bytes());
    const GgufFile file(path);
    std::vector<float> values(32);
    CHECK_THROWS_WITH_AS(
        file.checkpoint()->find("q")->read(0, values),
        doctest::Contains("tensor 'q': has type Q4_1; this version imports F32, F16"), Error);
}
