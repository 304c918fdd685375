// BarClock: true bar lines from hosts that round their ticks or lie about bars. Stands before EpochTracker: takes what
// the host said, hands on what it meant. While tempo is constant it fits song position against ppq over several blocks
// (an interval that every rounded reading must lie in); a jump, a tempo change or a stop starts it afresh. The fit is
// explained in bridge/bar_clock.py, the slow reference in rationals; shared vectors hold both to the same result.
// Thread: audio. No allocation, no exceptions.
//
// How to use it, for every block:
//   const BarClockReading reading = clock.block(position, host);
//   const bool moved = std::fabs(tracker.drift_samples(position, reading.host)) >= 0.5;
//   tracker.block(position, reading.host, moved && !sounding);
#pragma once

#include <cstdint>

#include "host_time.hpp"
#include "wide.hpp"

namespace attacca {

struct BarClockReading {
    HostTime host;                    // sane: finite, meter in range, bar start holds the play head, ppq refined
    bool refined{false};              // ppq was moved onto the fitted law
    double uncertainty_samples{0.0};  // half-width of what the ticks still leave open; 0 for an exact host
    bool repaired_bar{false};         // the host's bar start could not be true and was replaced by its phase
};

class BarClock {
public:
    explicit BarClock(double sample_rate) noexcept;

    // One call per block, in order. Never fails: nonsense becomes the free clock (120 BPM, 4/4 from position 0).
    BarClockReading block(int64_t position, const HostTime& host) noexcept;

    void reset() noexcept;  // forgets everything, the host's ticks included

private:
    static constexpr int kTickLengths = 14;
    static constexpr int kNoTicks = kTickLengths;  // the case of a host without ticks: float32 beats
    static constexpr int kCases = kTickLengths + 1;

    // What the readings so far allow of c, where ppq = c + position * quarters per sample.
    struct Interval {
        bool open{false};  // any value left
        Wide low, high;
    };

    struct Fit {
        bool begun{false};
        HostTime host;
        int64_t position{};
        bool frame_told{};
        int64_t start{};  // position of the first of `readings`
        int64_t readings{};
        Interval intervals[kCases];
        bool rounds_before{false};  // whether the host was known to round before these readings
    };

    struct Choice {
        int index;
        Wide offset;
    };

    BarClockReading sane(int64_t position, const HostTime& host) const noexcept;
    double continued(int64_t position, double bpm) const noexcept;
    Wide quarters_per_sample(double bpm) const noexcept;
    void refine(int64_t position, BarClockReading& reading) noexcept;
    bool carry_on(int64_t position, const HostTime& host) noexcept;
    void take_in(int64_t position, const HostTime& host, Wide speed) noexcept;
    void undo_lie(int64_t position, BarClockReading& reading) noexcept;
    bool frame_told(int64_t position, const HostTime& host) const noexcept;
    bool goes_on(int64_t position, const HostTime& host) const noexcept;
    void give_up_grids(Wide beats, Wide noise_beats) noexcept;
    static Wide half_tick(const HostTime& host, int index) noexcept;
    bool allows(int index, bool rounds, Wide speed) const noexcept;
    Choice choose(Wide speed) noexcept;

    double sample_rate_;
    HostTime last_;
    int64_t last_position_{0};
    Fit fit_;
    bool excluded_[kCases]{};
    bool lying_{false};  // about the number of the bar
    int64_t lying_from_{0};
    bool rounds_{false};  // the host rounds to the nearest tick: known once the law through frame 0 has shown it
};

}  // namespace attacca
