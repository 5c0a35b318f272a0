// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <importers/safetensors.hpp>
#include <lib/error.hpp>

#include <string>
#include <vector>

#include "checkpoint_writer.hpp"
#include "temp_folder.hpp"

using m4::firmware::Checkpoint;
using m4::firmware::Error;
using m4::test::Bytes;
using m4::test::Stored;
using m4::test::TempFolder;

namespace {

std::string small_file() {
    return m4::test::safetensors_bytes({
        {"b", {"BF16", {2}, m4::test::store_values({1.5F, -2}, Stored::bf16)}},
        {"m", {"F32", {2, 2}, m4::test::store_values({1, 2, 3, 4}, Stored::f32)}},
        {"s", {"F32", {}, m4::test::store_values({2.5F}, Stored::f32)}},
        {"v", {"F16", {3}, m4::test::store_values({1, -0.5F, 65504}, Stored::f16)}},
    });
}

std::string fault_of(const TempFolder& folder, const std::string& bytes) {
    const auto path = folder / "t.safetensors";
    m4::test::write_file(path, bytes);
    try {
        Checkpoint checkpoint("t");
        m4::firmware::add_safetensors(path, checkpoint);
        for (const auto& tensor : checkpoint.tensors()) {
            std::vector<float> values(tensor.element_count());
            tensor.read(0, values);
        }
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

/// A file with this header and this much data.
std::string with_header(const std::string& header, std::size_t data_bytes) {
    Bytes out;
    out.text(header);
    return out.data + std::string(data_bytes, 'x');
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("safetensors: tensors of every imported type, unaligned data included") {
    const TempFolder folder;
    m4::test::write_file(folder / "t.safetensors", small_file());
    Checkpoint checkpoint("t");
    m4::firmware::add_safetensors(folder / "t.safetensors", checkpoint);
    std::vector<float> values(4);
    checkpoint.find("m")->read(0, values);
    CHECK(values == std::vector<float>{1, 2, 3, 4});
    values.resize(3);
    checkpoint.find("v")->read(0, values);
    CHECK(values == std::vector<float>{1, -0.5F, 65504});
    values.resize(2);
    checkpoint.find("b")->read(0, values);
    CHECK(values == std::vector<float>{1.5F, -2});
    values.resize(1);
    checkpoint.find("s")->read(0, values);  // a scalar, of no dimension
    CHECK(values == std::vector<float>{2.5F});
}

TEST_CASE("safetensors: a file cut anywhere is refused") {
    const TempFolder folder;
    const auto bytes = small_file();
    REQUIRE(fault_of(folder, bytes).empty());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        CAPTURE(size);
        CHECK_FALSE(fault_of(folder, bytes.substr(0, size)).empty());
    }
    CHECK(contains(fault_of(folder, bytes + "x"), "belongs to no tensor"));
}

TEST_CASE("safetensors: a flipped bit is read or refused, never worse") {
    const TempFolder folder;
    const auto bytes = small_file();
    std::size_t refused = 0;
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        auto flipped = bytes;
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
        refused += fault_of(folder, flipped).empty() ? 0 : 1;
    }
    CHECK(refused > bytes.size());
}

TEST_CASE("safetensors: what is wrong is refused by name") {
    const TempFolder folder;
    const auto fault = [&](const std::string& header, std::size_t data_bytes) {
        return fault_of(folder, with_header(header, data_bytes));
    };
    CHECK(contains(fault_of(folder, std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10)),
                   "header"));
    CHECK(contains(fault("[]", 0), "not a JSON object"));
    CHECK(contains(fault("{\"a\": 1}", 0), "tensor 'a'"));
    CHECK(contains(fault(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4),
                   "shape [2]"));
    CHECK(contains(fault(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", 4),
                   "leave the file"));
    CHECK(contains(fault(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4),
                   "leave the file"));
    CHECK(contains(fault(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4),
                   "unsigned"));
    CHECK(contains(fault(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,4],)"
                         R"("data_offsets":[0,4]}})",
                         4),
                   "too large"));
    CHECK(contains(fault(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                         R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                         12),
                   "overlap"));
    CHECK(contains(fault(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                         R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                         12),
                   "before tensor 'b'"));
    CHECK(contains(fault(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                         R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                         4),
                   "key 'a': occurs twice"));
    CHECK(contains(fault(R"({"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}})", 4),
                   "has type I8"));
    CHECK(contains(fault("{\"a\":" + std::string(100000, '['), 0), "nests deeper"));
}

TEST_CASE("safetensors: shards and their index must agree") {
    const TempFolder folder;
    const std::string one = m4::test::store_values({1}, Stored::f32);
    const auto shard = [&](const char* file, const char* tensor) {
        m4::test::write_file(folder / file,
                             m4::test::safetensors_bytes({{tensor, {"F32", {1}, one}}}));
    };
    const auto fault = [&](const std::string& map) -> std::string {
        m4::test::write_file(folder / "model.safetensors.index.json",
                             "{\"weight_map\":" + map + "}");
        try {
            const auto checkpoint = m4::firmware::open_safetensors_folder(folder.path());
            return checkpoint->tensors().size() == 2 ? "" : "count";
        } catch (const Error& error) {
            return error.what();
        }
    };
    CHECK_THROWS_WITH_AS((void)m4::firmware::open_safetensors_folder(folder.path()),
                         doctest::Contains("has neither model.safetensors nor"), Error);
    shard("s0", "a");
    shard("s1", "b");
    CHECK(fault(R"({"a":"s0","b":"s1"})").empty());
    CHECK(contains(fault(R"({"a":"s0"})"), "count"));
    CHECK(contains(fault(R"({"a":"s1","b":"s0"})"), "not listed for this shard"));
    CHECK(contains(fault(R"({"a":"s0","b":"s1","c":"s1"})"), "key 'c'"));
    CHECK(contains(fault(R"({"a":"s0","b":"../s1"})"), "not the name of a file"));
    CHECK(contains(fault(R"({"a":"s0","b":"s2"})"), "cannot open"));
    CHECK(contains(fault("[]"), "weight_map"));
}
