// See msgpack.hpp. Format: https://github.com/msgpack/msgpack/blob/master/spec.md
#include "msgpack.hpp"

#include <array>
#include <cstring>
#include <limits>

namespace attacca::msgpack {
namespace {

constexpr uint8_t kFixMap = 0x80, kFixArray = 0x90, kFixText = 0xA0, kNegative = 0xE0;
constexpr uint8_t kNil = 0xC0, kFalse = 0xC2, kTrue = 0xC3, kOctets8 = 0xC4, kExtension8 = 0xC7, kFloat32 = 0xCA,
                  kFloat64 = 0xCB, kNatural8 = 0xCC, kInteger8 = 0xD0, kFixExtension = 0xD4, kText8 = 0xD9,
                  kArray16 = 0xDC, kMap16 = 0xDE;
constexpr uint64_t kMost8 = 0xFF, kMost16 = 0xFFFF, kMost32 = 0xFFFFFFFF;
constexpr size_t kFixTextBytes = 31;
constexpr uint32_t kFixMapEntries = 15;

constexpr size_t width(uint8_t tag, uint8_t first) { return size_t{1} << (tag - first); }  // 1, 2, 4, 8

}  // namespace

void Writer::map(uint32_t entries) {
    if (entries <= kFixMapEntries)
        out_.push_back(static_cast<uint8_t>(kFixMap | entries));
    else if (entries <= kMost16)
        tagged(kMap16, entries, 2);
    else
        tagged(kMap16 + 1, entries, 4);
}

void Writer::text(std::string_view value) {
    if (value.size() <= kFixTextBytes)
        out_.push_back(static_cast<uint8_t>(kFixText | value.size()));
    else if (value.size() <= kMost8)
        tagged(kText8, value.size(), 1);
    else if (value.size() <= kMost16)
        tagged(kText8 + 1, value.size(), 2);
    else
        tagged(kText8 + 2, value.size(), 4);
    out_.insert(out_.end(), value.begin(), value.end());
}

void Writer::octets(const uint8_t* data, size_t size) {
    if (size <= kMost8)
        tagged(kOctets8, size, 1);
    else if (size <= kMost16)
        tagged(kOctets8 + 1, size, 2);
    else
        tagged(kOctets8 + 2, size, 4);
    if (size > 0) out_.insert(out_.end(), data, data + size);
}

void Writer::integer(int64_t value) {
    const auto bits = static_cast<uint64_t>(value);
    if (value >= 0) {
        if (value < kFixMap)
            out_.push_back(static_cast<uint8_t>(value));
        else if (bits <= kMost8)
            tagged(kNatural8, bits, 1);
        else if (bits <= kMost16)
            tagged(kNatural8 + 1, bits, 2);
        else if (bits <= kMost32)
            tagged(kNatural8 + 2, bits, 4);
        else
            tagged(kNatural8 + 3, bits, 8);
    } else if (value >= -32) {
        out_.push_back(static_cast<uint8_t>(bits));
    } else if (value >= std::numeric_limits<int8_t>::min()) {
        tagged(kInteger8, bits, 1);
    } else if (value >= std::numeric_limits<int16_t>::min()) {
        tagged(kInteger8 + 1, bits, 2);
    } else if (value >= std::numeric_limits<int32_t>::min()) {
        tagged(kInteger8 + 2, bits, 4);
    } else {
        tagged(kInteger8 + 3, bits, 8);
    }
}

void Writer::number(double value) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    tagged(kFloat64, bits, 8);
}

void Writer::truth(bool value) { out_.push_back(value ? kTrue : kFalse); }
void Writer::nil() { out_.push_back(kNil); }

