// SPDX-License-Identifier: MIT
#include "lib/builder.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "image_samples.hpp"
#include "lib/error.hpp"
#include "lib/half.hpp"
#include "lib/image.hpp"
#include "temp_folder.hpp"
#include "tiny_model.hpp"

using namespace m4::firmware;
using namespace m4::test;

namespace {

/// The element of a ROWS16 tensor by the formula of image.h, taken literally.
float rows16_element(std::span<const std::byte> stored, m4_dtype dtype, std::uint64_t columns,
                     std::uint64_t row, std::uint64_t column) {
    const std::uint64_t element_bytes = dtype == M4_DTYPE_F16 ? 2 : 4;
    const std::uint64_t unit_elements = 16 / element_bytes;
    const std::uint64_t units_per_row = (columns + unit_elements - 1) / unit_elements;
    const std::uint64_t unit =
        ((row / 16) * units_per_row + column / unit_elements) * 16 + row % 16;
    const std::byte* at = stored.data() + unit * 16 + column % unit_elements * element_bytes;
    if (dtype == M4_DTYPE_F16) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, at, sizeof(bits));
        return from_half(bits);
    }
    float value = 0;
    std::memcpy(&value, at, sizeof(value));
    return value;
}

/// Exact in F16, different for every element, never zero.
float sample(std::uint64_t row, std::uint64_t column) {
    return static_cast<float>((row * 37 + column * 5) % 2000 + 1) / 16.0F;
}

RowReader sample_rows(std::uint64_t columns) {
    return [=](std::uint64_t first, std::uint64_t count, std::span<float> out) {
        for (std::uint64_t i = 0; i < count * columns; ++i) {
            out[i] = sample(first + i / columns, i % columns);
        }
    };
}

TensorSpec spec_of(const std::string& name, m4_dtype dtype, m4_layout layout,
                   std::vector<std::uint64_t> shape) {
    TensorSpec spec;
    spec.name = name;
    spec.dtype = dtype;
    spec.layout = layout;
    spec.shape = std::move(shape);
    return spec;
}

const TinyModel& tiny() {
    static const TinyModel model = make_tiny_model({}, 1);
    return model;
}

const Tensor& find(const Image& image, const std::string& name) {
    for (const Tensor& tensor : image.tensors()) {
        if (tensor.name == name) {
            return tensor;
        }
    }
    throw std::runtime_error("no tensor " + name);
}

std::size_t entries(const std::filesystem::path& folder) {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

}  // namespace

TEST_CASE("binary16: every value survives, and rounding is to nearest even") {
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        const auto half = static_cast<std::uint16_t>(bits);
        const float value = from_half(half);
        if (std::isnan(value)) {
            REQUIRE(std::isnan(from_half(to_half(value))));
        } else {
            REQUIRE(to_half(value) == half);
        }
    }
    for (std::uint32_t bits = 0; bits < 0x7bff; ++bits) {
        const float low = from_half(static_cast<std::uint16_t>(bits));
        const float high = from_half(static_cast<std::uint16_t>(bits + 1));
        const float middle = low + (high - low) / 2;  // exact
        REQUIRE(to_half(middle) == (bits % 2 == 0 ? bits : bits + 1));
        REQUIRE(to_half(std::nextafterf(middle, 0.0F)) == bits);
        REQUIRE(to_half(std::nextafterf(middle, high)) == bits + 1);
        REQUIRE(to_half(-middle) == (0x8000 | (bits % 2 == 0 ? bits : bits + 1)));
    }
    CHECK(to_half(65519.99F) == 0x7bff);
    CHECK(to_half(65520.0F) == 0x7c00);
    CHECK(fits_half(65519.99F));
    CHECK_FALSE(fits_half(65520.0F));
    CHECK_FALSE(fits_half(-std::numeric_limits<float>::max()));
    CHECK(fits_half(std::numeric_limits<float>::infinity()));
    CHECK(to_half(std::numeric_limits<float>::denorm_min()) == 0);
    CHECK(to_half(-0.0F) == 0x8000);
}

