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

    // Reader. `read` in two halves, for one who reads a block in pieces: look at any of it, then say how far all is
    // read and how many samples were missing (what `look` returned, summed).
    int64_t look(int64_t position, int64_t count, float* samples, Source* sources, int32_t* generations) const noexcept;
    void advance(int64_t read_end, int64_t missing) noexcept;

    // Reader. From `position` on only `generation` is due; later cuts are dropped. False, and nothing changed, if too
    // many cuts are pending. A position already read counts as read_end().
    bool cut(int64_t position, int32_t generation) noexcept;

    // Reader. The same, and the cuts from `instead_of` on are dropped, too: what was to change there changes at
    // `position`, and may yet move back.
    bool move_cut(int64_t instead_of, int64_t position, int32_t generation) noexcept;

    // Reader. First position in [position, limit) that is due and not committed; limit if none.
    int64_t committed_until(int64_t position, int64_t limit) const noexcept;

    // Reader. Committed samples from read_end() on without a gap; 0 while nothing is due.
    int64_t lookahead_samples() const noexcept;

private:
    struct Cut {
        int64_t position;
        int32_t generation;
        int64_t accepts_from;  // at or before position: samples from here on are stored, since the cut may move back
    };
    static constexpr size_t kMaxCuts = 25;  // pending at once; more are refused
    struct Cuts {
        std::array<Cut, kMaxCuts> entries;
        size_t count;
    };
    struct Plane {  // samples and tags of one kind, committed or planned
        Plane(int64_t capacity, int channels);
        std::unique_ptr<std::atomic<float>[]> samples;
        std::unique_ptr<std::atomic<int64_t>[]> tags;
    };

    void store(Plane& plane, int64_t position, const float* samples, int64_t count, int32_t generation) noexcept;
    int64_t fetch(const Plane& plane, int64_t position, int64_t count, int32_t generation, float* samples,
                  bool* held) const noexcept;
    int64_t look_part(int64_t position, int64_t count, int32_t generation, float* samples,
                      Source* sources) const noexcept;
    void publish(const Cuts& cuts) noexcept;
    Cuts published() const noexcept;
    template <class Visit>
    static void spans(const Cuts& cuts, int64_t start, int64_t stop, Visit&& visit);
    static int64_t accepted_from(const Cuts& cuts, int64_t start, int64_t stop, int32_t generation) noexcept;
    bool cut_from(int64_t first, const Cut& made) noexcept;

    const int64_t capacity_;
    const int channels_;
    Plane committed_, planned_;
    Cuts cuts_;                              // the reader's own
    mutable int64_t known_until_ = 0;        // reader: nothing due before it is uncommitted; spares look-ahead its past
    std::atomic<uint32_t> cuts_version_{0};  // odd while the reader writes the shared table
    std::array<std::atomic<int64_t>, kMaxCuts> shared_positions_{}, shared_accepts_{};
    std::array<std::atomic<int32_t>, kMaxCuts> shared_generations_{};
    std::atomic<size_t> shared_count_{0};
    std::atomic<int64_t> read_end_{0};
    std::atomic<int64_t> late_{0}, stale_{0}, early_{0}, missing_callbacks_{0}, missing_samples_{0};
};

}  // namespace attacca
