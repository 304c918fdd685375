// libFuzzer on one ZMTP connection: whatever comes, it fails or delivers, the same however the bytes are cut up, and
// never keeps more than was sent. First byte: role, and whether a proper handshake comes first; second: size of pieces.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "net/zmtp.hpp"

namespace {

using attacca::Frames;
using attacca::zmtp::Bytes;
using attacca::zmtp::Connection;
using attacca::zmtp::Role;

constexpr uint8_t kSubscriber = 1, kOpened = 2;

struct Outcome {
    std::vector<Frames> messages;
    Bytes reply;
    bool ready{false};
    std::string why;
    bool operator==(const Outcome& other) const {
        return messages == other.messages && reply == other.reply && ready == other.ready && why == other.why;
    }
};

Bytes opening(Role role) {
    Bytes out = attacca::zmtp::greeting();
    const std::string kind = role == Role::dealer ? "ROUTER" : "PUB";
    const std::string body = std::string("\x05READY\x0bSocket-Type\0\0\0", 21) + static_cast<char>(kind.size()) + kind;
    out.push_back(4);
    out.push_back(static_cast<uint8_t>(body.size()));
    out.insert(out.end(), body.begin(), body.end());
    return out;
}

Outcome fed(Role role, const Bytes& stream, size_t piece) {
    Connection connection(role, "fuzzed");
    Outcome outcome;
    auto event = Connection::Event::starved;
    for (size_t at = 0; at < stream.size() && event != Connection::Event::failed;) {
        const size_t end = std::min(stream.size(), at + piece);
        const uint8_t* data = stream.data() + at;
        do {
            Frames message;
            event = connection.feed(data, stream.data() + end, message, outcome.reply);
            if (event == Connection::Event::message) outcome.messages.push_back(message);
        } while (event == Connection::Event::message);
        if (event == Connection::Event::starved && data != stream.data() + end) std::abort();
        at = end;
    }
    outcome.ready = connection.ready();
    outcome.why = connection.why();
    if (outcome.why.empty() != (event != Connection::Event::failed)) std::abort();
    return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 2) return 0;
    const Role role = (data[0] & kSubscriber) != 0 ? Role::subscriber : Role::dealer;
    Bytes stream = (data[0] & kOpened) != 0 ? opening(role) : Bytes{};
    const size_t handshake = stream.size();
    stream.insert(stream.end(), data + 2, data + size);
    const Outcome whole = fed(role, stream, stream.size() + 1);
    if (handshake > 0 && !whole.ready) std::abort();
    if (!(fed(role, stream, size_t{1} + data[1]) == whole)) std::abort();
    size_t kept = 0;
    for (const Frames& message : whole.messages) {
        if (message.empty() || message.size() > attacca::zmtp::kMaxFrames) std::abort();
        for (const auto& frame : message) kept += frame.size() + 2;
    }
    if (kept > stream.size()) std::abort();
    Bytes again;  // what came goes out again and comes back
    for (const Frames& message : whole.messages) attacca::zmtp::append_message(again, message);
    Bytes opened = opening(role);
    opened.insert(opened.end(), again.begin(), again.end());
    if (fed(role, opened, opened.size()).messages != whole.messages) std::abort();
    return 0;
}