TEST_CASE("matrices lie in groups of sixteen rows, padded with zeros") {
    const std::vector<std::vector<std::uint64_t>> shapes = {{1, 1},  {15, 3},   {16, 8},    {17, 9},
                                                            {33, 7}, {100, 37}, {5, 70'000}};
    TempFolder temp;
    for (const m4_dtype dtype : {M4_DTYPE_F32, M4_DTYPE_F16}) {
        ImageBuilder builder("layout", "1", 7, M4_IMAGE_CHUNK_BYTES);
        build_tiny_model(tiny(), builder);
        std::vector<std::uint32_t> indices;
        for (const auto& shape : shapes) {
            indices.push_back(builder.add_tensor(
                spec_of("m" + std::to_string(indices.size()), dtype, M4_LAYOUT_ROWS16, shape),
                sample_rows(shape[1])));
        }
        builder.write(temp / "image", true);
        const MappedImage mapped = MappedImage::open_folder(temp / "image");
        for (std::size_t i = 0; i < shapes.size(); ++i) {
            const Tensor& tensor = mapped.image().tensors().at(indices[i]);
            const auto stored = mapped.bytes(tensor);
            CHECK(tensor.payload_offset % M4_IMAGE_TENSOR_ALIGN == 0);
            const std::uint64_t unit_elements = dtype == M4_DTYPE_F16 ? 8 : 4;
            const std::uint64_t rows = (shapes[i][0] + 15) / 16 * 16;
            const std::uint64_t columns =
                (shapes[i][1] + unit_elements - 1) / unit_elements * unit_elements;
            REQUIRE(stored.size() == rows * columns * 16 / unit_elements);
            for (std::uint64_t row = 0; row < rows; ++row) {
                for (std::uint64_t column = 0; column < columns; ++column) {
                    const bool inside = row < shapes[i][0] && column < shapes[i][1];
                    REQUIRE(rows16_element(stored, dtype, columns, row, column) ==
                            (inside ? sample(row, column) : 0.0F));
                }
            }
        }
    }
}

TEST_CASE("plain tensors of every rank are read back as they went in") {
    TempFolder temp;
    ImageBuilder builder("plain", "1", 0);
    build_tiny_model(tiny(), builder);
    const std::uint32_t four = builder.add_tensor(
        spec_of("four", M4_DTYPE_F16, M4_LAYOUT_PLAIN, {2, 3, 4, 5}), sample_rows(5));
    const std::uint32_t one =
        builder.add_tensor(spec_of("one", M4_DTYPE_F32, M4_LAYOUT_PLAIN, {9}), sample_rows(9));
    builder.write(temp / "image", false);
    const MappedImage mapped = MappedImage::open_folder(temp / "image");
    const Tensor& a = mapped.image().tensors().at(four);
    CHECK(a.rank == 4);
    REQUIRE(a.size_bytes == 240);
    for (std::size_t i = 0; i < 120; ++i) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, mapped.bytes(a).data() + 2 * i, 2);
        REQUIRE(from_half(bits) == sample(i / 5, i % 5));
    }
    const Tensor& b = mapped.image().tensors().at(one);
    float last = 0;
    std::memcpy(&last, mapped.bytes(b).data() + 32, 4);
    CHECK(last == sample(0, 8));
}

TEST_CASE("a tiny model survives the way through an image") {
    TempFolder temp;
    TinyDims dims;
    dims.stored = M4_DTYPE_F16;
    dims.query_bias = true;
    dims.vocabulary = 32'001;  // several shards, one of them crossed by a tensor
    const TinyModel model = make_tiny_model(dims, 3);
    write_tiny_model(model, temp / "image");
    const MappedImage mapped = MappedImage::open_folder(temp / "image");
    CHECK(mapped.image().name() == "tiny");
    CHECK(mapped.image().version() == "test");
    CHECK(mapped.image().segments().size() > 2);
    const Tensor& embedding = find(mapped.image(), "embedding");
    CHECK(embedding.dtype == M4_DTYPE_F16);
    const Tensor& q = find(mapped.image(), "layer.1.q.weight");
    CHECK(q.row_order == M4_ROW_ORDER_INTERLEAVED);
    CHECK(q.head_dim == dims.head_dim);
    for (std::uint64_t row = 0; row < dims.vocabulary; row += 97) {
        for (std::uint64_t column = 0; column < dims.hidden; ++column) {
            REQUIRE(rows16_element(mapped.bytes(embedding), M4_DTYPE_F16, dims.hidden, row,
                                   column) == model.embedding[row * dims.hidden + column]);
        }
    }
    const Part& part = mapped.image().package().parts.at(0);
    CHECK(part.programs.at(0).ops.size() == 2 + 2 * 17 + 2);
    CHECK(part.programs.at(0).states.size() == dims.layers);
    // The program's operands name what they should.
    const Op& gather = part.programs.at(0).ops.at(0);
    CHECK(mapped.image().tensors().at(gather.inputs.at(0).index).name == "embedding");
}

