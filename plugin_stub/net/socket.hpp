// One non-blocking TCP socket, POSIX or winsock: the only file (with resolver.cpp) that knows which. Below the link.
// Thread: network. Nothing here blocks longer than told, throws or raises a signal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace attacca {

// A resolved address, as the system keeps it.
struct Endpoint {
    int family{};
    std::vector<uint8_t> address;  // sockaddr
};

// Holds the system's sockets open for use (winsock wants it; elsewhere nothing).
class SocketSystem {
public:
    SocketSystem();
    ~SocketSystem();
    SocketSystem(const SocketSystem&) = delete;
    SocketSystem& operator=(const SocketSystem&) = delete;
};

class Socket {
public:
    Socket() = default;
    ~Socket() { close(); }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;

    enum class Status { done, again, failed };

    Status connect(const Endpoint& endpoint);  // again: under way; finish_connect() when it can be written
    Status finish_connect();
    Status send(const uint8_t* data, size_t size, size_t& sent);
    Status receive(uint8_t* data, size_t size, size_t& received);  // failed: closed by the peer, or lost
    bool is_open() const { return handle_ != kNone; }
    void close();

    struct Ready {
        bool read, write;
    };
    // Waits until it can be read (or, if asked, written) or has failed, at most `timeout_ms`.
    Ready wait(bool for_read, bool for_write, int timeout_ms) const;

private:
    static constexpr intptr_t kNone = -1;
    intptr_t handle_{kNone};
};

}  // namespace attacca
