// SPDX-License-Identifier: MIT
#include "print.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "handles.hpp"

namespace m4ctl {

namespace {

void append_escape(std::string& out, unsigned char byte) {
    static constexpr char kDigits[] = "0123456789abcdef";
    out += "\\x";
    out += kDigits[byte >> 4U];
    out += kDigits[byte & 15U];
}

/// Bytes of the well-formed character at the beginning of `text`; 0: none.
std::size_t character_bytes(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char lead = byte(0);
    if (lead < 0x80) {
        return 1;
    }
    const std::size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) {
        return 0;
    }
    for (std::size_t i = 1; i < bytes; ++i) {
        if ((byte(i) & 0xc0U) != 0x80) {
            return 0;
        }
    }
    // Overlong forms, surrogates, beyond U+10FFFF.
    const bool bad = (lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) > 0x9f) ||
                     (lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) > 0x8f);
    return bad ? 0 : bytes;
}

bool is_control(std::string_view character) {
    const auto lead = static_cast<unsigned char>(character[0]);
    if (character.size() == 1) {
        return lead < 0x20 || lead == 0x7f;
    }
    return lead == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0;  // C1
}

std::string pad(const std::string& text, std::size_t columns, bool right) {
    const std::size_t used = column_count(text);
    const std::string space(used < columns ? columns - used : 0, ' ');
    return right ? space + text : text + space;
}

/// Words of `text` in lines of at most `columns`, unless a word is longer.
std::vector<std::string> wrap(const std::string& text, std::size_t columns) {
    std::vector<std::string> lines(1);
    std::size_t begin = 0;
    while (begin < text.size()) {
        const std::size_t end = std::min(text.find(' ', begin), text.size());
        const std::string word = text.substr(begin, end - begin);
        std::string& line = lines.back();
        if (!line.empty() && column_count(line) + 1 + column_count(word) > columns) {
            lines.push_back(word);
        } else {
            line += (line.empty() ? "" : " ") + word;
        }
        begin = end + 1;
    }
    return lines;
}

}  // namespace

std::string printable(std::string_view text, bool one_line) {
    std::string out;
    while (!text.empty()) {
        const std::size_t bytes = character_bytes(text);
        const std::string_view character = text.substr(0, std::max<std::size_t>(bytes, 1));
        const bool layout = !one_line && (character == "\n" || character == "\t");
        if (bytes != 0 && (layout || !is_control(character))) {
            out += character;
        } else if (character == "\n") {
            out += "\\n";
        } else if (character == "\t") {
            out += "\\t";
        } else {
            for (const char byte : character) {
                append_escape(out, static_cast<unsigned char>(byte));
            }
        }
        text.remove_prefix(character.size());
    }
    return out;
}

std::size_t column_count(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char byte) {
        return (static_cast<unsigned char>(byte) & 0xc0U) != 0x80;
    }));
}

std::string clip(std::string_view text, std::size_t columns) {
    if (column_count(text) <= columns) {
        return std::string(text);
    }
    std::size_t end = 0;
    for (std::size_t seen = 0; end < text.size(); ++end) {
        if ((static_cast<unsigned char>(text[end]) & 0xc0U) != 0x80 && ++seen == columns) {
            break;
        }
    }
    return std::string(text.substr(0, end)) + "~";
}

std::string fixed(double value, int decimals) {
    char text[64];
    (void)std::snprintf(text, sizeof text, "%.*f", decimals, value);
    return text;
}

std::string size_text(std::uint64_t bytes) {
    static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 1024 && unit + 1 < std::size(kUnits)) {
        value /= 1024;
        ++unit;
    }
    return fixed(value, unit == 0 ? 0 : 1) + " " + kUnits[unit];
}

std::string time_text(std::uint64_t microseconds) {
    const std::uint64_t seconds = microseconds / 1000000;
    if (seconds >= 3600) {
        return std::to_string(seconds / 3600) + " h " + std::to_string(seconds / 60 % 60) + " min";
    }
    if (seconds >= 60) {
        return std::to_string(seconds / 60) + " min " + std::to_string(seconds % 60) + " s";
    }
    if (seconds >= 1) {
        return fixed(static_cast<double>(microseconds) / 1e6, 1) + " s";
    }
    return fixed(static_cast<double>(microseconds) / 1e3, 1) + " ms";
}

std::string count_text(std::uint64_t count) {
    static constexpr const char* kUnits[] = {"", " k", " M", " G", " T"};
    auto value = static_cast<double>(count);
    std::size_t unit = 0;
    while (value >= 1000 && unit + 1 < std::size(kUnits)) {
        value /= 1000;
        ++unit;
    }
    return fixed(value, unit == 0 ? 0 : 1) + kUnits[unit];
}

void print_pairs(const std::vector<std::pair<std::string, std::string>>& pairs) {
    std::size_t name_width = 0;
    for (const auto& [name, value] : pairs) {
        name_width = std::max(name_width, column_count(name));
    }
    const std::size_t indent = name_width + 2;
    for (const auto& [name, value] : pairs) {
        std::string head = pad(name, indent, false);
        for (const std::string& line : wrap(printable(value, true), kWidth - indent)) {
            print_raw(head + line + "\n");
            head.assign(indent, ' ');
        }
    }
}

void print_table(const std::vector<Column>& columns,
                 const std::vector<std::vector<std::string>>& rows) {
    std::vector<std::size_t> widths;
    widths.reserve(columns.size());
    for (const Column& column : columns) {
        widths.push_back(column_count(column.title));
    }
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            widths[i] = std::max(widths[i], column_count(row[i]));
        }
    }
    const auto print_row = [&](const auto& cell) {
        std::string line;
        for (std::size_t i = 0; i < columns.size(); ++i) {
            line += (i == 0 ? "" : "  ") + pad(cell(i), widths[i], columns[i].right);
        }
        line.erase(line.find_last_not_of(' ') + 1);
        print_raw(line + "\n");
    };
    print_row([&](std::size_t i) { return columns[i].title; });
    for (const auto& row : rows) {
        print_row([&](std::size_t i) { return row[i]; });
    }
}

void print_json(const nlohmann::json& value) {
    print_raw(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void print_warning(const std::string& words) {
    const std::string line = "m4ctl: warning: " + printable(words, true) + "\n";
    (void)std::fwrite(line.data(), 1, line.size(), stderr);
}

void warn_of_development(bool development) {
    if (development) {
        print_warning(
            "THE IMAGE IS SIGNED BY A DEVELOPMENT KEY: whoever built the kernel module can make "
            "images for it; not for users");
    }
}

void print_raw(std::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
        throw Failure(kExitFailed, "cannot write to standard output");
    }
}

TextPrinter::TextPrinter() : terminal_(::isatty(STDOUT_FILENO) == 1) {}

void TextPrinter::print(std::string_view text) const {
    print_raw(terminal_ ? printable(text) : std::string(text));
    flush_output();
}

void TextPrinter::finish() const {
    if (terminal_) {
        print_raw("\n");
    }
    flush_output();
}

void flush_output() {
    if (std::fflush(stdout) != 0) {
        throw Failure(kExitFailed, "cannot write to standard output");
    }
}

}  // namespace m4ctl
