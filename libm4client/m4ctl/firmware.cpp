// SPDX-License-Identifier: MIT
// m4ctl firmware: which image is served, and what all its commands share.
#include "firmware.hpp"

#include <cstring>
#include <nlohmann/json.hpp>

#include "print.hpp"

namespace m4ctl {

namespace {

nlohmann::json to_json(const ModelInfo& m) {
    return {
        {"name", m.name},
        {"version", m.version},
        {"architecture", m.architecture},
        {"digest", m.digest},
        {"root", m.root},
        {"source_digest", m.source_digest},
        {"source", m.source},
        {"signer", m.signer},
        {"development", m.development != 0},
        {"generation", m.generation},
        {"state", m.state},
        {"rollback_index", m.rollback_index},
        {"parameters", m.parameters},
        {"payload_bytes", m.payload_bytes},
        {"context_length", m.context_length},
        {"vocabulary", m.vocabulary},
        {"bos_id", m.bos_id},
        {"eos_id", m.eos_id},
    };
}

std::string id_text(int32_t id) {
    return id < 0 ? "none" : std::to_string(id);
}

int show(const Global& global) {
    const ModelInfo m = model_info(connect(global));
    warn_of_development(m.development != 0);
    if (global.json) {
        print_json(to_json(m));
        return kExitOk;
    }
    const std::string signer = m.signer[0] != '\0' ? m.signer : "nobody that the kernel checked";
    print_pairs({
        {"name", m.name},
        {"version", m.version},
        {"architecture", m.architecture},
        {"digest", m.digest},
        {"root", m.root},
        {"source digest", m.source_digest},
        {"source", source_words(m)},
        {"signer", signer + (m.development != 0 ? ", a DEVELOPMENT key" : "")},
        {"generation", m.generation == 0 ? "none" : std::to_string(m.generation)},
        {"state", m.state[0] != '\0' ? m.state : "not told"},
        {"rollback", std::to_string(m.rollback_index)},
        {"parameters", count_text(m.parameters)},
        {"payload", size_text(m.payload_bytes)},
        {"context", std::to_string(m.context_length) + " tokens"},
        {"vocabulary", std::to_string(m.vocabulary)},
        {"BOS, EOS", id_text(m.bos_id) + ", " + id_text(m.eos_id)},
    });
    return kExitOk;
}

}  // namespace

const char* source_words(const ModelInfo& m) {
    return std::strcmp(m.source, "device") == 0 ? "device: verified and pinned by the kernel"
                                                : "folder: verified by m4d at its start";
}

std::shared_ptr<ImagePlace> add_place(CLI::App* command, bool with_store) {
    auto place = std::make_shared<ImagePlace>();
    command->add_option("--name", place->name, "The image's name [backbone]")->type_name("NAME");
    command->add_option("--sysfs", place->sysfs, "Where the kernel shows images [/sys/class/m4]")
        ->type_name("DIR");
    if (with_store) {
        command->add_option("--store", place->store, "Where images are kept [/lib/firmware/m4]")
            ->type_name("DIR");
    }
    return place;
}

void add_firmware(CLI::App& app, const Global& global, Action& action) {
    CLI::App* command =
        app.add_subcommand("firmware", "The image that is served, and those in the store");
    command->require_subcommand(1);
    command->fallthrough();

    command->add_subcommand("show", "Identity and size of the image")->callback([&global, &action] {
        action = [&global] { return show(global); };
    });
    add_firmware_verify(command, global, action);
    add_firmware_store(command, global, action);
    add_firmware_load(command, global, action);
}

}  // namespace m4ctl
