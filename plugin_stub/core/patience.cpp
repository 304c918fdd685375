// See patience.hpp.
#include "patience.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

namespace attacca {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kMeet_s = 3.0;
constexpr double kAfterTimeout_s = 0.01;
constexpr std::chrono::microseconds kPoll{300};

Clock::time_point in(double seconds) {
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

void Patience::meet(TakeBook& takes, const Playback& playback) noexcept {
    if (met_) return;
    met_ = true;
    const auto deadline = in(std::min(wait_s_, kMeet_s));
    for (takes.follow(playback.sounding()); takes.openings() == 0; takes.follow(playback.sounding())) {
        if (exchange_.engine.absent.load(std::memory_order_relaxed) || Clock::now() >= deadline) {
            exchange_.audio.wait_timeouts.fetch_add(1, std::memory_order_relaxed);
            return;
        }
        std::this_thread::sleep_for(kPoll);
    }
}

bool Patience::wait(int64_t position, TakeBook& takes, const Playback& playback, Outlet& outlet) noexcept {
    ask(outlet, takes);
    auto deadline = in(starved_ ? std::min(wait_s_, kAfterTimeout_s) : wait_s_);
    while (!ready(position, takes)) {
        if (Clock::now() >= deadline) {
            exchange_.audio.wait_timeouts.fetch_add(1, std::memory_order_relaxed);
            starved_ = true;
            seen_arrivals_ = arrived();
            return false;
        }
        std::this_thread::sleep_for(kPoll);
        takes.follow(playback.sounding());
        if (takes.connected() && takes.openings() != asked_opening_) ask(outlet, takes);
        if (starved_ && arrived() != seen_arrivals_) {
            starved_ = false;
            deadline = in(wait_s_);
        }
    }
    starved_ = false;
    return true;
}

void Patience::ask(Outlet& outlet, const TakeBook& takes) noexcept {
    asked_opening_ = takes.openings();
    ToNetwork record;
    record.kind = ToNetwork::Kind::settled;
    record.position = ++asked_;
    outlet.put(record);
}

// Without a session there is nothing to wait for but what is due: the fallbacks have it.
bool Patience::ready(int64_t position, const TakeBook& takes) const noexcept {
    const bool settled = exchange_.engine.settled.load(std::memory_order_acquire) >= asked_ || !takes.connected();
    return settled && takes.covered(position);
}

int64_t Patience::arrived() const noexcept { return exchange_.engine.chunks.load(std::memory_order_acquire); }

}  // namespace attacca
