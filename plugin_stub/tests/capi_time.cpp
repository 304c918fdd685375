// C interface to the plugin's time for pytest: BarClock, EpochTracker and its Timeline. Beside the path; the caller
// owns what *_new returns. Records cross as flat structs; tests/plugin/native_time.py names the same fields.
#include <cmath>
#include <cstdint>

#include "core/bar_clock.hpp"
#include "core/timeline.hpp"

#ifdef _WIN32
#define EXPORTED extern "C" __declspec(dllexport)
#else
#define EXPORTED extern "C" __attribute__((visibility("default")))
#endif

namespace {

struct FlatHost {
    int32_t valid, tick_grid, playing, non_realtime, has_loop, meter_num, meter_den, notes;
    double ppq, bpm, bar_start_ppq, loop_start_ppq, loop_end_ppq;
    int64_t frame;
};

struct FlatReading {
    FlatHost host;
    int32_t refined, repaired_bar;
    double uncertainty_samples;
};

struct FlatBlock {
    int32_t change, sent;
    int64_t epoch;
    int64_t sent_epoch, sent_position;
    FlatHost sent_host;
    double drift_samples;
};

struct FlatSegment {
    int64_t epoch, position, bar_index;
    double ppq, bar_ppq, bar_position, offset, loop_start, loop_end;
    int32_t has_loop, playing;
};

constexpr int32_t kCarried = 1, kMisread = 2;

attacca::HostTime host_of(const FlatHost& flat) {
    attacca::HostTime host;
    host.valid = flat.valid != 0;
    host.tick_grid = flat.tick_grid != 0;
    host.carried = (flat.notes & kCarried) != 0;
    host.misread = (flat.notes & kMisread) != 0;
    host.playing = flat.playing != 0;
    host.non_realtime = flat.non_realtime != 0;
    host.has_loop = flat.has_loop != 0;
    host.ppq = flat.ppq;
    host.bpm = flat.bpm;
    host.bar_start_ppq = flat.bar_start_ppq;
    host.loop_start_ppq = flat.loop_start_ppq;
    host.loop_end_ppq = flat.loop_end_ppq;
    host.meter_num = flat.meter_num;
    host.meter_den = flat.meter_den;
    host.frame = flat.frame;
    return host;
}

FlatHost flat_of(const attacca::HostTime& host) {
    const int32_t notes = (host.carried ? kCarried : 0) | (host.misread ? kMisread : 0);
    return FlatHost{host.valid,        host.tick_grid, host.playing,       host.non_realtime,
                    host.has_loop,     host.meter_num, host.meter_den,     notes,
                    host.ppq,          host.bpm,       host.bar_start_ppq, host.loop_start_ppq,
                    host.loop_end_ppq, host.frame};
}

constexpr int32_t kNothing = 0, kAnswered = 1;

}  // namespace

EXPORTED void* attacca_clock_new(double sample_rate) { return new attacca::BarClock(sample_rate); }

EXPORTED void attacca_clock_free(void* clock) { delete static_cast<attacca::BarClock*>(clock); }

EXPORTED void attacca_clock_reset(void* clock) { static_cast<attacca::BarClock*>(clock)->reset(); }

EXPORTED void attacca_clock_block(void* clock, int64_t position, const FlatHost* host, FlatReading* out) {
    const attacca::BarClockReading reading = static_cast<attacca::BarClock*>(clock)->block(position, host_of(*host));
    *out = FlatReading{flat_of(reading.host), reading.refined, reading.repaired_bar, reading.uncertainty_samples};
}

EXPORTED void* attacca_tracker_new(double sample_rate, int64_t first_epoch) {
    return new attacca::EpochTracker(sample_rate, first_epoch);
}

EXPORTED void attacca_tracker_free(void* tracker) { delete static_cast<attacca::EpochTracker*>(tracker); }

