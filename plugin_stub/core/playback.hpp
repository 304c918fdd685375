// Playback: what sounds of the ring, block by block, without a gap or a click; bridge/playback.py in C++, sample for
// sample. Enters sample-exactly at a launch, declicks every other change of source, bridges holes by the ladder (plan,
// last whole bar in phase, fade). Thread: audio, except the constructor. No allocation after construction.
#pragma once

#include <cstdint>
#include <memory>

#include "position_ring.hpp"

namespace attacca {

struct BarLines {
    int64_t previous{}, present{}, following{};  // first samples of the bars around a position
};

// Bar lines and launch points of the stream; implemented by TakeBook.
class Grid {
public:
    virtual ~Grid() = default;
    virtual bool bar_lines(int64_t position, BarLines& lines) const noexcept = 0;  // false: unknown
    virtual bool is_launch(int64_t position) const noexcept = 0;
};

struct PlaybackCounters {
    int64_t underrun_callbacks{}, underrun_samples{}, waiting_samples{};
    int64_t planned_samples{}, repeat_samples{}, fade_samples{};
    int64_t planned_events{}, repeat_events{}, fade_events{};
    int64_t joins{}, launches{};
};

class Playback {
public:
    // history_s: longest bar that can be repeated; max_repeats: bars before a repeat gives up and fades.
    Playback(PositionRing& ring, double sample_rate, double history_s, int max_repeats = 4);
    ~Playback();

    // The next `count` samples of the wet signal, interleaved, from stream position `position`.
    void render(int64_t position, int64_t count, const Grid& grid, float* wet) noexcept;

    // That generation plays on what sounds: until it is there it is bridged, as a hole in the same take.
    void go_on_into(int32_t generation) noexcept;

    bool sounding() const noexcept;  // the take is heard, fallbacks included
    const PlaybackCounters& counters() const noexcept;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace attacca
