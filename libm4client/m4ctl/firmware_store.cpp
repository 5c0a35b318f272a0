// SPDX-License-Identifier: MIT
// m4ctl firmware stage, list, remove: the store's content. m4d is not asked.
#include <nlohmann/json.hpp>

#include "firmware.hpp"
#include "print.hpp"
#include "progress.hpp"

namespace m4ctl {

namespace {

using m4::store::FirmwareStore;
using m4::store::Staged;
using m4::store::StoredImage;

/// The kernel's digest under this name; empty: nothing, or no module.
std::string serving_digest(const ImagePlace& place) {
    const KernelImage kernel = place.kernel();
    return kernel.present() ? kernel.text("digest") : "";
}

int stage(const Global& global, const ImagePlace& place, const std::string& source) {
    FirmwareStore store = place.open_store();
    store.lock();
    Staged staged;
    {
        ProgressLine progress("staging");
        staged = store.stage(source, [&](std::uint64_t done, std::uint64_t total) {
            progress.update(static_cast<unsigned>(done * 100 / total));
        });
    }
    const StoredImage& image = staged.image;
    if (global.json) {
        print_json({{"name", place.name},
                    {"digest", image.digest},
                    {"version", image.version},
                    {"rollback_index", image.rollback_index},
                    {"bytes", image.bytes},
                    {"folder", image.folder.string()},
                    {"already_staged", staged.was_there},
                    {"signature_replaced", staged.signature_replaced},
                    {"signature_names", staged.author}});
        return kExitOk;
    }
    print_pairs({{"staged", place.name + " " + image.version + ", " + image.id +
                                (staged.was_there ? ", which was there already" : "")},
                 {"folder", image.folder.string()},
                 {"size", size_text(image.bytes)},
                 {"signature", "names " + staged.author +
                                   (staged.signature_replaced ? ", in place of another" : "") +
                                   "; the kernel checks it as it loads"}});
    return kExitOk;
}

std::string state_words(const StoredImage& image, bool serving) {
    std::string words = image.is_current ? "current" : image.is_previous ? "previous" : "staged";
    return words + (serving ? ", serving" : "") + (image.damage.empty() ? "" : ", DAMAGED");
}

int list(const Global& global, const ImagePlace& place, const std::string& /*none*/) {
    const FirmwareStore store = place.open_store();
    const std::string serving = serving_digest(place);
    const auto floor = store.rollback_floor();
    nlohmann::json images = nlohmann::json::array();
    std::vector<std::vector<std::string>> rows;
    for (const StoredImage& image : store.list()) {
        const bool is_serving = !serving.empty() && image.digest == serving;
        images.push_back({{"digest", image.digest},
                          {"folder", image.folder.string()},
                          {"version", image.version},
                          {"rollback_index", image.rollback_index},
                          {"bytes", image.bytes},
                          {"signature", image.has_signature},
                          {"current", image.is_current},
                          {"previous", image.is_previous},
                          {"serving", is_serving},
                          {"damage", image.damage}});
        rows.push_back({image.id, clip(printable(image.version, true), 23),
                        std::to_string(image.rollback_index), size_text(image.bytes),
                        image.has_signature ? "yes" : "no", state_words(image, is_serving)});
    }
    if (global.json) {
        nlohmann::json object = {{"name", place.name},
                                 {"store", place.store},
                                 {"images", std::move(images)},
                                 {"rollback_floor", nullptr},
                                 {"serving_digest", nullptr}};
        if (floor) {
            object["rollback_floor"] = *floor;
        }
        if (!serving.empty()) {
            object["serving_digest"] = serving;
        }
        print_json(object);
    } else {
        print_table(
            {{"DIGEST"}, {"VERSION"}, {"ROLLBACK", true}, {"SIZE", true}, {"SIGNED"}, {"STATE"}},
            rows);
    }
    return kExitOk;
}

int remove(const Global& global, const ImagePlace& place, const std::string& selector) {
    FirmwareStore store = place.open_store();
    store.lock();
    const StoredImage image = store.find(selector);
    if (!image.digest.empty() && image.digest == serving_digest(place)) {
        throw Failure(kExitFailed, image.folder.string() + ": is the image that is served");
    }
    store.remove(image.id);
    if (global.json) {
        print_json({{"name", place.name}, {"removed", image.digest}});
    } else {
        print_pairs({{"removed", place.name + " " + image.version + ", " + image.id}});
    }
    return kExitOk;
}

}  // namespace

void add_firmware_store(CLI::App* firmware, const Global& global, Action& action) {
    const auto add = [&](const char* name, const char* words, auto run, const char* argument = "",
                         const char* argument_words = "") {
        CLI::App* command = firmware->add_subcommand(name, words);
        auto value = std::make_shared<std::string>();
        if (*argument != '\0') {
            command->add_option(argument, *value, argument_words)->required();
        }
        const auto place = add_place(command);
        command->callback([&global, &action, place, value, run] {
            action = [&global, place, value, run] { return run(global, *place, *value); };
        });
    };
    add("stage", "Check an image and copy it into the store", stage, "dir",
        "The signed image's folder");
    add("list", "Images in the store", list);
    add("remove", "Remove an image from the store", remove, "image",
        "8 digits or more of its digest, or its version");
}

}  // namespace m4ctl
