// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include "print.hpp"

using namespace m4ctl;

TEST_CASE("printable: text passes, what steers a terminal does not") {
    CHECK(printable("plain, \xc3\xa9\xe2\x82\xac\xf0\x9f\xa6\x8a\n\tend") ==
          "plain, \xc3\xa9\xe2\x82\xac\xf0\x9f\xa6\x8a\n\tend");
    CHECK(printable("a\nb\tc", true) == "a\\nb\\tc");
    CHECK(printable("\x1b[31m") == "\\x1b[31m");
    CHECK(printable("over\rwrite\x07\x7f") == "over\\x0dwrite\\x07\\x7f");
    CHECK(printable(std::string("\0", 1)) == "\\x00");
    CHECK(printable("\xc2\x9b"
                    "31m") == "\\xc2\\x9b31m");  // CSI as one C1 character
    CHECK(printable("\xc2\xa0") == "\xc2\xa0");  // the first after C1
}

TEST_CASE("printable: bytes that are no UTF-8") {
    CHECK(printable("\x9b") == "\\x9b");
    CHECK(printable("\xff"
                    "a") == "\\xffa");
    CHECK(printable("\xc3") == "\\xc3");
    CHECK(printable("\xc3"
                    "a") == "\\xc3a");
    CHECK(printable("\xc0\xaf") == "\\xc0\\xaf");                    // overlong
    CHECK(printable("\xe0\x80\xaf") == "\\xe0\\x80\\xaf");           // overlong
    CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");           // surrogate
    CHECK(printable("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");  // beyond the last
}

TEST_CASE("clip counts characters and marks what it leaves out") {
    CHECK(clip("abc", 3) == "abc");
    CHECK(clip("abcd", 3) == "ab~");
    CHECK(clip("\xc3\xa9\xc3\xa9\xc3\xa9", 3) == "\xc3\xa9\xc3\xa9\xc3\xa9");
    CHECK(clip("\xc3\xa9\xc3\xa9\xc3\xa9", 2) == "\xc3\xa9~");
    CHECK(clip("abc", 1) == "~");
    CHECK(column_count("\xf0\x9f\xa6\x8a!") == 2);
}

TEST_CASE("figures for people") {
    CHECK(size_text(0) == "0 B");
    CHECK(size_text(1536) == "1.5 KiB");
    CHECK(size_text(3UL << 30U) == "3.0 GiB");
    CHECK(time_text(1500) == "1.5 ms");
    CHECK(time_text(2500000) == "2.5 s");
    CHECK(time_text(61000000) == "1 min 1 s");
    CHECK(time_text(7260000000) == "2 h 1 min");
    CHECK(count_text(999) == "999");
    CHECK(count_text(260032) == "260.0 k");
}
