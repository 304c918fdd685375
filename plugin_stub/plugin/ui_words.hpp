// State words for the stage: from what the instance says of itself to a headline, what to do about it, and how urgent
// that is. First of the UI's parts, between Instance::state_text and the picture; no plugin format in it. Thread: main.
#pragma once

#include <array>
#include <string_view>

namespace attacca::ui {

enum class Tone { calm, armed, good, warn, bad };

struct Words {
    std::array<char, 192> headline{};
    std::array<char, 192> advice{};  // what to do, or what is to come; empty: nothing
    Tone tone{Tone::calm};
};

// `state`: Instance::state_text(). Text that does not fit ends in "...".
Words words_of(std::string_view state);

// The same from the output parameters alone, for hosts that keep window and plugin apart. `state`: meter "state".
Words words_of_meters(bool connected, int state);

// Copies, cutting to `size` bytes and never inside a UTF-8 character.
void put(char* to, size_t size, std::string_view text);

}  // namespace attacca::ui
