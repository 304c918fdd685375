#include "clap_host_transport.hpp"

#include <algorithm>
#include <limits>

namespace attacca::host {

namespace {

constexpr Wide kFiner = 5040;     // so that thirds, sevenths and the like are whole, too
constexpr Wide kMicro = 1000000;  // tempo unit
constexpr int kClapBits = 31;     // CLAP_BEATTIME_FACTOR

Wide floor_div(Wide a, Wide b) {
    const Wide quotient = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Wide nearest(Wide a, Wide b) { return floor_div(2 * a + b, 2 * b); }

bool parse_digits(const std::string& text, Wide& value) {
    if (text.empty() || text.size() > 30) return false;
    value = 0;
    for (const char c : text) {
        if (c < '0' || c > '9') return false;
        value = value * 10 + (c - '0');
    }
    return true;
}

}  // namespace

bool parse_ratio(const std::string& text, Ratio& ratio) {
    const bool negative = !text.empty() && text[0] == '-';
    const std::string body = text.substr(negative ? 1 : 0);
    const size_t slash = body.find('/'), point = body.find('.');
    Wide above = 0, below = 1;
    if (slash != std::string::npos) {
        if (!parse_digits(body.substr(0, slash), above) || !parse_digits(body.substr(slash + 1), below)) return false;
    } else if (point != std::string::npos) {
        const std::string fraction = body.substr(point + 1);
        if (!parse_digits(body.substr(0, point) + fraction, above)) return false;
        for (size_t i = 0; i < fraction.size(); ++i) below *= 10;
    } else if (!parse_digits(body, above)) {
        return false;
    }
    if (below == 0) return false;
    ratio = {negative ? -above : above, below};
    return true;
}

double as_double(const Ratio& ratio) {
    return static_cast<double>(ratio.numerator) / static_cast<double>(ratio.denominator);
}

ExactTransport::ExactTransport(int64_t rate) : rate_(rate), quarter_(60 * kMicro * rate * kFiner) {}

void ExactTransport::set_rate(int64_t rate) {
    const Wide before = quarter_, after = 60 * kMicro * rate * kFiner;
    jump(head(0));
    rate_ = rate;
    quarter_ = after;
    for (Wide* value : {&anchor_, &loop_start_, &loop_end_, &bars_from_}) {
        const Wide whole = floor_div(*value, before);
        *value = whole * after + nearest((*value - whole * before) * rate, before / (60 * kMicro * kFiner));
    }
}

void ExactTransport::play(bool playing) {
    jump(head(0));
    playing_ = playing;
}

void ExactTransport::seek(const Ratio& ppq) { jump(units(ppq)); }

void ExactTransport::tempo(const Ratio& bpm) {
    jump(head(0));
    from_ = to_ = nearest(bpm.numerator * kMicro, bpm.denominator);
    ramp_ = 0;
}

void ExactTransport::ramp(const Ratio& bpm, int64_t samples) {
    jump(head(0));
    to_ = nearest(bpm.numerator * kMicro, bpm.denominator);
    ramp_ = std::max<int64_t>(samples, 1);
}

void ExactTransport::meter(int32_t num, int32_t den) {
    const Wide start = bar_start();
    bars_before_ = bar_number();
    bars_from_ = start;
    num_ = num;
    den_ = den;
}

void ExactTransport::loop(const Ratio& start, const Ratio& end) {
    loop_start_ = units(start);
    loop_end_ = units(end);
    looping_ = loop_end_ > loop_start_;
}

void ExactTransport::no_loop() { looping_ = false; }

void ExactTransport::advance(int64_t samples) {
    if (!playing_) return;
    const Wide before = head(0);
    since_ += samples;
    const Wide after = head(0);
    if (ramp_ > 0 && since_ >= ramp_) jump(after);
    if (looping_ && before < loop_end_ && after >= loop_end_) jump(after - (loop_end_ - loop_start_));
}

int64_t ExactTransport::samples_to_change() const {
    constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
    if (!playing_) return kNever;
    const int64_t ramp_left = ramp_ > 0 ? ramp_ - since_ : kNever;
    if (!looping_ || head(0) >= loop_end_) return ramp_left;
    int64_t low = 0, high = 1;  // head(low) < loop_end_ <= head(high), once doubled far enough
    while (head(high) < loop_end_ && high < ramp_left && high < (int64_t{1} << 40)) high *= 2;
    if (head(high) < loop_end_) return ramp_left;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        (head(middle) < loop_end_ ? low : high) = middle;
    }
    return std::min(high, ramp_left);
}

double ExactTransport::bpm() const {
    const double start = static_cast<double>(from_) / static_cast<double>(kMicro);
    return start + bpm_per_sample() * static_cast<double>(ramp_ > 0 ? since_ : 0);
}

double ExactTransport::bpm_per_sample() const {
    if (ramp_ <= 0 || !playing_) return 0.0;
    return static_cast<double>(to_ - from_) / static_cast<double>(kMicro) / static_cast<double>(ramp_);
}

double ExactTransport::ppq() const {
    const Wide whole = floor_div(head(0), quarter_);
    return static_cast<double>(whole) + static_cast<double>(head(0) - whole * quarter_) / static_cast<double>(quarter_);
}

int64_t ExactTransport::ppq_beats(int64_t ticks) const { return beats(head(0), ticks); }

int64_t ExactTransport::bar_start_beats(int64_t ticks) const { return beats(bar_start(), ticks); }

int32_t ExactTransport::bar_number() const {
    const Wide bar = quarter_ * 4 * num_ / den_;
    return bars_before_ + static_cast<int32_t>(floor_div(head(0) - bars_from_, bar));
}

Wide ExactTransport::units(const Ratio& ppq) const {
    const Wide whole = floor_div(ppq.numerator, ppq.denominator);
    const Wide rest = ppq.numerator - whole * ppq.denominator;
    // rest / denominator quarters; the long way round, so that large denominators do not overflow.
    const Wide coarse = floor_div(rest * rate_ * 60, ppq.denominator);
    const Wide left = rest * rate_ * 60 - coarse * ppq.denominator;
    return whole * quarter_ + coarse * (kMicro * kFiner) + nearest(left * (kMicro * kFiner), ppq.denominator);
}

Wide ExactTransport::head(int64_t after) const {
    if (!playing_) return anchor_;
    const Wide t = since_ + after;
    if (ramp_ <= 0) return anchor_ + t * from_ * kFiner;
    if (t <= ramp_) return anchor_ + kFiner * (from_ * t + floor_div((to_ - from_) * t * t, Wide{2} * ramp_));
    const Wide end = anchor_ + kFiner * (from_ * ramp_ + floor_div((to_ - from_) * ramp_, 2));
    return end + (t - ramp_) * to_ * kFiner;
}

Wide ExactTransport::bar_start() const {
    const Wide bar = quarter_ * 4 * num_ / den_;
    return bars_from_ + floor_div(head(0) - bars_from_, bar) * bar;
}

int64_t ExactTransport::beats(Wide units, int64_t ticks) const {
    if (ticks > 0) units = floor_div(units * ticks, quarter_) * quarter_ / ticks;
    const Wide whole = floor_div(units, quarter_);
    const Wide rest = nearest((units - whole * quarter_) << kClapBits, quarter_);
    return static_cast<int64_t>((whole << kClapBits) + rest);
}

void ExactTransport::jump(Wide ppq) {
    if (ramp_ > 0 && playing_) {
        const int64_t passed = std::min(since_, ramp_);
        from_ += (to_ - from_) * passed / ramp_;
        ramp_ -= passed;
        if (ramp_ == 0) from_ = to_;
    }
    anchor_ = ppq;
    since_ = 0;
}

}  // namespace attacca::host
