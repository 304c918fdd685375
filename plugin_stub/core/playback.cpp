// See playback.hpp. The arithmetic follows bridge/playback.py operation by operation (float32 where numpy's is, double
// for gains), so that both give the same bits.
#include "playback.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace attacca {

namespace {

constexpr double kJoinSeconds = 0.002;
constexpr double kFadeSeconds = 0.010;
constexpr int64_t kPiece = 1024;  // samples looked at at once

enum class Kind : uint8_t { silent, committed, planned, repeated, faded };

bool is_silence(Kind kind) { return kind == Kind::silent || kind == Kind::faded; }

}  // namespace

struct Playback::State {
    State(PositionRing& ring_, double sample_rate, double history_s, int max_repeats_)
        : ring(ring_),
          channels(ring_.channels()),
          history_samples(std::max<int64_t>(1, std::llrint(history_s * sample_rate))),
          join_samples(std::max<int64_t>(1, static_cast<int64_t>(kJoinSeconds * sample_rate))),
          fade_samples(std::max<int64_t>(1, static_cast<int64_t>(kFadeSeconds * sample_rate))),
          max_repeats(max_repeats_),
          history(new float[static_cast<size_t>(history_samples * channels)]()),
          tail(new float[static_cast<size_t>(std::max(join_samples, fade_samples) * channels)]()),
          sources(new Source[static_cast<size_t>(kPiece)]()),
          generations(new int32_t[static_cast<size_t>(kPiece)]()) {}

    void run(float* out, int64_t count, int64_t position, Source source, int32_t run_generation, const Grid& grid);
    void enter(float* out, int64_t count, int64_t position, Source source, const Grid& grid);
    void bridge(float* out, int64_t count, int64_t position, const Grid& grid);
    bool repeat_source(int64_t position, const Grid& grid, int64_t& source, int64_t& length) const;
    void switch_to(Kind to, int64_t position, bool clean);
    void emit(float* out, int64_t count, int64_t position);
    void remember(int64_t position, const float* samples, int64_t count);
    void past(int64_t position, int64_t count, float* out) const;

    PositionRing& ring;
    const int channels;
    const int64_t history_samples, join_samples, fade_samples;
    const int max_repeats;
    PlaybackCounters counters;
    const std::unique_ptr<float[]> history, tail;  // history: slot = position % history_samples
    const std::unique_ptr<Source[]> sources;
    const std::unique_ptr<int32_t[]> generations;
    int64_t tail_from = 0, tail_count = 0;  // what is left of the source that was left
    double gain = 1.0, increment = 0.0;     // of the incoming source
    Kind kind = Kind::silent;
    int32_t generation = kNothing, going_on_into = kNothing;
    bool solid = false, hole = false;
    int64_t solid_from = 0;    // the take has sounded without a hole since
    int64_t missing_from = 0;  // where the present hole began
};

Playback::Playback(PositionRing& ring, double sample_rate, double history_s, int max_repeats)
    : state_(std::make_unique<State>(ring, sample_rate, history_s, max_repeats)) {}

Playback::~Playback() = default;

bool Playback::sounding() const noexcept { return !is_silence(state_->kind); }

void Playback::go_on_into(int32_t generation) noexcept { state_->going_on_into = generation; }

const PlaybackCounters& Playback::counters() const noexcept { return state_->counters; }

void Playback::render(int64_t position, int64_t count, const Grid& grid, float* wet) noexcept {
    State& state = *state_;
    const int64_t underrun = state.counters.underrun_samples;
    int64_t missing = 0, low = 0;  // low: where the present run began
    Source source = Source::idle;
    int32_t generation = kNothing;
    for (int64_t done = 0; done < count; done += kPiece) {
        const int64_t piece = std::min(count - done, kPiece);
        missing += state.ring.look(position + done, piece, wet + done * state.channels, state.sources.get(),
                                   state.generations.get());
        for (int64_t i = 0; i < piece; ++i) {
            const Source next = state.sources[static_cast<size_t>(i)];
            const int32_t next_generation = state.generations[static_cast<size_t>(i)];
            if (next == source && next_generation == generation) continue;
            state.run(wet + low * state.channels, done + i - low, position + low, source, generation, grid);
            low = done + i;
            source = next;
            generation = next_generation;
        }
    }
    state.run(wet + low * state.channels, count - low, position + low, source, generation, grid);
    state.ring.advance(position + count, missing);
    state.counters.underrun_callbacks += state.counters.underrun_samples > underrun;
}

// Fills `out`, samples of one source and generation, in place.
void Playback::State::run(float* out, int64_t count, int64_t position, Source source, int32_t run_generation,
                          const Grid& grid) {
    if (count == 0) return;
    const bool late = source == Source::missing && solid && run_generation == going_on_into;
    if (run_generation != generation && !late) {
        generation = run_generation;
        solid = hole = false;
        switch_to(Kind::silent, position, false);
    }
    if (source == Source::committed || source == Source::planned) {
        enter(out, count, position, source, grid);
    } else if (source == Source::missing && (solid || kind == Kind::faded)) {
        counters.underrun_samples += count;
        bridge(out, count, position, grid);
    } else {
        if (source == Source::missing) counters.waiting_samples += count;
        switch_to(Kind::silent, position, false);
        emit(out, count, position);
    }
}

