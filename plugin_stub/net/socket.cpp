// See socket.hpp.
#include "socket.hpp"

#ifdef _WIN32
#include <winsock2.h>
#include <ws2tcpip.h>
#else
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#endif

#include <algorithm>
#include <climits>
#include <cstring>

namespace attacca {
namespace {

constexpr size_t kMostAtOnce = INT_MAX;

#ifdef _WIN32
using Handle = SOCKET;
using Length = int;
constexpr int kSendFlags = 0;
constexpr int kShutWrite = SD_SEND;
int last_error() { return WSAGetLastError(); }
bool is_pending(int error) { return error == WSAEWOULDBLOCK || error == WSAEINPROGRESS; }
bool is_again(int error) { return error == WSAEWOULDBLOCK; }
bool is_interrupted(int) { return false; }
int clip(size_t size) { return static_cast<int>(std::min(size, kMostAtOnce)); }
#else
using Handle = int;
using Length = socklen_t;
#ifdef MSG_NOSIGNAL
constexpr int kSendFlags = MSG_NOSIGNAL;
#else
constexpr int kSendFlags = 0;  // SO_NOSIGPIPE is set instead
#endif
constexpr int kShutWrite = SHUT_WR;
int last_error() { return errno; }
bool is_pending(int error) { return error == EINPROGRESS || error == EINTR; }
bool is_again(int error) { return error == EAGAIN || error == EWOULDBLOCK; }
bool is_interrupted(int error) { return error == EINTR; }
size_t clip(size_t size) { return std::min(size, kMostAtOnce); }
#endif

Handle as_handle(intptr_t handle) { return static_cast<Handle>(handle); }

void close_handle(Handle handle) {
    ::shutdown(handle, kShutWrite);
#ifdef _WIN32
    ::closesocket(handle);
#else
    ::close(handle);
#endif
}

void set(Handle handle, int level, int option, int value) {  // a socket without it still works
    ::setsockopt(handle, level, option, reinterpret_cast<const char*>(&value), sizeof value);
}

bool set_non_blocking(Handle handle) {
#ifdef _WIN32
    u_long on = 1;
    return ::ioctlsocket(handle, FIONBIO, &on) == 0;
#else
    const int flags = ::fcntl(handle, F_GETFL, 0);
    ::fcntl(handle, F_SETFD, FD_CLOEXEC);
    return flags >= 0 && ::fcntl(handle, F_SETFL, flags | O_NONBLOCK) == 0;
#endif
}

// A peer that has gone without a word is found out in half a minute, also where nothing is sent to it.
void set_options(Handle handle) {
    set(handle, IPPROTO_TCP, TCP_NODELAY, 1);
    set(handle, SOL_SOCKET, SO_KEEPALIVE, 1);
#ifdef TCP_KEEPIDLE
    set(handle, IPPROTO_TCP, TCP_KEEPIDLE, 10);
    set(handle, IPPROTO_TCP, TCP_KEEPINTVL, 5);
    set(handle, IPPROTO_TCP, TCP_KEEPCNT, 4);
#elif defined(TCP_KEEPALIVE)
    set(handle, IPPROTO_TCP, TCP_KEEPALIVE, 10);
#endif
#ifdef SO_NOSIGPIPE
    set(handle, SOL_SOCKET, SO_NOSIGPIPE, 1);
#endif
}

// A connection to a port of this machine that nobody listens on may meet its own other end.
bool is_itself(Handle handle) {
    sockaddr_storage here{}, there{};
    Length here_bytes = sizeof here, there_bytes = sizeof there;
    return ::getsockname(handle, reinterpret_cast<sockaddr*>(&here), &here_bytes) == 0 &&
           ::getpeername(handle, reinterpret_cast<sockaddr*>(&there), &there_bytes) == 0 && here_bytes == there_bytes &&
           std::memcmp(&here, &there, static_cast<size_t>(here_bytes)) == 0;
}

}  // namespace

#ifdef _WIN32
SocketSystem::SocketSystem() {
    WSADATA data;
    (void)::WSAStartup(MAKEWORD(2, 2), &data);  // if it fails, every socket does
}
SocketSystem::~SocketSystem() { ::WSACleanup(); }
#else
SocketSystem::SocketSystem() = default;
SocketSystem::~SocketSystem() = default;
#endif

Socket::Status Socket::connect(const Endpoint& endpoint) {
    close();
    const Handle handle = ::socket(endpoint.family, SOCK_STREAM, IPPROTO_TCP);
    if (static_cast<intptr_t>(handle) == kNone) return Status::failed;
    handle_ = static_cast<intptr_t>(handle);
    if (!set_non_blocking(handle)) {
        close();
        return Status::failed;
    }
    set_options(handle);
    const auto* address = reinterpret_cast<const sockaddr*>(endpoint.address.data());
    if (::connect(handle, address, static_cast<Length>(endpoint.address.size())) == 0) return finish_connect();
    if (is_pending(last_error())) return Status::again;
    close();
    return Status::failed;
}

Socket::Status Socket::finish_connect() {
    int error = 0;
    Length size = sizeof error;
    const bool asked =
        ::getsockopt(as_handle(handle_), SOL_SOCKET, SO_ERROR, reinterpret_cast<char*>(&error), &size) == 0;
    if (asked && error == 0 && !is_itself(as_handle(handle_))) return Status::done;
    close();
    return Status::failed;
}

Socket::Status Socket::send(const uint8_t* data, size_t size, size_t& sent) {
    sent = 0;
    for (;;) {
        const auto count = ::send(as_handle(handle_), reinterpret_cast<const char*>(data), clip(size), kSendFlags);
        if (count >= 0) {
            sent = static_cast<size_t>(count);
            return Status::done;
        }
        const int error = last_error();
        if (is_again(error)) return Status::again;
        if (!is_interrupted(error)) return Status::failed;
    }
}

Socket::Status Socket::receive(uint8_t* data, size_t size, size_t& received) {
    received = 0;
    for (;;) {
        const auto count = ::recv(as_handle(handle_), reinterpret_cast<char*>(data), clip(size), 0);
        if (count > 0) {
            received = static_cast<size_t>(count);
            return Status::done;
        }
        if (count == 0) return Status::failed;
        const int error = last_error();
        if (is_again(error)) return Status::again;
        if (!is_interrupted(error)) return Status::failed;
    }
}

void Socket::close() {
    if (handle_ == kNone) return;
    close_handle(as_handle(handle_));
    handle_ = kNone;
}

#ifdef _WIN32
// select, not WSAPoll: that one does not tell of a connection that was refused on older systems.
Socket::Ready Socket::wait(bool for_read, bool for_write, int timeout_ms) const {
    fd_set readable, writable, failed;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_ZERO(&failed);
    if (for_read) FD_SET(as_handle(handle_), &readable);
    if (for_write) FD_SET(as_handle(handle_), &writable);
    FD_SET(as_handle(handle_), &failed);
    timeval timeout{timeout_ms / 1000, timeout_ms % 1000 * 1000};
    if (::select(0, &readable, &writable, &failed, &timeout) <= 0) return {false, false};
    const bool broken = FD_ISSET(as_handle(handle_), &failed) != 0;
    return {broken || FD_ISSET(as_handle(handle_), &readable) != 0,
            broken || FD_ISSET(as_handle(handle_), &writable) != 0};
}
#else
Socket::Ready Socket::wait(bool for_read, bool for_write, int timeout_ms) const {
    pollfd entry{as_handle(handle_), 0, 0};
    if (for_read) entry.events |= POLLIN;
    if (for_write) entry.events |= POLLOUT;
    if (::poll(&entry, 1, timeout_ms) <= 0) return {false, false};  // interrupted: as if the time were over
    const bool broken = (entry.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
    return {broken || (entry.revents & POLLIN) != 0, broken || (entry.revents & POLLOUT) != 0};
}
#endif

}  // namespace attacca
