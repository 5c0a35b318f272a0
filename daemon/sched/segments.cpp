// SPDX-License-Identifier: MIT
#include "sched/segments.hpp"

#include <algorithm>

namespace m4::sched {
namespace {

class Cutter {
   public:
    Cutter(std::span<const std::uint32_t> ids, const firmware::Transcription* how,
           std::uint64_t sound_ms)
        : ids_(ids), how_(how), sound_ms_(sound_ms) {}

    [[nodiscard]] bool is_time(std::size_t i) const {
        return how_ != nullptr && how_->first_timestamp != 0 && ids_[i] >= how_->first_timestamp;
    }
    [[nodiscard]] std::uint64_t ms(std::size_t i) const {
        return std::uint64_t{ids_[i] - how_->first_timestamp} * how_->timestamp_ms;
    }
    /// [first, end), which begins and ends with a time where those are there.
    void add(std::size_t first, std::size_t end, Segments& out) const {
        Segment segment{0, sound_ms_, {}};
        bool started = false;
        for (std::size_t i = first; i < end; ++i) {
            if (!is_time(i)) {
                segment.ids.push_back(ids_[i]);
            } else if (!started && segment.ids.empty()) {
                segment.start_ms = std::min(ms(i), sound_ms_);
                started = true;
            } else {
                segment.end_ms = std::min(ms(i), sound_ms_);
            }
        }
        segment.end_ms = std::max(segment.start_ms, segment.end_ms);
        if (!segment.ids.empty()) {
            out.all.push_back(std::move(segment));
        }
    }

   private:
    std::span<const std::uint32_t> ids_;
    const firmware::Transcription* how_;
    std::uint64_t sound_ms_;
};

}  // namespace

Segments cut_segments(std::span<const std::uint32_t> ids, const firmware::Transcription* how,
                      std::uint64_t sound_ms, std::uint64_t window_ms) {
    const Cutter cutter(ids, how, sound_ms);
    Segments out;
    out.advance_ms = window_ms;
    // Between two times that stand side by side one segment ends and the next begins.
    std::size_t first = 0;
    for (std::size_t i = 1; i < ids.size(); ++i) {
        if (cutter.is_time(i - 1) && cutter.is_time(i)) {
            cutter.add(first, i, out);
            first = i;
        }
    }
    const bool whole = first != 0 && ids.size() >= 2 && cutter.is_time(ids.size() - 1) &&
                       !cutter.is_time(ids.size() - 2);
    if (first == 0 || whole) {
        cutter.add(first, ids.size(), out);
        return out;
    }
    // What began behind the last pair is not whole: it is heard again.
    if (const std::uint64_t end = cutter.ms(first - 1); end != 0) {
        out.advance_ms = std::min(end, window_ms);
    }
    return out;
}

}  // namespace m4::sched
