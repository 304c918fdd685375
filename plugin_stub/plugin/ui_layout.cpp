// See ui_layout.hpp.
#include "ui_layout.hpp"

#include <algorithm>

#include "../protocol.hpp"

namespace attacca::ui {
namespace {

constexpr float kMargin = 12, kGap = 8;
constexpr float kHeader = 52, kFigures = 132;
constexpr float kRow = 38, kTrigger = 124;
constexpr float kPanel = 3 * kRow + 2 * kGap;

constexpr int index(std::string_view name) { return protocol::parameter_index(name); }

}  // namespace

Rect part(const Rect& whole, size_t index, size_t count) {
    const float width = whole.w / static_cast<float>(count);
    return {whole.x + static_cast<float>(index) * width, whole.y, width, whole.h};
}

size_t Layout::control_at(double x, double y) const {
    for (size_t i = 0; i < controls.size(); ++i) {
        if (controls[i].rect.contains(x, y)) return i;
    }
    return kControls;
}

Layout layout_of(double width_px, double height_px) {
    Layout made;
    const double unit = std::max(0.1, std::min(width_px / kLeastWidth, height_px / kLeastHeight));
    made.unit_px = static_cast<float>(unit);
    made.width = static_cast<float>(width_px / unit);
    made.height = static_cast<float>(height_px / unit);
    const float inner = made.width - 2 * kMargin;
    const float panel_y = made.height - kMargin - kPanel;
    made.header = {kMargin, kMargin, inner, kHeader - kMargin};
    made.grid = {kMargin, kHeader + kGap + 2, inner - kFigures - kGap, panel_y - kHeader - 2 * kGap - 2};
    made.figures = {made.grid.right() + kGap, made.grid.y, kFigures, made.grid.h};

    const float x = kMargin + kTrigger + kGap, width = made.width - kMargin - x;
    const float second = panel_y + kRow + kGap, third = second + kRow + kGap;
    const float side = width * 0.36f;
    const float slider = (width - side - 2 * kGap) / 2;
    made.controls[trigger] = {Kind::trigger, index("trigger"), {kMargin, panel_y, kTrigger, 2 * kRow + kGap}};
    made.controls[latch] = {Kind::latch, -1, {kMargin, third, kTrigger, kRow}};
    made.controls[mode] = {Kind::segments, index("mode"), {x, panel_y, width - side - kGap, kRow}};
    made.controls[quantum] = {Kind::stepper, index("quantum"), {x + width - side, panel_y, side, kRow}};
    made.controls[variation] = {Kind::slider, index("variation"), {x, second, slider, kRow}};
    made.controls[mix] = {Kind::slider, index("mix"), {x + slider + kGap, second, slider, kRow}};
    made.controls[bars] = {Kind::stepper, index("bars"), {x + width - side, second, side, kRow}};
    constexpr std::string_view kInstruments[] = {"drums", "bass", "chords", "lead"};
    const float instrument = (width - 3 * kGap) / 4;
    for (size_t i = 0; i < 4; ++i) {
        const float left = x + static_cast<float>(i) * (instrument + kGap);
        made.controls[drums + i] = {Kind::segments, index(kInstruments[i]), {left, third, instrument, kRow}};
    }
    return made;
}

}  // namespace attacca::ui
