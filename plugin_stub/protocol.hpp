// Generated from bridge/protocol.py and bridge/params.py by `python -m attacca.bridge.protocol_docs`. Do not edit.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace attacca::protocol {

using Bytes = std::vector<uint8_t>;

inline constexpr int64_t kVersion = 1;
inline constexpr int64_t kMaxHeaderBytes = 4096;
inline constexpr int64_t kMaxPayloadBytes = 1048576;
inline constexpr int64_t kEngineTakesFrom = 4503599627370496;

// What a take does between trigger and release.
namespace mode {
inline constexpr std::string_view kContinue = "continue";
inline constexpr std::string_view kFill = "fill";
inline constexpr std::string_view kVamp = "vamp";
inline constexpr std::string_view kAnswer = "answer";
}  // namespace mode

// What happens if audio cannot be there by the launch position.
namespace late {
inline constexpr std::string_view kJoin = "join";
inline constexpr std::string_view kWait = "wait";
}  // namespace late

// Which payloads a client wants in its chunks.
namespace want {
inline constexpr std::string_view kPcm = "pcm";
inline constexpr std::string_view kCodes = "codes";
inline constexpr std::string_view kBoth = "both";
}  // namespace want

// Opens (or reopens) a session; the engine answers with welcome or error.
struct Hello {
    static constexpr std::string_view type = "hello";
    static constexpr bool has_payload = false;
    std::string client;
    int64_t sample_rate{};
    int64_t channels{};
    std::string want{"pcm"};
    std::string model{""};
};

// What the host said of a block that begins at `position`; sent on change and at least every 100 ms.
struct Transport {
    static constexpr std::string_view type = "transport";
    static constexpr bool has_payload = false;
    int64_t epoch{};
    int64_t position{};
    double ppq{};
    double bpm{};
    int64_t meter_num{};
    int64_t meter_den{};
    double bar_start_ppq{};
    bool playing{};
    std::optional<double> loop_start_ppq;
    std::optional<double> loop_end_ppq;
    bool non_realtime{false};
};

// Input audio, interleaved; its first sample is at `position`.
struct Audio {
    static constexpr std::string_view type = "audio";
    static constexpr bool has_payload = true;
    int64_t position{};
    int64_t samples{};
    int64_t channels{};
};

// One raw MIDI channel message at a stream position.
struct Midi {
    static constexpr std::string_view type = "midi";
    static constexpr bool has_payload = false;
    int64_t position{};
    Bytes data;
};

// Starts a take at the first multiple of its quantum at or after `position`.
// The quantum is `quantum_bars` bars; where that is nil, `quantum_ppq` quarter notes. 0 is at once. A trigger carries all that its take needs: the parameters `mode`, `quantum`, `bars`, `late`, `seed` and `trigger_*` hold for takes that the engine starts itself (MIDI messages, OSC, its MIDI port). Those have numbers from 2^52 on; a client plays them from the `position` of their first committed chunk. Every take ends with a last chunk.
struct Trigger {
    static constexpr std::string_view type = "trigger";
    static constexpr bool has_payload = false;
    int64_t take{};
    int64_t position{};
    std::optional<double> quantum_bars{1.0};
    double quantum_ppq{0.0};
    std::string mode{"continue"};
    int64_t bars{4};
    std::string late{"join"};
    std::optional<int64_t> seed;
};

// Ends a take at `position`; if `quantized`, at the first multiple of its quantum at or after `position`.
struct Release {
    static constexpr std::string_view type = "release";
    static constexpr bool has_payload = false;
    int64_t take{};
    int64_t position{};
    bool quantized{false};
};

// Sets one parameter of the parameter table (bridge/params.py).
struct Param {
    static constexpr std::string_view type = "param";
    static constexpr bool has_payload = false;
    std::string name;
    double value{};
    int64_t position{0};
};

// Asks for a pong with the same nonce; either side may send it.
struct Ping {
    static constexpr std::string_view type = "ping";
    static constexpr bool has_payload = false;
    int64_t nonce{};
};

// Closes the session at once; silence for the heartbeat's timeout does the same.
struct Bye {
    static constexpr std::string_view type = "bye";
    static constexpr bool has_payload = false;
};

// Answers hello.
struct Welcome {
    static constexpr std::string_view type = "welcome";
    static constexpr bool has_payload = false;
    int64_t session{};
    std::string model;
    int64_t model_rate{};
    int64_t hop_samples{};
    int64_t num_codebooks{};
    std::string publish;
    double heartbeat_s{};
    std::string engine;
};

