// The position ring: where chunks wait for the host, each sample in the slot of its own stream position.
// bridge/ring.py in C++: one interleaved ring, a tag per slot (position and generation), so a sample is heard at its
// position or never. One writer (network thread), one reader (audio thread), atomics only; memory fixed at
// construction.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

namespace attacca {

enum class Source : uint8_t { idle = 0, missing = 1, planned = 2, committed = 3 };

inline constexpr int32_t kNothing = 0;  // the generation in which no audio is due

struct RingCounters {  // monotonic; any thread may read a copy
    int64_t late_samples{}, stale_samples{}, early_samples{}, missing_callbacks{}, missing_samples{};
};

class PositionRing {
public:
    PositionRing(int64_t capacity_samples, int channels);  // std::invalid_argument outside 1..2^26, 1..8

    int channels() const noexcept;
    int64_t capacity_samples() const noexcept;
    int64_t read_end() const noexcept;       // any thread
    RingCounters counters() const noexcept;  // any thread

    // Writer. `samples` interleaved; returns how many samples (not floats) were kept. See bridge/ring.py `write`.
    int64_t write(int64_t position, const float* samples, int64_t count, bool committed, int32_t generation) noexcept;

    // Reader. Fills samples (interleaved, zeros where nothing is), sources and generations for [position,
    // position+count). `position` is at least read_end(); what lies between is skipped.
    void read(int64_t position, int64_t count, float* samples, Source* sources, int32_t* generations) noexcept;

    // Reader. From `position` on only `generation` is due; later cuts are dropped. False, and nothing changed, if too
    // many cuts are pending. A position already read counts as read_end().
    bool cut(int64_t position, int32_t generation) noexcept;

    // Reader. First position in [position, limit) that is due and not committed; limit if none.
    int64_t committed_until(int64_t position, int64_t limit) const noexcept;

    // Reader. Committed samples from read_end() on without a gap; 0 while nothing is due.
    int64_t lookahead_samples() const noexcept;

    // The owner of this file adds the private part.
};

}  // namespace attacca
