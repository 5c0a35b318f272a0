// SPDX-License-Identifier: MIT
#include "adapter_import.hpp"

#include <algorithm>

#include "adapter_base.hpp"
#include "adapter_sources.hpp"
#include "adapters/effect.hpp"
#include "gguf.hpp"
#include "lib/error.hpp"
#include "mapped_file.hpp"

namespace m4::firmware {

namespace {

/// The part that was named.
std::optional<std::uint32_t> named_part(const Package& package, const std::string& name,
                                        const std::string& place) {
    if (name.empty()) {
        return std::nullopt;
    }
    std::string names;
    for (std::uint32_t i = 0; i < package.parts.size(); ++i) {
        if (package.parts[i].name == name) {
            return i;
        }
        names += (i == 0 ? "" : ", ") + package.parts[i].name;
    }
    throw Error(place, "has no part " + shown(name) + "; it has " + names);
}

/// The one part that a head fits; an error where there are more.
std::optional<std::uint32_t> part_of_head(const std::filesystem::path& file,
                                          const Package& package) {
    std::optional<std::uint32_t> found;
    for (std::uint32_t i = 0; i < package.parts.size(); ++i) {
        if (!head_fits(file, package.parts[i])) {
            continue;
        }
        if (found) {
            throw Error(file.string(), "fits part " + package.parts[*found].name + " and part " +
                                           package.parts[i].name + ": give --part");
        }
        found = i;
    }
    return found;
}

/// The source, and with a base the part that it is for.
class AdapterSource {
   public:
    AdapterSource(const AdapterImportOptions& options, const AdapterBase* base)
        : options_(options), base_(base) {
        if (base != nullptr) {
            part_ = named_part(base->package(), options.part, options.base.string());
        }
    }

    AdapterDraft read() {
        std::error_code ignored;
        if (std::filesystem::is_directory(options_.from, ignored)) {
            return read_peft();
        }
        if (!is_there(options_.from)) {
            throw Error(options_.from.string(), "does not exist");
        }
        if (looks_like_gguf(options_.from)) {
            return import_gguf_lora(options_.from, options_.stored);
        }
        if (options_.from.extension() == ".safetensors") {
            if (base_ != nullptr && !part_) {
                part_ = part_of_head(options_.from, base_->package());
            }
            return import_head(options_.from, head_base(), options_.stored);
        }
        throw Error(options_.from.string(),
                    "is neither a PEFT folder nor a GGUF file nor a head's .safetensors file");
    }
    [[nodiscard]] std::optional<std::uint32_t> part() const { return part_; }

   private:
    [[nodiscard]] HeadBase head_base() const {
        return {part_ ? &base_->package().parts[*part_] : nullptr};
    }

    AdapterDraft read_peft() {
        if (!is_there(options_.from / "adapter_config.json")) {
            throw Error(options_.from.string(),
                        "has no adapter_config.json; a folder that PEFT saved is wanted");
        }
        PeftImport peft = import_peft(options_.from, options_.stored);
        if (!peft.saved.empty() && base_ != nullptr && !part_) {
            part_ = match_adapter(peft.draft.adapter, base_->package(), base_->tensors()).part;
        }
        add_saved_head(peft, head_base(), options_.stored);
        return std::move(peft.draft);
    }

    const AdapterImportOptions& options_;
    const AdapterBase* base_;
    std::optional<std::uint32_t> part_;
};

void bind_to(AdapterImport& out, const AdapterBase& base, std::optional<std::uint32_t> part) {
    Adapter& adapter = out.draft.adapter;
    const auto& parts = base.package().parts;
    if (part) {
        adapter.base = parts[*part].source_digest;
    }
    out.match = match_adapter(adapter, base.package(), base.tensors());
    if (!out.match->complete()) {
        throw Error(out.draft.place, "does not fit the base: " + out.match->summary);
    }
    const Part& found = parts[*out.match->part];
    if (!is_set(found.source_digest)) {
        throw Error(out.draft.place, "part " + found.name + " has no source digest to bind to");
    }
    adapter.base = found.source_digest;
    adapter.architecture = found.architecture;
    out.part = found.name;
    out.base_bytes = base.part_bytes(*out.match->part);
    if (const std::string fault = effect_fault(adapter, *out.match, out.norms); !fault.empty()) {
        throw Error(out.draft.place, fault);
    }
    adapter.probed = base.image_digest().value_or(Digest{});
}

}  // namespace

AdapterImport import_adapter(const AdapterImportOptions& options) {
    std::optional<AdapterBase> base;
    if (!options.base.empty()) {
        base.emplace(options.base);
    } else if (!options.part.empty()) {
        throw Error("part " + shown(options.part), "is one of a base, and none is given");
    }
    AdapterSource source(options, base ? &*base : nullptr);
    AdapterImport out;
    out.draft = source.read();
    Adapter& adapter = out.draft.adapter;
    if (!options.name.empty()) {
        adapter.name = options.name;
    }
    if (!options.task.empty()) {
        adapter.task = options.task;
    }
    adapter.prompt_template = options.prompt_template;
    out.norms = delta_norms(adapter);
    if (base) {
        bind_to(out, *base, source.part());
    } else if (const std::string fault = effect_fault(adapter, out.norms); !fault.empty()) {
        throw Error(out.draft.place, fault);
    }
    return out;
}

}  // namespace m4::firmware
