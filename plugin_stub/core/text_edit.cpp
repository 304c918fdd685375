// See text_edit.hpp.
#include "text_edit.hpp"

#include <algorithm>

#include "../protocol.hpp"
#include "text_rules.hpp"

namespace attacca {
namespace {

bool inside(const std::string& text, size_t at) {
    return at > 0 && at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
}

}  // namespace

void TextEdit::begin(const std::string& text) {
    text_ = readable_text(text);
    caret_ = text_.size();
    editing_ = true;
}

std::string TextEdit::finish() {
    editing_ = false;
    return text_;
}

size_t TextEdit::before(size_t at) const {
    if (at == 0) return 0;
    do --at;
    while (inside(text_, at));
    return at;
}

size_t TextEdit::behind(size_t at) const {
    if (at >= text_.size()) return text_.size();
    do ++at;
    while (inside(text_, at));
    return at;
}

bool TextEdit::type(uint32_t character) {
    if (!editing_ || !readable(character) || count_characters(text_) >= protocol::kTextCharacters) return false;
    std::string typed;
    append_character(typed, character);
    text_.insert(caret_, typed);
    caret_ += typed.size();
    return true;
}

bool TextEdit::paste(const std::string& text) {
    bool changed = false;
    const std::string pasted = readable_text(text);
    for (size_t at = 0; at < pasted.size();) changed = type(next_character(pasted, at)) || changed;
    return changed;
}

bool TextEdit::key(TextKey key) {
    if (!editing_) return false;
    const size_t was = caret_, length = text_.size();
    switch (key) {
        case TextKey::left:
            caret_ = before(caret_);
            break;
        case TextKey::right:
            caret_ = behind(caret_);
            break;
        case TextKey::home:
            caret_ = 0;
            break;
        case TextKey::end:
            caret_ = length;
            break;
        case TextKey::backspace:
            caret_ = before(was);
            text_.erase(caret_, was - caret_);
            break;
        case TextKey::remove:
            text_.erase(was, behind(was) - was);
            break;
        case TextKey::enter:
        case TextKey::escape:
            return false;
    }
    return caret_ != was || text_.size() != length;
}

void TextEdit::place(size_t byte) {
    caret_ = std::min(byte, text_.size());
    while (inside(text_, caret_)) --caret_;
}

}  // namespace attacca
