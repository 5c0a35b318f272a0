// SPDX-License-Identifier: MIT
#include "media_args.hpp"

#include <algorithm>
#include <exception>

namespace m4ctl {

namespace client_media = m4::client_media;

namespace {

/// Of an inertial sensor: accelerometer, gyroscope, magnetometer.
constexpr std::uint32_t kMostAxes = 9;

client_media::Media load(const MediaArg& arg) {
    try {
        if (client_media::names_tensor(arg.value)) {
            client_media::Media media = client_media::load_tensor(arg.value);
            // A row a sample; else the window lies as its part takes it.
            if (arg.sense == Sense::imu && media.kind == client_media::Kind::features_f32 &&
                media.channels <= kMostAxes) {
                media.kind = client_media::Kind::motion_f32;
            }
            return media;
        }
        switch (arg.sense) {
            case Sense::image:
                return client_media::load_image(arg.value);
            case Sense::audio:
                return client_media::load_audio(arg.value);
            case Sense::imu:
                break;
            case Sense::text:
                return {};
        }
    } catch (const std::exception& error) {
        throw Failure(kExitFailed, error.what());
    }
    throw Failure(kExitUsage, "--imu takes a tensor, FILE.safetensors#NAME[i], not " + arg.value);
}

}  // namespace

const char* name_of(Sense sense) {
    switch (sense) {
        case Sense::image:
            return "image";
        case Sense::audio:
            return "audio";
        case Sense::imu:
            return "imu";
        case Sense::text:
            break;
    }
    return "text";
}

void add_media_options(CLI::App& command, std::vector<MediaArg>& args, bool with_text,
                       const std::string& prefix) {
    struct Row {
        Sense sense;
        const char* type;
        const char* help;
    };
    static const Row kRows[] = {
        {Sense::image, "FILE", "PNG, JPEG, or a tensor FILE.safetensors#NAME[i]; repeatable"},
        {Sense::audio, "FILE", "WAV, FLAC, or a tensor; repeatable"},
        {Sense::imu, "TENSOR", "Samples of an inertial sensor, a row each; repeatable"},
        {Sense::text, "TEXT", "A text itself, or a tensor of its token ids; repeatable"}};
    for (const Row& row : kRows) {
        if (row.sense == Sense::text && !with_text) {
            continue;
        }
        const Sense sense = row.sense;
        command
            .add_option_function<std::vector<std::string>>(
                "--" + prefix + name_of(sense),
                [&args, sense](const std::vector<std::string>& values) {
                    for (const std::string& value : values) {
                        args.push_back({sense, value});
                    }
                },
                row.help)
            ->type_name(row.type)
            ->expected(1)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
            ->allow_extra_args(false);
    }
}

LoadedMedia::LoadedMedia(const MediaArg& arg) : arg_(arg), media_(load(arg)) {}

struct m4_media LoadedMedia::view() const {
    struct m4_media view = M4_INIT(m4_media);
    if (arg_.sense == Sense::text && !client_media::names_tensor(arg_.value)) {
        view.kind = M4_MEDIA_TEXT;
        view.data = arg_.value.data();
        view.bytes = arg_.value.size();
        return view;
    }
    view.kind = static_cast<uint32_t>(media_.kind);
    view.data = media_.bytes.data();
    view.bytes = media_.bytes.size();
    view.width = media_.width;
    view.height = media_.height;
    view.stride = media_.stride;
    view.chroma_offset = media_.chroma_offset;
    view.samples = media_.samples;
    view.channels = media_.channels;
    view.rate_hz = media_.rate_hz;
    return view;
}

std::vector<struct m4_media> MediaGroup::views() const {
    std::vector<struct m4_media> all;
    all.reserve(loaded.size());
    for (const LoadedMedia& one : loaded) {
        all.push_back(one.view());
    }
    return all;
}

std::vector<MediaGroup> load_groups(const std::vector<MediaArg>& args) {
    std::vector<MediaGroup> groups;
    for (const MediaArg& arg : args) {
        const auto same = [&](const MediaGroup& group) { return group.sense == arg.sense; };
        auto group = std::find_if(groups.begin(), groups.end(), same);
        if (group == groups.end()) {
            groups.push_back({arg.sense, {}});
            group = std::prev(groups.end());
        }
        group->loaded.emplace_back(arg);
    }
    return groups;
}

std::vector<const struct m4_media*> pointers(const std::vector<struct m4_media>& media) {
    std::vector<const struct m4_media*> all;
    all.reserve(media.size());
    for (const struct m4_media& one : media) {
        all.push_back(&one);
    }
    return all;
}

}  // namespace m4ctl
