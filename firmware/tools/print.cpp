// SPDX-License-Identifier: MIT
#include "print.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <iostream>

#include "lib/error.hpp"
#include "lib/file.hpp"

namespace m4::tools {

using firmware::Error;

std::string size_text(std::uint64_t bytes) {
    constexpr std::array kUnits = {"KiB", "MiB", "GiB"};
    if (bytes < 1024) {
        return std::to_string(bytes) + " bytes";
    }
    double amount = static_cast<double>(bytes) / 1024.0;
    std::size_t unit = 0;
    while (amount >= 1024.0 && unit + 1 < kUnits.size()) {
        amount /= 1024.0;
        ++unit;
    }
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.1f %s", amount, kUnits.at(unit));
    return text.data();
}

std::string count_text(std::uint64_t count) {
    const std::string digits = std::to_string(count);
    std::string text;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        if (i > 0 && (digits.size() - i) % 3 == 0) {
            text += ',';
        }
        text += digits[i];
    }
    return text;
}

std::string shape_text(const firmware::Tensor& tensor) {
    std::string text = "[";
    for (std::uint32_t i = 0; i < tensor.rank; ++i) {
        text += (i == 0 ? "" : ", ") + std::to_string(tensor.shape.at(i));
    }
    return text + "]";
}

std::string dtype_name(m4_dtype dtype) {
    switch (dtype) {
        case M4_DTYPE_U8:
            return "u8";
        case M4_DTYPE_F32:
            return "f32";
        case M4_DTYPE_F16:
            return "f16";
        case M4_DTYPE_U32:
            return "u32";
        case M4_DTYPE_Q8:
            return "q8";
        case M4_DTYPE_Q4:
            return "q4";
    }
    return "?";
}

std::string layout_name(m4_layout layout) {
    return layout == M4_LAYOUT_ROWS16 ? "rows16" : "plain";
}

std::map<std::string, std::size_t> operators_used(const firmware::Program& program) {
    std::map<std::string, std::size_t> used;
    for (const firmware::Op& op : program.ops) {
        if (const auto* info = firmware::find_op(static_cast<std::uint16_t>(op.code))) {
            ++used[std::string(info->name)];
        }
    }
    return used;
}

void print_table(const std::vector<std::string>& head,
                 const std::vector<std::vector<std::string>>& rows) {
    std::vector<std::size_t> widths;
    std::vector<bool> numeric;
    for (std::size_t column = 0; column < head.size(); ++column) {
        widths.push_back(head[column].size());
        numeric.push_back(!rows.empty());
        for (const auto& row : rows) {
            widths[column] = std::max(widths[column], row[column].size());
            numeric[column] = numeric[column] && !row[column].empty() &&
                              row[column].front() >= '0' && row[column].front() <= '9';
        }
    }
    const auto print = [&](const std::vector<std::string>& cells) {
        std::string line;
        for (std::size_t column = 0; column < cells.size(); ++column) {
            const std::string blanks(widths[column] - cells[column].size(), ' ');
            line += "  ";
            line += numeric[column] ? blanks + cells[column] : cells[column] + blanks;
        }
        line.erase(line.find_last_not_of(' ') + 1);
        std::cout << line << '\n';
    };
    print(head);
    for (const auto& row : rows) {
        print(row);
    }
}

LoadedManifest load_manifest(const std::filesystem::path& folder) {
    const std::string place = (folder / M4_IMAGE_MANIFEST_NAME).string();
    const auto directory = firmware::open_directory(folder.string());
    std::size_t size_bytes = 0;
    const auto file = firmware::open_regular(directory, M4_IMAGE_MANIFEST_NAME, place, size_bytes);
    if (size_bytes > M4_IMAGE_MANIFEST_SPAN) {
        throw Error(place, std::to_string(size_bytes) + " bytes, more than 2 MiB");
    }
    LoadedManifest loaded;
    loaded.bytes.resize(size_bytes);
    std::size_t done = 0;
    while (done < size_bytes) {
        const ssize_t got = ::pread(file.get(), loaded.bytes.data() + done, size_bytes - done,
                                    static_cast<off_t>(done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            throw got < 0 ? firmware::os_error(place, "read")
                          : Error(place, "became shorter while it was read");
        }
        done += static_cast<std::size_t>(got);
    }
    loaded.image = firmware::Image::parse(loaded.bytes, place);
    return loaded;
}

void warn_if_expired(const firmware::Certificate& certificate) {
    if (certificate.expired()) {
        std::cerr << "m4fw: warning: " << certificate.place() << ": expired on "
                  << certificate.not_after() << "; the kernel does not look at dates\n";
    }
}

}  // namespace m4::tools
