// libFuzzer on the MessagePack reader: every value lies inside the bytes, skipping ends where reading all one by one
// does, and what is read can be written and read again.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "net/msgpack.hpp"

namespace {

using attacca::msgpack::Kind;
using attacca::msgpack::Reader;
using attacca::msgpack::Value;
using attacca::msgpack::Writer;

void write(Writer& writer, const Value& value) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(value.bytes.data());
    switch (value.kind) {
        case Kind::nil:
            return writer.nil();
        case Kind::truth:
            return writer.truth(value.truth);
        case Kind::integer:
            return writer.integer(value.integer);
        case Kind::number:
            return writer.number(value.number);
        case Kind::text:
            return writer.text(value.bytes);
        case Kind::octets:
            return writer.octets(bytes, value.bytes.size());
        case Kind::map:
            return writer.map(static_cast<uint32_t>(value.count));
        default:
            return;  // never written
    }
}

bool same(const Value& one, const Value& other) {
    const bool numbers = one.number == other.number || (std::isnan(one.number) && std::isnan(other.number));
    return one.kind == other.kind && one.truth == other.truth && one.integer == other.integer && numbers &&
           one.bytes == other.bytes && (one.kind != Kind::map || one.count == other.count);
}

void write_and_read(const Value& value) {
    if (value.kind == Kind::natural || value.kind == Kind::array || value.kind == Kind::extension) return;
    std::vector<uint8_t> out;
    Writer writer(out);
    write(writer, value);
    Reader reader(out.data(), out.size());
    Value again;
    if (!reader.read(again) || !reader.at_end() || !same(value, again)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Reader each(data, size);
    Value value;
    while (each.read(value)) {
        const auto* first = reinterpret_cast<const uint8_t*>(value.bytes.data());
        if (first != nullptr && (first < data || first + value.bytes.size() > data + size)) std::abort();
        if (attacca::msgpack::utf8_characters(value.bytes) > static_cast<int64_t>(value.bytes.size())) std::abort();
        write_and_read(value);
    }
    Reader whole(data, size);
    while (whole.read(value) && whole.skip_entries(value)) {
    }
    return 0;
}
