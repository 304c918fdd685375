// The transport of the scriptable CLAP host: play head, tempo, ramp, meter and loop in whole numbers of a unit so small
// that nothing is ever rounded but a seek to a third of a nothing. Thread: whoever runs the blocks.
#pragma once

#include <cstdint>
#include <string>

namespace attacca::host {

using Wide = __int128;

// A quotient as scripts give it: "31/8", "-2", "3.875".
struct Ratio {
    Wide numerator{0};
    Wide denominator{1};
};

bool parse_ratio(const std::string& text, Ratio& ratio);
double as_double(const Ratio& ratio);

// Tempo counts in millionths of a BPM, the play head in 1 / (60e6 * rate * kFiner) quarter notes: one sample at any
// constant tempo is a whole number of units.
class ExactTransport {
public:
    explicit ExactTransport(int64_t rate);

    void set_rate(int64_t rate);  // the play head stays
    void play(bool playing);
    void seek(const Ratio& ppq);
    void tempo(const Ratio& bpm);
    void ramp(const Ratio& bpm, int64_t samples);  // linear in time, from here
    void meter(int32_t num, int32_t den);          // the bar under the play head keeps its start
    void loop(const Ratio& start, const Ratio& end);
    void no_loop();

    void advance(int64_t samples);      // a loop that ends just here wraps and keeps what it overshot
    int64_t samples_to_change() const;  // until the loop wraps or the ramp ends; INT64_MAX: neither

    bool playing() const { return playing_; }
    bool looping() const { return looping_; }
    int32_t meter_num() const { return num_; }
    int32_t meter_den() const { return den_; }
    double bpm() const;
    double bpm_per_sample() const;                 // while it ramps
    double ppq() const;                            // for reports
    int64_t ppq_beats(int64_t ticks) const;        // CLAP's fixed point; `ticks` > 0: rounded down to 1/ticks
    int64_t bar_start_beats(int64_t ticks) const;  // start of the bar under the play head
    int32_t bar_number() const;
    int64_t loop_start_beats() const { return beats(loop_start_, 0); }
    int64_t loop_end_beats() const { return beats(loop_end_, 0); }

private:
    Wide units(const Ratio& ppq) const;
    Wide head(int64_t after) const;  // play head `after` samples from now, no loop
    Wide bar_start() const;
    int64_t beats(Wide units, int64_t ticks) const;
    void jump(Wide ppq);

    int64_t rate_;
    Wide quarter_;    // units in a quarter note
    Wide anchor_{0};  // play head at `since_` samples ago
    int64_t since_{0};
    Wide from_{120000000};  // tempo at the anchor, and where it goes within `ramp_` samples
    Wide to_{120000000};
    int64_t ramp_{0};
    bool playing_{false};
    bool looping_{false};
    Wide loop_start_{0}, loop_end_{0};
    Wide bars_from_{0};
    int32_t bars_before_{0};  // number of the bar at bars_from_
    int32_t num_{4}, den_{4};
};

}  // namespace attacca::host
