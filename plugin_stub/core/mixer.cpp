// See mixer.hpp.
#include "mixer.hpp"

#include <algorithm>
#include <cmath>

namespace attacca {
namespace {

constexpr int kMostChannels = 8;

double moved(double start, double target, double step, int64_t index) noexcept {
    const double by = step * static_cast<double>(index + 1);  // a statement: never fused with the sum
    const double gain = start + by;
    return step > 0.0 ? std::min(gain, target) : std::max(gain, target);
}

// Sources are added only where both are there: what passes alone passes bit for bit.
float sum_of(float dry, float wet) noexcept { return wet == 0.0f ? dry : dry + wet; }

}  // namespace

Gains gains_of(double mix, double gain_db) noexcept {
    return {std::min(1.0, 2.0 * (1.0 - mix)), std::min(1.0, 2.0 * mix) * std::pow(10.0, gain_db / 20.0)};
}

float Mixer::Ramp::at(int64_t index) const noexcept {
    return static_cast<float>(step == 0.0 ? target : moved(start, target, step, index));
}

double Mixer::Ramp::last(int64_t count) const noexcept {
    if (count == 0 || step == 0.0) return start;
    return moved(start, target, step, count - 1);
}

Mixer::Ramp Mixer::ramp(double from, double to) const noexcept {
    if (from == to) return {from, to, 0.0};
    const double step = std::max(std::fabs(from - to), 1.0) / ramp_samples_;
    return {from, to, to > from ? step : -step};
}

void Mixer::mix(const Gains& target, const float* const* inputs, const float* wet, float* const* outputs, int64_t from,
                int64_t to) noexcept {
    const Ramp dry_ramp = ramp(gains_.dry, target.dry), wet_ramp = ramp(gains_.wet, target.wet);
    const bool dry_plain = dry_ramp.step == 0.0 && dry_ramp.target == 1.0;
    const bool wet_plain = wet_ramp.step == 0.0 && wet_ramp.target == 1.0;
    const int channels = std::min(channels_, kMostChannels);
    input_peak_ = output_peak_ = 0.0f;
    for (int64_t i = 0; i < to - from; ++i) {
        const float dry_gain = dry_ramp.at(i), wet_gain = wet_ramp.at(i);
        float heard[kMostChannels];  // all are read before any is written: buffers may be shared
        for (int channel = 0; channel < channels; ++channel) {
            const float in = inputs == nullptr || inputs[channel] == nullptr ? 0.0f : inputs[channel][from + i];
            const float take = wet[i * channels_ + channel];
            heard[channel] = sum_of(dry_plain ? in : in * dry_gain, wet_plain ? take : take * wet_gain);
            input_peak_ = std::max(input_peak_, std::fabs(in));
            output_peak_ = std::max(output_peak_, std::fabs(heard[channel]));
        }
        for (int channel = 0; channel < channels; ++channel) outputs[channel][from + i] = heard[channel];
    }
    gains_ = {dry_ramp.last(to - from), wet_ramp.last(to - from)};
}

}  // namespace attacca