void Playback::State::enter(float* out, int64_t count, int64_t position, Source source, const Grid& grid) {
    const Kind to = source == Source::committed ? Kind::committed : Kind::planned;
    if (!solid) {
        const bool launch = kind != Kind::faded && grid.is_launch(position);
        counters.launches += launch;
        counters.joins += !launch;
        switch_to(to, position, launch);
        solid = true;
        solid_from = position;
    } else {
        switch_to(to, position, false);
    }
    hole = false;
    if (to == Kind::planned) counters.planned_samples += count;
    emit(out, count, position);
}

// Bridges a hole: the last whole bar while there is one, then a fade.
void Playback::State::bridge(float* out, int64_t count, int64_t position, const Grid& grid) {
    if (!hole) {
        hole = true;
        missing_from = position;
    }
    for (int64_t done = 0; done < count;) {
        const int64_t here = position + done;
        int64_t source = 0, length = 0;
        if (!repeat_source(here, grid, source, length)) {
            switch_to(Kind::faded, here, false);
            solid = false;
            counters.fade_samples += count - done;
            emit(out + done * channels, count - done, here);
            return;
        }
        length = std::min(length, count - done);
        switch_to(Kind::repeated, here, false);
        past(source, length, out + done * channels);
        counters.repeat_samples += length;
        emit(out + done * channels, length, here);
        done += length;
    }
}

// Position to copy from and samples until that changes; false if no whole bar can be repeated.
bool Playback::State::repeat_source(int64_t position, const Grid& grid, int64_t& source, int64_t& length) const {
    BarLines lines;
    if (!solid || !hole || !grid.bar_lines(position, lines)) return false;
    source = position - lines.present + lines.previous;
    const bool whole = lines.previous >= solid_from, kept = position - source <= history_samples;
    const int64_t left = missing_from + max_repeats * (lines.present - lines.previous) - position;
    if (!whole || !kept || left <= 0) return false;
    // Bars differ by a sample where they are no whole number of samples; the last one then plays on by one.
    length = std::min({lines.following - position, position - source, left});
    return true;
}

// Changes the source at `position`; `clean` lets the new one enter silence at full level with its first sample.
void Playback::State::switch_to(Kind to, int64_t position, bool clean) {
    if (to == kind) return;
    const bool was_silent = is_silence(kind) && tail_count == 0, to_silence = is_silence(to);
    counters.planned_events += to == Kind::planned;
    counters.repeat_events += to == Kind::repeated;
    counters.fade_events += to == Kind::faded;
    if (!(to_silence && is_silence(kind))) {
        const int64_t length = to_silence ? fade_samples : join_samples;
        if (!was_silent) {
            past(position - length, length, tail.get());
            for (int64_t low = 0, high = length - 1; low < high; ++low, --high)
                for (int channel = 0; channel < channels; ++channel)
                    std::swap(tail[static_cast<size_t>(low * channels + channel)],
                              tail[static_cast<size_t>(high * channels + channel)]);
            for (int64_t i = 0; i < length; ++i) {
                const float step = static_cast<float>(i + 1) / static_cast<float>(length);
                for (int channel = 0; channel < channels; ++channel)
                    tail[static_cast<size_t>(i * channels + channel)] *= 1.0f - step;
            }
            tail_from = 0;
            tail_count = length;
        }
        const bool at_once = to_silence || (clean && was_silent);
        gain = at_once ? 1.0 : 0.0;
        increment = at_once ? 0.0 : 1.0 / static_cast<double>(length);
    }
    kind = to;
}

// Applies fade-in and tail to `out` in place and remembers it.
void Playback::State::emit(float* out, int64_t count, int64_t position) {
    if (is_silence(kind)) std::memset(out, 0, sizeof(float) * static_cast<size_t>(count * channels));
    if (increment != 0.0) {
        float last = 0.0f;
        for (int64_t i = 0; i < count; ++i) {
            const double risen = increment * static_cast<double>(i + 1);  // a statement: never fused with the sum
            last = static_cast<float>(std::min(gain + risen, 1.0));
            for (int channel = 0; channel < channels; ++channel) out[i * channels + channel] *= last;
        }
        if (last < 1.0f) {
            gain = static_cast<double>(last);
        } else {
            gain = 1.0;
            increment = 0.0;
        }
    }
    if (tail_count > 0) {
        const int64_t used = std::min(tail_count, count);
        for (int64_t i = 0; i < used * channels; ++i) out[i] += tail[static_cast<size_t>(tail_from * channels + i)];
        tail_from += used;
        tail_count -= used;
    }
    remember(position, out, count);
}

void Playback::State::remember(int64_t position, const float* samples, int64_t count) {
    const int64_t kept = std::min(count, history_samples);
    samples += (count - kept) * channels;
    position += count - kept;
    for (int64_t done = 0; done < kept;) {
        const int64_t slot = (position + done) % history_samples, part = std::min(kept - done, history_samples - slot);
        std::memcpy(history.get() + slot * channels, samples + done * channels,
                    sizeof(float) * static_cast<size_t>(part * channels));
        done += part;
    }
}

// What sounded from `position`; positions before the stream's start are silence.
void Playback::State::past(int64_t position, int64_t count, float* out) const {
    const int64_t before = std::min(std::max<int64_t>(-position, 0), count);
    std::fill_n(out, before * channels, 0.0f);
    for (int64_t done = before; done < count;) {
        const int64_t slot = (position + done) % history_samples, part = std::min(count - done, history_samples - slot);
        std::memcpy(out + done * channels, history.get() + slot * channels,
                    sizeof(float) * static_cast<size_t>(part * channels));
        done += part;
    }
}

}  // namespace attacca
