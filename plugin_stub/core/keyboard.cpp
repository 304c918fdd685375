// See keyboard.hpp.
#include "keyboard.hpp"

namespace attacca {

namespace {

constexpr uint8_t kNoteOff = 0x80, kNoteOn = 0x90, kControl = 0xB0;
constexpr uint8_t kSustain = 64, kAllSoundOff = 120, kReset = 121, kAllNotesOff = 123;

bool triggers(uint8_t note, const Keyboard::Rules& rules) {
    return note == rules.extra || (note >= rules.low && note <= rules.high);
}

}  // namespace

Keyboard::Result Keyboard::handle(const uint8_t* data, uint8_t size, const Rules& rules) noexcept {
    const uint8_t kind = data[0] & 0xF0, channel = data[0] & 0x0F;
    if (size < 3 || (rules.channel != 0 && channel != rules.channel - 1)) return {};
    const uint8_t note = data[1] & 0x7F, value = data[2] & 0x7F;
    if (kind == kControl) return control(note, value, rules);
    if (kind == kNoteOn && value > 0) {
        if (triggers(note, rules)) {
            owner_ = Owner::key;
            key_ = note;
            key_down_ = true;
            return {Act::trigger, false, value};
        }
        chord_.set(note);
        channel_of_[note] = channel;
        return {};
    }
    if (kind != kNoteOn && kind != kNoteOff) return {};
    if (owner_ == Owner::key && note == key_) {
        key_down_ = false;
        return {sustain_ ? Act::none : let_go(rules), false, 0};
    }
    if (chord_[note]) {
        chord_.reset(note);
        return {};
    }
    return {Act::none, !triggers(note, rules), 0};
}

Keyboard::Result Keyboard::control(uint8_t controller, uint8_t value, const Rules& rules) noexcept {
    switch (controller) {
        case kSustain:
        case kReset:
            sustain_ = controller == kSustain && value >= 64;
            if (!sustain_ && owner_ == Owner::key && !key_down_) return {let_go(rules), true, 0};
            return {};
        case kAllSoundOff:
            owner_ = Owner::nobody;
            sustain_ = key_down_ = false;
            chord_.reset();
            return {Act::silence, true, 0};
        case kAllNotesOff:
            sustain_ = key_down_ = false;
            chord_.reset();
            return {owner_ == Owner::key ? let_go(rules) : Act::none, true, 0};
        default:
            return {};
    }
}

Keyboard::Act Keyboard::parameter(bool on, const Rules& rules) noexcept {
    if (on) {
        owner_ = Owner::parameter;
        return Act::trigger;
    }
    return owner_ == Owner::parameter ? let_go(rules) : Act::none;
}

Keyboard::Act Keyboard::let_go(const Rules& rules) noexcept {
    owner_ = Owner::nobody;
    return rules.ends_itself ? Act::none : Act::release;
}

}  // namespace attacca
