// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace m4ctl {

/// Columns that every table fits.
inline constexpr std::size_t kWidth = 80;

/// Text that cannot steer a terminal: control characters but newline and tab,
/// and bytes that are no UTF-8, are shown as \xNN. With `one_line` newline and
/// tab are shown as well.
[[nodiscard]] std::string printable(std::string_view text, bool one_line = false);

/// At most `columns` characters, the last one "~" where something is left out.
[[nodiscard]] std::string clip(std::string_view text, std::size_t columns);

/// Characters of printable text; every one is taken to be one column wide.
[[nodiscard]] std::size_t column_count(std::string_view text);

/// "12.3 MiB".
[[nodiscard]] std::string size_text(std::uint64_t bytes);
/// "1 h 02 min", "12.3 s", "45.6 ms".
[[nodiscard]] std::string time_text(std::uint64_t microseconds);
/// "1.2 M"; a count that need not be exact.
[[nodiscard]] std::string count_text(std::uint64_t count);
[[nodiscard]] std::string fixed(double value, int decimals);

/// To stdout: names in one column, values in another, wrapped to kWidth.
void print_pairs(const std::vector<std::pair<std::string, std::string>>& pairs);

/// To stdout: a header and rows; columns are as wide as their widest cell.
/// Cells are shown as they are: printable() and clip() them before.
struct Column {
    std::string title;
    bool right = false;  // align to the right
};
void print_table(const std::vector<Column>& columns,
                 const std::vector<std::vector<std::string>>& rows);

/// To stdout, one object on one line; bytes that are no UTF-8 become U+FFFD.
void print_json(const nlohmann::json& value);

/// To stderr, one line: "m4ctl: warning: ...".
void print_warning(const std::string& words);
/// Loud, where it is so: the image was signed by a key that is no secret.
void warn_of_development(bool development);

/// To stdout as it is, at once.
void print_raw(std::string_view text);

/// Model text: as it is into a file or pipe, printable on a terminal.
class TextPrinter {
   public:
    TextPrinter();
    void print(std::string_view text) const;
    /// Ends the line, on a terminal only.
    void finish() const;

   private:
    bool terminal_;
};

/// Throws when something did not reach stdout.
void flush_output();

}  // namespace m4ctl
