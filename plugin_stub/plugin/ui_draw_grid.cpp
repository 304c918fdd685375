// The bar grid: what was captured and what was played left of now, what is committed and planned right of it.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "ui_draw.hpp"

namespace attacca::ui {
namespace {

constexpr float kNow = 0.6f;                       // of the width lies the past
constexpr float kHead = 20, kFoot = 18, kPad = 4;  // bar numbers, legend
constexpr float kColumn = 3.2f, kColumnGap = 1.2f;
constexpr float kInputShare = 0.4f;
constexpr float kLeastHalf = 0.45f;
constexpr float kNumberRoom = 26;  // units that a bar's number needs

struct Lanes {
    Rect all, input, take;
};

Lanes lanes_of(const Rect& grid) {
    Lanes lanes;
    lanes.all = {grid.x, grid.y + kHead, grid.w, grid.h - kHead - kFoot};
    lanes.input = {grid.x, lanes.all.y + kPad, grid.w, (lanes.all.h - 3 * kPad) * kInputShare};
    lanes.take = {grid.x, lanes.input.bottom() + kPad, grid.w, (lanes.all.h - 3 * kPad) * (1 - kInputShare)};
    return lanes;
}

// Levels are shown by their square root: soft playing stays visible.
float half_of(float peak, const Rect& lane) {
    return std::max(kLeastHalf, std::sqrt(std::clamp(peak, 0.0f, 1.0f)) * (lane.h / 2 - 1));
}

float middle_y(const Rect& lane) { return lane.y + lane.h / 2; }

void draw_lines(Pen& pen, const BarGrid& grid, const View& view, const Rect& box) {
    if (!grid.known()) return;
    const double from = view.position_of(box.x), to = view.position_of(box.right());
    const auto bar_width = static_cast<float>(grid.law().bar_samples() / view.samples_per_x);
    const auto every =
        static_cast<int64_t>(std::pow(2.0, std::ceil(std::log2(std::max(1.0f, kNumberRoom / bar_width)))));
    const bool beats = bar_width / static_cast<float>(grid.law().meter_num) > 6;
    grid.lines(from, to, [&](const Line& line) {
        const auto x = static_cast<float>(view.x_of(line.position_samples));
        if (line.beat != 0) {
            if (beats) pen.line(x, box.y + kHead, x, box.bottom() - kFoot, kEdge.thin(0.45f), 0.7f);
            return;
        }
        pen.line(x, box.y + kHead - 6, x, box.bottom() - kFoot, kEdge.thin(1.6f), 1);
        if (line.bar_index < 0 || line.bar_index % every != 0) return;
        std::array<char, 24> number{};
        std::snprintf(number.data(), number.size(), "%lld", static_cast<long long>(line.bar_index + 1));
        pen.text(x + 4, box.y + kHead / 2 + 1, 11, line.position_samples < view.now_samples ? kFaint : kSoft,
                 number.data());
    });
}

struct Column {
    float x;
    Peaks peaks;
};

// Visits the past in columns that keep their places in the stream, so that nothing flickers as it goes by.
template <class Visit>
void columns(const UiModel& model, const View& view, const Rect& box, Visit&& visit) {
    const auto slot = static_cast<double>(model.slot_samples());
    const auto slots = std::max<int64_t>(1, std::llround(kColumn * view.samples_per_x / slot));
    const double step = slot * static_cast<double>(slots);
    const auto last = static_cast<int64_t>(std::floor(view.now_samples / step));
    const auto first = std::max<int64_t>(0, static_cast<int64_t>(std::floor(view.position_of(box.x) / step)));
    for (int64_t column = first; column <= last; ++column) {
        Peaks most;
        for (int64_t i = column * slots; i < (column + 1) * slots; ++i) {
            const Peaks now = model.peaks(i);
            most.input = std::max(most.input, now.input);
            most.wet = std::max(most.wet, now.wet);
            most.bridged = most.bridged || now.bridged;
        }
        const auto x = static_cast<float>(view.x_of(static_cast<double>(column) * step));
        visit(Column{x, most});
    }
}

void draw_past(Pen& pen, const UiModel& model, const View& view, const Lanes& lanes) {
    const auto now_x = static_cast<float>(view.now_x);
    const float width = kColumn - kColumnGap;
    pen.clip({lanes.all.x, lanes.all.y, now_x - lanes.all.x, lanes.all.h});
    pen.begin_bars();
    columns(model, view, lanes.all, [&](const Column& column) {
        pen.bar(column.x, width, middle_y(lanes.input), half_of(column.peaks.input, lanes.input));
    });
    pen.end_bars(kInput.thin(0.9f));
    for (const bool bridged : {false, true}) {
        pen.begin_bars();
        columns(model, view, lanes.all, [&](const Column& column) {
            if (column.peaks.bridged == bridged)
                pen.bar(column.x, width, middle_y(lanes.take), half_of(column.peaks.wet, lanes.take));
        });
        pen.end_bars(bridged ? kArmed : kTake);
    }
    pen.unclip();
}

// What has been sent stands full, what may still be thrown away is an outline.
void draw_future(Pen& pen, const UiModel& model, const View& view, const Lanes& lanes) {
    const Reading& now = model.reading();
    if (now.take == 0) return;
    const double from = std::max(view.now_samples, static_cast<double>(std::max<int64_t>(now.take_start_samples, 0)));
    const double end = now.take_end_samples >= 0 ? static_cast<double>(now.take_end_samples) : 1e18;
    const double committed = std::min(end, static_cast<double>(now.committed_end_samples));
    const double planned = std::min(end, static_cast<double>(now.planned_end_samples));
    const auto x_of = [&](double position) {
        return std::min(static_cast<float>(view.x_of(position)), lanes.all.right() + 8);
    };
    const float half = lanes.take.h * 0.32f, top = middle_y(lanes.take) - half;
    const float x0 = x_of(from), x1 = x_of(std::max(from, committed)), x2 = x_of(std::max({from, committed, planned}));
    pen.clip(lanes.all);
    if (x2 > x1) {
        pen.fill({x1, top, x2 - x1, 2 * half}, kTake.thin(0.16f), 2);
        pen.outline({x1 - 2, top, x2 - x1 + 2, 2 * half}, kTake.thin(0.55f), 2, 1);
    }
    if (x1 > x0) pen.fill({x0, top, x1 - x0, 2 * half}, kTake.thin(0.62f), 2);
    pen.unclip();
}

void draw_flag(Pen& pen, const View& view, const Lanes& lanes, double position, const char* words, Ink ink) {
    const auto x = static_cast<float>(view.x_of(position));
    if (x < lanes.all.x || x > lanes.all.right()) return;
    pen.line(x, lanes.all.y - 4, x, lanes.all.bottom(), ink, 1.6f);
    const float width = pen.width_of(10.5f, words) + 12;
    const float left = x + width < lanes.all.right() ? x : x - width;
    pen.fill({left, lanes.all.y - kHead + 3, width, 15}, ink, 3);
    pen.text(left + 6, lanes.all.y - kHead + 11, 10.5f, kGround, words);
}

void draw_flags(Pen& pen, const UiModel& model, const View& view, const Lanes& lanes) {
    const Reading& now = model.reading();
    for (const Take& take : model.takes()) {
        if (take.number == 0 || take.start_samples < 0) continue;
        const bool ahead = static_cast<double>(take.start_samples) > view.now_samples;
        if (!ahead && !take.sounded) continue;
        const auto start = static_cast<double>(take.start_samples);
        std::array<char, 32> words{"take"};
        if (ahead && model.grid().known()) {
            const auto bar = static_cast<long long>(bar_number(model.grid().law(), start));
            std::snprintf(words.data(), words.size(), "bar %lld", bar);
        }
        draw_flag(pen, view, lanes, start, words.data(), ahead ? kArmed : kTake);
    }
    if (now.take != 0 && now.take_end_samples >= 0)
        draw_flag(pen, view, lanes, static_cast<double>(now.take_end_samples), "end", kSoft);
}

void draw_legend(Pen& pen, const Rect& grid) {
    struct Entry {
        const char* words;
        Ink ink;
        bool hollow;
    };
    constexpr Entry kEntries[] = {{"captured", kInput, false},
                                  {"played", kTake, false},
                                  {"committed", kTake.thin(0.62f), false},
                                  {"planned", kTake.thin(0.16f), true},
                                  {"bridged", kArmed, false}};
    const float y = grid.bottom() - kFoot / 2;
    float x = grid.x + 8;
    for (const Entry& entry : kEntries) {
        const Rect swatch{x, y - 3.5f, 9, 7};
        pen.fill(swatch, entry.ink, 1.5f);
        if (entry.hollow) pen.outline(swatch, kTake.thin(0.6f), 1.5f, 1);
        x = pen.text(x + 13, y + 0.5f, 9.5f, kFaint, entry.words) + 12;
    }
}

// Where there is no engine, the grid's place says what to do.
void draw_missing(Pen& pen, const Rect& grid) {
    const float y = grid.y + grid.h / 2;
    pen.text(grid.middle(), y - 24, 12.5f, kSoft, "the engine is not running; start it in a terminal:", Side::middle);
    constexpr const char* kCommand = "attacca serve";
    const float width = pen.width_of(20, kCommand) + 44;
    pen.fill({grid.middle() - width / 2, y - 9, width, 34}, kGround, 5);
    pen.outline({grid.middle() - width / 2, y - 9, width, 34}, kEdge, 5, 1);
    pen.text(grid.middle(), y + 8.5f, 20, kText, kCommand, Side::middle);
    pen.text(grid.middle(), y + 40, 10.5f, kFaint, "the input passes through until then", Side::middle);
}

}  // namespace

View view_of(const UiModel& model, const Rect& grid) {
    View view;
    view.now_samples = model.position_samples();
    view.now_x = grid.x + kNow * grid.w;
    view.samples_per_x = model.span_samples() / grid.w;
    return view;
}

int64_t bar_number(const BarLaw& law, double position_samples) {
    constexpr double kNear = 1e-3;  // of a beat: a bar line belongs to its own bar
    return law.bar_index + 1 +
           static_cast<int64_t>(std::floor((law.beats_at(position_samples) + kNear) / law.meter_num));
}

void draw_grid(Pen& pen, const Picture& picture) {
    const Rect& grid = picture.layout.grid;
    const UiModel& model = picture.model;
    pen.fill(grid, kSurface, 6);
    if (!model.sighted()) return;
    const View view = view_of(model, grid);
    const Lanes lanes = lanes_of(grid);
    const bool missing = model.words().tone == Tone::bad && !model.reading().connected && !model.reading().sounding;
    const auto now_x = static_cast<float>(view.now_x);
    pen.clip(grid);
    pen.fill({now_x, grid.y, grid.right() - now_x, lanes.all.bottom() - grid.y}, kGround.thin(0.45f));
    draw_lines(pen, model.grid(), view, grid);
    draw_past(pen, model, view, lanes);
    if (missing) {
        pen.fill(grid, kSurface.thin(0.82f), 6);
        draw_missing(pen, grid);
    } else {
        draw_future(pen, model, view, lanes);
        draw_flags(pen, model, view, lanes);
        pen.line(now_x, grid.y + 12, now_x, lanes.all.bottom(), kText, 1.4f);
        pen.triangle(now_x - 4.5f, grid.y + 8, now_x + 4.5f, grid.y + 8, now_x, grid.y + 15, kText);
    }
    pen.unclip();
    if (!missing) draw_legend(pen, grid);
    pen.outline(grid, kEdge.thin(0.6f), 6);
}

}  // namespace attacca::ui
