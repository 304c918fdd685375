// See ui_grid.hpp.
#include "ui_grid.hpp"

namespace attacca::ui {
namespace {

constexpr double kTolerance_s = 0.002;  // an epoch ends at 1 ms; the rest is what reading one by one may add

// How far the bar lines of `law` lie from those of `present`, in samples.
double contradiction_samples(const BarLaw& present, const BarLaw& law) {
    if (present.playing != law.playing || present.bpm != law.bpm || present.meter_num != law.meter_num ||
        present.meter_den != law.meter_den || present.sample_rate_hz != law.sample_rate_hz ||
        law.position_samples < present.position_samples) {
        return std::numeric_limits<double>::infinity();
    }
    if (!law.playing) return 0.0;
    const double bars = present.beats_at(law.beat_position(0)) / present.meter_num;
    const double moved = std::fabs(bars - std::round(bars)) * present.bar_samples();
    return present.bar_index + std::llround(bars) == law.bar_index ? moved : std::numeric_limits<double>::infinity();
}

}  // namespace

bool BarLaw::sane() const {
    return std::isfinite(ppq) && std::isfinite(bpm) && std::isfinite(bar_start_ppq) && bpm >= 1.0 && bpm <= 1000.0 &&
           meter_num >= 1 && meter_num <= 64 && meter_den >= 1 && meter_den <= 64 && sample_rate_hz >= 1.0;
}

bool BarGrid::observe(const BarLaw& law) {
    if (!law.sane()) return false;
    if (count_ == 0) {
        spans_[0].law = law;
        count_ = 1;
        return true;
    }
    const double tolerance = kTolerance_s * law.sample_rate_hz;
    if (contradiction_samples(newest().law, law) <= tolerance) {
        doubted_ = false;
        return false;
    }
    const bool again = doubted_ && contradiction_samples(candidate_, law) <= tolerance;
    if (!again) {
        doubted_ = true;
        candidate_ = law;
        return false;
    }
    doubted_ = false;
    const bool backwards = law.position_samples < newest().law.position_samples;  // the stream began anew
    newest_ = (newest_ + 1) % kSpans;
    count_ = backwards ? 1 : std::min(count_ + 1, kSpans);
    spans_[newest_].law = law;
    spans_[newest_].from_samples =
        backwards ? -std::numeric_limits<double>::infinity() : static_cast<double>(candidate_.position_samples);
    return true;
}

int bars_shown(double bar_s) {
    constexpr double kShown_s = 14.0;
    constexpr int kCounts[] = {2, 3, 4, 6, 8, 12, 16, 24, 32};
    int best = kCounts[0];
    for (const int count : kCounts) {
        if (std::fabs(std::log(count * bar_s / kShown_s)) < std::fabs(std::log(best * bar_s / kShown_s))) best = count;
    }
    return best;
}

}  // namespace attacca::ui
