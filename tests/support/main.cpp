// SPDX-License-Identifier: MIT
// main() of every doctest binary: counts passed, failed and skipped cases and
// appends "passed failed skipped" to the file $M4_TEST_COUNTS for tests/run.sh.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <string>

#include "skip.hpp"

namespace {

struct Counts {
    int passed = 0;
    int failed = 0;
    int skipped = 0;
    std::string current;
    std::set<std::string> skipped_names;
};

Counts& counts() {
    static Counts instance;
    return instance;
}

struct Listener : doctest::IReporter {
    explicit Listener(const doctest::ContextOptions& /*options*/) {}
    void report_query(const doctest::QueryData& /*data*/) override {}
    void test_run_start() override {}
    void test_run_end(const doctest::TestRunStats& /*stats*/) override {}
    void test_case_start(const doctest::TestCaseData& data) override {
        counts().current = data.m_name;
    }
    void test_case_reenter(const doctest::TestCaseData& /*data*/) override {}
    void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
        if (stats.failure_flags != 0) {
            ++counts().failed;
        } else if (counts().skipped_names.count(counts().current) != 0) {
            ++counts().skipped;
        } else {
            ++counts().passed;
        }
    }
    void test_case_exception(const doctest::TestCaseException& /*e*/) override {}
    void subcase_start(const doctest::SubcaseSignature& /*s*/) override {}
    void subcase_end() override {}
    void log_assert(const doctest::AssertData& /*data*/) override {}
    void log_message(const doctest::MessageData& /*data*/) override {}
    void test_case_skipped(const doctest::TestCaseData& /*data*/) override {}
};

REGISTER_LISTENER("m4-counts", 1, Listener);

}  // namespace

namespace m4::test {

void skip_current(const std::string& reason) {
    counts().skipped_names.insert(counts().current);
    std::cout << "skipped: " << counts().current << ": " << reason << '\n';
}

std::string source_root() {
    return M4_SOURCE_ROOT;
}

std::string build_root() {
    return M4_BUILD_ROOT;
}

std::string shared_data() {
    const char* named = std::getenv("M4_SHARED");
    const std::filesystem::path root =
        named != nullptr ? std::filesystem::path(named)
                         : std::filesystem::path(M4_SOURCE_ROOT).parent_path() / "shared";
    const auto data = root / "data";
    return std::filesystem::is_directory(data) ? data.string() : std::string{};
}

}  // namespace m4::test

int main(int argc, char** argv) {
    doctest::Context context(argc, argv);
    const int status = context.run();
    if (const char* path = std::getenv("M4_TEST_COUNTS")) {
        std::ofstream(path, std::ios::app)
            << counts().passed << ' ' << counts().failed << ' ' << counts().skipped << '\n';
    }
    return status;
}
