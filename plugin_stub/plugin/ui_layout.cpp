// See ui_layout.hpp.
#include "ui_layout.hpp"

#include <algorithm>

#include "../protocol.hpp"

namespace attacca::ui {
namespace {

constexpr float kMargin = 14, kGap = 8;
constexpr float kHeader = 46, kFigures = 112;
constexpr float kText = 26;
constexpr float kTrigger = 138, kCycle = 38, kKnobs = 66, kChip = 26;
constexpr float kPanel = kCycle + kKnobs + kChip + 2 * kGap;

struct Place {
    size_t id;
    std::string_view parameter;
};
constexpr Place kCycles[] = {{mode, "mode"}, {quantum, "quantum"}, {bars, "bars"}};
constexpr Place kDials[] = {
    {variation, "variation"}, {temperature, "temperature"}, {mix, "mix"}, {gain, "gain"}, {seed, "seed"}};
constexpr Place kChips[] = {{drums, "drums"}, {bass, "bass"}, {chords, "chords"}, {lead, "lead"}};

template <size_t kCount>
void put_row(Layout& layout, Kind kind, const Place (&places)[kCount], const Rect& row, float gap) {
    for (size_t i = 0; i < kCount; ++i) {
        const int parameter = protocol::parameter_index(places[i].parameter);
        layout.controls[places[i].id] = {kind, parameter, part(row, i, kCount, gap)};
    }
}

}  // namespace

Rect part(const Rect& whole, size_t index, size_t count, float gap) {
    const auto parts = static_cast<float>(count);
    const float width = (whole.w - (parts - 1) * gap) / parts;
    return {whole.x + static_cast<float>(index) * (width + gap), whole.y, width, whole.h};
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
    made.header = {kMargin, kMargin - 2, inner, kHeader};
    const float top = made.header.bottom() + kGap;
    made.grid = {kMargin, top, inner - kFigures - kGap, panel_y - top - kText - 2 * kGap};
    made.text = {kMargin, made.grid.bottom() + kGap, inner, kText};
    made.figures = {made.grid.right() + kGap, top, kFigures, made.grid.h};

    const float chips_y = panel_y + kPanel - kChip;
    const int parameter = protocol::parameter_index("trigger");
    made.controls[trigger] = {Kind::trigger, parameter, {kMargin, panel_y, kTrigger, kPanel - kChip - kGap}};
    made.controls[latch] = {Kind::latch, -1, {kMargin, chips_y, kTrigger, kChip}};
    const float x = kMargin + kTrigger + kGap, width = made.width - kMargin - x;
    put_row(made, Kind::cycle, kCycles, {x, panel_y, width, kCycle}, kGap);
    put_row(made, Kind::knob, kDials, {x, panel_y + kCycle + kGap, width, kKnobs}, 0);
    put_row(made, Kind::chip, kChips, {x, chips_y, width, kChip}, kGap);
    return made;
}

}  // namespace attacca::ui
