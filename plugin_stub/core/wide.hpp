// Wide: a number as the unevaluated sum of two doubles, about 106 bits, for bar arithmetic that must decide as exact
// rationals do. Stands under timeline and bar_clock. Needs IEEE doubles evaluated as written: no -ffast-math.
// Thread: any. No allocation, no exceptions.
#pragma once

#include <cmath>
#include <cstdint>

#ifdef __FAST_MATH__
#error "bar arithmetic needs IEEE doubles: build core without -ffast-math"
#endif

namespace attacca {

struct Wide {
    double hi{0.0}, lo{0.0};

    constexpr Wide() = default;
    constexpr Wide(double value) noexcept : hi(value) {}  // implicit on purpose: a double is a Wide
    constexpr Wide(double high, double low) noexcept : hi(high), lo(low) {}

    double value() const noexcept { return hi + lo; }
};

inline Wide sum_of(double a, double b) noexcept {  // exact (Knuth)
    const double sum = a + b;
    const double part = sum - a;
    const double rest = sum - part;
    return Wide{sum, (a - rest) + (b - part)};
}

inline Wide wide_of(int64_t value) noexcept {
    const auto low = static_cast<double>(value & 0xffffffff);
    return sum_of(static_cast<double>(value >> 32) * 4294967296.0, low);
}

inline Wide product_of(double a, double b) noexcept {  // exact (Dekker)
    constexpr double kSplit = 134217729.0;             // 2^27 + 1: halves of 26 bits, whose products are exact
    const double product = a * b;
    const double scaled_a = kSplit * a;
    const double excess_a = scaled_a - a;
    const double high_a = scaled_a - excess_a;
    const double low_a = a - high_a;
    const double scaled_b = kSplit * b;
    const double excess_b = scaled_b - b;
    const double high_b = scaled_b - excess_b;
    const double low_b = b - high_b;
    const double error = ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b;
    return Wide{product, error};
}

inline Wide operator-(Wide a) noexcept { return Wide{-a.hi, -a.lo}; }

inline Wide operator+(Wide a, Wide b) noexcept {
    const Wide high = sum_of(a.hi, b.hi);
    const Wide low = sum_of(a.lo, b.lo);
    const Wide near = sum_of(high.hi, high.lo + low.hi);
    return sum_of(near.hi, near.lo + low.lo);
}

inline Wide operator-(Wide a, Wide b) noexcept { return a + (-b); }

inline Wide operator*(Wide a, Wide b) noexcept {
    const Wide product = product_of(a.hi, b.hi);
    const double cross_ab = a.hi * b.lo;
    const double cross_ba = a.lo * b.hi;
    return sum_of(product.hi, product.lo + (cross_ab + cross_ba));
}

inline Wide operator/(Wide a, Wide b) noexcept {
    const double first = a.hi / b.hi;
    const Wide rest = a - b * first;
    const double second = rest.hi / b.hi;
    const double third = (rest - b * second).hi / b.hi;
    return Wide{first} + sum_of(second, third);
}

inline bool operator<(Wide a, Wide b) noexcept { return (a - b).hi < 0.0; }
inline bool operator>(Wide a, Wide b) noexcept { return b < a; }

inline Wide absolute(Wide a) noexcept { return a.hi < 0.0 ? -a : a; }

inline Wide floor_of(Wide a) noexcept {
    const double high = std::floor(a.hi);
    return high == a.hi ? sum_of(high, std::floor(a.lo)) : Wide{high};
}

// floor(a / b) where a is exact, or the difference of ppq values up to 1e8 that went through a few operations: what
// lies below a whole number by no more than their rounding counts as whole, as it is in rationals.
inline Wide floor_ratio(Wide a, Wide b) noexcept {
    constexpr double kRounding = 0x1p-76;
    const Wide ratio = a / b;
    return floor_of(ratio + kRounding * (1.0 + std::fabs(ratio.hi)));
}

inline Wide ceil_ratio(Wide a, Wide b) noexcept { return -floor_ratio(-a, b); }

// a - b floor(a / b): in [0, b), give or take rounding.
inline Wide modulo(Wide a, Wide b) noexcept { return a - floor_ratio(a, b) * b; }

// The shortest decimal that names this double, to 13 places; beyond that, the double itself.
inline Wide decimal_of(double value) noexcept {
    constexpr double kExactIntegers = 9007199254740992.0;
    double scale = 1.0;
    for (int places = 0; places <= 13; ++places, scale *= 10.0) {
        const double digits = std::round(value * scale);
        if (!(std::fabs(digits) < kExactIntegers)) break;
        if (digits / scale == value) return Wide{digits} / Wide{scale};
    }
    return Wide{value};
}

struct Ratio {
    double num{}, den{1.0};

    Wide wide() const noexcept { return Wide{num} / Wide{den}; }
};

// The nearest fraction with a denominator up to `limit`, by continued fractions; every step is exact. value >= 0.
inline Ratio nearest_ratio(double value, double limit) noexcept {
    double p0 = 0.0, q0 = 1.0, p1 = 1.0, q1 = 0.0;
    double n = value, d = 1.0;
    while (d > 0.0) {
        const double rest = std::fmod(n, d);
        const double whole = std::round((n - rest) / d);
        const double p2 = p0 + whole * p1;
        const double q2 = q0 + whole * q1;
        if (!(q2 <= limit)) break;
        p0 = p1;
        q0 = q1;
        p1 = p2;
        q1 = q2;
        n = d;
        d = rest;
    }
    if (!(d > 0.0)) return Ratio{p1, q1};
    const double steps = std::floor((limit - q0) / q1);
    const Ratio between{p0 + steps * p1, q0 + steps * q1};
    const Wide near = absolute(Wide{p1} - product_of(value, q1)) * between.den;
    const Wide far = absolute(Wide{between.num} - product_of(value, between.den)) * q1;
    return far < near ? between : Ratio{p1, q1};
}

}  // namespace attacca
