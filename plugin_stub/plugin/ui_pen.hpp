// Pen: shapes, text and the few colours of the plugin window. Between the pictures (ui_draw_*) and DPF's NanoVG, whose
// built-in font is the only one. All in units of Layout. Thread: main.
#pragma once

#include "NanoVG.hpp"
#include "ui_layout.hpp"

namespace attacca::ui {

struct Ink {
    int red, green, blue;
    float alpha{1.0f};
    constexpr Ink thin(float by) const { return {red, green, blue, alpha * by}; }
    DGL_NAMESPACE::Color color() const { return DGL_NAMESPACE::Color(red, green, blue, alpha); }
};

constexpr Ink mixed(Ink from, Ink to, float part) {
    const auto between = [part](int a, int b) { return a + static_cast<int>(part * static_cast<float>(b - a)); };
    return {between(from.red, to.red), between(from.green, to.green), between(from.blue, to.blue),
            from.alpha + part * (to.alpha - from.alpha)};
}

inline constexpr Ink kGround{17, 19, 23}, kSurface{25, 28, 34}, kRaised{34, 38, 46}, kEdge{52, 58, 69};
inline constexpr Ink kText{236, 239, 243}, kSoft{158, 167, 180}, kFaint{104, 113, 127};
inline constexpr Ink kInput{126, 150, 186};  // captured
inline constexpr Ink kTake{74, 208, 164};    // the continuation
inline constexpr Ink kArmed{246, 185, 76};
inline constexpr Ink kBad{240, 108, 96};

enum class Side { left, middle, right };

class Pen {
public:
    explicit Pen(DGL_NAMESPACE::NanoVG& vg) : vg_(vg) {}

    void fill(const Rect& rect, Ink ink, float radius = 0);
    void outline(const Rect& rect, Ink ink, float radius, float width = 1);
    void line(float x0, float y0, float x1, float y1, Ink ink, float width = 1);
    void dot(float x, float y, float radius, Ink ink);
    void ring(float x, float y, float radius, float from, float to, Ink ink, float width);
    void triangle(float x0, float y0, float x1, float y1, float x2, float y2, Ink ink);

    // Text on a middle line `y`. `spacing`: between letters. Returns where it ends.
    float text(float x, float y, float size, Ink ink, const char* words, Side side = Side::left, float spacing = 0);
    // The same, smaller where it would be wider than `most`, down to two thirds; what is still too wide is cut by
    // scissor.
    void fitted(float x, float y, float most, float size, Ink ink, const char* words, Side side = Side::left);
    void label(float x, float y, const char* words, Side side = Side::left, Ink ink = kFaint);  // small capitals
    float width_of(float size, const char* words, float spacing = 0);

    // Many bars at once, each from `top` to `bottom`.
    void begin_bars();
    void bar(float x, float width, float middle, float half);
    void end_bars(Ink ink);

    void clip(const Rect& rect);
    void unclip();

    DGL_NAMESPACE::NanoVG& vg() { return vg_; }

private:
    DGL_NAMESPACE::NanoVG& vg_;
};

}  // namespace attacca::ui
