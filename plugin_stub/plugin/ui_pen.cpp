// See ui_pen.hpp.
#include "ui_pen.hpp"

#include <algorithm>
#include <array>
#include <cctype>

namespace attacca::ui {
namespace {

using DGL_NAMESPACE::NanoVG;
constexpr float kLabelSize = 8.6f, kLabelSpacing = 0.9f, kLeastFit = 0.66f;

int align_of(Side side) {
    const int across = side == Side::left     ? NanoVG::ALIGN_LEFT
                       : side == Side::middle ? NanoVG::ALIGN_CENTER
                                              : NanoVG::ALIGN_RIGHT;
    return across | NanoVG::ALIGN_MIDDLE;
}

}  // namespace

void Pen::fill(const Rect& rect, Ink ink, float radius) {
    if (rect.w <= 0 || rect.h <= 0) return;
    vg_.beginPath();
    vg_.roundedRect(rect.x, rect.y, rect.w, rect.h, std::min(radius, std::min(rect.w, rect.h) / 2));
    vg_.fillColor(ink.color());
    vg_.fill();
}

void Pen::outline(const Rect& rect, Ink ink, float radius, float width) {
    const float in = width / 2;
    if (rect.w <= width || rect.h <= width) return;
    vg_.beginPath();
    vg_.roundedRect(rect.x + in, rect.y + in, rect.w - width, rect.h - width, radius);
    vg_.strokeColor(ink.color());
    vg_.strokeWidth(width);
    vg_.stroke();
}

void Pen::line(float x0, float y0, float x1, float y1, Ink ink, float width) {
    vg_.beginPath();
    vg_.moveTo(x0, y0);
    vg_.lineTo(x1, y1);
    vg_.strokeColor(ink.color());
    vg_.strokeWidth(width);
    vg_.stroke();
}

void Pen::dot(float x, float y, float radius, Ink ink) {
    vg_.beginPath();
    vg_.circle(x, y, radius);
    vg_.fillColor(ink.color());
    vg_.fill();
}

void Pen::ring(float x, float y, float radius, float from, float to, Ink ink, float width) {
    vg_.beginPath();
    vg_.arc(x, y, radius, from, to, NanoVG::CW);
    vg_.strokeColor(ink.color());
    vg_.strokeWidth(width);
    vg_.lineCap(NanoVG::ROUND);
    vg_.stroke();
    vg_.lineCap(NanoVG::BUTT);
}

void Pen::triangle(float x0, float y0, float x1, float y1, float x2, float y2, Ink ink) {
    vg_.beginPath();
    vg_.moveTo(x0, y0);
    vg_.lineTo(x1, y1);
    vg_.lineTo(x2, y2);
    vg_.closePath();
    vg_.fillColor(ink.color());
    vg_.fill();
}

float Pen::text(float x, float y, float size, Ink ink, const char* words, Side side, float spacing) {
    vg_.fontSize(size);
    vg_.textLetterSpacing(spacing);
    vg_.textAlign(align_of(side));
    vg_.fillColor(ink.color());
    return *words == '\0' ? x : vg_.text(x, y, words, nullptr);  // DPF asserts that there is text
}

float Pen::width_of(float size, const char* words, float spacing) {
    DGL_NAMESPACE::Rectangle<float> bounds;
    vg_.fontSize(size);
    vg_.textLetterSpacing(spacing);
    vg_.textAlign(align_of(Side::left));
    return *words == '\0' ? 0.0f : vg_.textBounds(0, 0, words, nullptr, bounds);
}

void Pen::fitted(float x, float y, float most, float size, Ink ink, const char* words, Side side) {
    const float wide = width_of(size, words);
    const float fits = wide > most ? std::max(most / wide, kLeastFit) : 1.0f;
    const float left = side == Side::left ? x : side == Side::middle ? x - most / 2 : x - most;
    if (wide * fits > most) clip({left, y - size, most, 2 * size});
    text(x, y, size * fits, ink, words, side);
    if (wide * fits > most) unclip();
}

void Pen::label(float x, float y, const char* words, Side side, Ink ink) {
    std::array<char, 64> capitals{};
    for (size_t i = 0; i + 1 < capitals.size() && words[i] != '\0'; ++i)
        capitals[i] = static_cast<char>(std::toupper(static_cast<unsigned char>(words[i])));
    text(x, y, kLabelSize, ink, capitals.data(), side, kLabelSpacing);
}

void Pen::begin_bars() { vg_.beginPath(); }

void Pen::bar(float x, float width, float middle, float half) { vg_.rect(x, middle - half, width, 2 * half); }

void Pen::end_bars(Ink ink) {
    vg_.fillColor(ink.color());
    vg_.fill();
}

void Pen::clip(const Rect& rect) {
    vg_.save();
    vg_.intersectScissor(rect.x, rect.y, rect.w, rect.h);
}

void Pen::unclip() { vg_.restore(); }

}  // namespace attacca::ui
