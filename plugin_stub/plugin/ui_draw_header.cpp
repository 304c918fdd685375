// The window's head, state in words and the song's place, and the figures beside the grid.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "ui_draw.hpp"

namespace attacca::ui {
namespace {

constexpr float kClockRoom = 150, kDot = 5.5f;
constexpr float kHeadline = 25, kAdvice = 12;
constexpr double kTightRtf = 0.9;  // from here on the engine barely keeps up

void draw_clock(Pen& pen, const Picture& picture) {
    const Rect& box = picture.layout.header;
    const UiModel& model = picture.model;
    if (!model.sighted() || !model.grid().known()) return;
    const BarLaw& law = model.grid().law();
    std::array<char, 32> place{"stopped"};
    if (law.playing) {
        const double beats = law.beats_at(model.position_samples());
        const auto whole = static_cast<int64_t>(std::floor(beats));
        const int64_t bar = bar_number(law, model.position_samples());
        const int64_t in_bar = ((whole % law.meter_num) + law.meter_num) % law.meter_num;
        std::snprintf(place.data(), place.size(), "%lld.%lld", static_cast<long long>(bar),
                      static_cast<long long>(in_bar + 1));
    }
    pen.text(box.right(), box.y + 15, law.playing ? 30.0f : 20.0f, law.playing ? kText : kFaint, place.data(),
             Side::right);
    std::array<char, 96> song{};
    std::snprintf(song.data(), song.size(), "%.5g bpm   %d/%d%s%.*s", law.bpm, law.meter_num, law.meter_den,
                  picture.engine_model.empty() ? "" : "   ",
                  static_cast<int>(std::min<size_t>(picture.engine_model.size(), 24)), picture.engine_model.data());
    pen.text(box.right(), box.y + 38, 11, kSoft, song.data(), Side::right);
}

void draw_history(Pen& pen, const Rect& box, const History& history, float full, Ink ink) {
    if (history.size() < 2) return;
    DGL_NAMESPACE::NanoVG& vg = pen.vg();
    const float step = box.w / static_cast<float>(History::kSize - 1);
    const float first = box.right() - step * static_cast<float>(history.size() - 1);
    const auto y_of = [&](float value) { return box.bottom() - std::clamp(value / full, 0.0f, 1.0f) * box.h; };
    vg.beginPath();
    for (size_t i = 0; i < history.size(); ++i) {
        const float x = first + step * static_cast<float>(i);
        if (i == 0) {
            vg.moveTo(x, y_of(history[i]));
        } else {
            vg.lineTo(x, y_of(history[i]));
        }
    }
    vg.strokeColor(ink.color());
    vg.strokeWidth(1.3f);
    vg.stroke();
}

float most_of(const History& history, float least) {
    float most = least;
    for (size_t i = 0; i < history.size(); ++i) most = std::max(most, history[i]);
    return most;
}

void draw_figure(Pen& pen, const Rect& box, const char* label, const char* value, const char* unit, Ink ink) {
    pen.fill(box, kSurface, 6);
    pen.label(box.x + 10, box.y + 13, label);
    const float end = pen.text(box.x + 10, box.y + 32, 20, ink, value);
    pen.text(end + 4, box.y + 34, 10.5f, kFaint, unit);
}

}  // namespace

Ink ink_of(Tone tone) {
    switch (tone) {
        case Tone::armed:
        case Tone::warn:
            return kArmed;
        case Tone::good:
            return kTake;
        case Tone::bad:
            return kBad;
        case Tone::calm:
            break;
    }
    return kSoft;
}

void draw_header(Pen& pen, const Picture& picture) {
    const Rect& box = picture.layout.header;
    const Words& words = picture.model.words();
    const Ink ink = ink_of(words.tone);
    pen.dot(box.x + kDot + 1, box.y + 15, kDot + 3.5f, ink.thin(0.2f));
    pen.dot(box.x + kDot + 1, box.y + 15, kDot, ink);
    const float x = box.x + 2 * kDot + 14, room = box.w - kClockRoom - 2 * kDot - 22;
    pen.fitted(x, box.y + 15, room, kHeadline, words.tone == Tone::calm ? kText : ink, words.headline.data());
    pen.fitted(x, box.y + 38, room, kAdvice, kSoft, words.advice.data());
    draw_clock(pen, picture);
}

void draw_figures(Pen& pen, const Picture& picture) {
    const UiModel& model = picture.model;
    const Rect& all = picture.layout.figures;
    constexpr float kGap = 6, kShortShare = 0.27f;
    const float low = all.h * kShortShare, high = (all.h - low - 2 * kGap) / 2;
    const Rect rtf{all.x, all.y, all.w, high}, ahead{all.x, rtf.bottom() + kGap, all.w, high};
    const Rect missed{all.x, ahead.bottom() + kGap, all.w, low};
    std::array<char, 32> value{"\u2013"};
    const Ink ink = model.measured() ? kText : kFaint;
    if (model.measured()) std::snprintf(value.data(), value.size(), "%.2f", model.rtf());
    const Ink speed = !model.measured() ? kFaint : model.rtf() < kTightRtf ? kTake : model.rtf() < 1.0 ? kArmed : kBad;
    draw_figure(pen, rtf, "rtf", value.data(), model.measured() ? "of real time" : "", speed);
    std::snprintf(value.data(), value.size(), "\u2013");
    if (model.measured()) std::snprintf(value.data(), value.size(), "%.0f", model.lookahead_ms());
    draw_figure(pen, ahead, "look-ahead", value.data(), model.measured() ? "ms" : "", ink);
    if (high > 56) {
        constexpr float kTop = 46;
        const Rect line{rtf.x + 10, rtf.y + kTop, rtf.w - 20, high - kTop - 7};
        draw_history(pen, line, model.rtf_history(), most_of(model.rtf_history(), 1.0f), kTake.thin(0.7f));
        const Rect below{line.x, ahead.y + kTop, line.w, line.h};
        const float most = most_of(model.lookahead_history_ms(), 200.0f);
        draw_history(pen, below, model.lookahead_history_ms(), most, kInput.thin(0.9f));
    }
    const auto heat = static_cast<float>(model.underrun_heat());
    pen.fill(missed, mixed(kSurface, kBad, heat * 0.5f), 6);
    std::snprintf(value.data(), value.size(), "%lld", static_cast<long long>(std::max<int64_t>(0, model.underruns())));
    const float y = missed.y + missed.h / 2;
    pen.label(missed.x + 10, y, "underruns", Side::left, heat > 0.1f ? kText : kFaint);
    pen.text(missed.right() - 10, y, 16, model.underruns() > 0 ? kText : kFaint, value.data(), Side::right);
}

}  // namespace attacca::ui