// Consecutive samples of a take; its first sample belongs at `position` and nowhere else.
struct Chunk {
    static constexpr std::string_view type = "chunk";
    static constexpr bool has_payload = true;
    int64_t session{};
    int64_t epoch{};
    int64_t take{};
    int64_t seq{};
    int64_t position{};
    double ppq{};
    int64_t samples{};
    int64_t channels{};
    int64_t first_frame{};
    int64_t frames{};
    bool committed{};
    bool last{false};
};

// The tokens behind a committed chunk: uint16 [frames, num_codebooks], 2.2 kbit/s for ostinato.
struct CodesChunk {
    static constexpr std::string_view type = "codes";
    static constexpr bool has_payload = true;
    int64_t session{};
    int64_t epoch{};
    int64_t take{};
    int64_t seq{};
    int64_t first_frame{};
    int64_t frames{};
    int64_t num_codebooks{};
    double start_position{};
};

// State and measures of a session; sent on change and at least once a second.
struct Status {
    static constexpr std::string_view type = "status";
    static constexpr bool has_payload = false;
    int64_t session{};
    std::string state;
    std::optional<int64_t> take;
    std::optional<int64_t> seed;
    std::optional<int64_t> start_position;
    double rtf_decoder{0.0};
    double rtf_codec{0.0};
    double rtf_total{0.0};
    int64_t lookahead_samples{0};
    int64_t control_latency_samples{0};
    int64_t late_chunks{0};
    int64_t dropped_messages{0};
    int64_t bad_messages{0};
};

// Why a message was refused, or what went wrong in the engine.
struct Error {
    static constexpr std::string_view type = "error";
    static constexpr bool has_payload = false;
    std::string code;
    std::string text;
};

// Answers ping.
struct Pong {
    static constexpr std::string_view type = "pong";
    static constexpr bool has_payload = false;
    int64_t nonce{};
};

struct Parameter {
    std::string_view name, label, unit;
    double minimum, maximum, initial;
    bool integer;
    int midi_cc;  // -1: none
};

inline constexpr std::array<Parameter, 24> kParameters{{
    {"mode", "Mode", "", 0.0, 3.0, 0.0, true, 20},
    {"quantum", "Launch", "", 0.0, 8.0, 5.0, true, 21},
    {"bars", "Bars", "bars", 1, 64, 4, true, 22},
    {"late", "If late", "", 0.0, 1.0, 0.0, true, 23},
    {"variation", "Variation", "", 0.0, 1.0, 0.5, false, 24},
    {"temperature", "Temperature", "", 0.0, 2.0, 1.0, false, 25},
    {"guidance", "Guidance", "", 0.0, 10.0, 1.0, false, 26},
    {"top_k", "Top k", "", 0, 1024, 0, true, 27},
    {"seed", "Seed", "", -1, 2147483648, -1, true, -1},
    {"drums", "Drums", "", 0.0, 2.0, 1.0, true, 28},
    {"bass", "Bass", "", 0.0, 2.0, 1.0, true, 29},
    {"chords", "Chords", "", 0.0, 2.0, 1.0, true, 30},
    {"lead", "Lead", "", 0.0, 2.0, 1.0, true, 31},
    {"style", "Style", "", 0.0, 8.0, 0.0, true, 85},
    {"chord_follow", "Follow chords", "", 0.0, 1.0, 1.0, true, 86},
    {"lookahead_ms", "Look-ahead", "ms", 0.0, 2000.0, 0.0, false, 87},
    {"mix", "Mix", "", 0.0, 1.0, 0.5, false, 88},
    {"gain", "Gain", "dB", -60.0, 12.0, 0.0, false, 7},
    {"midi_channel", "MIDI channel", "", 0, 16, 0, true, -1},
    {"trigger_low", "Lowest trigger", "note", 0, 127, 0, true, -1},
    {"trigger_high", "Highest trigger", "note", 0, 127, 35, true, -1},
    {"trigger_note", "Trigger note", "note", -1, 127, -1, true, -1},
    {"velocity_to", "Velocity sets", "", 0.0, 2.0, 0.0, true, -1},
    {"release_quantized", "Release on grid", "", 0.0, 1.0, 0.0, true, -1},
}};

}  // namespace attacca::protocol
