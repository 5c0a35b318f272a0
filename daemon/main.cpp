// SPDX-License-Identifier: MIT
// m4d: arguments, image, engine, socket, loop. The one place that reads the
// environment.
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "adapters/admission.hpp"
#include "config.hpp"
#include "ipc/server.hpp"
#include "lib/error.hpp"
#include "lifecycle/image_watch.hpp"
#include "lifecycle/notifier.hpp"
#include "lifecycle/opened_image.hpp"
#include "lifecycle/relaunch.hpp"
#include "lifecycle/updater.hpp"
#include "trust/image_export.hpp"
#include "trust/image_guard.hpp"
#include "trust/page_cache.hpp"

namespace m4 {
namespace {

using SteadyClock = std::chrono::steady_clock;

// A step that runs longer has hung with its driver: the loop then stops
// feeding the service manager's watchdog, which restarts the service. The
// first step of a software driver compiles shaders, so this is long.
constexpr std::chrono::seconds kLongestStep{600};
constexpr std::uint64_t kStepCheckMs = 5000;
// The engine itself gives a step up after two minutes.
constexpr unsigned kLongestEndSeconds = 180;

enum ExitCode : int { kExitOk = 0, kExitOther = 1, kExitImage = 3 };

/// Before anything starts a thread or loads a driver, so nobody else reads or
/// writes the environment meanwhile.
void prepare_environment(Config& config) {
    // NOLINTNEXTLINE(concurrency-mt-unsafe)
    if (const char* named = std::getenv("CACHE_DIRECTORY");
        named != nullptr && config.engine.cache_dir.empty()) {
        // Several are separated by colons; the unit asks for one.
        config.engine.cache_dir = std::string(named).substr(0, std::string(named).find(':'));
    }
    if (!config.engine.cache_dir.empty()) {
        std::filesystem::create_directories(config.engine.cache_dir);
        // Mesa's own cache: without a home it would find no place for it.
        const auto mesa = config.engine.cache_dir / "mesa";
        // NOLINTNEXTLINE(concurrency-mt-unsafe)
        (void)setenv("MESA_SHADER_CACHE_DIR", mesa.c_str(), 0);
    }
    (void)std::signal(SIGPIPE, SIG_IGN);
}

/// Drivers finish shaders when they first run: better now, once, than in
/// somebody's first request.
void warm_up(engine::Engine& engine) {
    const std::uint32_t rows = std::min(engine.max_step_rows(), engine.context_length() - 1);
    const auto sequence = engine.create_sequence(rows + 1);
    if (sequence == nullptr) {
        return;
    }
    const std::vector<std::uint32_t> tokens(rows, 0);
    const std::span<const std::uint32_t> all(tokens);
    for (const auto& part : {all, all.first(1)}) {
        const engine::Chunk chunk{sequence.get(), part, engine::Logits::last};
        (void)engine.step({&chunk, 1});
    }
}

ipc::ServiceInfo describe(const Config& config, const lifecycle::OpenedImage& opened,
                          const firmware::Tokenizer* tokenizer,
                          const engine::DeviceReport& device) {
    const firmware::Image& image = opened.mapped.image();
    ipc::ServiceInfo info;
    info.server_version = M4_VERSION;
    info.device = device;
    info.kv_cache_type = engine::name_of(config.engine.kv_type);
    info.model_name = image.name();
    info.model_version = image.version();
    info.digest = image.digest();
    info.root = image.root();
    info.source = opened.kernel ? "device" : "folder";
    if (opened.kernel) {
        info.signer = opened.kernel->signer();
        info.generation = opened.kernel->generation();
        info.development = opened.kernel->development();
    }
    info.rollback_index = image.rollback_index();
    for (const firmware::Part& part : image.package().parts) {
        info.parameters += part.parameters;
    }
    info.payload_bytes = image.payload_bytes();
    if (const firmware::Part* part = opened.backbone()) {
        info.architecture = part->architecture;
        info.source_digest = part->source_digest;
        info.context_length = part->context_length;
        info.vocabulary = part->vocabulary;
        info.bos_id = tokenizer->bos_id();
        info.eos_id = tokenizer->eos_id();
    }
    return info;
}

/// Its bytes in the mapping.
std::span<const std::byte> manifest_of(const firmware::MappedImage& mapped) {
    return mapped.mapping().first(mapped.image().manifest().manifest_bytes);
}

std::unique_ptr<const sched::TextModel> make_text(const firmware::Tokenizer* tokenizer) {
    if (tokenizer == nullptr) {
        return std::make_unique<sched::NoText>();
    }
    return std::make_unique<sched::TokenizerText>(*tokenizer);
}

ipc::Listener open_listener(const Config& config, lifecycle::Inherited& inherited) {
    return inherited.listener ? ipc::Listener::adopt(inherited.listener.release())
                              : ipc::Listener::bind(config.socket_path);
}

ipc::EventLoop make_loop() {
    sd_event* loop = nullptr;
    ipc::check(sd_event_new(&loop), "sd_event_new");
    return ipc::EventLoop(loop);
}

/// They wait for the loop, in every thread.
void block_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

/// What a signal that ends the service needs.
struct Stop {
    ipc::Server* server;
    const lifecycle::Notifier* notifier;

