// See ui_hands.hpp.
#include "ui_hands.hpp"

#include <algorithm>
#include <cmath>

namespace attacca::ui {
namespace {

constexpr double kDouble_s = 0.35;  // two presses within this time put a slider back
constexpr double kAgain_s = 0.08;   // off for so long before on again: longer than any host's block
constexpr double kFine = 0.1;       // with shift, a slider moves so much slower
constexpr double kWheel = 0.02;     // of a slider's range, a step of the wheel

const protocol::Parameter& row_of(int parameter) { return protocol::kParameters[static_cast<size_t>(parameter)]; }

}  // namespace

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

void Hands::step(int parameter, int by) { change(parameter, model_.parameter(parameter) + by); }

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
    const Control& control = layout.controls[id];
    const int parameter = control.parameter;
    const double inside = (x - control.rect.x) / control.rect.w;
    switch (control.kind) {
        case Kind::trigger:
            press_trigger(parameter, now_s);
            break;
        case Kind::latch:
            latch_ = !latch_;
            break;
        case Kind::segments: {
            const auto count = static_cast<double>(row_of(parameter).choices.size());
            change(parameter, std::min(std::floor(inside * count), count - 1));
            break;
        }
        case Kind::stepper:
            step(parameter, inside < 0.5 ? -1 : 1);
            break;
        case Kind::slider:
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
    if (pressed_ == kControls || layout.controls[pressed_].kind != Kind::slider) return changed;
    const Control& control = layout.controls[pressed_];
    const protocol::Parameter& row = row_of(control.parameter);
    const double range = row.maximum - row.minimum;
    drawn_ += (x - last_x_) / control.rect.w * range * (fine ? kFine : 1.0);
    drawn_ = std::clamp(drawn_, row.minimum, row.maximum);
    last_x_ = x;
    set(control.parameter, drawn_);
    return true;
}

bool Hands::release() {
    if (pressed_ == kControls) return false;
    const size_t id = pressed_;
    pressed_ = kControls;
    const auto parameter_of = [](std::string_view name) { return protocol::parameter_index(name); };
    if (id == trigger && !latch_) {
        const int parameter = parameter_of("trigger");
        again_at_s_ = -1.0;
        set(parameter, 0.0);
        edits_.end(parameter);
    } else if (id == variation || id == mix) {
        edits_.end(parameter_of(id == variation ? "variation" : "mix"));
    }
    return true;
}

bool Hands::scroll(const Layout& layout, double x, double y, double steps) {
    const size_t id = layout.control_at(x, y);
    if (id == kControls || pressed_ != kControls || steps == 0.0) return false;
    const Control& control = layout.controls[id];
    if (control.kind == Kind::stepper) {
        step(control.parameter, steps > 0 ? 1 : -1);
    } else if (control.kind == Kind::slider) {
        const protocol::Parameter& row = row_of(control.parameter);
        change(control.parameter, model_.parameter(control.parameter) + steps * kWheel * (row.maximum - row.minimum));
    } else {
        return false;
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
