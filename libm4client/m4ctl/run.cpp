// SPDX-License-Identifier: MIT
// m4ctl run: a prompt in, its continuation out as it comes.
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "adapter_args.hpp"
#include "commands.hpp"
#include "media_args.hpp"
#include "print.hpp"

namespace m4ctl {

namespace {

struct RunOptions {
    std::string prompt;
    bool prompt_given = false;
    bool greedy = false;
    bool ignore_eos = false;
    bool stats = false;
    uint32_t max_tokens = 256;
    uint64_t seed = 0;
    float temperature = 0.8F;
    uint32_t top_k = 0;
    float top_p = 0.95F;
    std::vector<std::string> stop;
    std::vector<MediaArg> media;
    std::string adapter;
    bool no_template = false;
};

/// From here to the end of the scope Ctrl-C is a readable descriptor.
class Interrupt {
   public:
    Interrupt() {
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, SIGINT);
        if (const int error = ::pthread_sigmask(SIG_BLOCK, &signals, &before_); error != 0) {
            errno = error;
            throw system_failure("pthread_sigmask");
        }
        fd_ = ::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
        if (fd_ < 0) {
            throw system_failure("signalfd");
        }
    }
    ~Interrupt() {
        ::close(fd_);
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    Interrupt(const Interrupt&) = delete;
    Interrupt& operator=(const Interrupt&) = delete;

    [[nodiscard]] int fd() const { return fd_; }
    /// True once for each signal.
    [[nodiscard]] bool take() const {
        signalfd_siginfo info;
        return ::read(fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info);
    }

   private:
    int fd_ = -1;
    sigset_t before_;
};

struct Outcome {
    std::string text;
    std::vector<uint32_t> ids;
    int finish = M4_FINISH_NONE;
    m4_usage usage = M4_INIT(m4_usage);
    bool interrupted = false;
};

const char* finish_name(int finish) {
    switch (finish) {
        case M4_FINISH_EOS:
            return "eos";
        case M4_FINISH_LENGTH:
            return "length";
        case M4_FINISH_STOP:
            return "stop";
        case M4_FINISH_CONTEXT:
            return "context";
        case M4_FINISH_CANCELLED:
            return "cancelled";
        default:
            return "none";
    }
}

/// Waits for the service or for Ctrl-C; true when the user wants to end.
bool wait(const Client& client, const Interrupt& interrupt, int timeout_ms) {
    pollfd entries[2] = {{m4_client_fd(client.get()), m4_client_events(client.get()), 0},
                         {interrupt.fd(), POLLIN, 0}};
    const int ready = ::poll(entries, 2, timeout_ms == 0 ? -1 : timeout_ms);
    if (ready == 0) {
        throw Failure(kExitFailed, m4_strerror(M4_E_TIMEOUT));
    }
    if (ready < 0 && errno != EINTR) {
        throw system_failure("poll");
    }
    return interrupt.take();
}

/// Takes the stream to its end, printing unless `printer` is null.
void follow(const Client& client, const Stream& stream, const Global& global,
            const TextPrinter* printer, Outcome& outcome) {
    const Interrupt interrupt;
    while (outcome.finish == M4_FINISH_NONE) {
        m4_event event = M4_INIT(m4_event);
        const int code = m4_stream_next(stream.get(), 0, &event);
        if (code == M4_E_WOULD_BLOCK) {
            if (wait(client, interrupt, global.timeout_ms())) {
                if (outcome.interrupted) {
                    return;  // the second time: at once
                }
                outcome.interrupted = true;
                check(m4_stream_cancel(stream.get()), client.get());
            }
            check(m4_client_dispatch(client.get()), client.get());
            continue;
        }
        check(code, client.get());
        outcome.ids.insert(outcome.ids.end(), event.ids, event.ids + event.id_count);
        outcome.finish = event.finish;
        const std::string_view text(event.text, event.text_bytes);
        if (printer != nullptr) {
            printer->print(text);
        } else {
            outcome.text += text;
        }
    }
    check(m4_stream_usage(stream.get(), &outcome.usage), client.get());
}

/// Tokens after the first one, per second of decoding; none to tell of fewer.
std::optional<double> decode_rate(const m4_usage& usage) {
    if (usage.output_tokens < 2 || usage.total_us <= usage.ttft_us) {
        return std::nullopt;
    }
    return (usage.output_tokens - 1) * 1e6 / static_cast<double>(usage.total_us - usage.ttft_us);
}

nlohmann::json to_json(const Outcome& outcome) {
    const m4_usage& usage = outcome.usage;
    nlohmann::json figures = {{"prompt_tokens", usage.prompt_tokens},
                              {"cached_tokens", usage.cached_tokens},
                              {"output_tokens", usage.output_tokens},
                              {"queue_us", usage.queue_us},
                              {"ttft_us", usage.ttft_us},
                              {"total_us", usage.total_us},
                              {"tokens_per_second", nullptr}};
    if (const auto rate = decode_rate(usage)) {
        figures["tokens_per_second"] = *rate;
    }
    return {{"text", outcome.text},
            {"ids", outcome.ids},
            {"finish", finish_name(outcome.finish)},
            {"usage", figures}};
}

/// What it ran on and what it took. To stderr, which keeps stdout the
/// continuation's alone.
void print_stats(const Client& client, const Outcome& outcome) {
    const Status on = status(client);
    const ModelInfo model = model_info(client);
    const m4_usage& usage = outcome.usage;
    const auto row = [](const char* name, const std::string& value) {
        (void)std::fprintf(stderr, "%-14s %s\n", name, value.c_str());
    };
    row("device", clip(printable(on.device_name, true), kWidth - 15));
    row("driver",
        clip(printable(std::string(on.driver_name) + " " + on.driver_info, true), kWidth - 15));
    row("image", model.digest);
    row("weights", size_text(on.weight_bytes) + " by " + on.weights_import + ", " +
                       std::to_string(on.copied_bytes) + " bytes copied");
    row("prompt", std::to_string(usage.prompt_tokens) + " tokens, " +
                      std::to_string(usage.cached_tokens) + " of them cached");
    row("output", std::to_string(usage.output_tokens) + " tokens in " + time_text(usage.total_us) +
                      ", ended by " + finish_name(outcome.finish));
    row("TTFT", time_text(usage.ttft_us));
    if (const auto rate = decode_rate(usage)) {
        row("tokens/s", fixed(*rate, 1));
    }
}

/// A piece of a prompt: a text, or where an input of another sense stands.
struct PromptPiece {
    std::string text;
    std::optional<Sense> sense;
};

/// Markers `<image>`, `<audio>` and `<imu>` of the senses that are given.
std::vector<PromptPiece> cut_prompt(std::string_view prompt, const std::vector<MediaArg>& media) {
    std::vector<PromptPiece> pieces;
    while (!prompt.empty()) {
        std::size_t at = std::string_view::npos;
        std::string marker;
        Sense sense{};
        for (const MediaArg& arg : media) {
            const std::string one = std::string("<") + name_of(arg.sense) + ">";
            if (const std::size_t found = prompt.find(one); found < at) {
                at = found;
                marker = one;
                sense = arg.sense;
            }
        }
        const std::string_view text = prompt.substr(0, at);
        if (!text.empty()) {
            pieces.push_back({std::string(text), std::nullopt});
        }
        if (at == std::string_view::npos) {
            break;
        }
        pieces.push_back({{}, sense});
        prompt.remove_prefix(at + marker.size());
    }
    return pieces;
}

/// The prompt with its media, each where the next marker of its sense stands; those
/// without a marker before all text.
void append_prompt(const Client& client, const Session& session, const std::string& prompt,
                   const std::vector<MediaArg>& media) {
    std::vector<PromptPiece> pieces = cut_prompt(prompt, media);
    std::vector<LoadedMedia> loaded;
    std::vector<bool> used(media.size());
    for (const MediaArg& arg : media) {
        loaded.emplace_back(arg);
    }
    const auto append_media = [&](std::size_t index) {
        const auto view = loaded[index].view();
        check(m4_session_append_media(session.get(), &view, nullptr), client.get());
        used[index] = true;
    };
    // BOS comes first, whatever follows.
    check(m4_session_append_text(session.get(), "", 0, M4_ADD_SPECIAL), client.get());
    const auto marked = [&](Sense sense) {
        return static_cast<std::size_t>(
            std::count_if(pieces.begin(), pieces.end(),
                          [&](const PromptPiece& piece) { return piece.sense == sense; }));
    };
    for (std::size_t i = 0; i < media.size(); ++i) {
        const auto before = static_cast<std::size_t>(
            std::count_if(media.begin(), media.begin() + static_cast<std::ptrdiff_t>(i),
                          [&](const MediaArg& arg) { return arg.sense == media[i].sense; }));
        if (before >= marked(media[i].sense)) {
            append_media(i);
        }
    }
    for (const PromptPiece& piece : pieces) {
        if (!piece.sense) {
            check(m4_session_append_text(session.get(), piece.text.data(), piece.text.size(), 0),
                  client.get());
            continue;
        }
        std::size_t next = 0;
        while (next < media.size() && (used[next] || media[next].sense != *piece.sense)) {
            ++next;
        }
        if (next == media.size()) {
            throw Failure(kExitUsage, std::string("the prompt has more <") + name_of(*piece.sense) +
                                          "> than files are given");
        }
        append_media(next);
    }
}

int run(const Global& global, const RunOptions& options) {
    std::string prompt = text_or_stdin(options.prompt, options.prompt_given, "a prompt");
    const Client client = connect(global);
    const auto adapter = choose_adapter(client, options.adapter);
    if (adapter && !options.no_template) {
        prompt = filled(adapter->prompt_template, prompt);
    }
    const Session session = create_session(client, id_or_null(adapter));
    if (options.media.empty()) {
        check(m4_session_append_text(session.get(), prompt.data(), prompt.size(), M4_ADD_SPECIAL),
              client.get());
    } else {
        append_prompt(client, session, prompt, options.media);
    }

    std::vector<const char*> stop;
    for (const std::string& text : options.stop) {
        stop.push_back(text.c_str());
    }
    m4_generate_options generate = M4_INIT(m4_generate_options);
    generate.max_tokens = options.max_tokens;
    generate.seed = options.seed;
    generate.stop = stop.data();
    generate.stop_count = stop.size();
    generate.ignore_eos = options.ignore_eos ? 1 : 0;
    if (!options.greedy) {
        generate.temperature = options.temperature;
        generate.top_k = options.top_k;
        generate.top_p = options.top_p;
    }
    m4_stream* raw = nullptr;
    check(m4_generate(session.get(), &generate, &raw), client.get());
    const Stream stream(raw);

    const TextPrinter printer;
    Outcome outcome;
    follow(client, stream, global, global.json ? nullptr : &printer, outcome);
    if (global.json) {
        nlohmann::json all = to_json(outcome);
        all["adapter"] = adapter ? nlohmann::json(hex_of(adapter->id)) : nlohmann::json();
        print_json(all);
    } else {
        printer.finish();
    }
    if (options.stats) {
        print_stats(client, outcome);
    }
    return outcome.interrupted ? kExitInterrupted : kExitOk;
}

}  // namespace

void add_run(CLI::App& app, const Global& global, Action& action) {
    CLI::App* command = app.add_subcommand("run", "Print the continuation of a prompt");
    auto options = std::make_shared<RunOptions>();
    CLI::Option* prompt =
        command->add_option("prompt", options->prompt, "The text to continue; - or none: stdin")
            ->type_name("TEXT");
    CLI::Option* greedy =
        command->add_flag("--greedy", options->greedy, "Always the likeliest token");
    command->add_option("--max-tokens", options->max_tokens, "Stop after N tokens; 0: context full")
        ->type_name("N")
        ->capture_default_str();
    command->add_option("--seed", options->seed, "Same seed, same text; 0: a new one")
        ->type_name("S");
    command->add_option("--temperature", options->temperature, "Sampling temperature")
        ->type_name("T")
        ->check(CLI::Range(0.0, 100.0).description(""))
        ->excludes(greedy)
        ->capture_default_str();
    command->add_option("--top-k", options->top_k, "Sample from the K likeliest; 0: all")
        ->type_name("K")
        ->excludes(greedy);
    command->add_option("--top-p", options->top_p, "Sample from the likeliest of this mass")
        ->type_name("P")
        ->check(CLI::Range(0.0, 1.0).description(""))
        ->excludes(greedy)
        ->capture_default_str();
    command->add_option("--stop", options->stop, "End before this text; repeatable")
        ->type_name("TEXT")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false);
    add_media_options(*command, options->media, false);
    command
        ->add_flag("--no-template", options->no_template,
                   "The prompt as it is, without the adapter's template")
        ->needs(add_adapter_option(*command, options->adapter));
    command->add_flag("--ignore-eos", options->ignore_eos, "Go on past the end token");
    command->add_flag("--stats", options->stats, "Token counts and times on stderr");
    command->callback([&global, &action, options, prompt] {
        options->prompt_given = prompt->count() > 0;
        action = [&global, options] { return run(global, *options); };
    });
}

}  // namespace m4ctl
