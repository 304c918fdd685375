// Mixer: dry and wet as heard. Last on the audio thread's path, from the rendered take to the host's buffers;
// `_mixed` of bridge/client.py. At gain 1 the dry signal passes bit-exactly; gains move in ramps of 5 ms.
// Thread: audio.
#pragma once

#include <cstdint>

namespace attacca {

struct Gains {
    double dry{1.0}, wet{1.0};
};

// What the parameters mix (0..1) and gain (dB, of the wet signal) ask for; 0.5 leaves both at unity.
Gains gains_of(double mix, double gain_db) noexcept;

class Mixer {
public:
    Mixer(double sample_rate, int channels) noexcept : ramp_samples_(kRamp_s * sample_rate), channels_(channels) {}

    void begin_at(const Gains& target) noexcept { gains_ = target; }  // no ramp: nothing was heard yet

    // Samples [from, to) of the host's buffers: outputs[channel][i] from inputs[channel][i] (nullptr: silence; may be
    // the same buffers in any order) and the interleaved `wet`, whose first sample belongs to `from`.
    void mix(const Gains& target, const float* const* inputs, const float* wet, float* const* outputs, int64_t from,
             int64_t to) noexcept;

    float input_peak() const noexcept { return input_peak_; }  // of the last call
    float output_peak() const noexcept { return output_peak_; }

private:
    static constexpr double kRamp_s = 0.005;

    // One gain's way through a call.
    struct Ramp {
        double start, target, step;
        float at(int64_t index) const noexcept;  // of sample `index` from 0
        double last(int64_t count) const noexcept;
    };
    Ramp ramp(double from, double to) const noexcept;

    const double ramp_samples_;
    const int channels_;
    Gains gains_;
    float input_peak_{0.0f}, output_peak_{0.0f};
};

}  // namespace attacca
