// Keyboard: which key owns the take. Notes, pedal and the all-off controllers in, what they mean for the take out;
// the keys of bridge/keyboard.py on the audio thread, with the `trigger` parameter as one more key. Also what the
// engine must be told again when it comes back: chord notes and pedals that are down. Thread: audio. Pure logic.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>

#include "host_time.hpp"

namespace attacca {

// Which notes start takes, and on which channel; live parameters.
struct TriggerZone {
    int channel{0};        // 1..16; 0: all
    int low{0}, high{35};  // no zone where low > high
    int note{-1};          // one more; -1: none

    bool hears(int midi_channel) const noexcept { return channel == 0 || channel == midi_channel + 1; }
    bool holds(int pitch) const noexcept { return pitch == note || (low <= pitch && pitch <= high); }
};

class Keyboard {
public:
    enum class Act : uint8_t { nothing, start, release, silence };

    struct Answer {
        Act act{Act::nothing};
        bool forward{true};  // the engine is to hear the message
        int velocity{-1};    // of a start by a note; -1: the parameter
    };

    Answer midi(const MidiEvent& event, const TriggerZone& zone) noexcept;
    Answer parameter(bool on) noexcept;

    // Visits what is down as messages (pedals, then chord notes by channel and pitch), as the engine was told.
    template <class Visit>
    void visit_held(Visit&& visit) const {
        for (size_t channel = 0; channel < kChannels; ++channel)
            if (pedals_[channel] != 0) visit(message(0xB0 | static_cast<int>(channel), kSustain, pedals_[channel]));
        for (size_t channel = 0; channel < kChannels; ++channel)
            for (size_t pitch = 0; pitch < kPitches; ++pitch)
                if (chord_[channel][pitch] != 0)
                    visit(message(0x90 | static_cast<int>(channel), static_cast<int>(pitch), chord_[channel][pitch]));
    }

private:
    static constexpr size_t kChannels = 16, kPitches = 128;
    static constexpr int kParameter = 128, kNobody = -1;  // keys besides the pitches
    static constexpr int kSustain = 64, kAllSoundOff = 120, kReset = 121, kAllNotesOff = 123, kPedalDown = 64;

    static MidiEvent message(int status, int first, int second) noexcept;
    Answer control(int channel, int number, int value, const TriggerZone& zone) noexcept;
    Answer pressed(int key, int velocity) noexcept;
    Answer lifted(int key) noexcept;
    Answer let_go() noexcept;

    std::array<std::array<uint8_t, kPitches>, kChannels> chord_{};  // velocity; 0: up
    std::array<uint8_t, kChannels> pedals_{};                       // value; 0: up
    std::bitset<kPitches + 1> down_;                                // trigger keys
    int owner_{kNobody};
    bool sustain_{false};  // of the channels that are heard
};

}  // namespace attacca
