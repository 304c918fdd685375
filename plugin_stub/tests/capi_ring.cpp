// C interface to the ring and what sounds of it for pytest: PositionRing, Playback with a grid that Python answers for,
// and AudioFifo. Beside the path; the caller owns what *_new returns. tests/plugin/native_ring.py names the same
// fields.
#include <cstdint>
#include <stdexcept>
#include <type_traits>

#include "core/exchange.hpp"
#include "core/playback.hpp"
#include "core/position_ring.hpp"

#ifdef _WIN32
#define EXPORTED extern "C" __declspec(dllexport)
#else
#define EXPORTED extern "C" __attribute__((visibility("default")))
#endif

namespace {

using BarLinesOf = int32_t (*)(int64_t position, int64_t* previous, int64_t* present, int64_t* following);
using IsLaunch = int32_t (*)(int64_t position);

class AskedGrid final : public attacca::Grid {
public:
    AskedGrid(BarLinesOf lines_of, IsLaunch launch_of) : bar_lines_(lines_of), is_launch_(launch_of) {}
    bool bar_lines(int64_t position, attacca::BarLines& lines) const noexcept override {
        return bar_lines_(position, &lines.previous, &lines.present, &lines.following) != 0;
    }
    bool is_launch(int64_t position) const noexcept override { return is_launch_(position) != 0; }

private:
    BarLinesOf bar_lines_;
    IsLaunch is_launch_;
};

// What it counts crosses as it lies: fields of int64 in the order of the struct.
static_assert(std::is_standard_layout_v<attacca::RingCounters> && std::is_standard_layout_v<attacca::PlaybackCounters>);
static_assert(sizeof(attacca::Source) == 1);

attacca::PositionRing& ring_of(void* ring) { return *static_cast<attacca::PositionRing*>(ring); }

}  // namespace

// Null outside the ranges.
EXPORTED void* attacca_ring_new(int64_t capacity_samples, int32_t channels) {
    try {
        return new attacca::PositionRing(capacity_samples, channels);
    } catch (const std::invalid_argument&) {
        return nullptr;
    }
}

EXPORTED void attacca_ring_free(void* ring) { delete &ring_of(ring); }

EXPORTED int64_t attacca_ring_write(void* ring, int64_t position, const float* samples, int64_t count,
                                    int32_t committed, int32_t generation) {
    return ring_of(ring).write(position, samples, count, committed != 0, generation);
}

EXPORTED void attacca_ring_read(void* ring, int64_t position, int64_t count, float* samples, uint8_t* sources,
                                int32_t* generations) {
    ring_of(ring).read(position, count, samples, reinterpret_cast<attacca::Source*>(sources), generations);
}

EXPORTED int32_t attacca_ring_cut(void* ring, int64_t position, int32_t generation) {
    return ring_of(ring).cut(position, generation);
}

EXPORTED int32_t attacca_ring_move_cut(void* ring, int64_t instead_of, int64_t position, int32_t generation) {
    return ring_of(ring).move_cut(instead_of, position, generation);
}

EXPORTED int64_t attacca_ring_read_end(void* ring) { return ring_of(ring).read_end(); }

EXPORTED int64_t attacca_ring_committed_until(void* ring, int64_t position, int64_t limit) {
    return ring_of(ring).committed_until(position, limit);
}

EXPORTED int64_t attacca_ring_lookahead(void* ring) { return ring_of(ring).lookahead_samples(); }

EXPORTED void attacca_ring_counters(void* ring, attacca::RingCounters* out) { *out = ring_of(ring).counters(); }

EXPORTED void* attacca_playback_new(void* ring, double sample_rate, double history_s, int32_t max_repeats) {
    return new attacca::Playback(ring_of(ring), sample_rate, history_s, max_repeats);
}

EXPORTED void attacca_playback_free(void* playback) { delete static_cast<attacca::Playback*>(playback); }

EXPORTED void attacca_playback_render(void* playback, int64_t position, int64_t count, BarLinesOf bar_lines,
                                      IsLaunch is_launch, float* wet) {
    const AskedGrid grid(bar_lines, is_launch);
    static_cast<attacca::Playback*>(playback)->render(position, count, grid, wet);
}

EXPORTED void attacca_playback_go_on_into(void* playback, int32_t generation) {
    static_cast<attacca::Playback*>(playback)->go_on_into(generation);
}

EXPORTED int32_t attacca_playback_sounding(void* playback) {
    return static_cast<attacca::Playback*>(playback)->sounding();
}

EXPORTED void attacca_playback_counters(void* playback, attacca::PlaybackCounters* out) {
    *out = static_cast<attacca::Playback*>(playback)->counters();
}

EXPORTED void* attacca_fifo_new(int64_t capacity_samples, int32_t channels) {
    return new attacca::AudioFifo(capacity_samples, channels);
}

EXPORTED void attacca_fifo_free(void* fifo) { delete static_cast<attacca::AudioFifo*>(fifo); }

EXPORTED int32_t attacca_fifo_push(void* fifo, const float* samples, int64_t count) {
    return static_cast<attacca::AudioFifo*>(fifo)->push(samples, count);
}

EXPORTED int32_t attacca_fifo_pop(void* fifo, float* samples, int64_t count) {
    return static_cast<attacca::AudioFifo*>(fifo)->pop(samples, count);
}
