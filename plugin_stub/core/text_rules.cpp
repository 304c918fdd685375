// See text_rules.hpp.
#include "text_rules.hpp"

#include <cstdint>

#include "../protocol.hpp"

namespace attacca {
namespace {

constexpr uint32_t kNone = 0xFFFFFFFF;

// Bytes that follow the first of a character, or 4 where it begins none.
size_t followers(unsigned char first) {
    if (first < 0x80) return 0;
    if (first >= 0xC2 && first < 0xE0) return 1;
    if (first >= 0xE0 && first < 0xF0) return 2;
    if (first >= 0xF0 && first < 0xF5) return 3;
    return 4;
}

}  // namespace

bool readable(uint32_t character) {
    const bool control = character < 0x20 || (character >= 0x7F && character < 0xA0);
    const bool half = character >= 0xD800 && character < 0xE000;
    return !control && !half && character != 0x2028 && character != 0x2029 && character <= 0x10FFFF;
}

uint32_t next_character(std::string_view text, size_t& at) {
    constexpr uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
    const auto first = static_cast<unsigned char>(text[at]);
    const size_t more = followers(first);
    ++at;
    if (more > 3 || at + more > text.size()) return kNone;
    uint32_t character = more == 0 ? first : first & (0x3Fu >> more);
    for (size_t i = 0; i < more; ++i) {
        const auto byte = static_cast<unsigned char>(text[at + i]);
        if ((byte & 0xC0) != 0x80) return kNone;
        character = (character << 6) | (byte & 0x3Fu);
    }
    if (character < kLeast[more] || character > 0x10FFFF) return kNone;
    at += more;
    return character;
}

void append_character(std::string& text, uint32_t character) {
    const auto put = [&text](uint32_t byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
    if (character < 0x80) return put(character);
    const int more = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
    constexpr uint32_t kFirst[] = {0, 0xC0, 0xE0, 0xF0};
    put(kFirst[more] | (character >> (6 * more)));
    for (int i = more - 1; i >= 0; --i) put(0x80 | ((character >> (6 * i)) & 0x3F));
}

std::string readable_text(std::string_view text) {
    std::string kept;
    size_t count = 0;
    for (size_t at = 0; at < text.size() && count < protocol::kTextCharacters;) {
        const uint32_t character = next_character(text, at);
        if (character == kNone || !readable(character)) continue;
        append_character(kept, character);
        ++count;
    }
    return kept;
}

size_t count_characters(std::string_view text) {
    size_t count = 0;
    for (size_t at = 0; at < text.size(); ++count) next_character(text, at);
    return count;
}

}  // namespace attacca
