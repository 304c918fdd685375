// The plugin's own dealer against a peer that echoes, for the sanitizers. `stress_link ADDRESS SECONDS [SEED]`:
// messages of every size, connections dropped and made again. Prints what came back; 1 where an echo was none of ours.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "net/link.hpp"

namespace {

using namespace attacca;
using Clock = std::chrono::steady_clock;

constexpr size_t kMostBytes = 40000;

Frame number_of(uint32_t number) {
    return {static_cast<uint8_t>(number), static_cast<uint8_t>(number >> 8), static_cast<uint8_t>(number >> 16),
            static_cast<uint8_t>(number >> 24)};
}

// What a message of this number and size holds.
Frame body_of(uint32_t number, size_t bytes) {
    Frame body(bytes);
    for (size_t i = 0; i < bytes; ++i) body[i] = static_cast<uint8_t>(number * 31 + i * 7);
    return body;
}

bool is_ours(const Frames& frames) {
    if (frames.size() != 2 || frames[0].size() != 4) return false;
    const uint32_t number =
        frames[0][0] | frames[0][1] << 8 | frames[0][2] << 16 | static_cast<uint32_t>(frames[0][3]) << 24;
    return frames[1] == body_of(number, frames[1].size());
}

}  // namespace

int main(int count, char** words) {
    if (count < 3) return 2;
    std::mt19937 chance(static_cast<uint32_t>(count > 3 ? std::atol(words[3]) : 1));
    const auto link = make_dealer(words[1], "stress");
    if (!link) return 2;
    const auto end = Clock::now() + std::chrono::microseconds(static_cast<int64_t>(std::atof(words[2]) * 1e6));
    long long sent = 0, back = 0, wrong = 0, reopened = 0;
    Frames frames;
    while (Clock::now() < end) {
        const size_t bytes = chance() % 8 == 0 ? chance() % kMostBytes : chance() % 300;
        const auto number = static_cast<uint32_t>(sent);
        if (link->ready()) sent += link->send({number_of(number), body_of(number, bytes)});
        for (int wait_ms = 1; link->receive(frames, wait_ms); wait_ms = 0) {
            ++back;
            wrong += !is_ours(frames);
        }
        if (chance() % 400 != 0) continue;
        link->reopen();
        ++reopened;
    }
    link->close();
    std::printf("sent=%lld back=%lld wrong=%lld reopened=%lld\n", sent, back, wrong, reopened);
    return wrong == 0 ? 0 : 1;
}
