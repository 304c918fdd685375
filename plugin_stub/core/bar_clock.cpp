// BarClock: see bar_clock.hpp. Step for step bridge/bar_clock.py, with Wide for Fraction. Thread: audio.
#include "bar_clock.hpp"

#include <initializer_list>

namespace attacca {

namespace {

constexpr double kTicksPerBeat[] = {1920, 960, 480, 240, 192, 120, 96, 48, 24, 3840, 7680, 15360, 1000, 10000};
constexpr double kFewestTicks = 24.0;
constexpr double kUsualTicks = 1920.0;   // a law through frame 0 may move the play head by a longer tick only once that
constexpr int64_t kSettledReadings = 4;  // has passed and so many readings lay on its grid
constexpr double kDriftInverse = 5e7;    // a host's own tempo rounding, relative: intervals widen by its inverse
constexpr double kFloat32 = 0x1p-23;     // relative, with room to spare
constexpr double kFloat64 = 0x1p-51;
constexpr double kGridTicks = 1e-6;
constexpr double kBarSlack = 1e-6;      // of a bar: float noise in a host's bar start
constexpr double kSnapQuarters = 1e-5;  // bar lines of a tick host lie on 64th notes, to this
constexpr double kLinesPerQuarter = 16.0;
constexpr double kLiesPerSecond = 5.0;  // whole bars off for longer are a jump
constexpr double kMostPpq = 1e8;        // a year and a half at 120 BPM
constexpr double kLeastBpm = 1.0, kMostBpm = 1000.0;
constexpr double kFreeBpm = 120.0;
constexpr double kFreeQuartersPerSecond = 2.0;
constexpr double kFreeBarQuarters = 4.0;
constexpr double kSecondsPerMinute = 60.0;
constexpr int32_t kMostMeter = 64;
constexpr int kMostBpmPlaces = 7;

bool is_ppq(double value) noexcept { return std::fabs(value) <= kMostPpq; }  // false for NaN

bool is_meter(int32_t num, int32_t den) noexcept {
    return num >= 1 && num <= kMostMeter && den >= 1 && den <= kMostMeter && (den & (den - 1)) == 0;
}

bool is_float32(double value, double of) noexcept { return static_cast<double>(static_cast<float>(of)) == value; }

// The tempo that was typed, where a host hands on a float32 of it; any other double as it is.
double typed_bpm(double bpm) noexcept {
    if (!is_float32(bpm, bpm)) return bpm;
    double scale = 1.0;
    for (int places = 0; places <= kMostBpmPlaces; ++places, scale *= 10.0) {
        const double candidate = std::floor(bpm * scale + 0.5) / scale;
        if (is_float32(bpm, candidate)) return candidate;
    }
    return bpm;
}

double snapped_line(double bar_start) noexcept {
    const double line = std::floor(bar_start * kLinesPerQuarter + 0.5) / kLinesPerQuarter;
    return std::fabs(bar_start - line) <= kSnapQuarters ? line : bar_start;
}

Wide beat_quarters(const HostTime& host) noexcept { return 4.0 / static_cast<double>(host.meter_den); }

Wide bar_quarters(const HostTime& host) noexcept { return beat_quarters(host) * static_cast<double>(host.meter_num); }

// Moves the bar start by whole bars if its bar does not hold the play head, float noise aside; says whether it did.
bool hold(HostTime& host) noexcept {
    const Wide length = bar_quarters(host);
    const Wide phase = sum_of(host.ppq, -host.bar_start_ppq);
    const Wide slack = length * kBarSlack;
    if (!(phase < -slack) && phase < length + slack) return false;
    host.bar_start_ppq = (Wide{host.bar_start_ppq} + floor_ratio(phase, length) * length).value();
    return true;
}

HostTime free_clock(int64_t position, double sample_rate, bool non_realtime) noexcept {
    HostTime host;
    host.playing = true;
    host.non_realtime = non_realtime;
    host.bpm = kFreeBpm;
    host.ppq = kFreeQuartersPerSecond * static_cast<double>(position) / sample_rate;
    host.bar_start_ppq = std::floor(host.ppq / kFreeBarQuarters) * kFreeBarQuarters;
    return host;
}

}  // namespace

Wide BarClock::half_tick(const HostTime& host, int index) noexcept {
    return index == kNoTicks ? Wide{} : beat_quarters(host) * 0.5 / kTicksPerBeat[index];
}

BarClock::BarClock(double sample_rate) noexcept : sample_rate_(sample_rate) { reset(); }

void BarClock::reset() noexcept {
    last_ = free_clock(0, sample_rate_, false);
    last_position_ = 0;
    fit_ = Fit{};
    for (bool& excluded : excluded_) excluded = false;
    lying_ = false;
    rounds_ = false;
}

BarClockReading BarClock::block(int64_t position, const HostTime& host) noexcept {
    if (host.misread) reset();
    BarClockReading reading = sane(position, host);
    if (host.valid && host.tick_grid && host.playing && is_ppq(host.ppq)) {
        undo_lie(position, reading);
        refine(position, reading);
    } else {
        fit_.begun = false;
        lying_ = false;
    }
    last_ = reading.host;
    last_position_ = position;
    return reading;
}

BarClockReading BarClock::sane(int64_t position, const HostTime& host) const noexcept {
    BarClockReading reading;
    if (!host.valid) {
        reading.host = free_clock(position, sample_rate_, host.non_realtime);
        return reading;
    }
    HostTime& sane = reading.host;
    sane = host;
    if (!(host.bpm >= kLeastBpm && host.bpm <= kMostBpm)) sane.bpm = last_.bpm;
    if (!is_meter(host.meter_num, host.meter_den)) {
        sane.meter_num = last_.meter_num;
        sane.meter_den = last_.meter_den;
    }
    sane.has_loop = host.has_loop && is_ppq(host.loop_start_ppq) && is_ppq(host.loop_end_ppq) &&
                    host.loop_start_ppq < host.loop_end_ppq;
    if (!sane.has_loop) sane.loop_start_ppq = sane.loop_end_ppq = 0.0;
    if (!is_ppq(host.bar_start_ppq)) sane.bar_start_ppq = last_.bar_start_ppq;
    if (host.tick_grid) {
        sane.bpm = typed_bpm(sane.bpm);
        sane.bar_start_ppq = snapped_line(sane.bar_start_ppq);
    }
    if (!is_ppq(host.ppq)) sane.ppq = continued(position, sane.bpm);
    if (host.frame < 0) sane.frame = -1;
    const bool moved = hold(sane);
    reading.repaired_bar = moved || !is_ppq(host.bar_start_ppq);
    return reading;
}

// Where the play head would be had it gone on from the last block.
double BarClock::continued(int64_t position, double bpm) const noexcept {
    if (!last_.playing) return last_.ppq;
    return (Wide{last_.ppq} + (wide_of(position) - wide_of(last_position_)) * quarters_per_sample(bpm)).value();
}

Wide BarClock::quarters_per_sample(double bpm) const noexcept {
    return decimal_of(bpm) / product_of(kSecondsPerMinute, sample_rate_);
}

// Some hosts count a bar too early or too late: whole bars off, for a block or two, while `frame` goes on.
void BarClock::undo_lie(int64_t position, BarClockReading& reading) noexcept {
    HostTime& host = reading.host;
    const bool lied = lying_;
    lying_ = false;
    if (lied && static_cast<double>(position - lying_from_) * kLiesPerSecond >= sample_rate_) return;
    if (!goes_on(position, host) || !frame_told(position, host)) return;
    const Wide length = bar_quarters(host);
    const Wide off = sum_of(host.ppq, -continued(position, host.bpm));
    const Wide bars = floor_of(off / length + 0.5);
    if (bars.hi == 0.0 || absolute(off - bars * length) > beat_quarters(host) / kFewestTicks) return;
    lying_ = true;
    if (!lied) lying_from_ = position;
    host.ppq = (Wide{host.ppq} - bars * length).value();
    host.bar_start_ppq = (Wide{host.bar_start_ppq} - bars * length).value();
    reading.repaired_bar = true;
}

void BarClock::refine(int64_t position, BarClockReading& reading) noexcept {
    const Wide speed = quarters_per_sample(reading.host.bpm);
    if (!carry_on(position, reading.host)) take_in(position, reading.host, speed);
    const Choice choice = choose(speed);
    const Interval& interval = fit_.intervals[choice.index];
    reading.host.ppq = (choice.offset + wide_of(position) * speed).value();
    hold(reading.host);
    reading.refined = true;
    reading.uncertainty_samples = ((interval.high - interval.low) / (speed * 2.0)).value();
}

// What was not told says nothing new of the ticks: the law of the readings before goes on.
bool BarClock::carry_on(int64_t position, const HostTime& host) noexcept {
    if (!host.carried || !goes_on(position, host)) return false;
    fit_.position = position;
    fit_.host.frame = host.frame;
    return true;
}

// The fit with this reading in it, begun afresh where it does not follow from the ones before.
void BarClock::take_in(int64_t position, const HostTime& host, Wide speed) noexcept {
    const Wide beat = beat_quarters(host);
    const Wide beats = sum_of(host.ppq, -host.bar_start_ppq) / beat;  // in the bar
    const Wide noise_beats = (absolute(beats) + 1.0) * kFloat32;
    const Wide noise = noise_beats * beat + product_of(std::fabs(host.ppq), kFloat64);
    give_up_grids(beats, noise_beats);

    const bool told = frame_told(position, host);
    const bool on = goes_on(position, host);
    const Wide widening = absolute(wide_of(position) - wide_of(fit_.position)) * speed / kDriftInverse;
    const Wide offset = Wide{host.ppq} - wide_of(position) * speed;
    Interval allowed[kCases], both[kCases];
    bool any = false;
    for (int i = 0; i < kCases; ++i) {
        if (excluded_[i]) continue;
        const Wide tick = i == kNoTicks ? Wide{} : beat / kTicksPerBeat[i];
        allowed[i] = Interval{true, offset - noise, offset + tick + noise};
        const Interval& before = fit_.intervals[i];
        if (!on || !before.open) continue;
        const Wide low = before.low - widening, high = before.high + widening;
        both[i].low = low < allowed[i].low ? allowed[i].low : low;
        both[i].high = high < allowed[i].high ? high : allowed[i].high;
        both[i].open = !(both[i].high < both[i].low);
        any = any || both[i].open;
    }
    for (int i = 0; i < kCases; ++i) {
        fit_.intervals[i] = any ? both[i] : allowed[i];
        if (any && !both[i].open) excluded_[i] = true;
    }
    fit_.readings = any ? fit_.readings + 1 : 1;
    if (!any) {
        fit_.start = position;
        fit_.rounds_before = rounds_;
    }
    fit_.begun = true;
    fit_.host = host;
    fit_.position = position;
    fit_.frame_told = told;
}

// Whether the host tells its song position, and not the same one again and again.
bool BarClock::frame_told(int64_t position, const HostTime& host) const noexcept {
    return host.frame >= 0 && (!fit_.begun || host.frame != fit_.host.frame || position == fit_.position);
}

// Whether this block follows from the one before: the same law, and no jump of the song position.
bool BarClock::goes_on(int64_t position, const HostTime& host) const noexcept {
    const HostTime& last = fit_.host;
    const bool told = frame_told(position, host);
    if (!fit_.begun || told != fit_.frame_told) return false;
    if (host.bpm != last.bpm || host.meter_num != last.meter_num || host.meter_den != last.meter_den) return false;
    return !told || host.frame - last.frame == position - fit_.position;
}

// Ticks that this reading does not lie on are not the host's, for good; unless nothing would be left.
void BarClock::give_up_grids(Wide beats, Wide noise_beats) noexcept {
    bool off[kCases]{};
    bool any_left = !excluded_[kNoTicks];
    for (int i = 0; i < kTickLengths; ++i) {
        const Wide ticks = beats * kTicksPerBeat[i];
        const Wide distance = absolute(ticks - floor_of(ticks + 0.5));
        off[i] = distance > noise_beats * kTicksPerBeat[i] + kGridTicks;
        excluded_[i] = excluded_[i] || off[i];
        any_left = any_left || !excluded_[i];
    }
    if (any_left) return;
    for (int i = 0; i < kCases; ++i) excluded_[i] = off[i];
    fit_.begun = false;
}

// Whether this interval, of a host that floors or rounds, holds the law through frame 0 = ppq 0.
bool BarClock::allows(int index, bool rounds, Wide speed) const noexcept {
    const Interval& interval = fit_.intervals[index];
    if (!interval.open || !fit_.frame_told) return false;
    if (index != kNoTicks && kTicksPerBeat[index] < kUsualTicks) {
        const Wide passed = (wide_of(fit_.position) - wide_of(fit_.start)) * speed;
        if (fit_.readings < kSettledReadings || passed < beat_quarters(fit_.host) / kTicksPerBeat[index]) return false;
    }
    const Wide through_zero = (wide_of(fit_.host.frame) - wide_of(fit_.position)) * speed;
    const Wide moved = rounds ? half_tick(fit_.host, index) : Wide{};
    return !(through_zero < interval.low - moved) && !(interval.high - moved < through_zero);
}

// Which interval is believed, and c: through frame 0 if any allows it, else the most usual one's middle.
BarClock::Choice BarClock::choose(Wide speed) noexcept {
    for (const bool rounds : {false, true}) {
        for (int i = 0; i < kCases; ++i) {
            if (!allows(i, rounds, speed)) continue;
            const bool either = allows(i, false, speed) && allows(i, true, speed);
            if (fit_.readings >= kSettledReadings && !either) rounds_ = rounds;
            return Choice{i, (wide_of(fit_.host.frame) - wide_of(fit_.position)) * speed};
        }
    }
    rounds_ = fit_.rounds_before;  // a law that these readings have refuted has shown nothing
    int first = 0;
    while (first < kNoTicks && !fit_.intervals[first].open) ++first;
    const Interval& interval = fit_.intervals[first];
    const Wide middle = (interval.low + interval.high) * 0.5;
    return Choice{first, rounds_ ? middle - half_tick(fit_.host, first) : middle};
}

}  // namespace attacca
