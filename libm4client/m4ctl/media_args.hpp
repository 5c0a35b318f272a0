// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "handles.hpp"
#include "media/media.hpp"

namespace m4ctl {

enum class Sense { image, audio, imu, text };
[[nodiscard]] const char* name_of(Sense sense);

/// An input that the command line names: a file, or a text itself.
struct MediaArg {
    Sense sense{};
    std::string value;
};

/// Adds --image, --audio, --imu and, `with_text`, --text, each repeatable and with
/// `prefix` before its name. `args` gets them by kind, each kind in the order given, and
/// must live until the command line is parsed.
void add_media_options(CLI::App& command, std::vector<MediaArg>& args, bool with_text,
                       const std::string& prefix = "");

/// An input with its bytes: decoded here, for the service reads no file format.
class LoadedMedia {
   public:
    /// Throws Failure, "FILE: cause".
    explicit LoadedMedia(const MediaArg& arg);

    [[nodiscard]] const MediaArg& arg() const { return arg_; }
    /// Points into this object.
    [[nodiscard]] struct m4_media view() const;

   private:
    MediaArg arg_;
    m4::client_media::Media media_;  // not of a text
};

/// Inputs of one sense, as the library takes them.
struct MediaGroup {
    Sense sense{};
    std::vector<LoadedMedia> loaded;

    [[nodiscard]] std::vector<struct m4_media> views() const;
};

/// By sense, each loaded.
[[nodiscard]] std::vector<MediaGroup> load_groups(const std::vector<MediaArg>& args);

/// Pointers to each, which the library wants.
[[nodiscard]] std::vector<const struct m4_media*> pointers(
    const std::vector<struct m4_media>& media);

}  // namespace m4ctl
