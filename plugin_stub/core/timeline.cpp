// Timeline: see timeline.hpp. Every formula is bridge/transport.py's, in Wide for Fraction. Thread: audio.
#include "timeline.hpp"

namespace attacca {

namespace {

constexpr double kToleranceMs = 1.0;           // a snapshot further than this from the prediction ends the epoch
constexpr double kBendToleranceMs = 5.0;       // the same where the tempo glides: it moves inside a long block, too
constexpr double kGlidesPerSecond = 8.0;       // within one of these a tempo that glides
constexpr double kGlideShares = 16.0;          // moves by one of these at most
constexpr double kSendsPerSecond = 10.0;       // while nothing changes
constexpr double kTieSamples = 1.0 / 65536.0;  // float noise of a host's ppq, in samples, with room to spare
constexpr double kTempoToleranceBpm = 1e-6;    // 0.03 ms an hour
constexpr double kTempoRounding = 0x1p-42;     // two doubles near 1000, against their decimals
constexpr double kMostBars = 1e9;              // in a loop
constexpr int kMostSteps = 4096;               // to a launch; two do for any tempo and meter that BarClock lets through
constexpr double kBarRounding = 1e-6;          // of a bar: float noise in a host's bar lines and loops
constexpr double kMsPerMinute = 60000.0;
constexpr double kSecondsPerMinute = 60.0;
constexpr double kLargestPosition = 0x1p62;    // the protocol's limit
constexpr double kLargestDenominator = 192.0;  // of a launch grid: 0.3333 is a triplet

int64_t to_samples(Wide whole) noexcept {
    if (!(std::fabs(whole.hi) <= kLargestPosition)) return whole.hi < 0.0 ? -(int64_t{1} << 62) : int64_t{1} << 62;
    return static_cast<int64_t>(whole.hi) + static_cast<int64_t>(whole.lo);
}

// A number of bars; far inside int64, so that sums of two are, too.
int64_t to_bars(Wide whole) noexcept {
    if (!(std::fabs(whole.hi) <= kLargestPosition / 4.0)) return 0;
    return to_samples(whole);
}

int64_t nearest(Wide position) noexcept { return to_samples(floor_of(position + (0.5 + kTieSamples))); }

Wide bar_quarters_of(const HostTime& host) noexcept {
    return Wide{4.0 * static_cast<double>(host.meter_num)} / Wide{static_cast<double>(host.meter_den)};
}

// Whole bars in the loop, to float noise; 0 where it is none: its wrap ends the epoch.
int64_t whole_bars(const HostTime& host) noexcept {
    if (!host.has_loop || !(host.loop_start_ppq < host.loop_end_ppq)) return 0;
    const Wide bars = sum_of(host.loop_end_ppq, -host.loop_start_ppq) / bar_quarters_of(host);
    const double whole = std::round(bars.value());
    if (!(whole >= 1.0 && whole <= kMostBars) || absolute(bars - whole).hi > kBarRounding) return 0;
    return static_cast<int64_t>(whole);
}

// Whether that many quarters last longer: multiplied out, so that it is exact wherever it can be.
bool beyond_tolerance(Wide quarters, Wide bpm, double tolerance_ms = kToleranceMs) noexcept {
    return absolute(quarters) * kMsPerMinute > bpm * tolerance_ms;
}

Wide tolerance_quarters(Wide bpm) noexcept { return bpm * kToleranceMs / kMsPerMinute; }

}  // namespace

bool ends_epoch(Change change) noexcept {
    return change != Change::held && change != Change::stale && change != Change::bend;
}

int64_t nearest_sample(double position) noexcept { return nearest(position); }

double Segment::quarters_per_sample() const noexcept {
    return (law.bpm / product_of(kSecondsPerMinute, sample_rate)).value();
}

double Segment::ppq_at(int64_t position) const noexcept { return wide_ppq_at(position).value(); }

double Segment::position_of(double ppq) const noexcept { return wide_position_of(ppq).value(); }

double Segment::host_ppq(double linear_ppq) const noexcept { return wide_host_ppq(linear_ppq).value(); }

Bar Segment::bar_of(double ppq) const noexcept { return wide_bar_of(ppq); }

Wide Segment::wide_ppq_at(int64_t position) const noexcept {
    if (!snapshot.host.playing) return law.ppq;
    const Wide passed = wide_of(position) - wide_of(snapshot.position);
    return law.ppq + passed * law.bpm / product_of(kSecondsPerMinute, sample_rate);
}

Wide Segment::wide_position_of(Wide ppq) const noexcept {
    return wide_of(snapshot.position) + (ppq - law.ppq) * product_of(kSecondsPerMinute, sample_rate) / law.bpm;
}

Wide Segment::wide_host_ppq(Wide linear_ppq) const noexcept {
    const Wide host = linear_ppq - law.offset;
    if (!has_loop) return host;
    const Wide length = law.bar_quarters * static_cast<double>(law.loop_bars);
    const Wide entered = floor_ratio(law.ppq - law.offset - loop_start, length);
    if (!(entered < 1.0)) return host;  // a play head beyond the loop never wraps
    const Wide wraps = floor_ratio(host - loop_start, length);
    return wraps < 1.0 ? host : host - wraps * length;
}

Bar Segment::wide_bar_of(Wide ppq) const noexcept {
    const Wide count = floor_ratio(ppq - law.bar_ppq, law.bar_quarters);
    const Wide start = law.bar_ppq + count * law.bar_quarters;
    return Bar{bar.index + to_bars(count), start.value(), wide_position_of(start).value()};
}

Launch Segment::first_multiple(int64_t position, Wide origin, Wide step) const noexcept {
    Wide count = ceil_ratio(wide_ppq_at(position) - origin, step) - 1.0;
    for (int steps = 0; steps < kMostSteps && nearest(wide_position_of(origin + count * step)) < position; ++steps)
        count = count + 1.0;
    const Wide ppq = origin + count * step;
    return Launch{ppq.value(), nearest(wide_position_of(ppq))};
}

Timeline::Timeline(double sample_rate) noexcept : sample_rate_(sample_rate) {}

bool Timeline::known() const noexcept { return present_.has_value(); }

bool Timeline::playing() const noexcept { return present_ && present_->snapshot.host.playing; }

int64_t Timeline::epoch() const noexcept { return present_ ? present_->snapshot.epoch : 0; }

const Segment& Timeline::segment() const noexcept { return *present_; }

const std::optional<Segment>& Timeline::before() const noexcept { return before_; }

Change Timeline::judge(const Snapshot& snapshot) const noexcept {
    if (!present_) return Change::first;
    const HostTime &last = present_->snapshot.host, &host = snapshot.host;
    if (snapshot.epoch < present_->snapshot.epoch) return Change::stale;
    if (host.playing != last.playing) return host.playing ? Change::start : Change::stop;
    if (host.meter_num != last.meter_num || host.meter_den != last.meter_den) return Change::meter;
    const Wide bpm = decimal_of(host.bpm);
    const bool same_epoch = snapshot.epoch == present_->snapshot.epoch;
    const auto off = [&](double tolerance_ms) {
        return beyond_tolerance(error_quarters(snapshot), bpm, tolerance_ms) ||
               beyond_tolerance(bar_error_quarters(snapshot), bpm, tolerance_ms);
    };
    if (absolute(bpm - present_->law.bpm).hi > kTempoToleranceBpm + kTempoRounding) {
        return host.playing && same_epoch && !off(kBendToleranceMs) ? Change::bend : Change::tempo;
    }
    if (off(kToleranceMs)) return Change::seek;
    return same_epoch ? Change::held : Change::renumbered;
}

Change Timeline::feed(const Snapshot& snapshot) noexcept {
    const Change change = judge(snapshot);
    if (change == Change::held) {
        follow_loop(snapshot);
    } else if (change != Change::stale) {
        const Segment segment = begin(snapshot, change);
        before_ = present_;
        present_ = segment;
    }
    return change;
}

std::optional<Bar> Timeline::bar_at(int64_t position) const noexcept {
    if (!playing()) return std::nullopt;
    return present_->wide_bar_of(present_->wide_ppq_at(position));
}

std::optional<Launch> Timeline::next_launch(int64_t position, Quantum quantum) const noexcept {
    if (!present_ || !(quantum.amount >= 0.0) || std::isinf(quantum.amount)) return std::nullopt;
    const Ratio amount = nearest_ratio(quantum.amount, kLargestDenominator);
    if (amount.num == 0.0) return Launch{present_->ppq_at(position), position};
    if (!playing()) return std::nullopt;
    if (!quantum.in_bars) return present_->first_multiple(position, 0.0, amount.wide());
    const Wide length = present_->law.bar_quarters;
    const Wide origin = present_->law.bar_ppq - wide_of(present_->bar.index) * length;
    return present_->first_multiple(position, origin, amount.wide() * length);
}

std::optional<double> Timeline::bars_after(int64_t position, int64_t bars) const noexcept {
    if (!playing()) return std::nullopt;
    const Wide passed = wide_of(bars) * present_->law.bar_quarters;
    return present_->wide_position_of(present_->wide_ppq_at(position) + passed).value();
}

double Timeline::drift_samples(const Snapshot& snapshot) const noexcept {
    if (!playing() || !snapshot.host.playing) return 0.0;
    const Wide theirs = sum_of(snapshot.host.bar_start_ppq, -snapshot.host.ppq);
    const Wide ours = present_->law.bar_ppq - present_->wide_ppq_at(snapshot.position);
    Wide drift = modulo(theirs - ours, present_->law.bar_quarters);
    if (drift * 2.0 > present_->law.bar_quarters) drift = drift - present_->law.bar_quarters;
    return (drift * product_of(kSecondsPerMinute, sample_rate_) / present_->law.bpm).value();
}

Segment Timeline::begin(const Snapshot& snapshot, Change change) const noexcept {
    const HostTime& host = snapshot.host;
    Segment segment;
    segment.snapshot = snapshot;
    segment.sample_rate = sample_rate_;
    segment.begun = snapshot.position;
    segment.law.ppq = host.ppq;
    segment.law.bpm = decimal_of(host.bpm);
    const Wide length = segment.law.bar_quarters = bar_quarters_of(host);
    // Hosts are known to report a bar that does not hold the play head: only its phase is trusted then.
    const Wide bars = floor_ratio(sum_of(host.ppq, -host.bar_start_ppq), length);
    const Wide start = segment.law.bar_ppq = Wide{host.bar_start_ppq} + bars * length;
    segment.bar.index = to_bars(floor_of(start / length + kBarRounding));
    const bool counts_on =
        change == Change::meter || change == Change::tempo || change == Change::bend || change == Change::renumbered;
    if (counts_on && host.playing) segment.bar.index = index_through(snapshot, segment.bar.index);
    segment.bar.ppq = start.value();
    segment.bar.position = static_cast<double>(snapshot.position);
    if (host.playing) segment.bar.position = segment.wide_position_of(start).value();
    segment.law.loop_bars = whole_bars(host);
    segment.has_loop = segment.law.loop_bars > 0;
    if (segment.has_loop) {
        segment.loop_start = host.loop_start_ppq;
        segment.loop_end = (host.loop_start_ppq + length * static_cast<double>(segment.law.loop_bars)).value();
    }
    return segment;
}

// The bar count goes on through a change of meter or tempo; after a jump only the ppq can tell (`otherwise`).
int64_t Timeline::index_through(const Snapshot& snapshot, int64_t otherwise) const noexcept {
    const Wide bpm = decimal_of(snapshot.host.bpm);
    const Wide linear = present_->wide_ppq_at(snapshot.position);
    if (beyond_tolerance(present_->wide_host_ppq(linear) - snapshot.host.ppq, bpm)) return otherwise;
    return present_->wide_bar_of(linear + tolerance_quarters(bpm)).index;
}

void Timeline::follow_loop(const Snapshot& snapshot) noexcept {
    Segment& segment = *present_;
    const int64_t bars = whole_bars(snapshot.host);
    const bool same_start = bars == 0 || snapshot.host.loop_start_ppq == segment.loop_start;
    if (bars != segment.law.loop_bars || !same_start) {
        // Moving or ending a loop changes what is predicted, not where the play head is: the bars run on.
        const Wide linear = segment.wide_ppq_at(snapshot.position);
        segment.law.offset = linear - segment.wide_host_ppq(linear);
        segment.law.ppq = linear;
        segment.law.loop_bars = bars;
        segment.snapshot.position = snapshot.position;
        segment.snapshot.host.ppq = linear.value();
        segment.offset = segment.law.offset.value();
        segment.has_loop = bars > 0;
        segment.loop_start = segment.has_loop ? snapshot.host.loop_start_ppq : 0.0;
        segment.loop_end = (segment.loop_start + segment.law.bar_quarters * static_cast<double>(bars)).value();
    }
    segment.snapshot.host.non_realtime = snapshot.host.non_realtime;
}

Wide Timeline::error_quarters(const Snapshot& snapshot) const noexcept {
    const Segment& segment = *present_;
    const Wide ppq = snapshot.host.ppq;
    const Wide error = ppq - segment.wide_host_ppq(segment.wide_ppq_at(snapshot.position));
    if (!segment.has_loop) return absolute(error);
    // At the seam the host may be a rounding before its wrap while the prediction is behind it.
    const Wide length = segment.law.bar_quarters * static_cast<double>(segment.law.loop_bars);
    const Wide start = segment.loop_start;
    const Wide bpm = decimal_of(snapshot.host.bpm);
    if (beyond_tolerance(ppq - start, bpm) && beyond_tolerance(ppq - (start + length), bpm)) return absolute(error);
    const Wide earlier = absolute(error - length), later = absolute(error + length);
    const Wide wrapped = earlier < later ? earlier : later;
    return wrapped < absolute(error) ? wrapped : absolute(error);
}

// How far the host's bar grid has moved against ours; modulo a bar, since hosts report either neighbour.
Wide Timeline::bar_error_quarters(const Snapshot& snapshot) const noexcept {
    const Wide length = present_->law.bar_quarters;
    const Wide error = modulo(snapshot.host.bar_start_ppq - (present_->law.bar_ppq - present_->law.offset), length);
    return length - error < error ? length - error : error;
}

EpochTracker::EpochTracker(double sample_rate, int64_t first_epoch) noexcept
    : sample_rate_(sample_rate), timeline_(sample_rate), epoch_(first_epoch) {}

Change EpochTracker::change() const noexcept { return change_; }

int64_t EpochTracker::epoch() const noexcept { return epoch_; }

const Timeline& EpochTracker::timeline() const noexcept { return timeline_; }

std::optional<Snapshot> EpochTracker::block(int64_t position, const HostTime& host, bool renumber) noexcept {
    Snapshot snapshot{epoch_, position, host};
    change_ = timeline_.judge(snapshot);
    if (change_ == Change::bend && (host.non_realtime || !glides(snapshot))) change_ = Change::tempo;
    if (change_ == Change::held && renumber) change_ = Change::renumbered;
    if (ends_epoch(change_) && change_ != Change::first) {
        snapshot.epoch = ++epoch_;
        glide_.reset();
    }
    timeline_.feed(snapshot);
    if (!ends_epoch(change_) && change_ != Change::bend && !due(snapshot)) return std::nullopt;
    sent_ = snapshot;
    return snapshot;
}

bool EpochTracker::glides(const Snapshot& snapshot) noexcept {
    if (!glide_ || static_cast<double>(snapshot.position - glide_->position) * kGlidesPerSecond >= sample_rate_) {
        glide_ = Glide{snapshot.position, timeline_.segment().law.bpm};
    }
    const Wide moved = absolute(decimal_of(snapshot.host.bpm) - glide_->bpm) * kGlideShares;
    return !(moved > glide_->bpm + kTempoRounding);
}

double EpochTracker::drift_samples(int64_t position, const HostTime& host) const noexcept {
    const Snapshot snapshot{epoch_, position, host};
    return timeline_.judge(snapshot) == Change::held ? timeline_.drift_samples(snapshot) : 0.0;
}

bool EpochTracker::due(const Snapshot& snapshot) const noexcept {
    if (!sent_) return true;
    const HostTime &last = sent_->host, &host = snapshot.host;
    if (last.has_loop != host.has_loop || last.non_realtime != host.non_realtime) return true;
    if (host.has_loop && (last.loop_start_ppq != host.loop_start_ppq || last.loop_end_ppq != host.loop_end_ppq))
        return true;
    return static_cast<double>(snapshot.position - sent_->position) * kSendsPerSecond >= sample_rate_;
}

}  // namespace attacca
