// SPDX-License-Identifier: MIT
// m4ctl bench: what this device does with this model, measured by the service.
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "commands.hpp"
#include "print.hpp"
#include "progress.hpp"

namespace m4ctl {

namespace {

constexpr double kUsOfSecond = 1e6;
constexpr std::size_t kOperatorColumns = 36;

struct BenchOptions {
    std::uint32_t context = 16;
    std::uint32_t tokens = 32;
    std::uint32_t prefill = 64;
};

/// What is told, of what was measured.
struct Rates {
    double decode_tokens_s = 0;
    double prefill_tokens_s = 0;
    double weight_bytes_s = 0;
    std::optional<double> copy_bytes_s;
    std::optional<double> roofline;
    double kernels_us = 0;
};

Rates rates_of(const m4_bench& b) {
    Rates rates;
    rates.decode_tokens_s = kUsOfSecond / b.token_us;
    rates.prefill_tokens_s = kUsOfSecond * b.prefill / b.prefill_us;
    rates.weight_bytes_s = kUsOfSecond * static_cast<double>(b.step_bytes) / b.token_us;
    if (b.copy_bytes != 0) {
        rates.copy_bytes_s = kUsOfSecond * static_cast<double>(b.copy_bytes) / b.copy_us;
        rates.roofline = rates.weight_bytes_s / *rates.copy_bytes_s;
    }
    for (const m4_bench_kernel& kernel : std::span(b.kernels, b.kernel_count)) {
        rates.kernels_us += kernel.time_us;
    }
    return rates;
}

double share_of(const m4_bench_kernel& kernel, const Rates& rates) {
    return rates.kernels_us > 0 ? kernel.time_us / rates.kernels_us : 0;
}

nlohmann::json optional_json(const std::optional<double>& value) {
    return value ? nlohmann::json(*value) : nlohmann::json(nullptr);
}

nlohmann::json to_json(const Status& s, const ModelInfo& m, const m4_bench& b) {
    const Rates rates = rates_of(b);
    nlohmann::json kernels = nlohmann::json::array();
    for (const m4_bench_kernel& kernel : std::span(b.kernels, b.kernel_count)) {
        const bool timed = b.timestamps != 0;
        kernels.push_back({{"name", kernel.name},
                           {"operators", kernel.operators},
                           {"dispatches", kernel.dispatches},
                           {"time_us", timed ? nlohmann::json(kernel.time_us) : nullptr},
                           {"share", timed ? nlohmann::json(share_of(kernel, rates)) : nullptr}});
    }
    return {{"server_version", s.server_version},
            {"device_name", s.device_name},
            {"driver_name", s.driver_name},
            {"driver_info", s.driver_info},
            {"model", m.name},
            {"digest", m.digest},
            {"cold", s.cold},
            {"requests_active", s.requests_active},
            {"cut_short", b.cut_short != 0},
            {"decode",
             {{"context", b.context},
              {"tokens", b.tokens},
              {"passes", b.passes},
              {"token_us", b.token_us},
              {"tokens_per_s", rates.decode_tokens_s}}},
            {"prefill",
             {{"tokens", b.prefill},
              {"prompt_us", b.prefill_us},
              {"tokens_per_s", rates.prefill_tokens_s}}},
            {"weights", {{"bytes_per_token", b.step_bytes}, {"bytes_per_s", rates.weight_bytes_s}}},
            {"copy", {{"bytes_per_s", optional_json(rates.copy_bytes_s)}}},
            {"roofline", optional_json(rates.roofline)},
            {"timestamps", b.timestamps != 0},
            {"kernels", std::move(kernels)}};
}

std::string rate_text(double bytes_s) {
    return size_text(static_cast<std::uint64_t>(bytes_s)) + "/s";
}

std::string us_text(double us) {
    return time_text(static_cast<std::uint64_t>(us));
}

std::string percent_text(double share) {
    return fixed(100 * share, 1) + " %";
}

void print_kernels(const m4_bench& b, const Rates& rates) {
    std::vector<std::vector<std::string>> rows;
    std::uint32_t dispatches = 0;
    const bool timed = b.timestamps != 0;
    for (const m4_bench_kernel& kernel : std::span(b.kernels, b.kernel_count)) {
        dispatches += kernel.dispatches;
        rows.push_back({printable(kernel.name, true),
                        clip(printable(kernel.operators, true), kOperatorColumns),
                        std::to_string(kernel.dispatches), timed ? fixed(kernel.time_us, 1) : "n/a",
                        timed ? percent_text(share_of(kernel, rates)) : "n/a"});
    }
    rows.push_back({"all", "", std::to_string(dispatches),
                    timed ? fixed(rates.kernels_us, 1) : "n/a", timed ? percent_text(1) : "n/a"});
    print_table(
        {{"KERNEL"}, {"OPERATORS"}, {"DISPATCHES", true}, {"US/STEP", true}, {"SHARE", true}},
        rows);
    if (!timed) {
        print_raw("The device has no timestamps: its kernels cannot be timed.\n");
    }
}

void print(const Status& s, const ModelInfo& m, const m4_bench& b) {
    const Rates rates = rates_of(b);
    const std::string chained =
        b.passes > 1 ? ", " + std::to_string(b.passes) + " a submission" : "";
    print_pairs({
        {"device", s.device_name},
        {"driver", std::string(s.driver_name) + " " + s.driver_info},
        {"model",
         std::string(m.name) + " " + m.version + ", " + count_text(m.parameters) + " parameters"},
        {"decode", fixed(rates.decode_tokens_s, 1) + " tokens/s, " + us_text(b.token_us) +
                       " a token, behind " + std::to_string(b.context) + chained},
        {"prefill", fixed(rates.prefill_tokens_s, 1) + " tokens/s, " + std::to_string(b.prefill) +
                        " tokens in " + us_text(b.prefill_us)},
        {"weights",
         rate_text(rates.weight_bytes_s) + ", " + size_text(b.step_bytes) + " a decoded token"},
        {"copy", rates.copy_bytes_s ? rate_text(*rates.copy_bytes_s) + " read and written"
                                    : std::string("n/a: no memory of the device for it")},
        {"roofline",
         rates.roofline ? percent_text(*rates.roofline) + " of the copy" : std::string("n/a")},
    });
    if (b.cut_short != 0) {
        print_raw("The bench's time was over early: these are fewer samples than usual.\n");
    }
    print_raw("\nOne decode step, each kernel by itself:\n");
    print_kernels(b, rates);
}

int bench(const Global& global, const BenchOptions& wanted) {
    const Client client = connect(global);
    const Status before = status(client);
    warn_of_development(before.development != 0);
    if (before.cold != 0) {
        print_warning(
            "the service still prepares its kernels, these figures are not its best: "
            "m4ctl doctor --warm waits for it");
    }
    if (before.requests_active != 0) {
        print_warning("the service computes for others meanwhile");
    }
    const ModelInfo model = model_info(client);
    m4_bench_options options = M4_INIT(m4_bench_options);
    options.context = wanted.context;
    options.tokens = wanted.tokens;
    options.prefill = wanted.prefill;
    BenchResult result;
    {
        ProgressLine progress("measuring");
        options.user = &progress;
        options.progress = [](unsigned percent, void* line) {
            static_cast<ProgressLine*>(line)->update(percent);
        };
        m4_bench* raw = nullptr;
        check(m4_bench_run(client.get(), &options, &raw), client.get());
        result.reset(raw);
    }
    if (global.json) {
        print_json(to_json(before, model, *result));
    } else {
        print(before, model, *result);
    }
    return kExitOk;
}

void add_count(CLI::App* command, const char* name, std::uint32_t& value, const char* what) {
    constexpr std::uint32_t kMost = 1U << 20;  // the service knows the model's own limits
    command->add_option(name, value, what)
        ->type_name("TOKENS")
        ->check(CLI::Range(1U, kMost).description(""))
        ->capture_default_str();
}

}  // namespace

void add_bench(CLI::App& app, const Global& global, Action& action) {
    CLI::App* command =
        app.add_subcommand("bench", "Measure this device: for root and the service's user");
    auto options = std::make_shared<BenchOptions>();
    add_count(command, "--context", options->context, "Tokens before those that are decoded");
    add_count(command, "--tokens", options->tokens, "Tokens to decode");
    add_count(command, "--prefill", options->prefill, "Tokens of the prompt");
    command->callback([&global, &action, options] {
        action = [&global, options] { return bench(global, *options); };
    });
}

}  // namespace m4ctl
