// See ui_hands.hpp.
#include "ui_hands.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace attacca::ui {
namespace {

constexpr double kDouble_s = 0.35;  // two presses within this time put a knob back
constexpr double kAgain_s = 0.08;   // off for so long before on again: longer than any host's block
constexpr double kFine = 0.1;       // with shift, a knob turns so much slower
constexpr double kWheel = 0.02;     // of a knob's travel, a step of the wheel
constexpr double kDrag = 150.0;     // units that the pointer goes for all of a knob's travel
constexpr double kSeedTravel = 1000.0;

const protocol::Parameter& row_of(int parameter) { return protocol::kParameters[static_cast<size_t>(parameter)]; }

}  // namespace

double travel(int parameter) {
    const protocol::Parameter& row = row_of(parameter);
    return row.name == "seed" ? kSeedTravel : row.maximum - row.minimum;
}

void Hands::set(int parameter, double value) {
    const protocol::Parameter& row = row_of(parameter);
    const double inside = std::clamp(value, row.minimum, row.maximum);
    const double rounded = row.integer ? std::nearbyint(inside) : inside;
    if (rounded == model_.parameter(parameter)) return;
    model_.set_parameter(parameter, rounded);
    edits_.set(parameter, rounded);
}

void Hands::change(int parameter, double value) {
    edits_.begin(parameter);
    set(parameter, value);
    edits_.end(parameter);
}

// On to the next choice, round and round.
void Hands::cycle(int parameter, int by) {
    const protocol::Parameter& row = row_of(parameter);
    const double now = model_.parameter(parameter);
    if (row.choices.size() > 0) {
        const auto count = static_cast<double>(row.choices.size());
        return change(parameter, std::fmod(now + by + count, count));
    }
    const auto* const end = std::end(kBarsLadder);
    const auto* next = by > 0 ? std::upper_bound(kBarsLadder, end, static_cast<int>(now))
                              : std::lower_bound(kBarsLadder, end, static_cast<int>(now));
    if (by < 0) next = next == kBarsLadder ? end - 1 : next - 1;
    change(parameter, next == end ? kBarsLadder[0] : *next);
}

void Hands::turn(int parameter, double by) {
    const protocol::Parameter& row = row_of(parameter);
    drawn_ = std::clamp(drawn_ + by, row.minimum, row.maximum);
    set(parameter, drawn_);
}

// A take that ended by itself leaves the parameter on: the next press must begin a new one, not release nothing.
void Hands::press_trigger(int parameter, double now_s) {
    const bool on = model_.parameter(parameter) > 0.5;
    const bool over = on && model_.sighted() && !model_.take_alive();
    edits_.begin(parameter);
    if (over || (on && !latch_)) again_at_s_ = now_s + kAgain_s;
    set(parameter, on ? 0.0 : 1.0);
    if (latch_) edits_.end(parameter);
}

bool Hands::press(const Layout& layout, double x, double y, double now_s) {
    if (pressed_ != kControls) release();
    const size_t id = layout.control_at(x, y);
    const bool twice = id == last_pressed_ && now_s - pressed_at_s_ < kDouble_s;
    last_pressed_ = id;
    pressed_at_s_ = now_s;
    if (id == kControls) return false;
    pressed_ = id;
    last_x_ = x;
    last_y_ = y;
    const Control& control = layout.controls[id];
    const int parameter = control.parameter;
    parameter_of_pressed_ = parameter;
    kind_of_pressed_ = control.kind;
    const double inside = (x - control.rect.x) / control.rect.w;
    switch (control.kind) {
        case Kind::trigger:
            press_trigger(parameter, now_s);
            break;
        case Kind::latch:
            latch_ = !latch_;
            break;
        case Kind::cycle:
        case Kind::chip:
            cycle(parameter, control.kind == Kind::cycle && inside < 1.0 / 3.0 ? -1 : 1);
            break;
        case Kind::knob:
            edits_.begin(parameter);
            if (twice) set(parameter, row_of(parameter).initial);
            drawn_ = model_.parameter(parameter);
            break;
    }
    return true;
}

bool Hands::move(const Layout& layout, double x, double y, bool fine) {
    const size_t over = layout.control_at(x, y);
    const bool changed = over != hovered_;
    hovered_ = over;
    if (pressed_ == kControls || layout.controls[pressed_].kind != Kind::knob) return changed;
    const int parameter = layout.controls[pressed_].parameter;
    turn(parameter, (x - last_x_ + last_y_ - y) / kDrag * travel(parameter) * (fine ? kFine : 1.0));
    last_x_ = x;
    last_y_ = y;
    return true;
}

bool Hands::release() {
    if (pressed_ == kControls) return false;
    const size_t id = pressed_;
    pressed_ = kControls;
    const int parameter = parameter_of_pressed_;
    if (id == trigger && !latch_) {
        again_at_s_ = -1.0;
        set(parameter, 0.0);
        edits_.end(parameter);
    } else if (kind_of_pressed_ == Kind::knob) {
        edits_.end(parameter);
    }
    return true;
}

bool Hands::scroll(const Layout& layout, double x, double y, double steps, bool fine) {
    const size_t id = layout.control_at(x, y);
    if (id == kControls || pressed_ != kControls || steps == 0.0) return false;
    const Control& control = layout.controls[id];
    if (control.parameter < 0 || control.kind == Kind::trigger) return false;
    const protocol::Parameter& row = row_of(control.parameter);
    if (control.kind != Kind::knob || row.integer) {
        change(control.parameter, model_.parameter(control.parameter) + (steps > 0 ? 1 : -1));
    } else {
        const double by = steps * kWheel * travel(control.parameter) * (fine ? kFine : 1.0);
        change(control.parameter, model_.parameter(control.parameter) + by);
    }
    return true;
}

bool Hands::tick(double now_s) {
    if (again_at_s_ < 0.0 || now_s < again_at_s_) return false;
    again_at_s_ = -1.0;
    const int parameter = protocol::parameter_index("trigger");
    const bool held = pressed_ == trigger && !latch_;  // its gesture is still open
    if (!held) edits_.begin(parameter);
    set(parameter, 1.0);
    if (!held) edits_.end(parameter);
    return true;
}

}  // namespace attacca::ui
