// MessagePack, as much as the protocol's headers need: writing maps of strings, integers, float64, booleans, nil and
// bytes in their shortest form, and reading values of any kind in place. Below wire.cpp. Thread: network. The reader
// never throws, allocates or recurses; broken bytes make it return false.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace attacca::msgpack {

class Writer {
public:
    explicit Writer(std::vector<uint8_t>& out) : out_(out) {}
    void map(uint32_t entries);
    void text(std::string_view value);
    void octets(const uint8_t* data, size_t size);
    void integer(int64_t value);
    void number(double value);
    void truth(bool value);
    void nil();

private:
    void tagged(uint8_t tag, uint64_t value, int bytes);
    std::vector<uint8_t>& out_;
};

enum class Kind : uint8_t { nil, truth, integer, natural, number, text, octets, array, map, extension };

// One value. Of arrays and maps only the head: their entries follow in the bytes.
struct Value {
    Kind kind{};
    bool truth{};
    int64_t integer{};       // kind integer
    uint64_t natural{};      // kind natural: an integer above what int64 holds
    double number{};         // kind number
    uint64_t count{};        // entries of arrays and maps (pairs)
    std::string_view bytes;  // of texts (not checked to be UTF-8), octets and extensions
};

class Reader {
public:
    Reader(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
    bool read(Value& value);                // the next value; the head alone of arrays and maps
    bool skip_entries(const Value& value);  // what is in an array or map just read, to any depth up to kMostDepth
    bool at_end() const { return at_ == end_; }

    static constexpr int kMostDepth = 512;

private:
    bool take(size_t bytes, uint64_t& value);
    bool take_bytes(uint64_t count, Value& value);
    bool read_tagged(uint8_t tag, Value& value);
    bool read_counted(Kind kind, size_t size_bytes, Value& value, size_t extra = 0);

    const uint8_t* at_;
    const uint8_t* const end_;
};

// The number of Unicode characters, or -1 if it is not UTF-8.
int64_t utf8_characters(std::string_view text);

}  // namespace attacca::msgpack
