// Layout: where everything stands in the plugin window, in units (the window is never less than 600 x 414 of them; a
// unit is as many pixels as fit). Between window size and drawing, and between pointer and controls; no graphics in it.
// Thread: main.
#pragma once

#include <array>
#include <cstddef>

namespace attacca::ui {

inline constexpr double kLeastWidth = 600.0, kLeastHeight = 414.0;
inline constexpr unsigned kWidth_px = 900, kHeight_px = 621;  // as opened, at scale factor 1
inline constexpr unsigned kLeastWidth_px = 600, kLeastHeight_px = 414;

struct Rect {
    float x{0}, y{0}, w{0}, h{0};
    float right() const { return x + w; }
    float bottom() const { return y + h; }
    float middle() const { return x + w / 2; }
    bool contains(double px, double py) const { return px >= x && px < right() && py >= y && py < bottom(); }
};

// cycle: a click goes to the next choice, on its left third to the one before. chip: a small cycle.
enum class Kind { trigger, latch, cycle, knob, chip };

enum ControlId : size_t {
    trigger,
    latch,
    mode,
    quantum,
    bars,
    variation,
    temperature,
    mix,
    gain,
    seed,
    drums,
    bass,
    chords,
    lead,
    kControls
};

struct Control {
    Kind kind;
    int parameter;  // of protocol::kParameters; -1: none (latch)
    Rect rect;
};

struct Layout {
    float unit_px{1.0f};
    float width{0}, height{0};  // of the window
    Rect header, grid, figures, text;
    std::array<Control, kControls> controls;

    // The control at a place, or kControls.
    size_t control_at(double x, double y) const;
};

Layout layout_of(double width_px, double height_px);

// Part `index` of `count` side by side, `gap` between them.
Rect part(const Rect& whole, size_t index, size_t count, float gap);

}  // namespace attacca::ui
