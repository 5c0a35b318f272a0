// SPDX-License-Identifier: MIT
// m4ctl adapter import: what was trained elsewhere into a file of ours. It needs no
// service.
#include "importers/adapter_import.hpp"

#include <memory>
#include <nlohmann/json.hpp>

#include "adapter.hpp"
#include "lib/staged_file.hpp"
#include "print.hpp"

namespace m4ctl {

namespace {

namespace firmware = m4::firmware;
using firmware::is_set;
using firmware::to_hex;

struct ImportOptions {
    std::string from;
    std::string out;
    std::string base;
    std::string part;
    std::string name;
    std::string task;
    std::string prompt_template;
    std::string store;
    bool force = false;
};

int run_import(const Global& global, const ImportOptions& options) {
    firmware::AdapterImportOptions wanted;
    wanted.from = options.from;
    wanted.base = options.base;
    wanted.part = options.part;
    wanted.name = options.name;
    wanted.task = options.task;
    wanted.prompt_template = options.prompt_template;
    if (!options.store.empty()) {
        wanted.stored = options.store == "f16" ? M4_DTYPE_F16 : M4_DTYPE_F32;
    }
    const firmware::AdapterImport imported = firmware::import_adapter(wanted);
    const auto file = firmware::encode_adapter(imported.draft.adapter);
    const firmware::Adapter adapter = firmware::read_adapter(file);
    firmware::StagedFile staged(options.out, 0644, options.force);
    staged.write(file);
    staged.commit();
    const AdapterReport report{adapter, imported.norms, imported.match ? &*imported.match : nullptr,
                               file.size(), imported.base_bytes};
    if (global.json) {
        nlohmann::json out = to_json(report);
        out["path"] = options.out;
        print_json(out);
        return kExitOk;
    }
    print_pairs({{"adapter", adapter.name},
                 {"digest", to_hex(adapter.digest)},
                 {"file", printable(options.out, true)},
                 {"size", share_text(report)},
                 {"pairs", pairs_text(adapter)},
                 {"head", adapter.head ? "yes" : "none"},
                 {"base", base_text(adapter)},
                 {"part", imported.part.empty() ? "not known" : imported.part},
                 {"probed", is_set(adapter.probed) ? "image " + to_hex(adapter.probed) : "no"}});
    return kExitOk;
}

}  // namespace

void add_adapter_import(CLI::App* adapter, const Global& global, Action& action) {
    CLI::App* command = adapter->add_subcommand(
        "import", "Make an adapter of a PEFT folder, a GGUF file or a head");
    auto options = std::make_shared<ImportOptions>();
    command->add_option("source", options->from, "PEFT's folder, a .gguf or a .safetensors file")
        ->type_name("SOURCE")
        ->required();
    command->add_option("--out", options->out, "The file to write, NAME.m4ad")
        ->type_name("FILE")
        ->required();
    command
        ->add_option("--base", options->base,
                     "What it was trained for: an image's folder, or a checkpoint")
        ->type_name("PATH");
    command->add_option("--part", options->part, "Part of the base [the one that fits]")
        ->type_name("NAME");
    command->add_option("--name", options->name, "[as the source is called]")->type_name("NAME");
    command->add_option("--task", options->task, "What it is for, in a word or two")
        ->type_name("TEXT");
    command
        ->add_option("--prompt-template", options->prompt_template,
                     "Text around what an app says, with {prompt} once")
        ->type_name("TEXT");
    command->add_option("--store", options->store, "Factors as f16 or f32 [as they are]")
        ->type_name("TYPE")
        ->check(CLI::IsMember({"f16", "f32"}).description(""));
    command->add_flag("--force", options->force, "Replace the file that is there");
    command->callback([&global, &action, options] {
        action = [&global, options] { return run_import(global, *options); };
    });
}

}  // namespace m4ctl
