// Timeline: from the host's snapshots to bar arithmetic, and back to stream positions; bridge/transport.py in C++.
// EpochTracker decides what is sent. Laws are kept and judged as Wide (106 bits) and the tempo as the decimal that was
// typed, so that every decision falls as with the exact rationals there; only results are doubles. Shared test vectors
// hold both to the same samples.
// Thread: audio (all of it). No allocation, no exceptions.
#pragma once

#include <cstdint>
#include <optional>

#include "host_time.hpp"
#include "wide.hpp"

namespace attacca {

enum class Change : uint8_t { held, stale, first, start, stop, seek, tempo, meter, renumbered, bend };

// Whether a change ends the epoch: all but held, stale and bend (the tempo glides: another law, the same epoch).
bool ends_epoch(Change change) noexcept;

// Nearest sample; a tie, to within 1/65536 of a sample, goes up.
int64_t nearest_sample(double position) noexcept;

// A launch grid: every `bars` bars, or, where in_bars is false, every `quarters` quarter notes; 0 of either is at once.
struct Quantum {
    bool in_bars{true};
    double amount{1.0};
};

struct Launch {
    double ppq{};
    int64_t position{};
};

struct Bar {
    int64_t index{};  // 0 is the song's first
    double ppq{};
    double position{};  // not rounded
};

struct Snapshot {
    int64_t epoch{};
    int64_t position{};
    HostTime host;

    double bar_quarters() const noexcept { return 4.0 * host.meter_num / host.meter_den; }
};

// A law: position -> ppq, for an epoch or until it is bent. ppq is linear: it runs on where a loop of whole bars
// wraps. See bridge/transport.py.
struct Segment {
    Snapshot snapshot;
    double sample_rate{};
    Bar bar;             // the bar that holds the snapshot
    int64_t begun{};     // the first position that it holds for
    double offset{0.0};  // linear ppq less host ppq, after the wraps so far
    bool has_loop{false};
    double loop_start{}, loop_end{};  // of whole bars, in host ppq

    double quarters_per_sample() const noexcept;
    double ppq_at(int64_t position) const noexcept;  // linear; constant while the host stands still
    double position_of(double ppq) const noexcept;   // only while playing
    double host_ppq(double linear_ppq) const noexcept;
    Bar bar_of(double ppq) const noexcept;  // only while playing

    // The same, unrounded; what the doubles above are made from.
    struct Law {
        Wide ppq, bpm, bar_ppq, offset, bar_quarters;
        int64_t loop_bars{0};
    } law;

    Wide wide_ppq_at(int64_t position) const noexcept;
    Wide wide_position_of(Wide ppq) const noexcept;
    Wide wide_host_ppq(Wide linear_ppq) const noexcept;
    Bar wide_bar_of(Wide ppq) const noexcept;
    // The first of origin + k step whose nearest sample is at or after `position`.
    Launch first_multiple(int64_t position, Wide origin, Wide step) const noexcept;
};

class Timeline {
public:
    explicit Timeline(double sample_rate) noexcept;

    Change judge(const Snapshot& snapshot) const noexcept;
    Change feed(const Snapshot& snapshot) noexcept;

    bool known() const noexcept;  // a snapshot was fed
    bool playing() const noexcept;
    int64_t epoch() const noexcept;
    const Segment& segment() const noexcept;                // only if known()
    const std::optional<Segment>& before() const noexcept;  // the law before the present one

    // Empty where bridge/transport.py raises: nothing known, or the host stands still.
    std::optional<Bar> bar_at(int64_t position) const noexcept;
    std::optional<Launch> next_launch(int64_t position, Quantum quantum) const noexcept;
    std::optional<double> bars_after(int64_t position, int64_t bars) const noexcept;

    // How far the bar lines of a snapshot lie after those of the present law, in samples, between minus and plus half a
    // bar; 0 where either stands still. Only meaningful for a snapshot that `judge` would hold.
    double drift_samples(const Snapshot& snapshot) const noexcept;

private:
    Segment begin(const Snapshot& snapshot, Change change) const noexcept;
    int64_t index_through(const Snapshot& snapshot, int64_t otherwise) const noexcept;
    void follow_loop(const Snapshot& snapshot) noexcept;
    Wide error_quarters(const Snapshot& snapshot) const noexcept;
    Wide bar_error_quarters(const Snapshot& snapshot) const noexcept;

    double sample_rate_;
    std::optional<Segment> present_, before_;
};

// From each block's host data to the snapshots that must be sent (on change, else every 100 ms); bridge/epochs.py in
// C++. A tempo that moves by at most 1/16 of itself within 1/8 s glides, and bends the epoch; offline nothing does.
class EpochTracker {
public:
    explicit EpochTracker(double sample_rate, int64_t first_epoch = 1) noexcept;

    // `renumber`: end the epoch though the prediction holds (Change::renumbered; the bar count goes on), because
    // BarClock has refined it: the bar lines move by samples, less than the 1 ms that would end it anyway. Ask for it
    // where |drift_samples| of the same position and host is at least half a sample and no take sounds. Without it,
    // refined readings within 1 ms leave the epoch alone. No effect where the block ends the epoch for a reason of its
    // own. Returns the snapshot to send, if one is due.
    std::optional<Snapshot> block(int64_t position, const HostTime& host, bool renumber = false) noexcept;

    // By how many samples the present epoch's bar lines would move later if `renumber` were asked for with this block;
    // 0 where the block ends the epoch anyway or the host stands still. Call before `block`.
    double drift_samples(int64_t position, const HostTime& host) const noexcept;

    Change change() const noexcept;  // what the last block did to the epoch
    int64_t epoch() const noexcept;
    const Timeline& timeline() const noexcept;

private:
    struct Glide {  // where the tempo is measured from, and what it was there
        int64_t position{};
        Wide bpm;
    };

    bool due(const Snapshot& snapshot) const noexcept;
    bool glides(const Snapshot& snapshot) noexcept;

    double sample_rate_;
    Timeline timeline_;
    std::optional<Glide> glide_;
    int64_t epoch_;
    Change change_{Change::first};
    std::optional<Snapshot> sent_;
};

}  // namespace attacca
