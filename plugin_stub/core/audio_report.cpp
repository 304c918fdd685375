// See audio_report.hpp.
#include "audio_report.hpp"

#include <algorithm>
#include <cmath>

namespace attacca {
namespace {

constexpr double kFall_db_per_s = 24.0;

template <class T, class V>
void tell(std::atomic<T>& meter, V value) noexcept {
    meter.store(static_cast<T>(value), std::memory_order_relaxed);
}

}  // namespace

void AudioReport::peaks(float input, float output, int64_t samples) noexcept {
    const double fall_db = kFall_db_per_s * static_cast<double>(samples) / sample_rate_;
    const auto kept = static_cast<float>(std::pow(10.0, -fall_db / 20.0));
    input_peak_ = std::max(std::isfinite(input) ? input : 0.0f, input_peak_ * kept);
    output_peak_ = std::max(std::isfinite(output) ? output : 0.0f, output_peak_ * kept);
}

void AudioReport::block(int64_t position, const Timeline& timeline, const TakeBook& takes, const Playback& playback,
                        Exchange& exchange) noexcept {
    AudioMeters& meters = exchange.audio;
    const PlaybackCounters& counters = playback.counters();
    tell(meters.position, position);
    tell(meters.lookahead_samples, exchange.ring.lookahead_samples());
    tell(meters.underrun_callbacks, counters.underrun_callbacks);
    tell(meters.underrun_samples, counters.underrun_samples);
    tell(meters.repeat_samples, counters.repeat_samples);
    tell(meters.planned_samples, counters.planned_samples);
    tell(meters.fade_samples, counters.fade_samples);
    tell(meters.launches, counters.launches);
    tell(meters.joins, counters.joins);
    tell(meters.take, takes.take());
    tell(meters.take_start, takes.start());
    tell(meters.take_end, takes.end());
    tell(meters.sounding, playback.sounding());
    tell(meters.held, takes.held());
    tell(meters.input_peak, input_peak_);
    tell(meters.output_peak, output_peak_);
    tell(meters.playing, timeline.playing());
    if (!timeline.known()) return;
    const Segment& segment = timeline.segment();
    const double linear = segment.ppq_at(position);
    tell(meters.ppq, segment.host_ppq(linear));
    tell(meters.bpm, segment.snapshot.host.bpm);
    tell(meters.meter_num, segment.snapshot.host.meter_num);
    tell(meters.meter_den, segment.snapshot.host.meter_den);
    const auto bar = timeline.bar_at(position);
    const double into_bar = bar ? std::max(linear - bar->ppq, 0.0) : 0.0;
    tell(meters.bar_start_ppq, bar ? segment.host_ppq(linear) - into_bar : segment.snapshot.host.bar_start_ppq);
    if (bar) tell(meters.bar_index, bar->index);
}

}  // namespace attacca
