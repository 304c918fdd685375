// See wire.hpp. Reads a header in two passes: its entries as spans of bytes, which must be well-formed as a whole, then
// the fields of its type. Python's verdict (msgspec) is the measure, also where an entry comes twice: the last one
// holds, yet each must be right.
#include "wire.hpp"

#include <cmath>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "msgpack.hpp"

namespace attacca {
namespace {

using msgpack::Kind;
using msgpack::Value;
using protocol::Presence;

constexpr std::string_view kTypeField = "type", kVersionField = "v";
constexpr uint32_t kOwnEntries = 2;  // type and version
constexpr size_t kMostFrames = 2;
constexpr int64_t kPcmBytes = 4, kCodeBytes = 2;

struct Entry {
    std::string_view name;
    Value value;  // of arrays and maps the head
};
using Entries = std::vector<Entry>;

// --- encoding -----------------------------------------------------------------------------------------------------

void write(msgpack::Writer& writer, int64_t value) { writer.integer(value); }
void write(msgpack::Writer& writer, double value) { writer.number(value); }
void write(msgpack::Writer& writer, bool value) { writer.truth(value); }
void write(msgpack::Writer& writer, const std::string& value) { writer.text(value); }
void write(msgpack::Writer& writer, const protocol::Bytes& value) { writer.octets(value.data(), value.size()); }
template <class T>
void write(msgpack::Writer& writer, const std::optional<T>& value) {
    if (value)
        write(writer, *value);
    else
        writer.nil();
}

template <class Message>
Frame header_of(const Message& message) {
    Frame header;
    msgpack::Writer writer(header);
    uint32_t fields = kOwnEntries;
    Message::visit(message, [&](std::string_view, const auto&, const auto&, Presence) { ++fields; });
    writer.map(fields);
    writer.text(kTypeField);
    writer.text(Message::type);
    Message::visit(message, [&](std::string_view name, const auto& field, const auto&, Presence) {
        writer.text(name);
        write(writer, field);
    });
    writer.text(kVersionField);
    writer.integer(protocol::kVersion);
    return header;
}

// --- decoding -----------------------------------------------------------------------------------------------------

bool read(const Value& value, const protocol::Integers& limit, int64_t& field) {
    if (value.kind != Kind::integer || value.integer < limit.least || value.integer > limit.most) return false;
    field = value.integer;
    return true;
}

bool read(const Value& value, const protocol::Numbers& limit, double& field) {
    if (value.kind == Kind::number)
        field = value.number;
    else if (value.kind == Kind::integer)
        field = static_cast<double>(value.integer);
    else if (value.kind == Kind::natural)
        field = static_cast<double>(value.natural);
    else
        return false;
    if (limit.most == protocol::kAnyNumber) return true;  // check_finite has the last word
    return field <= limit.most && (limit.above ? field > limit.least : field >= limit.least);
}

bool read(const Value& value, const protocol::Truth&, bool& field) {
    field = value.truth;
    return value.kind == Kind::truth;
}

bool read(const Value& value, const protocol::Text& limit, std::string& field) {
    if (value.kind != Kind::text) return false;
    const int64_t characters = msgpack::utf8_characters(value.bytes);
    if (characters < 0 || static_cast<size_t>(characters) > limit.most_characters) return false;
    field = value.bytes;
    return true;
}

bool read(const Value& value, const protocol::Words& limit, std::string& field) {
    if (value.kind != Kind::text || word_index(limit, value.bytes) < 0) return false;
    field = value.bytes;
    return true;
}

bool read(const Value& value, const protocol::Octets& limit, protocol::Bytes& field) {
    if (value.kind != Kind::octets || value.bytes.size() < limit.least || value.bytes.size() > limit.most) return false;
    field.assign(value.bytes.begin(), value.bytes.end());
    return true;
}

template <class Limit, class T>
bool read(const Value& value, const Limit& limit, std::optional<T>& field) {
    if (value.kind == Kind::nil) {
        field.reset();
        return true;
    }
    return read(value, limit, field.emplace());
}

bool is_finite(double value) { return std::isfinite(value); }
bool is_finite(const std::optional<double>& value) { return !value || std::isfinite(*value); }
template <class T>
bool is_finite(const T&) {
    return true;
}

template <class Message>
bool read_fields(const Entries& entries, Message& message, std::string& why) {
    const char* wrong = nullptr;
    std::string_view which;
    Message::visit(message, [&](std::string_view name, auto& field, const auto& limit, Presence presence) {
        if (wrong != nullptr) return;
        which = name;
        bool found = false;
        for (const Entry& entry : entries) {
            if (entry.name != name) continue;
            found = true;
            if (!read(entry.value, limit, field)) wrong = " is of the wrong type or outside its limits";
        }
        if (!found && presence == Presence::required) wrong = " is missing";
        if (wrong == nullptr && !is_finite(field)) wrong = " is not a finite number";
    });
    if (wrong != nullptr) why = "header: " + std::string(which) + wrong;
    return wrong == nullptr;
}

bool read_entries(const Frame& header, Entries& entries) {
    msgpack::Reader reader(header.data(), header.size());
    Value head;
    if (!reader.read(head) || head.kind != Kind::map) return false;
    for (uint64_t i = 0; i < head.count; ++i) {
        Value key;
        Entry entry;
        if (!reader.read(key) || key.kind != Kind::text || !reader.read(entry.value)) return false;
        if (!reader.skip_entries(entry.value)) return false;
        entry.name = key.bytes;
        entries.push_back(entry);
    }
    return reader.at_end();
}

// Every "v" an integer, the last one ours; without any it is.
bool check_version(const Entries& entries, std::string& why) {
    bool ours = true;
    for (const Entry& entry : entries) {
        if (entry.name != kVersionField) continue;
        if (entry.value.kind != Kind::integer && entry.value.kind != Kind::natural) {
            why = "header: v is not an integer";
            return false;
        }
        ours = entry.value.kind == Kind::integer && entry.value.integer == protocol::kVersion;
    }
    if (!ours) why = "version: this side speaks " + std::to_string(protocol::kVersion);
    return ours;
}

bool find_type(const Entries& entries, std::string_view& type) {
    bool found = false;
    for (const Entry& entry : entries) {
        if (entry.name != kTypeField) continue;
        if (entry.value.kind != Kind::text || (found && entry.value.bytes != type)) return false;
        type = entry.value.bytes;
        found = true;
    }
    return found;
}

int64_t payload_bytes(const protocol::Audio& m) { return m.samples * m.channels * kPcmBytes; }
int64_t payload_bytes(const protocol::Chunk& m) { return m.samples * m.channels * kPcmBytes; }
int64_t payload_bytes(const protocol::CodesChunk& m) {
    // Both are at most 2^31: their product holds, twice it need not.
    const int64_t codes = m.frames * m.num_codebooks;
    return codes > protocol::kMaxPayloadBytes ? protocol::kMaxPayloadBytes + 1 : codes * kCodeBytes;
}

template <class Message>
bool check_payload(const Message& message, const Frames& frames, std::string& why) {
    if constexpr (Message::has_payload) {
        const auto size = frames.size() == kMostFrames ? static_cast<int64_t>(frames[1].size()) : 0;
        if (size == payload_bytes(message)) return true;
        why = "payload: of " + std::to_string(size) + " bytes, the header says otherwise";
        return false;
    } else {
        if (frames.size() < kMostFrames) return true;
        why = "payload: " + std::string(Message::type) + " takes none";
        return false;
    }
}

// The alternative whose type it is; tries them in turn.
template <size_t index = 0>
bool read_message(std::string_view type, const Entries& entries, const Frames& frames, AnyMessage& message,
                  std::string& why) {
    if constexpr (index == std::variant_size_v<AnyMessage>) {
        why = "header: unknown type";
        return false;
    } else {
        using Message = std::variant_alternative_t<index, AnyMessage>;
        if (type != Message::type) return read_message<index + 1>(type, entries, frames, message, why);
        Message made;
        if (!read_fields(entries, made, why) || !check_payload(made, frames, why)) return false;
        message = std::move(made);
        return true;
    }
}

bool check_sizes(const Frames& frames, std::string& why) {
    if (frames.empty() || frames.size() > kMostFrames) {
        why = "frames: " + std::to_string(frames.size()) + ", 1 or 2 expected";
        return false;
    }
    const bool long_payload =
        frames.size() == kMostFrames && frames[1].size() > static_cast<size_t>(protocol::kMaxPayloadBytes);
    if (frames[0].size() <= static_cast<size_t>(protocol::kMaxHeaderBytes) && !long_payload) return true;
    why = "size: a frame is too long";
    return false;
}

}  // namespace

Frames encode(const AnyMessage& message, const void* payload, size_t payload_bytes) {
    return std::visit(
        [&](const auto& chosen) {
            Frames frames{header_of(chosen)};
            if constexpr (std::decay_t<decltype(chosen)>::has_payload) {
                const auto* first = static_cast<const uint8_t*>(payload);
                frames.emplace_back(first, first + payload_bytes);
            }
            return frames;
        },
        message);
}

bool decode(const Frames& frames, AnyMessage& message, Frame& payload, std::string& why) {
    if (!check_sizes(frames, why)) return false;
    Entries entries;
    std::string_view type;
    if (!read_entries(frames[0], entries)) {
        why = "header: no well-formed map with names";
        return false;
    }
    if (!check_version(entries, why)) return false;
    if (!find_type(entries, type)) {
        why = "header: no type, or more than one";
        return false;
    }
    if (!read_message(type, entries, frames, message, why)) return false;
    payload = frames.size() == kMostFrames ? frames[1] : Frame{};
    return true;
}

}  // namespace attacca
