// Link: how the network thread exchanges multipart messages with an engine; bridge/link.py in C++. Small, so that tests
// can put a scripted or faulty wire in its place. Thread: network. No method throws, aborts or blocks longer than told.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace attacca {

using Frame = std::vector<uint8_t>;
using Frames = std::vector<Frame>;

class Link {
public:
    virtual ~Link() = default;
    // False: the queue is full, or the link is closed; the message is dropped. True: queued; what is queued while a
    // connection is being made (or made again) goes out once it is up.
    virtual bool send(const Frames& frames) = 0;
    virtual bool receive(Frames& frames, int timeout_ms) = 0;  // false: nothing came in time
    virtual bool ready() const { return true; }                // a peer is there: what is sent now goes out
    virtual bool refused() const { return false; }             // nobody was there when it was tried last
    virtual void reopen() = 0;                                 // start afresh; what was under way is lost
    virtual void close() = 0;                                  // at once
};

// A DEALER over one non-blocking TCP socket, speaking ZMTP 3.0 (NULL mechanism): our own, so that nothing in the host's
// process can abort. Reconnects by itself with back-off. `address` as ZeroMQ writes it ("tcp://host:port"); empty if it
// cannot be one. `identity`: the routing id, 1..255 bytes, not beginning with 0.
std::unique_ptr<Link> make_dealer(const std::string& address, const std::string& identity);

// A SUB over the same: receives [topic, header, payload] for the given topic prefix.
std::unique_ptr<Link> make_subscriber(const std::string& address, const std::string& topic_prefix);

}  // namespace attacca
