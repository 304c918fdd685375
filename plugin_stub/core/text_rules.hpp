// What may be said to a model in words: bridge/text_rules.py in C++. A host's state or a user's keys go in, what the
// engine would take comes out. Pure. Thread: any but audio.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace attacca {

// Whether a character may stand in a text: no control character, no half of a surrogate pair, no line or paragraph
// separator.
bool readable(uint32_t character);

// UTF-8 without what is not readable and without bytes that are no UTF-8, cut to the protocol's most characters.
std::string readable_text(std::string_view text);

// The next character at `at`, which moves behind it; 0xFFFFFFFF where the bytes are no UTF-8 (`at` moves by one).
uint32_t next_character(std::string_view text, size_t& at);
void append_character(std::string& text, uint32_t character);
size_t count_characters(std::string_view text);

}  // namespace attacca
