// BarGrid: which stream position is which bar line, now and in the past that is still in the picture, and which
// position is which x. Between the audio thread's meters and the drawing; no plugin format in it. Laws are extrapolated
// from one reading by multiplication, never accumulated. Thread: main.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace attacca::ui {

// One span's law, as AudioMeters tell it: at `position_samples` the song is at `ppq`, in the bar that began at
// `bar_start_ppq`.
struct BarLaw {
    double sample_rate_hz{48000.0};
    int64_t position_samples{0};
    double ppq{0.0}, bpm{120.0}, bar_start_ppq{0.0};
    int32_t meter_num{4}, meter_den{4};
    int64_t bar_index{0};
    bool playing{false};

    double bar_ppq() const { return 4.0 * meter_num / meter_den; }
    double beat_ppq() const { return 4.0 / meter_den; }
    double samples_per_ppq() const { return 60.0 * sample_rate_hz / bpm; }
    double bar_samples() const { return bar_ppq() * samples_per_ppq(); }

    // Position of the beat `beats` after the present bar's line.
    double beat_position(int64_t beats) const {
        return static_cast<double>(position_samples) +
               (bar_start_ppq - ppq + static_cast<double>(beats) * beat_ppq()) * samples_per_ppq();
    }
    // Beats from the present bar's line to a position, not rounded.
    double beats_at(double at_samples) const {
        return (ppq - bar_start_ppq + (at_samples - static_cast<double>(position_samples)) / samples_per_ppq()) /
               beat_ppq();
    }
    bool sane() const;
};

struct Line {
    double position_samples;
    int64_t bar_index;
    int32_t beat;  // 0: a bar line
};

class BarGrid {
public:
    // One reading. A law that contradicts the present one by more than 2 ms must be seen in two readings to replace it
    // (the meters are read one by one, while the audio thread goes on). True if the picture's lines moved.
    bool observe(const BarLaw& law);

    bool known() const { return count_ > 0; }
    const BarLaw& law() const { return newest().law; }

    // Visits the lines of [from, to), oldest first, all laws' own ones. Nothing where the host stood still.
    template <class Visit>
    void lines(double from_samples, double to_samples, Visit&& visit) const {
        for (size_t age = count_; age-- > 0;) {
            const Span& span = spans_[(newest_ + kSpans - age) % kSpans];
            const double until = age == 0 ? to_samples : spans_[(newest_ + kSpans - age + 1) % kSpans].from_samples;
            lines_of(span.law, std::fmax(from_samples, span.from_samples), std::fmin(to_samples, until), visit);
        }
    }

private:
    struct Span {
        BarLaw law;
        double from_samples{-std::numeric_limits<double>::infinity()};
    };
    static constexpr size_t kSpans = 64;
    static constexpr double kMostLines = 4096.0;  // no host's tempo makes the picture slow

    const Span& newest() const { return spans_[newest_]; }

    template <class Visit>
    static void lines_of(const BarLaw& law, double from_samples, double to_samples, Visit& visit) {
        if (!law.playing || !(from_samples < to_samples)) return;
        const double first = std::ceil(law.beats_at(from_samples) - 1e-6), last = law.beats_at(to_samples);
        if (!(last - first < kMostLines)) return;
        for (auto beat = static_cast<int64_t>(first); static_cast<double>(beat) < last; ++beat) {
            int64_t bar = beat / law.meter_num, in_bar = beat % law.meter_num;
            if (in_bar < 0) in_bar += law.meter_num, --bar;
            visit(Line{law.beat_position(beat), law.bar_index + bar, static_cast<int32_t>(in_bar)});
        }
    }

    std::array<Span, kSpans> spans_;
    size_t newest_{0}, count_{0};
    BarLaw candidate_;
    bool doubted_{false};
};

// The window on the stream: `now_samples` stands still at `now_x`.
struct View {
    double now_samples{0.0};
    double now_x{0.0};
    double samples_per_x{1.0};

    double x_of(double position_samples) const { return now_x + (position_samples - now_samples) / samples_per_x; }
    double position_of(double x) const { return now_samples + (x - now_x) * samples_per_x; }
};

// How many bars a picture shows: about 14 s of them, in round numbers.
int bars_shown(double bar_s);

}  // namespace attacca::ui