TEST_CASE("the same calls give the same bytes, other content another digest") {
    TempFolder temp;
    write_tiny_model(tiny(), temp / "a");
    write_tiny_model(tiny(), temp / "b");
    write_tiny_model(make_tiny_model({}, 2), temp / "c");
    std::size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(temp / "a")) {
        CHECK(read_file(entry.path()) == read_file(temp / "b" / entry.path().filename()));
        ++files;
    }
    CHECK(files == 2);
    CHECK(MappedImage::open_folder(temp / "a").image().digest() !=
          MappedImage::open_folder(temp / "c").image().digest());
}

TEST_CASE("progress reaches the end, in order") {
    TempFolder temp;
    ImageBuilder builder("progress", "1", 0);
    build_tiny_model(tiny(), builder);
    builder.add_tensor(spec_of("large", M4_DTYPE_F32, M4_LAYOUT_PLAIN, {1000, 2000}),
                       sample_rows(2000));
    std::uint64_t last = 0;
    builder.write(temp / "image", false, [&](std::uint64_t done, std::uint64_t total) {
        CHECK(done == last + M4_IMAGE_CHUNK_BYTES);
        CHECK(total == 5 * M4_IMAGE_CHUNK_BYTES);
        last = done;
    });
    CHECK(last == 5 * M4_IMAGE_CHUNK_BYTES);
}

TEST_CASE("what cannot be an image is refused by name") {
    const auto made = [](const std::string& name, const std::string& version,
                         std::uint64_t segment) {
        return refusal([&] { ImageBuilder builder(name, version, 0, segment); });
    };
    CHECK(contains(made("Nano", "1", 1 << 30), "image name 'Nano'"));
    CHECK(contains(made("-a", "1", 1 << 30), "image name"));
    CHECK(contains(made(std::string(32, 'a'), "1", 1 << 30), "at most 31"));
    CHECK(contains(made("a", "", 1 << 30), "image version ''"));
    CHECK(contains(made("a", "1\n", 1 << 30), "printable"));
    CHECK(contains(made("a", "1", 1 << 20), "multiple of 2 MiB"));
    CHECK(contains(made("a", "1", 1ULL << 31), "multiple of 2 MiB"));

    ImageBuilder builder("a", "1", 0);
    const auto added = [&](const TensorSpec& spec) {
        return refusal([&] { builder.add_tensor(spec, sample_rows(1)); });
    };
    builder.add_section("twice", 0, std::vector<std::byte>(3));
    CHECK(contains(added(spec_of("twice", M4_DTYPE_F32, M4_LAYOUT_PLAIN, {4})),
                   "tensor 'twice': a second tensor"));
    CHECK(contains(added(spec_of("x", M4_DTYPE_F32, M4_LAYOUT_ROWS16, {4})), "tensor 'x'"));
    CHECK(contains(added(spec_of("x", M4_DTYPE_F32, M4_LAYOUT_PLAIN, {})), "do not go together"));
    CHECK(contains(added(spec_of("x", M4_DTYPE_F32, M4_LAYOUT_PLAIN, {4, 0})), "do not go"));
    CHECK(contains(added(spec_of("x", M4_DTYPE_F32, M4_LAYOUT_PLAIN, {1, 1, 1, 1, 1})), "do not"));
    CHECK(contains(added(spec_of("x", M4_DTYPE_F32, M4_LAYOUT_PLAIN, {1ULL << 31, 1ULL << 20})),
                   "128 GiB"));
    CHECK(contains(added(spec_of("x", M4_DTYPE_U32, M4_LAYOUT_PLAIN, {4})), "F32, F16, Q8 or Q4"));
    CHECK(contains(added(spec_of("", M4_DTYPE_F32, M4_LAYOUT_PLAIN, {4})), "printable"));
    TensorSpec rotated = spec_of("q", M4_DTYPE_F32, M4_LAYOUT_ROWS16, {24, 8});
    rotated.row_order = M4_ROW_ORDER_INTERLEAVED;
    rotated.head_dim = 16;
    CHECK(contains(added(rotated), "whole heads"));
    rotated.row_order = M4_ROW_ORDER_HALF_SPLIT;
    CHECK(contains(added(rotated), "stored interleaved"));
    CHECK(contains(refusal([&] { builder.add_section("empty", 0, {}); }), "'empty'"));
    TempFolder temp;
    CHECK(contains(refusal([&] { builder.write(temp / "image", false); }), "no parts"));
    CHECK(entries(temp.path()) == 0);
}

