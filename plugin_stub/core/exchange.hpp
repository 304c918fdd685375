// Exchange: all that the audio thread and the network thread share. Wait-free both ways: a position ring, one queue of
// records per direction, one FIFO of input audio, and atomics. Nothing else crosses.
#pragma once

#include <atomic>
#include <cstdint>

#include "peak_strip.hpp"
#include "position_ring.hpp"
#include "spsc_queue.hpp"
#include "timeline.hpp"

namespace attacca {

enum class TakeMode : uint8_t { continue_ = 0, fill = 1, vamp = 2, answer = 3 };

// What a trigger asks for; the wire's Trigger without strings.
struct TriggerRequest {
    int64_t take{};
    int64_t position{};
    Quantum quantum;
    TakeMode mode{TakeMode::continue_};
    int32_t bars{4};
    bool wait_if_late{false};  // late = wait
    int64_t seed{-1};          // -1: the engine chooses
};

// Audio thread -> network thread, in order.
struct ToNetwork {
    enum class Kind : uint8_t { transport, audio, midi, trigger, release, param, due, settled } kind{};
    int64_t position{};  // kind settled (offline): the number to answer; see bridge/client_network.py ask_settled
    union {
        struct {
            int64_t samples;
        } audio;  // that many samples wait in `input`
        struct {
            uint8_t size;
            uint8_t data[3];
        } midi;
        struct {
            int64_t take;
            bool quantized;
        } release;
        struct {
            int32_t index;
            double value;
        } param;  // index into protocol::kParameters
        struct {
            int32_t generation;
            int64_t epoch;
            int64_t take;
        } due;  // chunks of (epoch, take) are this generation
    };
    Snapshot transport;      // kind transport
    TriggerRequest trigger;  // kind trigger
    ToNetwork() : audio{} {}
};

// Network thread -> audio thread, in order.
struct ToAudio {
    enum class Kind : uint8_t {
        opened,     // a session was opened (also after a loss): all takes of the one before are gone in the engine
        lost,       // the session is lost
        first,      // (generation, position): first committed chunk of a generation
        ended,      // (epoch, take, position): the take's last chunk
        unclaimed,  // (epoch, take, position): first chunk heard of a take that the engine started itself
    } kind{};
    int32_t generation{};
    int64_t epoch{}, take{}, position{};
};

// Input audio, interleaved, FIFO: one producer (audio), one consumer (network). All or nothing.
class AudioFifo {
public:
    AudioFifo(int64_t capacity_samples, int channels);
    bool push(const float* interleaved, int64_t samples) noexcept;
    bool pop(float* interleaved, int64_t samples) noexcept;

private:
    const int channels_;
    const int64_t capacity_;
    std::unique_ptr<float[]> samples_;
    alignas(64) std::atomic<int64_t> written_{0};
    alignas(64) std::atomic<int64_t> read_{0};
};

// What the engine last said, and how the session stands; written by the network thread, read by any.
struct EngineMeters {
    std::atomic<bool> connected{false};
    std::atomic<bool> absent{false};  // nobody listens where the engine should be
    std::atomic<float> rtf_total{0.0f}, rtf_decoder{0.0f}, rtf_codec{0.0f};
    std::atomic<int64_t> engine_lookahead_samples{0}, control_latency_samples{0};
    std::atomic<int64_t> seed{-1};
    std::atomic<int64_t> settled{0};  // newest settled number that the engine answered (Pong of a settled Ping)
    std::atomic<int64_t> sessions_lost{0}, chunks{0}, lost_chunks{0}, disordered_chunks{0}, stale_chunks{0};
    std::atomic<int64_t> broken_chunks{0}, bad_messages{0}, unsent_messages{0};
    std::atomic<int64_t> committed_end{0}, planned_end{0};  // furthest positions written to the ring, for the UI
};

// What the audio thread says of itself; written by it, read by any.
struct AudioMeters {
    std::atomic<int64_t> position{0};
    std::atomic<int64_t> lookahead_samples{0};
    std::atomic<int64_t> underrun_callbacks{0}, underrun_samples{0}, repeat_samples{0}, planned_samples{0},
        fade_samples{0};
    std::atomic<int64_t> launches{0}, joins{0};
    std::atomic<int64_t> dropped_messages{0};                    // did not fit into `outbox` or `input`
    std::atomic<int64_t> bad_input_samples{0};                   // no finite numbers; 0 went to the engine
    std::atomic<int64_t> wait_timeouts{0};                       // offline: the engine did not come up in time
    std::atomic<int64_t> take{0}, take_start{-1}, take_end{-1};  // present take; -1: not known
    std::atomic<bool> sounding{false}, playing{false};
    std::atomic<bool> held{false};  // the take last asked for waits for its release, also where no engine has it
    std::atomic<double> ppq{0.0}, bpm{120.0}, bar_start_ppq{0.0};  // at `position`
    std::atomic<int32_t> meter_num{4}, meter_den{4};
    std::atomic<int64_t> bar_index{0};
    std::atomic<float> input_peak{0.0f}, output_peak{0.0f};
    PeakStrip peaks;  // levels of the last seconds, for the UI

    // Audio thread, once a piece, between rendering and mixing; `underruns_now_samples`: the count after rendering.
    void note_peaks(int64_t start, int64_t samples, int channels, const float* input, const float* wet,
                    int64_t underruns_now_samples) noexcept {
        const bool bridged = underruns_now_samples != underrun_samples.load(std::memory_order_relaxed);
        peaks.note(start, samples, channels, input, wet, bridged);
    }
};

// In the words of the meter `state` (bridge/params.py): "idle", "armed", "playing", "bridging" or "late". Any thread.
inline const char* play_state(const AudioMeters& meters) noexcept {
    const auto now = [](const auto& meter) { return meter.load(std::memory_order_relaxed); };
    if (now(meters.sounding)) return now(meters.lookahead_samples) <= 0 ? "bridging" : "playing";
    if (now(meters.take) == 0) return now(meters.held) ? "late" : "idle";  // held: the engine is away
    const int64_t start = now(meters.take_start);
    return start >= 0 && start < now(meters.position) ? "late" : "armed";
}

struct Exchange {
    Exchange(int64_t ring_samples, int64_t input_samples, int channels);

    PositionRing ring;
    SpscQueue<ToNetwork> outbox;  // 1024; audio stops at three quarters of it
    AudioFifo input;
    SpscQueue<ToAudio> inbox;  // 256
    EngineMeters engine;
    AudioMeters audio;
};

}  // namespace attacca
