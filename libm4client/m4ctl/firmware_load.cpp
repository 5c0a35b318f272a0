// SPDX-License-Identifier: MIT
// m4ctl firmware activate, rollback, load, floor: which image of the store is
// current, and whether the kernel takes it. m4d is not asked: it learns of a
// new generation from the kernel.
#include <nlohmann/json.hpp>
#include <optional>

#include "firmware.hpp"
#include "print.hpp"
#include "progress.hpp"

namespace m4ctl {

namespace {

using m4::store::FirmwareStore;
using m4::store::Links;
using m4::store::StoredImage;
using Outcome = KernelImage::Outcome;

/// What a command achieved, for people and scripts.
struct Result {
    std::string current;
    std::string previous;
    bool was_loaded = false;  ///< served already: nothing to load
    std::optional<KernelImage::Loaded> loaded;
    std::string fallback_reason;  ///< why the previous image was taken instead
};

int report(const Global& global, const ImagePlace& place, const Result& result) {
    const bool is_served = result.was_loaded || result.loaded.has_value();
    if (global.json) {
        nlohmann::json object = {{"name", place.name},
                                 {"current", result.current},
                                 {"previous", result.previous},
                                 {"served", is_served},
                                 {"fallback_reason", result.fallback_reason}};
        if (result.loaded) {
            object["generation"] = result.loaded->generation;
        }
        print_json(object);
        return kExitOk;
    }
    std::string served = "not loaded: the kernel takes it at the next load";
    if (result.loaded) {
        served = "yes, as generation " + std::to_string(result.loaded->generation);
    } else if (result.was_loaded) {
        served = "yes, it was loaded before";
    }
    print_pairs({{"name", place.name},
                 {"current", result.current.empty() ? "not in the store" : result.current},
                 {"previous", result.previous.empty() ? "none" : result.previous},
                 {"served", served}});
    return kExitOk;
}

/// The floor lives as long as the module; what was raised before is in the
/// store.
void restore_floor(const FirmwareStore& store, const KernelImage& kernel) {
    const auto floor = store.rollback_floor();
    if (floor && *floor > kernel.number("rollback_floor")) {
        kernel.write("rollback_floor", std::to_string(*floor));
    }
}

KernelImage::Loaded load_with_progress(const Global& global, const KernelImage& kernel) {
    ProgressLine progress("the kernel loads");
    return kernel.load({[&](unsigned percent) { progress.update(percent); }, global.timeout_s});
}

bool is_served(const KernelImage& kernel, const StoredImage& image) {
    return !image.digest.empty() && kernel.text("state") == "ready" &&
           kernel.text("digest") == image.digest;
}

// The link changes before the kernel reads, for the kernel reads through it.
// A refusal puts both links back; a cut in between leaves an image current that
// was not tried: the next load tries it, and --or-previous is the way out.
Result switch_to(const Global& global, const ImagePlace& place, FirmwareStore& store,
                 const StoredImage& image, bool load) {
    const KernelImage kernel = place.kernel();
    load = load && kernel.present();
    if (load) {
        kernel.require_writable("load");
    }
    Result result;
    const Links former = store.activate(image.id);
    try {
        if (load) {
            restore_floor(store, kernel);
            result.was_loaded = is_served(kernel, image);
        }
        if (load && !result.was_loaded) {
            result.loaded = load_with_progress(global, kernel);
        }
    } catch (...) {
        store.restore(former);
        throw;
    }
    if (result.loaded && result.loaded->outcome == Outcome::kRefused) {
        store.restore(former);
        const bool changed = former.current != image.id;
        throw Failure(kExitFailed,
                      "the kernel refused " + image.id + ": " + result.loaded->error +
                          (changed ? "; nothing was changed"
                                   : "; it was current before: see m4ctl firmware rollback"));
    }
    if (result.loaded && result.loaded->outcome == Outcome::kStillLoading) {
        throw Failure(kExitFailed, "the kernel is still loading " + image.id +
                                       ", which is current; see /sys/class/m4/" + place.name +
                                       "/state for how it ends");
    }
    const Links now = store.links();
    result.current = now.current;
    result.previous = now.previous;
    if (result.loaded) {
        store.drop_cache(image);
    }
    return result;
}

int activate(const Global& global, const ImagePlace& place, const std::string& selector, bool load,
             bool adopt) {
    FirmwareStore store = place.open_store();
    store.lock();
    if (adopt) {
        store.adopt();
    }
    return report(global, place, switch_to(global, place, store, store.find(selector), load));
}

StoredImage previous_image(const FirmwareStore& store) {
    const Links links = store.links();
    if (links.previous.empty() || links.previous == links.current) {
        throw Failure(kExitFailed, (store.root() / store.name()).string() +
                                       ": no previous image is known; activate one of m4ctl "
                                       "firmware list");
    }
    return store.find(links.previous);
}

int rollback(const Global& global, const ImagePlace& place, bool load) {
    FirmwareStore store = place.open_store();
    store.lock();
    return report(global, place, switch_to(global, place, store, previous_image(store), load));
}

/// The current image in the store, or none where the link is something else.
std::optional<StoredImage> current_image(const FirmwareStore& store) {
    for (const StoredImage& image : store.list()) {
        if (image.is_current) {
            return image;
        }
    }
    return std::nullopt;
}

int load(const Global& global, const ImagePlace& place, bool or_previous) {
    const KernelImage kernel = place.kernel();
    kernel.require_present();
    kernel.require_writable("load");
    FirmwareStore store = place.open_store();
    restore_floor(store, kernel);
    const auto current = current_image(store);
    Result result;
    result.current = current ? current->id : "";
    result.was_loaded = current && is_served(kernel, *current);
    if (result.was_loaded) {
        return report(global, place, result);
    }
    result.loaded = load_with_progress(global, kernel);
    if (result.loaded->outcome == Outcome::kAccepted) {
        if (current) {
            store.drop_cache(*current);
        }
        return report(global, place, result);
    }
    if (result.loaded->outcome == Outcome::kStillLoading) {
        throw Failure(kExitFailed, "the kernel is still loading " + place.name);
    }
    const std::string reason = "the kernel refused " + place.name + ": " + result.loaded->error;
    if (!or_previous) {
        throw Failure(kExitFailed, reason);
    }
    print_warning(reason + "; trying the previous image");
    store.lock();
    result = switch_to(global, place, store, previous_image(store), true);
    result.fallback_reason = reason;
    return report(global, place, result);
}

/// The kernel first: it knows what may be raised. Then the file, for the next
/// time the module is loaded.
void raise_floor(const ImagePlace& place, FirmwareStore& store, std::uint64_t floor) {
    const KernelImage kernel = place.kernel();
    const auto current = current_image(store);
    if (current && floor > current->rollback_index) {
        throw Failure(kExitFailed, "floor: the current image has the rollback index " +
                                       std::to_string(current->rollback_index) +
                                       ", and would not load again above it");
    }
    std::uint64_t known = store.rollback_floor().value_or(0);
    if (kernel.present()) {
        known = std::max(known, kernel.number("rollback_floor"));
    }
    if (floor < known) {
        throw Failure(kExitFailed,
                      "floor: is " + std::to_string(known) + " already, and is never lowered");
    }
    if (kernel.present()) {
        kernel.write("rollback_floor", std::to_string(floor));
    }
    store.set_rollback_floor(floor);
}

int floor(const Global& global, const ImagePlace& place, std::optional<std::uint64_t> raise) {
    FirmwareStore store = place.open_store();
    if (raise) {
        store.lock();
        raise_floor(place, store, *raise);
    }
    const KernelImage kernel = place.kernel();
    const auto stored = store.rollback_floor();
    nlohmann::json object = {{"name", place.name}, {"store", nullptr}, {"kernel", nullptr}};
    std::string in_store = "none";
    std::string in_kernel = "not loaded";
    if (stored) {
        object["store"] = *stored;
        in_store = std::to_string(*stored);
    }
    if (kernel.present()) {
        object["kernel"] = kernel.number("rollback_floor");
        in_kernel = std::to_string(kernel.number("rollback_floor"));
    }
    if (global.json) {
        print_json(object);
    } else {
        print_pairs({{"in the kernel", in_kernel}, {"in the store", in_store}});
    }
    return kExitOk;
}

void add_activate(CLI::App* firmware, const Global& global, Action& action) {
    struct Options {
        std::string selector;
        bool no_load = false;
        bool adopt = false;
    };
    CLI::App* command = firmware->add_subcommand(
        "activate", "Make an image of the store current, and have the kernel load it");
    auto options = std::make_shared<Options>();
    command->add_option("image", options->selector, "A digest, a version, or latest")
        ->required()
        ->type_name("IMAGE");
    command->add_flag("--no-load", options->no_load, "Only for the next load");
    command->add_flag("--adopt", options->adopt,
                      "First take the plain folder in the link's place into the store");
    const auto place = add_place(command);
    command->callback([&global, &action, place, options] {
        action = [&global, place, options] {
            return activate(global, *place, options->selector, !options->no_load, options->adopt);
        };
    });
}

}  // namespace

void add_firmware_load(CLI::App* firmware, const Global& global, Action& action) {
    add_activate(firmware, global, action);

    CLI::App* back = firmware->add_subcommand("rollback", "Activate the previous image");
    auto no_load = std::make_shared<bool>(false);
    back->add_flag("--no-load", *no_load, "Only for the next load");
    const auto back_place = add_place(back);
    back->callback([&global, &action, back_place, no_load] {
        action = [&global, back_place, no_load] {
            return rollback(global, *back_place, !*no_load);
        };
    });

    CLI::App* again = firmware->add_subcommand("load", "Have the kernel load the current image");
    auto or_previous = std::make_shared<bool>(false);
    again->add_flag("--or-previous", *or_previous, "Where it is refused, roll back");
    const auto load_place = add_place(again);
    again->callback([&global, &action, load_place, or_previous] {
        action = [&global, load_place, or_previous] {
            return load(global, *load_place, *or_previous);
        };
    });

    CLI::App* lowest = firmware->add_subcommand("floor", "Smallest rollback index that loads");
    auto raise = std::make_shared<std::optional<std::uint64_t>>();
    lowest->add_option("--raise", *raise, "Raise it, for good")->type_name("N");
    const auto floor_place = add_place(lowest);
    lowest->callback([&global, &action, floor_place, raise] {
        action = [&global, floor_place, raise] { return floor(global, *floor_place, *raise); };
    });
}

}  // namespace m4ctl