EXPORTED double attacca_tracker_drift_samples(void* tracker, int64_t position, const FlatHost* flat) {
    return static_cast<attacca::EpochTracker*>(tracker)->drift_samples(position, host_of(*flat));
}

EXPORTED void attacca_tracker_block(void* tracker, int64_t position, const FlatHost* flat, int32_t renumber,
                                    FlatBlock* out) {
    auto& self = *static_cast<attacca::EpochTracker*>(tracker);
    const attacca::HostTime host = host_of(*flat);
    *out = FlatBlock{};
    out->drift_samples = self.drift_samples(position, host);
    const auto sent = self.block(position, host, renumber != 0);
    out->change = static_cast<int32_t>(self.change());
    out->epoch = self.epoch();
    if (!sent) return;
    out->sent = 1;
    out->sent_epoch = sent->epoch;
    out->sent_position = sent->position;
    out->sent_host = flat_of(sent->host);
}

// 0 before the first snapshot. `before`: the epoch before the present one.
EXPORTED int32_t attacca_tracker_segment(void* tracker, int32_t before, FlatSegment* out) {
    const attacca::Timeline& timeline = static_cast<attacca::EpochTracker*>(tracker)->timeline();
    if (!timeline.known() || (before != 0 && !timeline.before())) return kNothing;
    const attacca::Segment& segment = before != 0 ? *timeline.before() : timeline.segment();
    *out = FlatSegment{segment.snapshot.epoch,
                       segment.snapshot.position,
                       segment.bar.index,
                       segment.snapshot.host.ppq,
                       segment.bar.ppq,
                       segment.bar.position,
                       segment.offset,
                       segment.loop_start,
                       segment.loop_end,
                       segment.has_loop,
                       segment.snapshot.host.playing};
    return kAnswered;
}

EXPORTED int32_t attacca_tracker_bar_at(void* tracker, int64_t position, int64_t* index, double* ppq, double* start) {
    const auto bar = static_cast<attacca::EpochTracker*>(tracker)->timeline().bar_at(position);
    if (!bar) return kNothing;
    *index = bar->index;
    *ppq = bar->ppq;
    *start = bar->position;
    return kAnswered;
}

EXPORTED int32_t attacca_tracker_launch(void* tracker, int64_t position, int32_t in_bars, double amount, double* ppq,
                                        int64_t* start) {
    const attacca::Quantum quantum{in_bars != 0, amount};
    const auto launch = static_cast<attacca::EpochTracker*>(tracker)->timeline().next_launch(position, quantum);
    if (!launch) return kNothing;
    *ppq = launch->ppq;
    *start = launch->position;
    return kAnswered;
}

EXPORTED int32_t attacca_tracker_bars_after(void* tracker, int64_t position, int64_t bars, double* end) {
    const auto after = static_cast<attacca::EpochTracker*>(tracker)->timeline().bars_after(position, bars);
    if (!after) return kNothing;
    *end = *after;
    return kAnswered;
}

// The present law. NaN where there is none.
EXPORTED double attacca_tracker_ppq_at(void* tracker, int64_t position) {
    const attacca::Timeline& timeline = static_cast<attacca::EpochTracker*>(tracker)->timeline();
    return timeline.known() ? timeline.segment().ppq_at(position) : std::nan("");
}

EXPORTED double attacca_tracker_host_ppq_at(void* tracker, int64_t position) {
    const attacca::Timeline& timeline = static_cast<attacca::EpochTracker*>(tracker)->timeline();
    if (!timeline.known()) return std::nan("");
    const attacca::Segment& segment = timeline.segment();
    return segment.wide_host_ppq(segment.wide_ppq_at(position)).value();
}

EXPORTED double attacca_tracker_position_of(void* tracker, double ppq) {
    const attacca::Timeline& timeline = static_cast<attacca::EpochTracker*>(tracker)->timeline();
    return timeline.playing() ? timeline.segment().position_of(ppq) : std::nan("");
}

EXPORTED int64_t attacca_nearest_sample(double position) { return attacca::nearest_sample(position); }
