// C interface to the wire for pytest: links, one ZMTP connection fed by hand, and the codec. Beside the path; the
// caller owns what the *_new functions return. Frames cross as one run of bytes and the size of each.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <string>

#include "net/resolver.hpp"
#include "net/wire.hpp"
#include "net/zmtp.hpp"
#include "net/zmtp_link.hpp"

#ifdef _WIN32
#define EXPORTED extern "C" __declspec(dllexport)
#else
#define EXPORTED extern "C" __attribute__((visibility("default")))
#endif

namespace {

using attacca::Frame;
using attacca::Frames;

constexpr int kTooSmall = -1;  // the caller's buffer

Frames frames_of(const uint8_t* data, const int64_t* sizes, int count) {
    Frames frames;
    for (int i = 0; i < count; ++i) {
        frames.emplace_back(data, data + sizes[i]);
        data += sizes[i];
    }
    return frames;
}

int hand_out(const Frames& frames, uint8_t* out, int64_t capacity, int64_t* sizes, int most) {
    if (frames.size() > static_cast<size_t>(most)) return kTooSmall;
    int count = 0;
    for (const Frame& frame : frames) {
        const auto size = static_cast<int64_t>(frame.size());
        if (size > capacity) return kTooSmall;
        std::copy(frame.begin(), frame.end(), out);
        out += size;
        capacity -= size;
        sizes[count++] = size;
    }
    return count;
}

void say(const std::string& text, char* out, int64_t capacity) {
    const auto count = std::min(text.size(), static_cast<size_t>(capacity - 1));
    std::memcpy(out, text.data(), count);
    out[count] = '\0';
}

struct Fed {  // one connection and what it answered
    attacca::zmtp::Connection connection;
    attacca::zmtp::Bytes reply;
};

}  // namespace

EXPORTED void* attacca_dealer_new(const char* address, const char* identity, int64_t identity_bytes) {
    return attacca::make_dealer(address, std::string(identity, static_cast<size_t>(identity_bytes))).release();
}

EXPORTED void* attacca_subscriber_new(const char* address, const char* topic, int64_t topic_bytes) {
    return attacca::make_subscriber(address, std::string(topic, static_cast<size_t>(topic_bytes))).release();
}

EXPORTED void attacca_link_free(void* link) { delete static_cast<attacca::Link*>(link); }

EXPORTED int attacca_link_send(void* link, const uint8_t* data, const int64_t* sizes, int count) {
    return static_cast<attacca::Link*>(link)->send(frames_of(data, sizes, count)) ? 1 : 0;
}

// How many frames there were, 0 for no message.
EXPORTED int attacca_link_receive(void* link, int timeout_ms, uint8_t* out, int64_t capacity, int64_t* sizes,
                                  int most) {
    Frames frames;
    if (!static_cast<attacca::Link*>(link)->receive(frames, timeout_ms)) return 0;
    return hand_out(frames, out, capacity, sizes, most);
}

EXPORTED void attacca_link_reopen(void* link) { static_cast<attacca::Link*>(link)->reopen(); }
EXPORTED void attacca_link_close(void* link) { static_cast<attacca::Link*>(link)->close(); }

EXPORTED int attacca_link_ready(void* link) {
    return static_cast<attacca::ZmtpLink*>(static_cast<attacca::Link*>(link))->ready() ? 1 : 0;
}

EXPORTED void attacca_link_why(void* link, char* out, int64_t capacity) {
    say(static_cast<attacca::ZmtpLink*>(static_cast<attacca::Link*>(link))->why(), out, capacity);
}

// The host (empty: refused) and port of an address.
EXPORTED void attacca_parse_address(const char* text, char* host, char* port, int64_t capacity) {
    const attacca::Address address = attacca::parse_address(text);
    say(address.host, host, capacity);
    say(address.port, port, capacity);
}

EXPORTED void* attacca_connection_new(int subscriber, const char* name) {
    using attacca::zmtp::Role;
    return new Fed{{subscriber != 0 ? Role::subscriber : Role::dealer, name}, {}};
}

EXPORTED void attacca_connection_free(void* fed) { delete static_cast<Fed*>(fed); }

// Uses bytes up to the end of a message: 0 starved, 1 message, 2 failed; `used` bytes were taken, `frames` came.
EXPORTED int attacca_connection_feed(void* handle, const uint8_t* data, int64_t size, int64_t* used, uint8_t* out,
                                     int64_t capacity, int64_t* sizes, int most, int* frames) {
    auto& fed = *static_cast<Fed*>(handle);
    Frames message;
    const uint8_t* at = data;
    const auto event = fed.connection.feed(at, data + size, message, fed.reply);
    *used = at - data;
    *frames = hand_out(message, out, capacity, sizes, most);
    return static_cast<int>(event);
}

// Moves out what the connection has answered so far; how many bytes.
EXPORTED int64_t attacca_connection_reply(void* handle, uint8_t* out, int64_t capacity) {
    auto& fed = *static_cast<Fed*>(handle);
    const auto size = static_cast<int64_t>(fed.reply.size());
    if (size > capacity) return kTooSmall;
    std::copy(fed.reply.begin(), fed.reply.end(), out);
    fed.reply.clear();
    return size;
}

EXPORTED int attacca_connection_ready(void* handle) { return static_cast<Fed*>(handle)->connection.ready() ? 1 : 0; }

EXPORTED void attacca_connection_why(void* handle, char* out, int64_t capacity) {
    say(static_cast<Fed*>(handle)->connection.why(), out, capacity);
}

// Decodes and encodes again: the number of frames, or 0 and why not.
EXPORTED int attacca_recode(const uint8_t* data, const int64_t* sizes, int count, uint8_t* out, int64_t capacity,
                            int64_t* out_sizes, int most, char* why, int64_t why_capacity) {
    attacca::AnyMessage message;
    Frame payload;
    std::string reason;
    if (!attacca::decode(frames_of(data, sizes, count), message, payload, reason)) {
        say(reason, why, why_capacity);
        return 0;
    }
    return hand_out(attacca::encode(message, payload.data(), payload.size()), out, capacity, out_sizes, most);
}
