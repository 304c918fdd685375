// TextEdit: a line of text under a user's hands, from keys to what is told when it is done. Between the window's events
// and the picture; no plugin format and no graphics in it. Thread: main.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace attacca {

enum class TextKey { left, right, home, end, backspace, remove, enter, escape };

class TextEdit {
public:
    // Begin with a text, the caret behind it.
    void begin(const std::string& text);
    // The text as edited; editing is over.
    std::string finish();
    void abandon() { editing_ = false; }

    // True if it changed something. Characters that a text may not hold, and those beyond the most, do nothing.
    bool type(uint32_t character);
    bool paste(const std::string& text);
    bool key(TextKey key);    // enter and escape are the caller's
    void place(size_t byte);  // the caret, at the beginning of a character

    bool editing() const { return editing_; }
    const std::string& text() const { return text_; }
    size_t caret() const { return caret_; }  // in bytes

private:
    size_t before(size_t at) const;
    size_t behind(size_t at) const;

    std::string text_;
    size_t caret_{0};
    bool editing_{false};
};

}  // namespace attacca
