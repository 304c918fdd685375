// Outgoing: from the audio thread's records to messages, or, while there is no session, to what a later one is told.
// Holds back what the link does not take, so that nothing is lost while the outbox has room. Thread: network.
#pragma once

#include <string>
#include <vector>

#include "../core/exchange.hpp"
#include "chunk_intake.hpp"
#include "session_history.hpp"

namespace attacca {

// Nonces of pings that ask whether all is done; those below keep the session alive.
inline constexpr int64_t kSettledFrom = int64_t{1} << 32;

class Outgoing {
public:
    Outgoing(Exchange& exchange, SessionHistory& history, ChunkIntake& intake, int64_t channels);

    // Without a session: everything queued goes into the history, or is counted as unsent.
    void remember();
    // With a session: everything queued goes to the link, until it takes no more.
    void send(Link& link);
    // A new session: its briefing comes first, whatever waited for the old one is void. False until all is sent.
    void begin_briefing();
    bool brief(Link& link);

    bool held_back() const { return !waiting_.empty(); }
    int64_t sent() const { return sent_; }  // messages that the link took, ever
    void forget();                          // the session is gone, and with it what waited

private:
    bool pass(Link& link);  // what waits; false if the link does not take it
    bool next(AnyMessage& message, const float*& payload, size_t& payload_bytes);
    bool next_audio(AnyMessage& message, const float*& payload, size_t& payload_bytes);
    bool translate(const ToNetwork& record, AnyMessage& message);

    Exchange& exchange_;
    SessionHistory& history_;
    ChunkIntake& intake_;
    const int64_t channels_, piece_samples_;
    std::vector<float> piece_;
    int64_t audio_position_{0}, audio_left_{0};  // of an audio record longer than a piece
    Frames waiting_;                             // a message that the link did not take
    size_t briefed_{0};                          // messages of the briefing that are out
    int64_t sent_{0};
};

}  // namespace attacca
