// ZMTP 3.0 as bytes in, messages out: greeting, NULL handshake, frames and commands of one connection of a DEALER or a
// SUB, without a socket, so that it can be fed by tests and fuzzers. Below the link, which owns the socket. Follows
// https://rfc.zeromq.org/spec/23. Thread: network. Memory is bounded by the limits below whatever the peer sends.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "link.hpp"

namespace attacca::zmtp {

using Bytes = std::vector<uint8_t>;

enum class Role { dealer, subscriber };

inline constexpr size_t kGreetingBytes = 64;
inline constexpr size_t kMaxCommandBytes = 4096;
inline constexpr size_t kMaxFrames = 8;  // of one message; the protocol above has at most 3

// What a client says as soon as it is connected.
Bytes greeting();

// A message as it goes over the wire.
void append_message(Bytes& out, const Frames& frames);

// The client's side of one connection.
class Connection {
public:
    // `name`: a dealer's identity, a subscriber's topic prefix; at most 255 bytes.
    Connection(Role role, std::string name);

    enum class Event {
        starved,  // all bytes are used up
        message,  // one message is complete; there may be bytes left
        failed,   // the peer broke the rules: close the socket; why() says how
    };

    // Uses bytes from `data` up to `end`, moving `data` on. What must be answered is appended to `reply`.
    Event feed(const uint8_t*& data, const uint8_t* end, Frames& message, Bytes& reply);

    bool ready() const { return ready_; }  // the handshake is done: messages may be sent
    const std::string& why() const { return why_; }

private:
    enum class Stage { greeting, flags, size, body };

    bool fail(std::string why);
    bool fill_head(const uint8_t*& data, const uint8_t* end, size_t wanted);
    bool check_greeting() const;
    bool take_greeting(Bytes& reply);
    bool take_flags(uint8_t flags);
    bool take_size();
    bool take_command(Bytes& reply);
    bool take_ready(const uint8_t* at, const uint8_t* end, Bytes& reply);
    size_t most_bytes() const;
    bool suits(std::string_view socket_type) const;

    const Role role_;
    const std::string name_;
    Stage stage_{Stage::greeting};
    bool ready_{false}, failed_{false};
    std::array<uint8_t, kGreetingBytes> head_{};  // greeting or size, while it is incomplete
    size_t head_bytes_{0};
    bool more_{false}, long_{false}, command_{false};
    size_t missing_{0};  // bytes of the body
    Bytes body_;
    Frames frames_;
    std::string why_;
};

}  // namespace attacca::zmtp