    ipc::EventSource on(sd_event* loop, int signal) {
        const auto on_signal = [](sd_event_source* source, const signalfd_siginfo* /*info*/,
                                  void* data) {
            return ipc::guarded(source, [&] {
                const auto& stop = *static_cast<Stop*>(data);
                observe::log(observe::Level::info, "stopping");
                stop.notifier->say("STOPPING=1\nSTATUS=Stopping");
                stop.server->drain(kExitOk);
            });
        };
        sd_event_source* source = nullptr;
        ipc::check(sd_event_add_signal(loop, &source, signal, on_signal, this),
                   "sd_event_add_signal");
        return ipc::EventSource(source);
    }
};

/// Re-arms itself; stops the watchdog's food when a step hangs.
struct StepCheck {
    const sched::Scheduler* scheduler;
    ipc::EventSource timer;

    void arm(sd_event* loop) {
        const auto on_time = [](sd_event_source* source, std::uint64_t /*now*/, void* data) {
            return ipc::guarded(source, [&] {
                auto& check = *static_cast<StepCheck*>(data);
                sd_event* event = sd_event_source_get_event(source);
                if (check.scheduler->step_age() > kLongestStep) {
                    observe::log(observe::Level::error, "a step has been running for over %d s",
                                 static_cast<int>(kLongestStep.count()));
                    (void)sd_event_set_watchdog(event, 0);
                    return;
                }
                check.arm(event);
            });
        };
        timer = ipc::add_timer(loop, kStepCheckMs, on_time, this);
    }
};

/// The kernel has its own copy, which we map: nobody reads the files again.
void spare_page_cache(const Config& config, const lifecycle::OpenedImage& opened) {
    if (opened.kernel) {
        const auto folder = config.firmware_dir / opened.kernel->name();
        const std::uint64_t bytes = trust::drop_page_cache(folder);
        observe::log(observe::Level::debug, "%s: the page cache may let go of %llu bytes",
                     folder.c_str(), static_cast<unsigned long long>(bytes));
    }
}

void log_image(const firmware::Image& image) {
    observe::log(observe::Level::info, "image %s %s, digest %s", std::string(image.name()).c_str(),
                 std::string(image.version()).c_str(), firmware::to_hex(image.digest()).c_str());
}

/// What an administrator wants to know of the device, in the log.
void log_device(const engine::DeviceReport& device, bool from_kernel, std::uint64_t took_ms) {
    observe::log(observe::Level::info, "serving on %s (weights: %s) after %llu ms",
                 device.device_name.c_str(), device.weights_import.c_str(),
                 static_cast<unsigned long long>(took_ms));
    if (!device.import_note.empty()) {
        // A folder never has dma-bufs: no news.
        observe::log(from_kernel ? observe::Level::info : observe::Level::debug,
                     "weights by %s, %s", device.weights_import.c_str(),
                     device.import_note.c_str());
    }
    if (const std::string usage = engine::device_usage(); !usage.empty()) {
        observe::log(observe::Level::debug, "used by now: %s", usage.c_str());
    }
}

/// How this process came about. Lives as long as it: who waits for us learns
/// from the end of `inherited` that we failed, and our last line is out by then.
struct Start {
    SteadyClock::time_point began;
    lifecycle::Launch launch;
    lifecycle::Inherited inherited;
};

int serve(const Config& config, Start& start) {
    lifecycle::Notifier notifier(!start.inherited.report);
    const lifecycle::OpenedImage opened =
        lifecycle::open_image(config.image_folder, config.device_node, notifier);
    const lifecycle::OwnedTokenizers tokenizers(opened);
    const sched::Parts image_parts(opened.mapped.image().package(), tokenizers.by_part());
    spare_page_cache(config, opened);
    trust::ImageGuard guard(opened.mapped.mapping(), [&] { return opened.lost_text(); });
    log_image(opened.mapped.image());

    notifier.say("STATUS=Starting the engine\nEXTEND_TIMEOUT_USEC=300000000");
    block_signals();
    const ipc::EventLoop loop = make_loop();
    const std::unique_ptr<const sched::TextModel> text = make_text(tokenizers.backbone());
    sched::CompletionQueue completions;
    engine::Options options = config.engine;
    options.guard = &guard;
    if (opened.kernel) {
        options.export_window = [&](std::uint64_t offset, std::uint64_t bytes) {
            return trust::export_window(config.control_node, opened.mapped.device_fd(), offset,
                                        bytes);
        };
    }
    const engine::Model* model = nullptr;
    const auto make_backend = [&] {
        auto made = std::make_unique<engine::Model>(opened.mapped, options);
        model = made.get();
        if (made->backbone() != nullptr) {
            warm_up(*made->backbone());
        }
        return std::make_unique<sched::EngineBackend>(std::move(made));
    };
    sched::Scheduler scheduler(make_backend, *text, sched::Limits{}, completions);

    ipc::Server::Parts parts;
    parts.loop = loop.get();
    parts.scheduler = &scheduler;
    parts.completions = &completions;
    parts.text = text.get();
    parts.parts = &image_parts;
    const adapters::Admission admission(manifest_of(opened.mapped));
    parts.check_adapter = [&](const adapters::File& file) { return admission.check(file); };
    parts.image = &opened.mapped.image();
    parts.info = describe(config, opened, tokenizers.backbone(), model->report());
    ipc::Listener listener = open_listener(config, start.inherited);
    const auto took = SteadyClock::now() - start.began;
    parts.info.start_to_ready_ms = static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(took).count());
    parts.limits.handover_ms = std::uint64_t{config.drain_seconds} * 1000;
    parts.on_revoked = [&](const std::string& why) {
        notifier.say("STATUS=Serving nothing: %s", why.c_str());
    };
    const ipc::ServiceInfo info = parts.info;
    ipc::Server server(std::move(parts), std::move(listener));

