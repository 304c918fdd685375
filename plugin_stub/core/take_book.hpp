// TakeBook: takes as the plugin sees them: which chunks are due from which position on, in which epoch;
// bridge/client_takes.py in C++. Between host events and the ring: a trigger, a release, a new epoch or a take's end
// becomes a cut in the ring, so that only what is due is ever heard. Also Playback's grid. Thread: audio.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "outlet.hpp"
#include "playback.hpp"

namespace attacca {

class TakeBook final : public Grid {
public:
    TakeBook(Exchange& exchange, Outlet& outlet, const Timeline& timeline) noexcept;

    // Arms a take at a position; its audio is due from its launch on. Number and position of the request are filled in.
    // Without a session nobody can begin it: the next one is asked, if it is still held then.
    void trigger(const TriggerRequest& request, int64_t position) noexcept;
    void release(int64_t position, bool quantized) noexcept;  // the current take, at once or on its launch grid
    void silence(int64_t position) noexcept;                  // at once; the engine is told by who asked for it
    void enter_epoch(int64_t position, int64_t epoch) noexcept;
    void bend(int64_t position) noexcept;  // the tempo glides: what is still to begin or to end moves with the bars

    // Takes in what the network half learned. `sounding`: the take, fallbacks included, is heard.
    void follow(bool sounding) noexcept;
    bool reopened() noexcept;  // a session was opened since the last call, and is open
    // What is still held begins anew in it; its generation, if it goes on with what sounds, else kNothing.
    int32_t resume(int64_t position, bool sounding) noexcept;

    // The take last asked for waits for its release: it does not end by itself, and nothing ended it.
    bool held() const noexcept { return held_.has_value(); }
    bool connected() const noexcept { return connected_; }
    int64_t openings() const noexcept { return openings_; }
    int64_t epoch() const noexcept { return epoch_; }
    bool covered(int64_t position) const noexcept;  // all that is due before it is committed

    // For meters; 0 and -1 where there is none.
    int64_t take() const noexcept;
    int64_t start() const noexcept;
    int64_t end() const noexcept;

    bool bar_lines(int64_t position, BarLines& lines) const noexcept override;
    bool is_launch(int64_t position) const noexcept override;

private:
    struct Record {
        int64_t take{}, opening{};
        TriggerRequest request;
        std::optional<Launch> launch;  // none: the host stood still
        std::optional<int64_t> released;
        bool foreign() const noexcept;
    };
    struct Due {
        int64_t epoch{-1}, take{};
    };
    static constexpr size_t kKeptDues = 8;

    std::optional<Launch> launch_of(const TriggerRequest& request, int64_t position, TakeMode mode) const noexcept;
    std::optional<int64_t> moved(std::optional<int64_t> released, int64_t position) const noexcept;
    void follow_launch(Record& record) noexcept;
    int32_t begin(int64_t take) noexcept;
    void end_at(int64_t position) noexcept;
    void take_in(const ToAudio& note) noexcept;
    void adopt(const ToAudio& note) noexcept;
    void ended(const ToAudio& note) noexcept;
    void send_release(int64_t take, int64_t position, bool quantized) noexcept;
    bool in_session(const Record& record) const noexcept;

    Exchange& exchange_;
    PositionRing& ring_;
    Outlet& outlet_;
    const Timeline& timeline_;
    int64_t epoch_{0}, takes_{0}, openings_{0}, seen_openings_{0};
    std::optional<Record> current_;
    std::optional<TriggerRequest> held_;  // what nobody has let go of: a session to come is asked for it again
    bool playing_{false}, connected_{false};
    bool bent_{false};  // the launch has moved along a glide, and the engine has not committed it yet
    int32_t generation_{0};
    std::array<Due, kKeptDues> dues_{};
    size_t next_due_{0};
    int32_t first_generation_{kNothing};  // newest generation of which a committed chunk came, and where it began
    int64_t first_position_{0};
};

}  // namespace attacca
