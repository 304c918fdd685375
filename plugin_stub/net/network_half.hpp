// The network half: session, heartbeats, chunks into the ring; bridge/client_network.py in C++. One call does one turn;
// the network thread (instance.cpp) calls it in a loop. Reconnects with back-off for ever; a new session is told
// everything it must know to go on: parameters, transport, the last seconds of input audio. Held notes and the take
// that is still held are the audio half's to send again when it reads ToAudio::opened, which comes after all that.
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
    double history_s{8.0};  // input audio told again to a new session; an engine refuses more than 10 s at once
};

class NetworkHalf {
public:
    // `clock_s`: seconds since some moment, monotonic (injected for tests). Allocates; may throw std::bad_alloc.
    NetworkHalf(const NetworkConfig& config, std::unique_ptr<Link> link, Exchange& exchange,
                std::function<double()> clock_s);
    ~NetworkHalf();

    // Send what is queued, take in what came, keep the session alive; messages received. Never throws.
    int pump(int timeout_ms) noexcept;
    void close() noexcept;  // say goodbye; pump does nothing until `attach`
    // A new link after `close`: what a session must be told, and what is due, is still known.
    void attach(std::unique_ptr<Link> link) noexcept;

    // Network thread writes, any thread may copy (guarded by a mutex that the audio thread never takes).
    std::string state_text() const;  // the engine's state in words, e.g. "armed for bar 17"; "" if it said nothing
    std::string error_text() const;  // the last error's text; "" once a session is open
    std::string model_text() const;
    // What to play, in words, for models that take text; said now and to every session. Any thread but audio.
    void set_words(const std::string& words);
    std::string words_refused() const;  // why the engine did not take them; "" if it did
    bool takes_words() const noexcept;  // any thread: whether the engine's model takes text; true without a session
    bool greeted() const noexcept;      // any thread: a hello is out and unanswered: something listens there

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace attacca