    Stop stop{&server, &notifier};
    const ipc::EventSource on_term = stop.on(loop.get(), SIGTERM);
    const ipc::EventSource on_int = stop.on(loop.get(), SIGINT);
    StepCheck step_check{&scheduler, {}};
    step_check.arm(loop.get());
    lifecycle::Updater updater(loop.get(), server, notifier, std::move(start.launch));
    std::optional<lifecycle::ImageWatch> watch;
    if (opened.kernel) {
        const auto revoked = [&] {
            guard.revoke();
            scheduler.revoke(guard.reason());
        };
        const auto newer = [&] { updater.update("a newer image is ready"); };
        watch.emplace(loop.get(), *opened.kernel, opened.mapped.device_fd(),
                      lifecycle::ImageWatch::Events{revoked, newer});
    }

    log_device(info.device, opened.kernel.has_value(), info.start_to_ready_ms);
    updater.begin(
        std::move(start.inherited), config.socket_path,
        "Serving " + info.model_name + " " + info.model_version + " on " + info.device.device_name);
    if (watch) {
        watch->look();
    }
    const int ended = sd_event_loop(loop.get());
    ipc::check(ended, "sd_event_loop");
    // Nobody watches a process that was succeeded: if its driver hangs now, it
    // is not to hold its image for ever.
    (void)::alarm(kLongestEndSeconds);
    return ended;
}

int run(int argc, char** argv) {
    Start start{SteadyClock::now(), lifecycle::remember_launch(argc, argv, environ), {}};
    int exit_code = kExitOk;
    std::optional<Config> config = parse_arguments(argc, argv, &exit_code);
    if (!config) {
        return exit_code;
    }
    observe::set_log_level(config->log_level);
    try {
        prepare_environment(*config);
        start.inherited = lifecycle::take_inherited();
        return serve(*config, start);
    } catch (const firmware::Error& error) {
        observe::log(observe::Level::error, "image: %s", error.what());
        exit_code = kExitImage;
    } catch (const trust::RevokedError& error) {
        observe::log(observe::Level::error, "image: %s", error.what());
        exit_code = kExitImage;
    } catch (const engine::DeviceError& error) {
        observe::log(observe::Level::error, "device: %s", error.what());
        exit_code = ipc::kExitDevice;
    } catch (const std::exception& error) {
        observe::log(observe::Level::error, "%s", error.what());
        exit_code = kExitOther;
    }
    return exit_code;
}

}  // namespace
}  // namespace m4

int main(int argc, char** argv) {
    if (argc == 2 && std::string_view(argv[1]) == m4::adapters::kCheckArgument) {
        return m4::adapters::check_main();
    }
    return m4::run(argc, argv);
}
