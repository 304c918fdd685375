// Patience: the waits of offline renders. Only where the host says that it is not in real time, between a block's
// events and its audio: until the engine has done all it was asked for and what is due is there; `wait_for` of
// bridge/client.py. Bounded; a timeout leaves the block to the fallbacks. Thread: audio. Sleeps.
#pragma once

#include <cstdint>

#include "take_book.hpp"

namespace attacca {

class Patience {
public:
    Patience(double wait_s, Exchange& exchange) noexcept : wait_s_(wait_s), exchange_(exchange) {}

    // Before a render's first block: a host may begin one as soon as it has made the plugin, before the engine was
    // found. Once, and not where nobody listens: hosts render offline when they load a plugin, too.
    void meet(TakeBook& takes, const Playback& playback) noexcept;

    // Until all before `position` is there. False on a timeout; until a chunk comes, the next waits are short then.
    bool wait(int64_t position, TakeBook& takes, const Playback& playback, Outlet& outlet) noexcept;

private:
    void ask(Outlet& outlet, const TakeBook& takes) noexcept;
    bool ready(int64_t position, const TakeBook& takes) const noexcept;
    int64_t arrived() const noexcept;

    const double wait_s_;
    Exchange& exchange_;
    int64_t asked_{0};          // whether all is settled, so many times
    int64_t asked_opening_{0};  // TakeBook::openings then: a question is lost with its session
    bool met_{false}, starved_{false};
    int64_t seen_arrivals_{0};
};

}  // namespace attacca