TEST_CASE("a value that F16 cannot hold is named, and nothing is left behind") {
    TempFolder temp;
    ImageBuilder builder("overflow", "1", 0);
    build_tiny_model(tiny(), builder);
    builder.add_tensor(spec_of("w", M4_DTYPE_F16, M4_LAYOUT_ROWS16, {40, 10}),
                       [](std::uint64_t first, std::uint64_t count, std::span<float> out) {
                           for (std::uint64_t i = 0; i < count * 10; ++i) {
                               out[i] = first + i / 10 == 33 && i % 10 == 7 ? -70000.0F : 1.0F;
                           }
                       });
    CHECK(refusal([&] { builder.write(temp / "image", false); }) ==
          "tensor 'w': row 33, column 7: -70000.000000 does not fit F16");
    CHECK(entries(temp.path()) == 0);
}

TEST_CASE("an image is replaced only when asked, and only by a whole one") {
    TempFolder temp;
    const auto folder = temp / "image";
    write_tiny_model(tiny(), folder);
    const auto before = read_file(folder / "manifest.m4m");

    ImageBuilder second("second", "1", 0);
    build_tiny_model(tiny(), second);
    CHECK(contains(refusal([&] { second.write(folder, false); }), "holds an image already"));

    ImageBuilder failing("failing", "1", 0);
    build_tiny_model(tiny(), failing);
    failing.add_tensor(spec_of("w", M4_DTYPE_F32, M4_LAYOUT_PLAIN, {40, 10}),
                       [](std::uint64_t, std::uint64_t, std::span<float>) {
                           throw Error("source.gguf", "went away");
                       });
    CHECK(refusal([&] { failing.write(folder, true); }) == "source.gguf: went away");
    CHECK(read_file(folder / "manifest.m4m") == before);

    write_file(folder / "notes.txt", {});
    CHECK(contains(refusal([&] { second.write(folder, true); }), "holds 'notes.txt'"));
    std::filesystem::remove(folder / "notes.txt");
    second.write(folder / "", true);  // a trailing slash is the same folder
    CHECK(MappedImage::open_folder(folder).image().name() == "second");
    CHECK(entries(temp.path()) == 1);

    // A folder by a name that has nothing beside it.
    const auto before_here = std::filesystem::current_path();
    std::filesystem::current_path(folder);
    second.write(".", true);
    std::filesystem::current_path(before_here);
    CHECK(MappedImage::open_folder(folder).image().name() == "second");
    CHECK(entries(temp.path()) == 1);

    write_file(temp / "file", {});
    CHECK(contains(refusal([&] { second.write(temp / "file", true); }), "not a folder"));
    CHECK(contains(refusal([&] { second.write(temp / "no" / "such", true); }),
                   "No such file or directory"));
    std::filesystem::create_directory(temp / "empty");
    second.write(temp / "empty", false);
    CHECK(MappedImage::open_folder(temp / "empty").image().name() == "second");
}

TEST_CASE("a file system that refuses is reported with the file's name") {
    TempFolder temp;
    ImageBuilder builder("full", "1", 0);
    build_tiny_model(tiny(), builder);

    // A limit on the size of files stands for a full disk: the same code path.
    rlimit old{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit low{1 << 20, old.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &low) == 0);
    const std::string text = refusal([&] { builder.write(temp / "image", false); });
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &old) == 0);
    CHECK(contains(text, "seg-000.m4w: cannot claim 2097152 bytes: File too large"));
    CHECK(entries(temp.path()) == 0);
}

TEST_CASE("a folder that may not be written is reported") {
    TempFolder temp;
    ImageBuilder builder("denied", "1", 0);
    build_tiny_model(tiny(), builder);
    constexpr uid_t kNobody = 65534;
    const bool root = ::geteuid() == 0;  // who may write everywhere
    std::filesystem::permissions(temp.path(), std::filesystem::perms(0555));
    if (root) {
        REQUIRE(::seteuid(kNobody) == 0);
    }
    const std::string text = refusal([&] { builder.write(temp / "image", false); });
    if (root) {
        REQUIRE(::seteuid(0) == 0);
    }
    std::filesystem::permissions(temp.path(), std::filesystem::perms(0755));
    CHECK(contains(text, "image: cannot create a folder beside it: Permission denied"));
    CHECK(entries(temp.path()) == 0);
}
