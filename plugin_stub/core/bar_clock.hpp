// BarClock: true bar lines from hosts that round their ticks or lie about bars. Stands before EpochTracker: takes what
// the host said, hands on what it meant. While tempo is constant it fits song position against ppq over several blocks
// (an interval that every rounded reading must lie in); a jump, a tempo change or a stop starts it afresh.
// Thread: audio. No allocation. bridge/bar_clock.py is the slow reference; shared vectors hold both to the same result.
#pragma once

#include <cstdint>

#include "host_time.hpp"

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

    void reset() noexcept;

private:
    double sample_rate_;
    // The owner of this file adds what the fit needs.
};

}  // namespace attacca
