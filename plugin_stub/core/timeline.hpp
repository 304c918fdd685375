// Timeline: from the host's snapshots to bar arithmetic, and back to stream positions; bridge/transport.py in C++.
// EpochTracker decides what is sent. Doubles relative to the snapshot stay within 1e-6 samples of the exact rationals
// there, and nearest_sample's tie rule absorbs that; shared test vectors hold both to the same samples.
// Thread: audio (all of it). No allocation, no exceptions.
#pragma once

#include <cstdint>
#include <optional>

#include "host_time.hpp"

namespace attacca {

enum class Change : uint8_t { held, stale, first, start, stop, seek, tempo, meter, renumbered };

// Whether a change ends the epoch: all but held and stale.
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

// One epoch's law. See bridge/transport.py Segment.
struct Segment {
    Snapshot snapshot;
    double sample_rate{};
    Bar bar;
    double offset{0.0};
    bool has_loop{false};
    double loop_start{}, loop_end{};

    double quarters_per_sample() const noexcept;
    double ppq_at(int64_t position) const noexcept;  // linear; constant while the host stands still
    double position_of(double ppq) const noexcept;   // only while playing
    double host_ppq(double linear_ppq) const noexcept;
    Bar bar_of(double ppq) const noexcept;  // only while playing
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
    const std::optional<Segment>& before() const noexcept;  // the epoch before the present one

    // Empty where bridge/transport.py raises: nothing known, or the host stands still.
    std::optional<Bar> bar_at(int64_t position) const noexcept;
    std::optional<Launch> next_launch(int64_t position, Quantum quantum) const noexcept;
    std::optional<double> bars_after(int64_t position, int64_t bars) const noexcept;

private:
    Segment begin(const Snapshot& snapshot, Change change) const noexcept;
    void follow_loop(const Snapshot& snapshot) noexcept;

    double sample_rate_;
    std::optional<Segment> present_, before_;
};

// From each block's host data to the snapshots that must be sent: on change, else every 100 ms.
class EpochTracker {
public:
    explicit EpochTracker(double sample_rate, int64_t first_epoch = 1) noexcept;

    // `renumber`: end the epoch though the prediction holds, because BarClock has refined it (a change of `seek` kind
    // that no listener hears: the bar lines move by samples). Returns the snapshot to send, if one is due.
    std::optional<Snapshot> block(int64_t position, const HostTime& host, bool renumber = false) noexcept;

    Change change() const noexcept;  // what the last block did to the epoch
    int64_t epoch() const noexcept;
    const Timeline& timeline() const noexcept;

private:
    double sample_rate_;
    Timeline timeline_;
    int64_t epoch_;
    Change change_{Change::first};
    std::optional<Snapshot> sent_;
};

}  // namespace attacca
