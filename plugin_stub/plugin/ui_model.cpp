// See ui_model.hpp.
#include "ui_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace attacca::ui {
namespace {

constexpr double kStalled_s = 0.35;  // without a callback for so long, the host does not run the plugin
constexpr double kSnap_s = 0.25;     // the shown position is moved at once if it is further off
constexpr double kFollow_s = 0.3;    // time constant of drawing it near
constexpr double kStretch_s = 0.25;  // and of the picture's span
constexpr float kHeard = 0.001f;     // -60 dB: below is silence to the eye
constexpr uint64_t kFnvBasis = 14695981039346656037u, kFnvPrime = 1099511628211u;

template <class T>
T load(const std::atomic<T>& meter) {
    return meter.load(std::memory_order_relaxed);
}

class Digest {
public:
    void add(int64_t value) { hash_ = (hash_ ^ static_cast<uint64_t>(value)) * kFnvPrime; }
    void add(double value, double step) { add(std::llround(std::clamp(value / step, -1e15, 1e15))); }
    void add(const char* text) {
        for (; *text != '\0'; ++text) add(int64_t{*text});
    }
    uint64_t value() const { return hash_; }

private:
    uint64_t hash_{kFnvBasis};
};

}  // namespace

Reading read_meters(const Exchange& exchange, double sample_rate_hz) {
    const AudioMeters& audio = exchange.audio;
    const EngineMeters& engine = exchange.engine;
    Reading reading;
    BarLaw& law = reading.law;
    law.sample_rate_hz = sample_rate_hz;
    constexpr int kTries = 3;  // the audio thread writes position and song position one after the other
    for (int i = 0; i < kTries; ++i) {
        law.position_samples = load(audio.position);
        law.ppq = load(audio.ppq);
        law.bar_start_ppq = load(audio.bar_start_ppq);
        law.bar_index = load(audio.bar_index);
        if (law.position_samples == load(audio.position)) break;
    }
    law.bpm = load(audio.bpm);
    law.meter_num = load(audio.meter_num);
    law.meter_den = load(audio.meter_den);
    law.playing = load(audio.playing);
    reading.connected = load(engine.connected);
    reading.sounding = load(audio.sounding);
    reading.rtf = load(engine.rtf_total);
    reading.lookahead_samples = load(audio.lookahead_samples);
    reading.committed_end_samples = load(engine.committed_end);
    reading.planned_end_samples = load(engine.planned_end);
    reading.take = load(audio.take);
    reading.take_start_samples = load(audio.take_start);
    reading.take_end_samples = load(audio.take_end);
    reading.underrun_callbacks = load(audio.underrun_callbacks);
    return reading;
}

void History::push(float value) {
    values_[next_] = value;
    next_ = (next_ + 1) % kSize;
    count_ = std::min(count_ + 1, kSize);
}

UiModel::UiModel() : peaks_(static_cast<size_t>(PeakStrip::kSlots)) {
    for (size_t i = 0; i < parameters_.size(); ++i) parameters_[i] = protocol::kParameters[i].initial;
}

void UiModel::update(const Reading& reading, const PeakStrip& peaks, std::string_view state, double now_s) {
    follow_position(reading, now_s);
    grid_.observe(reading.law);
    follow_takes(reading);
    follow_peaks(peaks, reading.law.position_samples);
    const double lookahead_ms = 1000.0 * static_cast<double>(reading.lookahead_samples) / reading.law.sample_rate_hz;
    const bool measured = reading.connected && reading.take != 0;
    follow_figures(reading.rtf, lookahead_ms, measured, reading.underrun_callbacks, now_s);
    reading_ = reading;
    words_ = words_of(state);
    add_countdown();
    now_s_ = now_s;
    sighted_ = begun_ = true;
}

void UiModel::update_blind(bool switched_off, double now_s) {
    const auto meter = [this](std::string_view name) {
        return meters_[static_cast<size_t>(protocol::meter_index(name))];
    };
    const bool connected = meter("connection") > 0.5;
    const int state = static_cast<int>(std::lround(meter("state")));
    reading_ = Reading{};
    reading_.connected = connected;
    reading_.sounding = state == 2 || state == 3;
    words_ = switched_off ? words_of("stopped") : words_of_meters(connected, state);
    follow_figures(meter("rtf"), meter("lookahead_now_ms"), connected && state != 0, std::llround(meter("underruns")),
                   now_s);
    now_s_ = now_s;
    sighted_ = running_ = begun_ = false;
}

void UiModel::set_parameter(int index, double value) {
    if (index < 0 || static_cast<size_t>(index) >= parameters_.size() || !std::isfinite(value)) return;
    const protocol::Parameter& row = protocol::kParameters[static_cast<size_t>(index)];
    parameters_[static_cast<size_t>(index)] = std::clamp(value, row.minimum, row.maximum);
}

void UiModel::set_meter(int index, double value) {
    if (index < 0 || static_cast<size_t>(index) >= meters_.size() || !std::isfinite(value)) return;
    meters_[static_cast<size_t>(index)] = value;
}

void UiModel::follow_position(const Reading& reading, double now_s) {
    const BarLaw& law = reading.law;
    const double elapsed_s = begun_ ? std::clamp(now_s - now_s_, 0.0, 1.0) : 0.0;
    const auto position = static_cast<double>(law.position_samples);
    if (!begun_ || law.position_samples != reading_.law.position_samples) moved_at_s_ = now_s;
    running_ = now_s - moved_at_s_ < kStalled_s;
    if (running_) shown_samples_ += elapsed_s * law.sample_rate_hz;
    const double error = position - shown_samples_;
    const bool far = !begun_ || std::fabs(error) > kSnap_s * law.sample_rate_hz;
    if (far || !running_) {
        shown_samples_ = position;
    } else {
        shown_samples_ += error * std::min(1.0, elapsed_s / kFollow_s);
    }
    if (!law.sane()) return;
    const double wanted = law.bar_samples() * bars_shown(law.bar_samples() / law.sample_rate_hz);
    const double step = begun_ ? std::min(1.0, elapsed_s / kStretch_s) : 1.0;
    span_samples_ = std::fabs(wanted - span_samples_) < 1.0 ? wanted : span_samples_ + step * (wanted - span_samples_);
}

