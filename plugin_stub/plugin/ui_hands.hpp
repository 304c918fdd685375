// Hands: what pointer and wheel do to the controls. Between the window's events and the host's parameters; no plugin
// format in it. Every change is framed by begin and end, so that hosts record it. Nothing jumps: a knob is drawn along
// from where it stands. Thread: main.
#pragma once

#include "ui_layout.hpp"
#include "ui_model.hpp"

namespace attacca::ui {

// Where edits go: to the host, or to a test.
class Edits {
public:
    virtual ~Edits() = default;
    virtual void begin(int parameter) = 0;
    virtual void set(int parameter, double value) = 0;
    virtual void end(int parameter) = 0;
};

class Hands {
public:
    Hands(UiModel& model, Edits& edits) : model_(model), edits_(edits) {}

    // In units of `layout`; true if the picture changed. `now_s` as of UiModel.
    bool press(const Layout& layout, double x, double y, double now_s);
    bool move(const Layout& layout, double x, double y, bool fine);
    bool release();
    bool scroll(const Layout& layout, double x, double y, double steps, bool fine);
    bool tick(double now_s);  // each idle

    bool latched() const { return latch_; }
    size_t pressed() const { return pressed_; }
    size_t hovered() const { return hovered_; }

private:
    void change(int parameter, double value);  // begin, set, end
    void set(int parameter, double value);
    void press_trigger(int parameter, double now_s);
    void cycle(int parameter, int by);
    void turn(int parameter, double by);

    UiModel& model_;
    Edits& edits_;
    bool latch_{true};
    size_t pressed_{kControls}, hovered_{kControls};
    int parameter_of_pressed_{-1};
    Kind kind_of_pressed_{Kind::latch};
    double last_x_{0.0}, last_y_{0.0}, drawn_{0.0};  // drawn_: the knob's value before rounding
    double pressed_at_s_{-1e9}, again_at_s_{-1.0};
    size_t last_pressed_{kControls};
};

// The lengths that clicks go through; the wheel reaches all others.
inline constexpr int kBarsLadder[] = {1, 2, 4, 8, 16, 32, 64};

// Values that a knob's whole travel spans: seeds are too many for a hand, so that it stays among the first thousand.
double travel(int parameter);

}  // namespace attacca::ui