void Writer::tagged(uint8_t tag, uint64_t value, int bytes) {
    out_.push_back(tag);
    for (int i = bytes; i-- > 0;) out_.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

bool Reader::read(Value& value) {
    value = Value{};
    uint64_t tag = 0;
    if (!take(1, tag)) return false;
    const auto low = [&](uint64_t bits) { return tag & bits; };
    if (tag < kFixMap || tag >= kNegative) {
        value.kind = Kind::integer;
        value.integer = static_cast<int8_t>(static_cast<uint8_t>(tag));
        return true;
    }
    if (tag < kNil) {
        value.kind = tag < kFixArray ? Kind::map : tag < kFixText ? Kind::array : Kind::text;
        value.count = low(value.kind == Kind::text ? 0x1F : 0x0F);
        return value.kind != Kind::text || take_bytes(value.count, value);
    }
    return read_tagged(static_cast<uint8_t>(tag), value);
}

bool Reader::read_tagged(uint8_t tag, Value& value) {
    uint64_t bits = 0;
    if (tag == kNil) return true;  // what a value is to begin with
    if (tag == kFalse || tag == kTrue) {
        value.kind = Kind::truth;
        value.truth = tag == kTrue;
        return true;
    }
    if (tag < kOctets8) return false;  // 0xC1: never used
    if (tag < kExtension8) return read_counted(Kind::octets, width(tag, kOctets8), value);
    if (tag < kFloat32) return read_counted(Kind::extension, width(tag, kExtension8), value, 1);
    if (tag < kNatural8) {
        value.kind = Kind::number;
        if (!take(tag == kFloat32 ? 4 : 8, bits)) return false;
        if (tag == kFloat64) {
            std::memcpy(&value.number, &bits, sizeof value.number);
        } else {
            const auto short_bits = static_cast<uint32_t>(bits);
            float number = 0;
            std::memcpy(&number, &short_bits, sizeof number);
            value.number = static_cast<double>(number);
        }
        return true;
    }
    if (tag < kInteger8) {
        if (!take(width(tag, kNatural8), bits)) return false;
        const bool fits = bits <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
        value.kind = fits ? Kind::integer : Kind::natural;
        if (fits)
            value.integer = static_cast<int64_t>(bits);
        else
            value.natural = bits;
        return true;
    }
    if (tag < kFixExtension) {
        const size_t bytes = width(tag, kInteger8);
        if (!take(bytes, bits)) return false;
        const auto unused = static_cast<int>(64 - 8 * bytes);
        value.kind = Kind::integer;
        value.integer = static_cast<int64_t>(bits << unused) >> unused;  // the sign goes all the way up
        return true;
    }
    if (tag < kText8) {
        value.kind = Kind::extension;
        return take_bytes(1 + (uint64_t{1} << (tag - kFixExtension)), value);
    }
    if (tag < kArray16) return read_counted(Kind::text, width(tag, kText8), value);
    value.kind = tag < kMap16 ? Kind::array : Kind::map;
    return take((tag - kArray16) % 2 == 0 ? 2 : 4, value.count);
}

bool Reader::read_counted(Kind kind, size_t size_bytes, Value& value, size_t extra) {
    value.kind = kind;
    uint64_t count = 0;
    return take(size_bytes, count) && take_bytes(count + extra, value);
}

bool Reader::take(size_t bytes, uint64_t& value) {
    if (static_cast<size_t>(end_ - at_) < bytes) return false;
    value = 0;
    for (size_t i = 0; i < bytes; ++i) value = value << 8 | *at_++;
    return true;
}

bool Reader::take_bytes(uint64_t count, Value& value) {
    if (static_cast<uint64_t>(end_ - at_) < count) return false;
    value.bytes = {reinterpret_cast<const char*>(at_), static_cast<size_t>(count)};
    at_ += count;
    return true;
}

bool Reader::skip_entries(const Value& value) {
    const auto entries = [](const Value& of) {
        return of.kind == Kind::array ? of.count : of.kind == Kind::map ? 2 * of.count : 0;
    };
    std::array<uint64_t, kMostDepth> left{};
    int depth = 0;
    left[0] = entries(value);
    while (depth >= 0) {
        auto& here = left[static_cast<size_t>(depth)];
        if (here == 0) {
            --depth;
            continue;
        }
        --here;
        Value inner;
        if (!read(inner)) return false;
        if (entries(inner) == 0) continue;
        if (++depth == kMostDepth) return false;
        left[static_cast<size_t>(depth)] = entries(inner);
    }
    return true;
}

int64_t utf8_characters(std::string_view text) {
    int64_t characters = 0;
    for (size_t i = 0; i < text.size(); ++characters) {
        const auto first = static_cast<uint8_t>(text[i++]);
        if (first < 0x80) continue;
        const size_t more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
        if (first < 0xC2 || first > 0xF4 || text.size() - i < more) return -1;  // 0xC0, 0xC1: longer than needed
        uint32_t point = first & (0x3Fu >> more);
        for (size_t j = 0; j < more; ++j) {
            const auto next = static_cast<uint8_t>(text[i++]);
            if ((next & 0xC0) != 0x80) return -1;
            point = point << 6 | (next & 0x3Fu);
        }
        const bool surrogate = point >= 0xD800 && point < 0xE000;
        if (surrogate || point > 0x10FFFF || (more == 2 && point < 0x800) || (more == 3 && point < 0x10000)) return -1;
    }
    return characters;
}

}  // namespace attacca::msgpack
