// Mixer: dry and wet as heard. The dry signal passes bit-exactly at gain 1; every gain moves in a ramp of 5 ms, so that
// no automation, solo or bypass clicks. Thread: audio. No allocation.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace attacca {

// A gain on its way to a target, as fast as full scale in 5 ms (or the whole way, if that is further).
class GainRamp {
public:
    GainRamp(double sample_rate, double start) noexcept
        : ramp_samples_(kRamp_s * sample_rate), now_(start), to_(start) {}

    void aim(double target) noexcept {
        if (target == to_) return;
        to_ = target;
        step_ = std::max(std::fabs(now_ - target), 1.0) / ramp_samples_;
    }

    bool still() const noexcept { return now_ == to_; }
    double value() const noexcept { return now_; }

    float next() noexcept {
        if (now_ < to_) {
            now_ = std::min(now_ + step_, to_);
        } else if (now_ > to_) {
            now_ = std::max(now_ - step_, to_);
        }
        return static_cast<float>(now_);
    }

private:
    static constexpr double kRamp_s = 0.005;

    double ramp_samples_, now_, to_, step_{0.0};
};

// out = in * gain (+ nothing else); bit-exact where the gain rests at 1, nothing where it rests at 0.
inline void apply(GainRamp& gain, float* interleaved, int64_t samples, int channels) noexcept {
    if (gain.still() && gain.value() == 1.0) return;
    for (int64_t i = 0; i < samples; ++i) {
        const float factor = gain.next();
        for (int channel = 0; channel < channels; ++channel) interleaved[i * channels + channel] *= factor;
    }
}

}  // namespace attacca
