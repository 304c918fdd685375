// See host_dialect.hpp.
#include "host_dialect.hpp"

#include <algorithm>
#include <cmath>

namespace attacca {

namespace {

constexpr double kQuarter = 4.0;
constexpr double kSecondsPerMinute = 60.0;
constexpr double kLeast_s = 0.02, kMost_s = 1.0;  // between two readings that are compared
constexpr double kTicksPerQuarter = 1920.0;
constexpr double kRounding_quarters = 2.0 / kTicksPerQuarter;  // may put them apart
constexpr double kNoise = 0x1p-17;                             // of a beat: single precision in a long bar
constexpr int32_t kMostWrong = 1000;

}  // namespace

void HostDialect::translate(HostTime& host, double sample_rate) noexcept {
    if (!host.valid || !host.tick_grid || host.meter_den == static_cast<int32_t>(kQuarter) || host.meter_den < 1) {
        anchor_ = HostTime{};
        return;
    }
    const int kind = kind_;
    if (!host.carried) look(host, sample_rate);
    host.misread = kind_ != kind;
    const Meaning now = meaning(host, kind_);
    const double passed_s = static_cast<double>(host.frame - last_frame_) / sample_rate;
    host.bpm = now.bpm;
    if (!host.carried) {
        host.ppq = now.ppq;
    } else if (kind_ != beats && last_frame_ >= 0 && host.playing) {
        host.ppq = last_ppq_ + passed_s * host.bpm / kSecondsPerMinute;
    }
    last_ppq_ = host.ppq;
    last_frame_ = host.frame;
}

HostDialect::Meaning HostDialect::meaning(const HostTime& host, int kind) noexcept {
    const double beat = kQuarter / static_cast<double>(host.meter_den);
    if (kind == beats) return {host.ppq, host.bpm};
    const double bpm = host.bpm / beat;
    if (kind == quarter_tempo || beat > 1.0) return {host.ppq, bpm};
    const double counted = (host.ppq - host.bar_start_ppq) / beat;
    const double whole = std::floor(counted + kNoise);
    // Single precision of a part of a beat is coarser once it is a part of a quarter: back onto the tick.
    const double ticks = (counted - whole) * kTicksPerQuarter, tick = std::floor(ticks + 0.5);
    const double part = (std::fabs(ticks - tick) < kNoise * kTicksPerQuarter ? tick : ticks) / kTicksPerQuarter;
    return {host.bar_start_ppq + whole * beat + part, bpm};
}

// Two readings of one law: which meanings agree with the time between them.
void HostDialect::look(const HostTime& host, double sample_rate) noexcept {
    const HostTime& last = anchor_;
    const bool same = last.valid && last.playing && host.playing && host.bpm == last.bpm &&
                      host.meter_num == last.meter_num && host.meter_den == last.meter_den;
    const double seconds = static_cast<double>(host.frame - last.frame) / sample_rate;
    if (same && seconds >= 0.0 && seconds < kLeast_s) return;
    bool fits[kKinds]{};
    for (int kind = 0; same && seconds <= kMost_s && seconds > 0.0 && kind < kKinds; ++kind) {
        const Meaning before = meaning(last, kind), now = meaning(host, kind);
        fits[kind] = std::fabs(now.ppq - before.ppq - seconds * now.bpm / kSecondsPerMinute) <= kRounding_quarters;
    }
    anchor_ = host;
    if (std::none_of(fits, fits + kKinds, [](bool fit) { return fit; })) return;
    for (int kind = 0; kind < kKinds; ++kind)
        if (!fits[kind]) wrong_[kind] = std::min(wrong_[kind] + 1, kMostWrong);
    if (fits[kind_]) return;
    int best = -1;
    for (int kind = 0; kind < kKinds; ++kind)
        if (fits[kind] && (best < 0 || wrong_[kind] < wrong_[best])) best = kind;
    kind_ = best;
}

}  // namespace attacca