void UiModel::follow_takes(const Reading& reading) {
    const bool began_anew = begun_ && reading.law.position_samples < reading_.law.position_samples;
    if (began_anew) takes_ = {};
    if (reading.take == 0) return;
    if (takes_[0].number != reading.take) {
        std::copy_backward(takes_.begin(), takes_.end() - 1, takes_.end());
        takes_[0] = Take{reading.take, -1, false};
    }
    takes_[0].start_samples = reading.take_start_samples;
    takes_[0].sounded = takes_[0].sounded || reading.sounding;
}

void UiModel::follow_peaks(const PeakStrip& peaks, int64_t position_samples) {
    const int64_t last = position_samples / peaks.slot_samples();
    if (slot_samples_ != peaks.slot_samples() || last < peaks_seen_) {
        std::fill(peaks_.begin(), peaks_.end(), Slot{});
        slot_samples_ = peaks.slot_samples();
        peaks_seen_ = loud_slot_ = -1;
    }
    for (int64_t slot = std::max({peaks_seen_, last - PeakStrip::kSlots + 1, int64_t{0}}); slot <= last; ++slot) {
        const Peaks now = peaks.read(slot);
        peaks_[static_cast<size_t>(slot & (PeakStrip::kSlots - 1))] = Slot{slot, now};
        if (now.input > kHeard || now.wet > kHeard || now.bridged) loud_slot_ = slot;
    }
    peaks_seen_ = last;
}

void UiModel::follow_figures(double rtf, double lookahead_ms, bool measured, int64_t underruns, double now_s) {
    rtf_now_ = std::isfinite(rtf) ? rtf : 0.0;
    lookahead_now_ms_ = std::isfinite(lookahead_ms) ? lookahead_ms : 0.0;
    measured_ = measured;
    if (underruns_ >= 0 && underruns > underruns_) underrun_at_s_ = now_s;
    underruns_ = underruns;
    if (!measured || now_s - sampled_at_s_ < History::kStep_s) return;
    sampled_at_s_ = now_s;
    rtf_.push(static_cast<float>(rtf_now_));
    lookahead_ms_.push(static_cast<float>(lookahead_now_ms_));
}

bool UiModel::take_alive() const { return reading_.take != 0; }

bool UiModel::armed() const { return words_.tone == Tone::armed; }

double UiModel::beats_until(int64_t position_samples) const {
    const BarLaw& law = grid_.law();
    return (static_cast<double>(position_samples) - shown_samples_) / (law.samples_per_ppq() * law.beat_ppq());
}

// A launch or an end that lies ahead is counted down in beats, whole ones, as a musician would.
void UiModel::add_countdown() {
    if (!grid_.known() || !grid_.law().playing || reading_.take == 0) return;
    const bool starts = reading_.take_start_samples >= 0 && beats_until(reading_.take_start_samples) > 0.0;
    const bool ends = reading_.take_end_samples >= 0 && beats_until(reading_.take_end_samples) > 0.0;
    if (!starts && !(ends && words_.tone == Tone::good)) return;
    if (starts && words_.tone != Tone::armed) return;
    const double beats = std::ceil(beats_until(starts ? reading_.take_start_samples : reading_.take_end_samples));
    std::snprintf(words_.advice.data(), words_.advice.size(), "%s in %.0f beat%s", starts ? "starts" : "ends", beats,
                  beats == 1.0 ? "" : "s");
}

double UiModel::underrun_heat() const { return std::clamp(1.0 - (now_s_ - underrun_at_s_) / kCool_s, 0.0, 1.0); }

uint64_t UiModel::picture(double px_per_sample) const {
    Digest digest;
    const auto slots_back = static_cast<int64_t>(span_samples_ / static_cast<double>(slot_samples_));
    const bool scrolls =
        running_ && (reading_.law.playing || reading_.take != 0 || loud_slot_ >= peaks_seen_ - slots_back);
    digest.add(scrolls ? shown_samples_ * px_per_sample : 0.0, 0.5);
    digest.add(span_samples_ * px_per_sample, 0.5);
    digest.add(words_.headline.data());
    digest.add(words_.advice.data());
    digest.add(static_cast<int64_t>(words_.tone));
    digest.add(int64_t{reading_.connected} | int64_t{reading_.sounding} << 1 | int64_t{measured_} << 2 |
               int64_t{sighted_} << 3 | int64_t{reading_.law.playing} << 4);
    digest.add(reading_.law.bpm, 0.01);
    digest.add(int64_t{reading_.law.meter_num} << 8 | reading_.law.meter_den);
    for (const int64_t value : {reading_.take, reading_.take_start_samples, reading_.take_end_samples,
                                reading_.committed_end_samples, reading_.planned_end_samples, underruns_}) {
        digest.add(value);
    }
    digest.add(rtf_now_, 0.01);
    digest.add(lookahead_now_ms_, 10.0);
    digest.add(underrun_heat(), 1.0 / 32.0);
    for (const double value : parameters_) digest.add(value, 1e-4);
    return digest.value();
}

}  // namespace attacca::ui
