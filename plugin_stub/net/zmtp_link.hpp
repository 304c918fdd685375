// The link over TCP: one connection at a time, kept up by itself with back-off. Between the network half and the
// socket. Thread: network; no method throws, and none blocks longer than told.
#pragma once

#include <array>
#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "link.hpp"
#include "resolver.hpp"
#include "socket.hpp"
#include "zmtp.hpp"

namespace attacca {

class ZmtpLink final : public Link {
public:
    // `name`: see zmtp::Connection.
    ZmtpLink(Address address, zmtp::Role role, std::string name);

    bool send(const Frames& frames) override;
    bool receive(Frames& frames, int timeout_ms) override;
    void reopen() override;
    void close() override;

    // For tests and texts: why the last connection ended, and whether one is up.
    const std::string& why() const { return why_; }
    bool ready() const override { return connection_ && connection_->ready(); }
    bool refused() const override { return refused_; }

private:
    using Clock = std::chrono::steady_clock;
    using Time = Clock::time_point;
    enum class State { waiting, resolving, connecting, open, closed };

    bool turn(int timeout_ms);
    bool turn_waiting(int timeout_ms);
    bool turn_resolving(int timeout_ms);
    bool turn_connecting(int timeout_ms);
    bool turn_open(int timeout_ms);
    void next_endpoint();
    void opened();
    bool read();
    bool parse(Frames& frames);
    void flush();
    void lose(std::string why);
    int wait_ms(Time until, int timeout_ms) const;
    void forget();

    const zmtp::Role role_;
    const std::string name_;
    SocketSystem system_;
    Resolver resolver_;
    Socket socket_;
    State state_{State::waiting};
    std::vector<Endpoint> endpoints_;
    size_t endpoint_{0};
    Time next_at_{};  // waiting: when to try again; connecting, open: when to give up the attempt
    std::chrono::milliseconds back_off_;
    std::unique_ptr<zmtp::Connection> connection_;
    std::deque<zmtp::Bytes> outgoing_;  // whole messages; the first may be sent in part
    zmtp::Bytes urgent_;                // greeting and commands: they go before messages, never inside one
    size_t outgoing_bytes_{0}, first_sent_{0}, urgent_sent_{0};
    std::vector<uint8_t> incoming_;
    size_t incoming_at_{0}, incoming_end_{0};
    bool refused_{false};
    std::string why_;
};

}  // namespace attacca
