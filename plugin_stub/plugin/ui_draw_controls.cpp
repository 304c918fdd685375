// The controls: the trigger, what clicks go through, knobs, players.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string>

#include "ui_draw.hpp"

namespace attacca::ui {
namespace {

constexpr float kPi = 3.14159265f;
constexpr float kFrom = 0.75f * kPi, kTurn = 1.5f * kPi;  // a knob's travel, from lower left
constexpr float kRadius = 8;

using Text = std::array<char, 48>;

void copy(Text& to, std::string_view words) { put(to.data(), to.size(), words); }

void value_text(Text& text, const protocol::Parameter& row, double value) {
    if (row.choices.size() > 0) {
        copy(text, row.choices[static_cast<size_t>(std::lround(value))]);
    } else if (row.name == "seed" && value < 0.0) {
        copy(text, "auto");
    } else if (row.name == "mix") {
        std::snprintf(text.data(), text.size(), "%.0f %%", 100.0 * value);
    } else if (row.unit == "dB") {
        std::snprintf(text.data(), text.size(), "%+.1f dB", value);
    } else if (row.integer) {
        std::snprintf(text.data(), text.size(), "%.0f%s%.*s", value, row.unit.empty() ? "" : " ",
                      static_cast<int>(row.unit.size()) - (value == 1.0 && row.unit == "bars" ? 1 : 0),
                      row.unit.data());
    } else {
        std::snprintf(text.data(), text.size(), "%.2f", value);
    }
}

const protocol::Parameter& row_of(const Control& control) {
    return protocol::kParameters[static_cast<size_t>(control.parameter)];
}

Ink surface_of(const Hands& hands, size_t id) {
    if (hands.pressed() == id) return kEdge;
    return hands.hovered() == id ? mixed(kRaised, kEdge, 0.35f) : kRaised;
}

// What the pad says: what a press would do, the beats until it sounds, or that it sounds.
struct Pad {
    Text word{}, below{};
    Ink ink{kText};
    float size{22};
    float filled{0};
};

Pad pad_of(const Picture& picture) {
    const UiModel& model = picture.model;
    const Reading& now = model.reading();
    const bool latched = picture.hands.latched();
    Pad pad;
    if (!now.connected && !now.sounding) {
        copy(pad.word, "Trigger");
        copy(pad.below, "no engine");
        pad.ink = kFaint;
    } else if (now.sounding) {
        copy(pad.word, "Playing");
        copy(pad.below, latched ? "press to end" : "let go to end");
        pad.ink = kTake;
        pad.filled = 1;
    } else if (now.take != 0) {
        pad.ink = kArmed;
        pad.filled = 1;
        copy(pad.word, "Armed");
        copy(pad.below, latched ? "press to call off" : "let go to call off");
        const bool counts = model.grid().known() && model.grid().law().playing && now.take_start_samples >= 0;
        const double beats = counts ? std::ceil(model.beats_until(now.take_start_samples)) : 0.0;
        if (beats >= 1.0 && beats < 1000.0) {
            std::snprintf(pad.word.data(), pad.word.size(), "%.0f", beats);
            pad.size = 46;
            copy(pad.below, beats > 1.0 ? "beats to go" : "beat to go");
        }
    } else {
        copy(pad.word, "Trigger");
        copy(pad.below, latched ? "press to start" : "hold to play");
    }
    return pad;
}

void draw_trigger(Pen& pen, const Picture& picture) {
    const Rect& box = picture.layout.controls[trigger].rect;
    const Pad pad = pad_of(picture);
    const bool pressed = picture.hands.pressed() == trigger, hovered = picture.hands.hovered() == trigger;
    const float lit = pad.filled > 0 ? 1.0f : 0.0f;
    pen.fill(box, kRaised, kRadius);
    pen.fill(box,
             pad.ink.thin(lit > 0 ? (pressed ? 0.34f : 0.2f)
                                  : (pressed   ? 0.16f
                                     : hovered ? 0.07f
                                               : 0.0f)),
             kRadius);
    pen.outline(box, lit > 0 ? pad.ink : hovered ? kSoft : kEdge, kRadius, lit > 0 ? 2.0f : 1.2f);
    const float y = box.y + box.h / 2;
    pen.text(box.middle(), y - 9, pad.size, pad.ink, pad.word.data(), Side::middle);
    pen.text(box.middle(), y + (pad.size > 30 ? 25.0f : 16.0f), 11.5f, lit > 0 ? kText : kFaint, pad.below.data(),
             Side::middle);
}

void draw_latch(Pen& pen, const Picture& picture) {
    const Rect& box = picture.layout.controls[latch].rect;
    const bool on = picture.hands.latched();
    pen.fill(box, surface_of(picture.hands, latch), 5);
    constexpr const char* kWords[] = {"hold", "latch"};
    for (size_t i = 0; i < 2; ++i) {
        const bool chosen = on == (i == 1);
        Rect half = part(box, i, 2, 0);
        half = {half.x + 2, half.y + 2, half.w - 4, half.h - 4};
        if (chosen) pen.fill(half, kEdge, 4);
        pen.text(half.middle(), half.y + half.h / 2 + 0.5f, 11.5f, chosen ? kText : kFaint, kWords[i], Side::middle);
    }
}

void draw_cycle(Pen& pen, const Picture& picture, size_t id) {
    const Control& control = picture.layout.controls[id];
    const Rect& box = control.rect;
    Text value;
    value_text(value, row_of(control), picture.model.parameter(control.parameter));
    pen.fill(box, surface_of(picture.hands, id), 6);
    Text label;
    copy(label, row_of(control).label);
    pen.label(box.middle(), box.y + 11, label.data(), Side::middle);
    pen.fitted(box.middle(), box.y + 25.5f, box.w - 44, 15.5f, kText, value.data(), Side::middle);
    const float y = box.y + 25;
    const Ink arrow = picture.hands.hovered() == id ? kSoft : kFaint;
    pen.triangle(box.x + 9, y, box.x + 14, y - 4, box.x + 14, y + 4, arrow);
    pen.triangle(box.right() - 9, y, box.right() - 14, y - 4, box.right() - 14, y + 4, arrow);
}

void draw_knob(Pen& pen, const Picture& picture, size_t id) {
    const Control& control = picture.layout.controls[id];
    const protocol::Parameter& row = row_of(control);
    const Rect& box = control.rect;
    const double value = picture.model.parameter(control.parameter);
    const auto turned = static_cast<float>(std::clamp((value - row.minimum) / travel(control.parameter), 0.0, 1.0));
    const bool live = picture.hands.hovered() == id || picture.hands.pressed() == id;
    const bool from_middle = row.unit == "dB";  // from no change
    const auto rest = static_cast<float>(from_middle ? (0.0 - row.minimum) / travel(control.parameter) : 0.0);
    constexpr float kKnob = 17, kWidth = 3.2f;
    const float x = box.middle(), y = box.y + 21;
    pen.dot(x, y, kKnob - 4, live ? kEdge : kRaised);
    pen.ring(x, y, kKnob, kFrom, kFrom + kTurn, kRaised, kWidth);
    const float low = std::min(rest, turned), high = std::max(rest, turned);
    const Ink ink = live ? kText : kSoft;
    if (high > low) pen.ring(x, y, kKnob, kFrom + low * kTurn, kFrom + high * kTurn, ink, kWidth);
    const float at = kFrom + turned * kTurn, c = std::cos(at), s = std::sin(at);
    pen.line(x + c * 5, y + s * 5, x + c * (kKnob - 6), y + s * (kKnob - 6), kText, 2);
    Text text, label;
    value_text(text, row, value);
    copy(label, row.label);
    pen.text(x, y + 25, 12, kText, text.data(), Side::middle);
    pen.label(x, y + 39, label.data(), Side::middle);
}

// A player's chip: off is empty, auto leaves it to the music, on is lit.
void draw_chip(Pen& pen, const Picture& picture, size_t id) {
    const Control& control = picture.layout.controls[id];
    const Rect& box = control.rect;
    const auto state = std::lround(picture.model.parameter(control.parameter));
    constexpr long kOff = 0, kOn = 2;
    Text label, value;
    copy(label, row_of(control).label);
    value_text(value, row_of(control), static_cast<double>(state));
    pen.fill(box, surface_of(picture.hands, id), 5);
    if (state == kOn) pen.fill({box.x, box.y + 5, 2.5f, box.h - 10}, kTake, 1);
    const float y = box.y + box.h / 2 + 0.5f;
    pen.text(box.x + 10, y, 12, state == kOff ? kFaint : kText, label.data());
    pen.text(box.right() - 9, y, 11, state == kOn ? kTake : kFaint, value.data(), Side::right);
}

}  // namespace

void draw_controls(Pen& pen, const Picture& picture) {
    for (size_t id = 0; id < kControls; ++id) {
        switch (picture.layout.controls[id].kind) {
            case Kind::trigger:
                draw_trigger(pen, picture);
                break;
            case Kind::latch:
                draw_latch(pen, picture);
                break;
            case Kind::cycle:
                draw_cycle(pen, picture, id);
                break;
            case Kind::knob:
                draw_knob(pen, picture, id);
                break;
            case Kind::chip:
                draw_chip(pen, picture, id);
                break;
        }
    }
}

}  // namespace attacca::ui
