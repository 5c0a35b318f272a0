// SPDX-License-Identifier: MIT
// m4ctl bench: figures of the device from a running service, and who gets none.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <set>
#include <string>

#include "service.hpp"
#include "skip.hpp"

using namespace m4::test;
using nlohmann::json;

namespace {

constexpr uid_t kNobody = 65534;

const Service& nano() {
    static const Service service(nano_image());
    return service;
}

bool near(double a, double b) {
    return std::abs(a - b) <= 1e-6 * std::abs(b);
}

}  // namespace

TEST_CASE("bench: JSON has every figure, and they agree") {
    NEEDS_NANO();
    const json all =
        nano().ctl_json({"bench", "--context", "40", "--tokens", "6", "--prefill", "70"});
    CHECK(all.at("device_name") == nano().ctl_json({"status"}).at("device_name"));
    CHECK(all.at("digest") == nano().ctl_json({"firmware", "show"}).at("digest"));
    const json& decode = all.at("decode");
    CHECK(decode.at("context") == 40);
    CHECK(decode.at("tokens").get<int>() > 0);
    const double token_us = decode.at("token_us");
    CHECK(near(decode.at("tokens_per_s"), 1e6 / token_us));
    const json& prefill = all.at("prefill");
    CHECK(prefill.at("tokens") == 70);
    CHECK(near(prefill.at("tokens_per_s"), 70e6 / prefill.at("prompt_us").get<double>()));
    const json& weights = all.at("weights");
    CHECK(weights.at("bytes_per_token").get<std::uint64_t>() > 1'000'000);
    CHECK(near(weights.at("bytes_per_s"),
               weights.at("bytes_per_token").get<double>() * 1e6 / token_us));
    CHECK(near(all.at("roofline"), weights.at("bytes_per_s").get<double>() /
                                       all.at("copy").at("bytes_per_s").get<double>()));
    const json& kernels = all.at("kernels");
    CHECK(kernels.size() > 3);
    std::set<std::string> names;
    double share = 0;
    for (const json& kernel : kernels) {
        names.insert(kernel.at("name"));
        CHECK_FALSE(kernel.at("operators").get<std::string>().empty());
        CHECK(kernel.at("dispatches").get<int>() > 0);
        if (all.at("timestamps").get<bool>()) {
            CHECK(kernel.at("time_us").get<double>() >= 0);
            share += kernel.at("share").get<double>();
        } else {
            CHECK(kernel.at("time_us").is_null());
        }
    }
    CHECK(names.count("attention") == 1);
    CHECK(names.count("argmax") == 1);
    CHECK((near(share, 1) || !all.at("timestamps").get<bool>()));
    const json status = nano().ctl_json({"status"});
    CHECK(status.at("kv_pages_used") == 0);
    CHECK(status.at("requests_active") == 0);
}

TEST_CASE("bench: a table for people, and what was generated stays the same") {
    NEEDS_NANO();
    const std::vector<std::string> story = {"run", "--greedy", "--max-tokens", "20", "Once"};
    const std::string before = nano().ctl(story).out;
    const Finished shown = nano().ctl({"bench", "--tokens", "4"});
    INFO(shown.err);
    REQUIRE(shown.status == 0);
    for (const char* part : {"decode", "prefill", " tokens/s", "roofline", "KERNEL", "OPERATORS",
                             "US/STEP", "attention", "\nall "}) {
        CAPTURE(part);
        CHECK(shown.out.find(part) != std::string::npos);
    }
    CHECK(nano().ctl(story).out == before);
}

TEST_CASE("bench: bad arguments are usage, too large ones are refused") {
    NEEDS_NANO();
    for (const char* bad : {"0", "-1", "many", "9999999999"}) {
        for (const char* option : {"--context", "--tokens", "--prefill"}) {
            CAPTURE(bad);
            CAPTURE(option);
            CHECK(nano().ctl({"bench", option, bad}).status == 2);
        }
    }
    CHECK(nano().ctl({"bench", "surplus"}).status == 2);
    const Finished large = nano().ctl({"bench", "--context", "1000000"});
    CHECK(large.status == 1);
    CHECK(large.out.empty());
    CHECK(large.err.find("the model's context is ") != std::string::npos);
    CHECK(nano().ctl({"bench", "--tokens", "1025"}).status == 1);
}

TEST_CASE("bench: another user is refused, and told who may") {
    NEEDS_NANO();
    const std::string setpriv = "/usr/bin/setpriv";
    if (::geteuid() != 0 || !std::filesystem::exists(setpriv)) {
        M4_SKIP("another user takes root and setpriv");
    }
    // The socket is in a folder of the test's own, which others do not see.
    using std::filesystem::perms;
    std::filesystem::permissions(nano().scratch().path(),
                                 perms::owner_all | perms::group_exec | perms::others_exec);
    std::filesystem::permissions(nano().socket(), perms::all);
    const auto as_nobody = [](const std::string& command) {
        return run({"/usr/bin/setpriv", "--reuid", std::to_string(kNobody), "--clear-groups",
                    binary("m4ctl"), "--socket", nano().socket(), command});
    };
    const Finished status = as_nobody("status");
    if (status.status != 0) {
        M4_SKIP("another user does not reach the service here: " + status.err);
    }
    const Finished refused = as_nobody("bench");
    CHECK(refused.status == 1);
    CHECK(refused.out.empty());
    CHECK(refused.err.find("only root and uid ") != std::string::npos);
}
