// Layout: where everything stands in the plugin window, in units (the window is never less than 560 x 320 of them; a
// unit is as many pixels as fit). Between window size and drawing, and between pointer and controls; no graphics in it.
// Thread: main.
#pragma once

#include <array>
#include <cstddef>

namespace attacca::ui {

inline constexpr double kLeastWidth = 560.0, kLeastHeight = 320.0;
inline constexpr unsigned kWidth_px = 840, kHeight_px = 480;  // as opened, at scale factor 1

struct Rect {
    float x{0}, y{0}, w{0}, h{0};
    float right() const { return x + w; }
    float bottom() const { return y + h; }
    bool contains(double px, double py) const { return px >= x && px < right() && py >= y && py < bottom(); }
};

enum class Kind { trigger, latch, segments, stepper, slider };

enum ControlId : size_t { trigger, latch, mode, quantum, bars, variation, mix, drums, bass, chords, lead, kControls };

struct Control {
    Kind kind;
    int parameter;  // of protocol::kParameters; -1: none (latch)
    Rect rect;
};

struct Layout {
    float unit_px{1.0f};
    float width{0}, height{0};  // of the window
    Rect header, grid, figures;
    std::array<Control, kControls> controls;

    // The control at a place, or kControls.
    size_t control_at(double x, double y) const;
};

Layout layout_of(double width_px, double height_px);

// Part `index` of `count` side by side.
Rect part(const Rect& whole, size_t index, size_t count);

}  // namespace attacca::ui
