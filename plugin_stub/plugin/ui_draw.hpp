// The pictures of the plugin window: words and clock, bar grid, figures, controls. From UiModel and Hands to Pen;
// nothing is changed by drawing. Thread: main.
#pragma once

#include <string_view>

#include "../core/text_edit.hpp"
#include "ui_hands.hpp"
#include "ui_pen.hpp"

namespace attacca::ui {

struct Picture {
    const UiModel& model;
    const Hands& hands;
    const Layout& layout;
    std::string_view engine_model;  // its name, or ""
};

// What the field of words shows.
struct Field {
    const TextEdit& edit;
    std::string_view words;    // as told, while they are not edited
    std::string_view refused;  // why the engine did not take them, or ""
    bool takes{true};          // the engine's model takes text
    bool caret{true};          // shown now: it blinks
};

Ink ink_of(Tone tone);
View view_of(const UiModel& model, const Rect& grid);

// The song's bar of a position, from 1.
int64_t bar_number(const BarLaw& law, double position_samples);

void draw_header(Pen& pen, const Picture& picture);
void draw_grid(Pen& pen, const Picture& picture);
void draw_figures(Pen& pen, const Picture& picture);
void draw_controls(Pen& pen, const Picture& picture);
void draw_field(Pen& pen, const Picture& picture, const Field& field);

}  // namespace attacca::ui
