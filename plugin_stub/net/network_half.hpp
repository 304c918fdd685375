// The network half: session, heartbeats, chunks into the ring; bridge/client_network.py in C++. One call does one turn;
// the network thread (instance.cpp) calls it in a loop. Reconnects with back-off for ever; a new session is told
// everything it must know to go on: parameters, transport, held notes, the last seconds of input audio, and the take
// that is still held.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "../core/exchange.hpp"
#include "link.hpp"

namespace attacca {

struct NetworkConfig {
    std::string client{"attacca plugin"};
    std::string model;  // empty: the engine's own
    int64_t sample_rate{48000};
    int64_t channels{2};
    double history_s{10.0};  // input audio told again to a new session
};

class NetworkHalf {
public:
    // `clock_s`: seconds since some moment, monotonic (injected for tests).
    NetworkHalf(const NetworkConfig& config, std::unique_ptr<Link> link, Exchange& exchange,
                std::function<double()> clock_s);
    ~NetworkHalf();

    int pump(int timeout_ms);  // send what is queued, take in what came, keep the session alive; messages received
    void close();              // say goodbye

    // Network thread writes, any thread may copy (guarded by a mutex that the audio thread never takes).
    std::string state_text() const;  // the engine's state in words, e.g. "armed for bar 17"; "" if it said nothing
    std::string error_text() const;  // the last error's text
    std::string model_text() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace attacca
