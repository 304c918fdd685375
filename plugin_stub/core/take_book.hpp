// TakeBook: takes as the plugin sees them; bridge/client_takes.py in C++. Which chunks are due from which position on,
// in which epoch: a trigger, a release, a new epoch or a take's end becomes a cut in the ring, so that only what is due
// is ever heard. One take sounds at a time. Thread: audio. No allocation.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "exchange.hpp"
#include "playback.hpp"
#include "sender.hpp"
#include "timeline.hpp"

namespace attacca {

class TakeBook final : public Grid {
public:
    TakeBook(Exchange& exchange, Sender& sender, const Timeline& timeline) noexcept;

    int64_t epoch() const noexcept { return epoch_; }
    bool active() const noexcept { return current_.has_value(); }  // a take is armed or sounds

    // Arms a take at `position`, as the request says; its audio is due from its launch on.
    void trigger(TriggerRequest request, int64_t position) noexcept;

    // Ends the take at `position`, or at the next multiple of its quantum; nothing without a take.
    void release(int64_t position, bool quantized) noexcept;

    // The old prediction fails at `position`: whatever was sent for it is stale from there on.
    void enter_epoch(int64_t position, int64_t epoch) noexcept;

    // Ends the take at once, as All Sound Off does; the engine is told by who asked for it.
    void silence(int64_t position) noexcept;

    // Takes in what the network half learned. True if a session was opened: all that is held must be told to it again.
    // `sounding`: the take, fallbacks included, is heard; a lost one is over when the ladder is.
    bool follow(bool sounding) noexcept;

    // A take that its session took with it and that is still wanted is triggered anew at `position`, on its own grid;
    // the old one is heard by the fallbacks until then.
    void renew(int64_t position) noexcept;

    // Everything that is due before `position` is committed. Before a take's first chunk nothing is due.
    bool covered(int64_t position) const noexcept;

    bool bar_lines(int64_t position, BarLines& lines) const noexcept override;
    bool is_launch(int64_t position) const noexcept override;

    void show(AudioMeters& meters) const noexcept;

private:
    struct Record {
        TriggerRequest request;
        std::optional<Launch> launch;  // empty: the host stood still
        int64_t opening{};             // sessions opened and lost until the trigger: the take is lost with its session
        std::optional<int64_t> released;

        bool foreign() const noexcept;  // the engine started it (OSC, its own MIDI port), and so places it
    };
    struct Due {
        int64_t epoch{-1}, take{-1};
    };

    std::optional<Launch> launch_of(const TriggerRequest& request, int64_t position, TakeMode mode) const noexcept;
    int32_t begin(int64_t take) noexcept;
    void cut(int64_t position, int32_t generation) noexcept;
    std::optional<int64_t> moved(std::optional<int64_t> released, int64_t position) const noexcept;
    void adopt(const ToAudio& chunk) noexcept;
    void ended(const ToAudio& end) noexcept;

    Exchange& exchange_;
    Sender& sender_;
    const Timeline& timeline_;
    std::optional<Record> current_;
    int64_t epoch_{0}, takes_{0}, openings_{0};
    bool playing_{false}, connected_{false};
    int32_t generation_{kNothing};
    int32_t first_generation_{kNothing};  // the newest generation of which a committed chunk has come,
    int64_t first_position_{0};           // and where its first one began
    std::array<Due, 8> dues_;
    size_t next_due_{0};
};

}  // namespace attacca
