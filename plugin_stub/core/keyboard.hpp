// Keyboard: what MIDI messages and the trigger parameter mean for takes; bridge/triggers.py's Keyboard as the plugin
// needs it. Notes of the trigger zone start and end takes (the newest owns the take), all others are chords and go to
// the engine. Thread: audio. No allocation.
#pragma once

#include <bitset>
#include <cstdint>

namespace attacca {

class Keyboard {
public:
    struct Rules {
        int channel{0};           // 1..16; 0: all
        int low{0}, high{35};     // the trigger zone; low above high: none
        int extra{-1};            // one more trigger note; -1: none
        bool ends_itself{false};  // the mode is fill or answer: letting go does not end the take
    };
    enum class Act : uint8_t { none, trigger, release, silence };
    struct Result {
        Act act{Act::none};
        bool forward{true};   // the engine hears the message, too
        uint8_t velocity{0};  // of a trigger
    };

    Result handle(const uint8_t* data, uint8_t size, const Rules& rules) noexcept;

    // The trigger parameter, as if it were a key.
    Act parameter(bool on, const Rules& rules) noexcept;

    // Visits the chord notes that are down: (channel, note).
    template <class Visit>
    void chords(Visit&& visit) const noexcept {
        for (int note = 0; note < 128; ++note)
            if (chord_[static_cast<size_t>(note)]) visit(channel_of_[note], static_cast<uint8_t>(note));
    }

private:
    enum class Owner : uint8_t { nobody, key, parameter };

    Result control(uint8_t controller, uint8_t value, const Rules& rules) noexcept;
    Act let_go(const Rules& rules) noexcept;

    Owner owner_{Owner::nobody};
    uint8_t key_{0};
    bool key_down_{false}, sustain_{false};
    std::bitset<128> chord_;
    uint8_t channel_of_[128]{};
};

}  // namespace attacca
