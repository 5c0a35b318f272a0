// SPDX-License-Identifier: MIT
#include <algorithm>
#include <map>
#include <utility>

#include "commands.hpp"
#include "importers/import.hpp"
#include "lib/builder.hpp"
#include "lib/error.hpp"
#include "write_image.hpp"

namespace m4::tools {

namespace {

/// NAME=VALUE of an option that is given once for each part.
std::pair<std::string, std::string> split(const std::string& option, const std::string& text,
                                          const char* form) {
    const std::size_t sign = text.find('=');
    if (sign == std::string::npos || sign == 0 || sign + 1 == text.size()) {
        throw firmware::Error(option + " " + text, std::string("is not ") + form);
    }
    return {text.substr(0, sign), text.substr(sign + 1)};
}

std::map<std::string, std::string> by_part(const std::string& option,
                                           const std::vector<std::string>& list, const char* form) {
    std::map<std::string, std::string> all;
    for (const std::string& text : list) {
        const auto entry = split(option, text, form);
        if (!all.insert(entry).second) {
            throw firmware::Error(option + " " + text, "is for a part that has one already");
        }
    }
    return all;
}

/// Imports one source after the other, each with what was said for its part.
class Packer {
   public:
    Packer(const PackOptions& options, firmware::ImageBuilder& builder)
        : builder_(builder),
          stored_(stored_type(options.quantize)),
          tokenizers_(by_part("--tokenizer", options.tokenizers, "NAME=PATH")),
          spaces_(by_part("--space", options.spaces, "NAME=SPACE")) {}

    /// `name`: empty where the source names its parts itself.
    void add(const std::string& name, const std::string& from) {
        firmware::ImportOptions import;
        import.from = from;
        import.stored = stored_;
        import.part_name = name;
        const std::string text_part = name.empty() ? "text" : name + "-text";
        for (const std::string& wanted : {name, text_part}) {
            const auto found = tokenizers_.find(wanted);
            if (found != tokenizers_.end()) {
                import.tokenizer = found->second;
            }
        }
        if (const auto space = spaces_.find(name); space != spaces_.end()) {
            import.space = space->second;
        }
        const std::size_t first = builder_.next_part();
        firmware::import_model(import, builder_);
        const auto& parts = builder_.package().parts;
        const bool reads_text = std::any_of(parts.begin() + static_cast<std::ptrdiff_t>(first),
                                            parts.end(), [](const firmware::Part& part) {
                                                return part.kind == firmware::PartKind::encoder &&
                                                       part.tokenizer_tensor != 0;
                                            });
        if (reads_text) {
            tokenizers_.erase(name);
            tokenizers_.erase(text_part);
        }
        if (parts.back().kind == firmware::PartKind::projector) {
            spaces_.erase(name);
        }
    }

    /// Refuses what was said for no part.
    void finish() const {
        if (!tokenizers_.empty()) {
            const auto& [name, path] = *tokenizers_.begin();
            throw firmware::Error("--tokenizer " + name + "=" + path,
                                  "no encoder of texts has this name");
        }
        if (!spaces_.empty()) {
            const auto& [name, space] = *spaces_.begin();
            throw firmware::Error("--space " + name + "=" + space, "no projector has this name");
        }
    }

   private:
    firmware::ImageBuilder& builder_;
    std::optional<m4_dtype> stored_;
    std::map<std::string, std::string> tokenizers_;
    std::map<std::string, std::string> spaces_;
};

}  // namespace

void pack(const PackOptions& options) {
    firmware::ImageBuilder builder(options.name, options.version, options.rollback_index);
    Packer packer(options, builder);
    if (options.parts.empty()) {
        if (options.from.empty()) {
            throw firmware::Error("pack",
                                  "needs --from, or --part for each of several checkpoints");
        }
        packer.add("", options.from.string());
    }
    for (const std::string& part : options.parts) {
        const auto [name, from] = split("--part", part, "NAME=PATH");
        packer.add(name, from);
    }
    packer.finish();
    write_image(builder, options.out, options.force, options.json);
}

}  // namespace m4::tools
