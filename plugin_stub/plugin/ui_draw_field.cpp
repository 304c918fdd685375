// The field of words: what the model is told to play, or why it cannot be told.
#include <algorithm>
#include <string>

#include "ui_draw.hpp"

namespace attacca::ui {
namespace {

constexpr float kSize = 13, kInset = 10, kRadius = 5;
constexpr const char* kNoText = "this model takes no text";
constexpr const char* kInvitation = "click and say in words what to play";

}  // namespace

void draw_field(Pen& pen, const Picture& picture, const Field& field) {
    const Rect& box = picture.layout.text;
    const bool editing = field.edit.editing();
    const float y = box.y + box.h / 2 + 0.5f, x = box.x + kInset, room = box.w - 2 * kInset;
    pen.fill(box, editing ? kRaised : kSurface, kRadius);
    if (!field.takes) return pen.fitted(x, y, room, kSize, kFaint, kNoText);
    if (editing) pen.outline(box, kTake, kRadius, 1.2f);
    const std::string words(editing ? std::string_view(field.edit.text()) : field.words);
    if (!editing && !field.refused.empty()) {
        pen.outline(box, kBad, kRadius, 1.2f);
        return pen.fitted(x, y, room, kSize, kBad, std::string(field.refused).c_str());
    }
    if (!editing && words.empty()) return pen.fitted(x, y, room, kSize, kFaint, kInvitation);
    // A text that is wider than the field is pushed left until its caret is inside.
    const float caret = editing ? pen.width_of(kSize, words.substr(0, field.edit.caret()).c_str()) : 0;
    const float pushed = std::max(0.0f, caret - room);
    pen.clip({x, box.y, room + 2, box.h});
    pen.text(x - pushed, y, kSize, editing ? kText : kSoft, words.c_str());
    if (editing && field.caret)
        pen.line(x - pushed + caret, box.y + 6, x - pushed + caret, box.bottom() - 6, kText, 1.2f);
    pen.unclip();
}

}  // namespace attacca::ui
