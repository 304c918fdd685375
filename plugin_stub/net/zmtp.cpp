// See zmtp.hpp.
#include "zmtp.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "../protocol.hpp"

namespace attacca::zmtp {
namespace {

constexpr uint8_t kSignatureFirst = 0xFF, kSignatureLast = 0x7F;
constexpr size_t kSignatureEnd = 9, kVersionAt = 10, kMechanismAt = 12, kMechanismBytes = 20;
constexpr uint8_t kMajor = 3;
constexpr uint8_t kMore = 1, kLong = 2, kCommand = 4;
constexpr size_t kShortest = 1, kLongest = 8;  // bytes of a size
constexpr size_t kMostShort = 255;
constexpr size_t kReserved = 65536;  // of a body at first; a peer may announce more than it sends
constexpr size_t kPingTtlBytes = 2, kPingContextBytes = 16;
constexpr uint8_t kSubscribe = 1;
constexpr std::string_view kMechanism = "NULL";

void append(Bytes& out, std::string_view text) { out.insert(out.end(), text.begin(), text.end()); }

void append_size(Bytes& out, uint64_t size, size_t bytes) {
    for (size_t i = bytes; i-- > 0;) out.push_back(static_cast<uint8_t>(size >> (8 * i)));
}

uint64_t read_size(const uint8_t* at, size_t bytes) {
    uint64_t size = 0;
    for (size_t i = 0; i < bytes; ++i) size = size << 8 | at[i];
    return size;
}

void append_frame(Bytes& out, uint8_t flags, const uint8_t* data, size_t size) {
    const bool is_long = size > kMostShort;
    out.push_back(static_cast<uint8_t>(flags | (is_long ? kLong : 0)));
    append_size(out, size, is_long ? kLongest : kShortest);
    if (size > 0) out.insert(out.end(), data, data + size);
}

void append_command(Bytes& out, std::string_view name, const Bytes& arguments) {
    Bytes body;
    body.push_back(static_cast<uint8_t>(name.size()));
    append(body, name);
    body.insert(body.end(), arguments.begin(), arguments.end());
    append_frame(out, kCommand, body.data(), body.size());
}

void append_property(Bytes& out, std::string_view name, std::string_view value) {
    out.push_back(static_cast<uint8_t>(name.size()));
    append(out, name);
    append_size(out, value.size(), 4);
    append(out, value);
}

bool same_word(std::string_view one, std::string_view other) {  // ASCII, of either case, as the RFC has it
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return one.size() == other.size() &&
           std::equal(one.begin(), one.end(), other.begin(), [&](char a, char b) { return lower(a) == lower(b); });
}

std::string_view text_of(const uint8_t* at, size_t size) { return {reinterpret_cast<const char*>(at), size}; }

std::string printable(std::string_view text) {  // a peer's words, fit to be shown
    std::string out(text.substr(0, 80));
    for (char& c : out)
        if (c < ' ' || c > '~') c = '?';
    return out;
}

}  // namespace

Bytes greeting() {
    Bytes out(kGreetingBytes, 0);
    out[0] = kSignatureFirst;
    out[kSignatureEnd] = kSignatureLast;
    out[kVersionAt] = kMajor;
    std::copy(kMechanism.begin(), kMechanism.end(), out.begin() + kMechanismAt);
    return out;
}

void append_message(Bytes& out, const Frames& frames) {
    for (size_t i = 0; i < frames.size(); ++i)
        append_frame(out, i + 1 < frames.size() ? kMore : 0, frames[i].data(), frames[i].size());
}

Connection::Connection(Role role, std::string name) : role_(role), name_(std::move(name)) {}

Connection::Event Connection::feed(const uint8_t*& data, const uint8_t* end, Frames& message, Bytes& reply) {
    if (failed_) return Event::failed;
    for (;;) {
        switch (stage_) {
            case Stage::greeting: {
                const bool complete = fill_head(data, end, kGreetingBytes);
                if (!check_greeting()) {
                    fail("it does not speak ZMTP 3");
                    return Event::failed;
                }
                if (!complete) return Event::starved;
                if (!take_greeting(reply)) return Event::failed;
                break;
            }
            case Stage::flags:
                if (data == end) return Event::starved;
                if (!take_flags(*data++)) return Event::failed;
                break;
            case Stage::size:
                if (!fill_head(data, end, long_ ? kLongest : kShortest)) return Event::starved;
                if (!take_size()) return Event::failed;
                break;
            case Stage::body: {
                const size_t count = std::min(missing_, static_cast<size_t>(end - data));
                body_.insert(body_.end(), data, data + count);
                data += count;
                missing_ -= count;
                if (missing_ > 0) return Event::starved;
                stage_ = Stage::flags;
                if (command_) {
                    if (!take_command(reply)) return Event::failed;
                    break;
                }
                frames_.push_back(std::exchange(body_, {}));
                if (more_) break;
                message = std::exchange(frames_, {});
                return Event::message;
            }
        }
    }
}

bool Connection::fail(std::string why) {
    why_ = std::move(why);
    failed_ = true;
    return false;
}

// Takes bytes until `wanted` of them wait in head_; true if they do.
bool Connection::fill_head(const uint8_t*& data, const uint8_t* end, size_t wanted) {
    const size_t count = std::min(wanted - head_bytes_, static_cast<size_t>(end - data));
    std::copy(data, data + count, head_.begin() + static_cast<std::ptrdiff_t>(head_bytes_));
    data += count;
    head_bytes_ += count;
    return head_bytes_ == wanted;
}

// As far as it has come: an older peer sends less than a whole greeting and then waits for ever.
bool Connection::check_greeting() const {
    if (head_bytes_ > 0 && head_[0] != kSignatureFirst) return false;
    if (head_bytes_ > kSignatureEnd && (head_[kSignatureEnd] & 1) == 0) return false;
    return head_bytes_ <= kVersionAt || head_[kVersionAt] >= kMajor;
}

bool Connection::take_greeting(Bytes& reply) {
    std::array<char, kMechanismBytes> expected{};
    std::copy(kMechanism.begin(), kMechanism.end(), expected.begin());
    if (std::memcmp(head_.data() + kMechanismAt, expected.data(), kMechanismBytes) != 0) {
        const auto* first = reinterpret_cast<const char*>(head_.data()) + kMechanismAt;
        const std::string_view theirs(first,
                                      static_cast<size_t>(std::find(first, first + kMechanismBytes, '\0') - first));
        return fail("it wants security mechanism " + printable(theirs));
    }
    Bytes properties;
    append_property(properties, "Socket-Type", role_ == Role::dealer ? "DEALER" : "SUB");
    if (role_ == Role::dealer) append_property(properties, "Identity", name_);
    append_command(reply, "READY", properties);
    head_bytes_ = 0;
    stage_ = Stage::flags;
    return true;
}

bool Connection::take_flags(uint8_t flags) {
    if ((flags & ~(kMore | kLong | kCommand)) != 0) return fail("a frame has unknown flags");
    more_ = (flags & kMore) != 0;
    long_ = (flags & kLong) != 0;
    command_ = (flags & kCommand) != 0;
    if (command_ && more_) return fail("a command has more than one frame");
    if (!command_ && !ready_) return fail("a message came before the handshake");
    if (!command_ && frames_.size() >= kMaxFrames) return fail("a message has too many frames");
    stage_ = Stage::size;
    return true;
}

bool Connection::take_size() {
    const uint64_t size = read_size(head_.data(), head_bytes_);
    head_bytes_ = 0;
    if (size > most_bytes())
        return fail("a frame of " + std::to_string(size) + " bytes, at most " + std::to_string(most_bytes()));
    missing_ = static_cast<size_t>(size);
    body_.clear();
    body_.reserve(std::min(missing_, kReserved));
    stage_ = Stage::body;
    return true;
}

size_t Connection::most_bytes() const {
    if (command_) return kMaxCommandBytes;
    const size_t headers = role_ == Role::dealer ? 1 : 2;  // a subscriber's messages begin with their topic
    return static_cast<size_t>(frames_.size() < headers ? protocol::kMaxHeaderBytes : protocol::kMaxPayloadBytes);
}

bool Connection::take_command(Bytes& reply) {
    const Bytes body = std::exchange(body_, {});
    if (body.empty() || body[0] == 0 || body.size() < size_t{1} + body[0]) return fail("a command has no name");
    const std::string_view name = text_of(body.data() + 1, body[0]);
    const uint8_t* at = body.data() + 1 + body[0];
    const uint8_t* const end = body.data() + body.size();
    if (name == "ERROR") {
        const size_t most = at < end ? std::min(static_cast<size_t>(*at), static_cast<size_t>(end - at - 1)) : 0;
        return fail("it says: " + (most > 0 ? printable(text_of(at + 1, most)) : std::string("error")));
    }
    if (!ready_) return name == "READY" ? take_ready(at, end, reply) : fail("no READY but " + printable(name));
    if (name == "PING" && static_cast<size_t>(end - at) >= kPingTtlBytes) {  // ZMTP 3.1
        at += kPingTtlBytes;
        append_command(reply, "PONG", Bytes(at, at + std::min(static_cast<size_t>(end - at), kPingContextBytes)));
    }
    return true;  // commands of newer versions are not for us
}

bool Connection::take_ready(const uint8_t* at, const uint8_t* end, Bytes& reply) {
    std::string_view socket_type;
    while (at < end) {
        const size_t name_bytes = *at++;
        if (name_bytes == 0 || static_cast<size_t>(end - at) < name_bytes + 4) return fail("READY is cut short");
        const std::string_view name = text_of(at, name_bytes);
        at += name_bytes;
        const uint64_t value_bytes = read_size(at, 4);
        at += 4;
        if (static_cast<uint64_t>(end - at) < value_bytes) return fail("READY is cut short");
        if (same_word(name, "Socket-Type")) socket_type = text_of(at, static_cast<size_t>(value_bytes));
        at += value_bytes;
    }
    if (!suits(socket_type)) return fail("it is a socket of type " + printable(socket_type));
    ready_ = true;
    if (role_ == Role::subscriber) {
        Bytes topic{kSubscribe};
        append(topic, name_);
        append_frame(reply, 0, topic.data(), topic.size());
    }
    return true;
}

bool Connection::suits(std::string_view socket_type) const {
    if (role_ == Role::subscriber) return socket_type == "PUB" || socket_type == "XPUB";
    return socket_type == "ROUTER";
}

}  // namespace attacca::zmtp
