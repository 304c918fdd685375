// See keyboard.hpp.
#include "keyboard.hpp"

namespace attacca {

MidiEvent Keyboard::message(int status, int first, int second) noexcept {
    MidiEvent event;
    event.size = 3;
    event.data[0] = static_cast<uint8_t>(status);
    event.data[1] = static_cast<uint8_t>(first);
    event.data[2] = static_cast<uint8_t>(second);
    return event;
}

Keyboard::Answer Keyboard::midi(const MidiEvent& event, const TriggerZone& zone) noexcept {
    const int kind = event.data[0] & 0xF0, channel = event.data[0] & 0x0F;
    const int pitch = event.data[1] & 0x7F, value = event.data[2] & 0x7F;
    if (event.size != 3) return {};
    if (kind == 0xB0) return control(channel, pitch, value, zone);
    if (kind != 0x80 && kind != 0x90) return {};
    const bool ours = zone.hears(channel) && zone.holds(pitch);
    uint8_t& held = chord_[static_cast<size_t>(channel)][static_cast<size_t>(pitch)];
    if (kind == 0x90 && value > 0) {
        if (ours) return pressed(pitch, value);
        held = static_cast<uint8_t>(value);
        return {};
    }
    // A note goes up as what it went down as, wherever the zone lies by then.
    if (held != 0) {
        held = 0;
        return {};
    }
    if (ours || (zone.hears(channel) && down_[static_cast<size_t>(pitch)])) return lifted(pitch);
    return {};
}

Keyboard::Answer Keyboard::parameter(bool on) noexcept {
    if (on) return pressed(kParameter, -1);
    return down_[kParameter] ? lifted(kParameter) : Answer{};
}

Keyboard::Answer Keyboard::control(int channel, int number, int value, const TriggerZone& zone) noexcept {
    const auto of_channel = static_cast<size_t>(channel);
    if (number == kSustain || number == kReset) {
        const bool down = number == kSustain && value >= kPedalDown;
        pedals_[of_channel] = down ? static_cast<uint8_t>(value) : uint8_t{0};
        if (!zone.hears(channel)) return {};
        sustain_ = down;
        const bool free = !down && owner_ != kNobody && !down_[static_cast<size_t>(owner_)];
        return free ? let_go() : Answer{};
    }
    if (number != kAllSoundOff && number != kAllNotesOff) return {};
    chord_[of_channel].fill(0);
    pedals_[of_channel] = 0;
    if (!zone.hears(channel)) return {};
    down_.reset();
    sustain_ = false;
    if (number == kAllNotesOff) return owner_ == kNobody ? Answer{} : let_go();
    owner_ = kNobody;
    return {Act::silence, true, -1};
}

// The newest key owns the take: only its own going up ends it.
Keyboard::Answer Keyboard::pressed(int key, int velocity) noexcept {
    down_[static_cast<size_t>(key)] = true;
    owner_ = key;
    return {Act::start, false, velocity};
}

Keyboard::Answer Keyboard::lifted(int key) noexcept {
    down_[static_cast<size_t>(key)] = false;
    if (sustain_ || key != owner_) return {Act::nothing, false, -1};
    Answer answer = let_go();
    answer.forward = false;
    return answer;
}

Keyboard::Answer Keyboard::let_go() noexcept {
    owner_ = kNobody;
    return {Act::release, true, -1};
}

}  // namespace attacca
