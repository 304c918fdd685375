// Generated from bridge/protocol.py and bridge/params.py by `python -m attacca.bridge.protocol_docs`. Do not edit.
// clang-format off
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
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
inline constexpr size_t kNameCharacters = 64;
inline constexpr size_t kTextCharacters = 512;
inline constexpr int64_t kMostPosition = 4611686018427387904;
inline constexpr int64_t kMostCount = 2147483648;
inline constexpr int64_t kMostId = 9007199254740992;
inline constexpr std::string_view kDefaultAddress = "tcp://127.0.0.1:9123";
inline constexpr std::string_view kDefaultPublish = "tcp://127.0.0.1:9124";

// What a field may hold, beside its C++ type. An std::optional may be nil.
struct Integers {
    int64_t least, most;
};
struct Numbers {  // never NaN or infinite
    double least, most;
    bool above;  // `least` itself is refused
};
struct Truth {};
struct Text {
    size_t most_characters;  // Unicode characters, not bytes
};
struct Octets {
    size_t least, most;
};
struct Words {  // one of these; also the names of a list parameter's values 0, 1, ...
    const std::string_view* first;
    size_t count;
    constexpr size_t size() const { return count; }
    constexpr const std::string_view* begin() const { return first; }
    constexpr const std::string_view* end() const { return first + count; }
    constexpr std::string_view operator[](size_t index) const { return first[index]; }
};

enum class Presence { required, defaulted };  // defaulted: if it is missing, what the struct begins with holds

inline constexpr double kAnyNumber = std::numeric_limits<double>::max();

// What a take does between trigger and release.
namespace mode {
inline constexpr std::string_view kContinue = "continue";
inline constexpr std::string_view kFill = "fill";
inline constexpr std::string_view kVamp = "vamp";
inline constexpr std::string_view kAnswer = "answer";
inline constexpr std::string_view kAllWords[] = {"continue", "fill", "vamp", "answer"};
inline constexpr Words kAll{kAllWords, 4};
}  // namespace mode

// What happens if audio cannot be there by the launch position.
namespace late {
inline constexpr std::string_view kJoin = "join";
inline constexpr std::string_view kWait = "wait";
inline constexpr std::string_view kAllWords[] = {"join", "wait"};
inline constexpr Words kAll{kAllWords, 2};
}  // namespace late

// Which payloads a client wants in its chunks.
namespace want {
inline constexpr std::string_view kPcm = "pcm";
inline constexpr std::string_view kCodes = "codes";
inline constexpr std::string_view kBoth = "both";
inline constexpr std::string_view kAllWords[] = {"pcm", "codes", "both"};
inline constexpr Words kAll{kAllWords, 3};
}  // namespace want

// Opens (or reopens) a session; the engine answers with welcome or error.
struct Hello {
    static constexpr std::string_view type = "hello";
    static constexpr bool has_payload = false;
    static constexpr Text client_limit{64};
    static constexpr Integers sample_rate_limit{8000, 384000};
    static constexpr Integers channels_limit{1, 2};
    static constexpr Words want_limit = want::kAll;
    static constexpr Text model_limit{64};
    std::string client;
    int64_t sample_rate{};
    int64_t channels{};
    std::string want{"pcm"};
    std::string model{""};

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("client", self.client, client_limit, Presence::required);
        visitor("sample_rate", self.sample_rate, sample_rate_limit, Presence::required);
        visitor("channels", self.channels, channels_limit, Presence::required);
        visitor("want", self.want, want_limit, Presence::defaulted);
        visitor("model", self.model, model_limit, Presence::defaulted);
    }
};

// What the host said of a block that begins at `position`; sent on change and at least every 100 ms.
// A jump begins a new epoch, for which all is made anew. A tempo that glides comes in the old one: what was sent stays
// due, what follows is made for the new tempo.
struct Transport {
    static constexpr std::string_view type = "transport";
    static constexpr bool has_payload = false;
    static constexpr Integers epoch_limit{0, 9007199254740992};
    static constexpr Integers position_limit{-4611686018427387904, 4611686018427387904};
    static constexpr Numbers ppq_limit{-1000000000.0, 1000000000.0, false};
    static constexpr Numbers bpm_limit{1.0, 1000.0, false};
    static constexpr Integers meter_num_limit{1, 64};
    static constexpr Integers meter_den_limit{1, 64};
    static constexpr Numbers bar_start_ppq_limit{-1000000000.0, 1000000000.0, false};
    static constexpr Truth playing_limit{};
    static constexpr Numbers loop_start_ppq_limit{-1000000000.0, 1000000000.0, false};
    static constexpr Numbers loop_end_ppq_limit{-1000000000.0, 1000000000.0, false};
    static constexpr Truth non_realtime_limit{};
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

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("epoch", self.epoch, epoch_limit, Presence::required);
        visitor("position", self.position, position_limit, Presence::required);
        visitor("ppq", self.ppq, ppq_limit, Presence::required);
        visitor("bpm", self.bpm, bpm_limit, Presence::required);
        visitor("meter_num", self.meter_num, meter_num_limit, Presence::required);
        visitor("meter_den", self.meter_den, meter_den_limit, Presence::required);
        visitor("bar_start_ppq", self.bar_start_ppq, bar_start_ppq_limit, Presence::required);
        visitor("playing", self.playing, playing_limit, Presence::required);
        visitor("loop_start_ppq", self.loop_start_ppq, loop_start_ppq_limit, Presence::defaulted);
        visitor("loop_end_ppq", self.loop_end_ppq, loop_end_ppq_limit, Presence::defaulted);
        visitor("non_realtime", self.non_realtime, non_realtime_limit, Presence::defaulted);
    }
};

// Input audio, interleaved; its first sample is at `position`.
struct Audio {
    static constexpr std::string_view type = "audio";
    static constexpr bool has_payload = true;
    static constexpr Integers position_limit{-4611686018427387904, 4611686018427387904};
    static constexpr Integers samples_limit{0, 2147483648};
    static constexpr Integers channels_limit{1, 2};
    int64_t position{};
    int64_t samples{};
    int64_t channels{};

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("position", self.position, position_limit, Presence::required);
        visitor("samples", self.samples, samples_limit, Presence::required);
        visitor("channels", self.channels, channels_limit, Presence::required);
    }
};

// One raw MIDI channel message at a stream position.
struct Midi {
    static constexpr std::string_view type = "midi";
    static constexpr bool has_payload = false;
    static constexpr Integers position_limit{-4611686018427387904, 4611686018427387904};
    static constexpr Octets data_limit{1, 3};
    int64_t position{};
    Bytes data;

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("position", self.position, position_limit, Presence::required);
        visitor("data", self.data, data_limit, Presence::required);
    }
};

// Starts a take at the first multiple of its quantum at or after `position`.
// The quantum is `quantum_bars` bars; where that is nil, `quantum_ppq` quarter notes. 0 is at once. A trigger carries
// all that its take needs: the parameters `mode`, `quantum`, `bars`, `late`, `seed` and `trigger_*` hold for takes that
// the engine starts itself (MIDI messages, OSC, its MIDI port). Those have numbers from 2^52 on; a client plays them
// from the `position` of their first committed chunk. Every take ends with a last chunk.
struct Trigger {
    static constexpr std::string_view type = "trigger";
    static constexpr bool has_payload = false;
    static constexpr Integers take_limit{0, 9007199254740992};
    static constexpr Integers position_limit{-4611686018427387904, 4611686018427387904};
    static constexpr Numbers quantum_bars_limit{0, 64, false};
    static constexpr Numbers quantum_ppq_limit{0, 256, false};
    static constexpr Words mode_limit = mode::kAll;
    static constexpr Integers bars_limit{1, 64};
    static constexpr Words late_limit = late::kAll;
    static constexpr Integers seed_limit{0, 9007199254740992};
    int64_t take{};
    int64_t position{};
    std::optional<double> quantum_bars{1.0};
    double quantum_ppq{0.0};
    std::string mode{"continue"};
    int64_t bars{4};
    std::string late{"join"};
    std::optional<int64_t> seed;

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("take", self.take, take_limit, Presence::required);
        visitor("position", self.position, position_limit, Presence::required);
        visitor("quantum_bars", self.quantum_bars, quantum_bars_limit, Presence::defaulted);
        visitor("quantum_ppq", self.quantum_ppq, quantum_ppq_limit, Presence::defaulted);
        visitor("mode", self.mode, mode_limit, Presence::defaulted);
        visitor("bars", self.bars, bars_limit, Presence::defaulted);
        visitor("late", self.late, late_limit, Presence::defaulted);
        visitor("seed", self.seed, seed_limit, Presence::defaulted);
    }
};

// Ends a take at `position`; if `quantized`, at the first multiple of its quantum at or after `position`.
struct Release {
    static constexpr std::string_view type = "release";
    static constexpr bool has_payload = false;
    static constexpr Integers take_limit{0, 9007199254740992};
    static constexpr Integers position_limit{-4611686018427387904, 4611686018427387904};
    static constexpr Truth quantized_limit{};
    int64_t take{};
    int64_t position{};
    bool quantized{false};

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("take", self.take, take_limit, Presence::required);
        visitor("position", self.position, position_limit, Presence::required);
        visitor("quantized", self.quantized, quantized_limit, Presence::defaulted);
    }
};

// Sets one parameter of the parameter table (bridge/params.py).
struct Param {
    static constexpr std::string_view type = "param";
    static constexpr bool has_payload = false;
    static constexpr Text name_limit{64};
    static constexpr Numbers value_limit{-kAnyNumber, kAnyNumber, false};
    static constexpr Integers position_limit{-4611686018427387904, 4611686018427387904};
    std::string name;
    double value{};
    int64_t position{0};

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("name", self.name, name_limit, Presence::required);
        visitor("value", self.value, value_limit, Presence::required);
        visitor("position", self.position, position_limit, Presence::defaulted);
    }
};

// What to play, in words, for models that take text (see `takes_text` in welcome); this session's alone.
// It holds for takes under way from their committed frontier on, faded in, and for all to come. An empty text is the
// engine's own (`--text`), or none. Control characters are refused. A new session begins with the engine's own: a
// client that comes back says its text again.
struct Prompt {
    static constexpr std::string_view type = "text";
    static constexpr bool has_payload = false;
    static constexpr Text text_limit{512};
    std::string text;

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("text", self.text, text_limit, Presence::required);
    }
};

// Asks for a pong with the same nonce; either side may send it.
// `settled` asks the engine to answer only when it has done what the messages before it ask for, and after all that it
// has to say of them: a host that renders offline waits so for each block, and every bounce is the same.
struct Ping {
    static constexpr std::string_view type = "ping";
    static constexpr bool has_payload = false;
    static constexpr Integers nonce_limit{0, 9007199254740992};
    static constexpr Truth settled_limit{};
    int64_t nonce{};
    bool settled{false};

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("nonce", self.nonce, nonce_limit, Presence::required);
        visitor("settled", self.settled, settled_limit, Presence::defaulted);
    }
};

// Closes the session at once; silence for the heartbeat's timeout does the same.
struct Bye {
    static constexpr std::string_view type = "bye";
    static constexpr bool has_payload = false;

    template <class Self, class Visitor>
    static constexpr void visit(Self&, Visitor&&) {}
};

// Answers hello.
struct Welcome {
    static constexpr std::string_view type = "welcome";
    static constexpr bool has_payload = false;
    static constexpr Integers session_limit{0, 9007199254740992};
    static constexpr Text model_limit{64};
    static constexpr Integers model_rate_limit{0, 2147483648};
    static constexpr Integers hop_samples_limit{0, 2147483648};
    static constexpr Integers num_codebooks_limit{0, 2147483648};
    static constexpr Text publish_limit{512};
    static constexpr Numbers heartbeat_s_limit{0, 3600, true};
    static constexpr Text engine_limit{64};
    static constexpr Truth takes_text_limit{};
    int64_t session{};
    std::string model;
    int64_t model_rate{};
    int64_t hop_samples{};
    int64_t num_codebooks{};
    std::string publish;
    double heartbeat_s{};
    std::string engine;
    bool takes_text{false};

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("session", self.session, session_limit, Presence::required);
        visitor("model", self.model, model_limit, Presence::required);
        visitor("model_rate", self.model_rate, model_rate_limit, Presence::required);
        visitor("hop_samples", self.hop_samples, hop_samples_limit, Presence::required);
        visitor("num_codebooks", self.num_codebooks, num_codebooks_limit, Presence::required);
        visitor("publish", self.publish, publish_limit, Presence::required);
        visitor("heartbeat_s", self.heartbeat_s, heartbeat_s_limit, Presence::required);
        visitor("engine", self.engine, engine_limit, Presence::required);
        visitor("takes_text", self.takes_text, takes_text_limit, Presence::defaulted);
    }
};

// Consecutive samples of a take; its first sample belongs at `position` and nowhere else.
struct Chunk {
    static constexpr std::string_view type = "chunk";
    static constexpr bool has_payload = true;
    static constexpr Integers session_limit{0, 9007199254740992};
    static constexpr Integers epoch_limit{0, 9007199254740992};
    static constexpr Integers take_limit{0, 9007199254740992};
    static constexpr Integers seq_limit{0, 9007199254740992};
    static constexpr Integers position_limit{-4611686018427387904, 4611686018427387904};
    static constexpr Numbers ppq_limit{-kAnyNumber, kAnyNumber, false};
    static constexpr Integers samples_limit{0, 2147483648};
    static constexpr Integers channels_limit{1, 2};
    static constexpr Integers first_frame_limit{-4611686018427387904, 4611686018427387904};
    static constexpr Integers frames_limit{0, 2147483648};
    static constexpr Truth committed_limit{};
    static constexpr Truth last_limit{};
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

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("session", self.session, session_limit, Presence::required);
        visitor("epoch", self.epoch, epoch_limit, Presence::required);
        visitor("take", self.take, take_limit, Presence::required);
        visitor("seq", self.seq, seq_limit, Presence::required);
        visitor("position", self.position, position_limit, Presence::required);
        visitor("ppq", self.ppq, ppq_limit, Presence::required);
        visitor("samples", self.samples, samples_limit, Presence::required);
        visitor("channels", self.channels, channels_limit, Presence::required);
        visitor("first_frame", self.first_frame, first_frame_limit, Presence::required);
        visitor("frames", self.frames, frames_limit, Presence::required);
        visitor("committed", self.committed, committed_limit, Presence::required);
        visitor("last", self.last, last_limit, Presence::defaulted);
    }
};

// The tokens behind a committed chunk: uint16 [frames, num_codebooks], 2.2 kbit/s for ostinato.
struct CodesChunk {
    static constexpr std::string_view type = "codes";
    static constexpr bool has_payload = true;
    static constexpr Integers session_limit{0, 9007199254740992};
    static constexpr Integers epoch_limit{0, 9007199254740992};
    static constexpr Integers take_limit{0, 9007199254740992};
    static constexpr Integers seq_limit{0, 9007199254740992};
    static constexpr Integers first_frame_limit{-4611686018427387904, 4611686018427387904};
    static constexpr Integers frames_limit{0, 2147483648};
    static constexpr Integers num_codebooks_limit{0, 2147483648};
    static constexpr Numbers start_position_limit{-kAnyNumber, kAnyNumber, false};
    int64_t session{};
    int64_t epoch{};
    int64_t take{};
    int64_t seq{};
    int64_t first_frame{};
    int64_t frames{};
    int64_t num_codebooks{};
    double start_position{};

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("session", self.session, session_limit, Presence::required);
        visitor("epoch", self.epoch, epoch_limit, Presence::required);
        visitor("take", self.take, take_limit, Presence::required);
        visitor("seq", self.seq, seq_limit, Presence::required);
        visitor("first_frame", self.first_frame, first_frame_limit, Presence::required);
        visitor("frames", self.frames, frames_limit, Presence::required);
        visitor("num_codebooks", self.num_codebooks, num_codebooks_limit, Presence::required);
        visitor("start_position", self.start_position, start_position_limit, Presence::required);
    }
};

// State and measures of a session; sent on change and at least once a second.
struct Status {
    static constexpr std::string_view type = "status";
    static constexpr bool has_payload = false;
    static constexpr Integers session_limit{0, 9007199254740992};
    static constexpr Text state_limit{512};
    static constexpr Integers take_limit{0, 9007199254740992};
    static constexpr Integers seed_limit{0, 9007199254740992};
    static constexpr Integers start_position_limit{-4611686018427387904, 4611686018427387904};
    static constexpr Numbers rtf_decoder_limit{-kAnyNumber, kAnyNumber, false};
    static constexpr Numbers rtf_codec_limit{-kAnyNumber, kAnyNumber, false};
    static constexpr Numbers rtf_total_limit{-kAnyNumber, kAnyNumber, false};
    static constexpr Integers lookahead_samples_limit{0, 2147483648};
    static constexpr Integers control_latency_samples_limit{0, 2147483648};
    static constexpr Integers late_chunks_limit{0, 2147483648};
    static constexpr Integers dropped_messages_limit{0, 2147483648};
    static constexpr Integers bad_messages_limit{0, 2147483648};
    static constexpr Integers gap_samples_limit{0, 2147483648};
    static constexpr Integers bad_samples_limit{0, 2147483648};
    static constexpr Numbers level_gain_db_limit{-kAnyNumber, kAnyNumber, false};
    static constexpr Numbers drift_ms_limit{-kAnyNumber, kAnyNumber, false};
    static constexpr Numbers beat_error_ms_limit{-kAnyNumber, kAnyNumber, false};
    static constexpr Integers new_beginnings_limit{0, 2147483648};
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
    int64_t gap_samples{0};
    int64_t bad_samples{0};
    double level_gain_db{0.0};
    double drift_ms{0.0};
    double beat_error_ms{0.0};
    int64_t new_beginnings{0};

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("session", self.session, session_limit, Presence::required);
        visitor("state", self.state, state_limit, Presence::required);
        visitor("take", self.take, take_limit, Presence::defaulted);
        visitor("seed", self.seed, seed_limit, Presence::defaulted);
        visitor("start_position", self.start_position, start_position_limit, Presence::defaulted);
        visitor("rtf_decoder", self.rtf_decoder, rtf_decoder_limit, Presence::defaulted);
        visitor("rtf_codec", self.rtf_codec, rtf_codec_limit, Presence::defaulted);
        visitor("rtf_total", self.rtf_total, rtf_total_limit, Presence::defaulted);
        visitor("lookahead_samples", self.lookahead_samples, lookahead_samples_limit, Presence::defaulted);
        visitor("control_latency_samples", self.control_latency_samples, control_latency_samples_limit, Presence::defaulted);
        visitor("late_chunks", self.late_chunks, late_chunks_limit, Presence::defaulted);
        visitor("dropped_messages", self.dropped_messages, dropped_messages_limit, Presence::defaulted);
        visitor("bad_messages", self.bad_messages, bad_messages_limit, Presence::defaulted);
        visitor("gap_samples", self.gap_samples, gap_samples_limit, Presence::defaulted);
        visitor("bad_samples", self.bad_samples, bad_samples_limit, Presence::defaulted);
        visitor("level_gain_db", self.level_gain_db, level_gain_db_limit, Presence::defaulted);
        visitor("drift_ms", self.drift_ms, drift_ms_limit, Presence::defaulted);
        visitor("beat_error_ms", self.beat_error_ms, beat_error_ms_limit, Presence::defaulted);
        visitor("new_beginnings", self.new_beginnings, new_beginnings_limit, Presence::defaulted);
    }
};

// Why a message was refused, or what went wrong in the engine.
struct Error {
    static constexpr std::string_view type = "error";
    static constexpr bool has_payload = false;
    static constexpr Text code_limit{64};
    static constexpr Text text_limit{512};
    std::string code;
    std::string text;

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("code", self.code, code_limit, Presence::required);
        visitor("text", self.text, text_limit, Presence::required);
    }
};

// Answers ping.
struct Pong {
    static constexpr std::string_view type = "pong";
    static constexpr bool has_payload = false;
    static constexpr Integers nonce_limit{0, 9007199254740992};
    int64_t nonce{};

    template <class Self, class Visitor>
    static constexpr void visit(Self& self, Visitor&& visitor) {
        visitor("nonce", self.nonce, nonce_limit, Presence::required);
    }
};

struct Parameter {
    std::string_view name, label, unit;
    double minimum, maximum, initial;
    bool integer;
    int midi_cc;  // -1: none
    std::string_view description;
    Words choices;     // empty: a number
    bool plugin_only;  // never sent to the engine
};

struct Meter {
    std::string_view name, label, unit;
    double minimum, maximum;
    bool integer;
    std::string_view description;
    Words choices;
};

struct QuantumValue {
    std::optional<double> bars;  // nil: quarter notes count
    double quarters;
};

// The names of list values.
namespace choices {
inline constexpr std::string_view kModeWords[] = {"continue", "fill", "vamp", "answer"};
inline constexpr Words kMode{kModeWords, 4};
inline constexpr std::string_view kQuantumWords[] = {"immediate", "1/16", "1/8", "1/4", "1/2", "1 bar", "2 bars", "4 bars", "8 bars"};
inline constexpr Words kQuantum{kQuantumWords, 9};
inline constexpr std::string_view kLateWords[] = {"join", "wait"};
inline constexpr Words kLate{kLateWords, 2};
inline constexpr std::string_view kDrumsWords[] = {"off", "auto", "on"};
inline constexpr Words kDrums{kDrumsWords, 3};
inline constexpr std::string_view kBassWords[] = {"off", "auto", "on"};
inline constexpr Words kBass{kBassWords, 3};
inline constexpr std::string_view kChordsWords[] = {"off", "auto", "on"};
inline constexpr Words kChords{kChordsWords, 3};
inline constexpr std::string_view kLeadWords[] = {"off", "auto", "on"};
inline constexpr Words kLead{kLeadWords, 3};
inline constexpr std::string_view kStyleWords[] = {"auto", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"};
inline constexpr Words kStyle{kStyleWords, 17};
inline constexpr std::string_view kChordFollowWords[] = {"off", "on"};
inline constexpr Words kChordFollow{kChordFollowWords, 2};
inline constexpr std::string_view kVelocityToWords[] = {"nothing", "variation", "temperature"};
inline constexpr Words kVelocityTo{kVelocityToWords, 3};
inline constexpr std::string_view kReleaseQuantizedWords[] = {"off", "on"};
inline constexpr Words kReleaseQuantized{kReleaseQuantizedWords, 2};
inline constexpr std::string_view kTriggerWords[] = {"off", "on"};
inline constexpr Words kTrigger{kTriggerWords, 2};
inline constexpr std::string_view kSoloWords[] = {"off", "on"};
inline constexpr Words kSolo{kSoloWords, 2};
inline constexpr std::string_view kConnectionWords[] = {"no engine", "connected"};
inline constexpr Words kConnection{kConnectionWords, 2};
inline constexpr std::string_view kStateWords[] = {"idle", "armed", "playing", "bridging", "late"};
inline constexpr Words kState{kStateWords, 5};
}  // namespace choices

inline constexpr std::array<Parameter, 26> kParameters{{
    {"mode", "Mode", "", 0.0, 3.0, 0.0, true, 20,
     "What a take does between trigger and release.",
     choices::kMode, false},
    {"quantum", "Launch", "", 0.0, 8.0, 5.0, true, 21,
     "Grid on which takes start.",
     choices::kQuantum, false},
    {"bars", "Bars", "bars", 1, 64, 4, true, 22,
     "Length of a fill, of a vamp's phrase, of an answer.",
     {}, false},
    {"late", "If late", "", 0.0, 1.0, 0.0, true, 23,
     "Enter in phase at once, or wait for the next launch.",
     choices::kLate, false},
    {"variation", "Variation", "", 0.0, 1.0, 0.5, false, 24,
     "How much each pass of a vamp differs from the last.",
     {}, false},
    {"temperature", "Temperature", "", 0.0, 2.0, 0.9, false, 25,
     "Sampling temperature; 0 always takes the likeliest.",
     {}, false},
    {"guidance", "Guidance", "", 0.0, 10.0, 3.0, false, 26,
     "How strictly chords, beat and style bind; 1 is plain.",
     {}, false},
    {"top_k", "Top k", "", 0, 1024, 0, true, 27,
     "Only the k likeliest tokens are drawn from; 0 is all.",
     {}, false},
    {"seed", "Seed", "", -1, 16777215, -1, true, -1,
     "Seed of the next take; -1: the engine chooses, and says in status.",
     {}, false},
    {"drums", "Drums", "", 0.0, 2.0, 1.0, true, 28,
     "Whether drums play. Auto leaves it to the music while all four are auto, and counts as on otherwise.",
     choices::kDrums, false},
    {"bass", "Bass", "", 0.0, 2.0, 1.0, true, 29,
     "Whether bass plays. Auto leaves it to the music while all four are auto, and counts as on otherwise.",
     choices::kBass, false},
    {"chords", "Chords", "", 0.0, 2.0, 1.0, true, 30,
     "Whether chords play. Auto leaves it to the music while all four are auto, and counts as on otherwise.",
     choices::kChords, false},
    {"lead", "Lead", "", 0.0, 2.0, 1.0, true, 31,
     "Whether lead plays. Auto leaves it to the music while all four are auto, and counts as on otherwise.",
     choices::kLead, false},
    {"style", "Style", "", 0.0, 16.0, 0.0, true, 85,
     "Style of the continuation; auto goes on as it was, and so does one that the model does not have.",
     choices::kStyle, false},
    {"chord_follow", "Follow chords", "", 0.0, 1.0, 1.0, true, 86,
     "Held notes command the harmony.",
     choices::kChordFollow, false},
    {"lookahead_ms", "Look-ahead", "ms", 0.0, 2000.0, 0.0, false, 87,
     "Least look-ahead; 0: as measured.",
     {}, false},
    {"mix", "Mix", "", 0.0, 1.0, 0.5, false, 88,
     "Input to continuation; applied by the plugin.",
     {}, false},
    {"gain", "Gain", "dB", -60.0, 12.0, 0.0, false, 7,
     "Level of the continuation; applied by the plugin.",
     {}, false},
    {"midi_channel", "MIDI channel", "", 0, 16, 0, true, -1,
     "Channel that is heard; 0 is all.",
     {}, false},
    {"trigger_low", "Lowest trigger", "note", 0, 127, 0, true, -1,
     "Lowest note of the trigger zone.",
     {}, false},
    {"trigger_high", "Highest trigger", "note", 0, 127, 35, true, -1,
     "Highest note of the trigger zone; below the lowest there is no zone. B0 (35) by default.",
     {}, false},
    {"trigger_note", "Trigger note", "note", -1, 127, -1, true, -1,
     "One more trigger note; -1 is none.",
     {}, false},
    {"velocity_to", "Velocity sets", "", 0.0, 2.0, 0.0, true, -1,
     "What a trigger note's velocity sets for its take.",
     choices::kVelocityTo, false},
    {"release_quantized", "Release on grid", "", 0.0, 1.0, 0.0, true, -1,
     "Note-off ends the take on its launch grid.",
     choices::kReleaseQuantized, false},
    {"trigger", "Trigger", "", 0.0, 1.0, 0.0, true, -1,
     "On starts a take, off releases it, as a held note does.",
     choices::kTrigger, true},
    {"solo", "Solo", "", 0.0, 1.0, 0.0, true, -1,
     "The input is muted while the continuation plays.",
     choices::kSolo, true},
}};

inline constexpr std::array<Meter, 5> kMeters{{
    {"rtf", "RTF", "", 0.0, 4.0, false,
     "Compute time over audio time; below 1 is real time.",
     {}},
    {"lookahead_now_ms", "Look-ahead now", "ms", 0.0, 20000.0, false,
     "Audio that is here and not yet played.",
     {}},
    {"underruns", "Underruns", "", 0.0, 1000000.0, true,
     "Callbacks that were short of audio.",
     {}},
    {"connection", "Connection", "", 0.0, 1.0, true,
     "Whether an engine answers.",
     choices::kConnection},
    {"state", "State", "", 0.0, 4.0, true,
     "No take; waiting for its launch; sounding; the engine is behind and its plan or the last bar sounds; the engine is behind and nothing sounds.",
     choices::kState},
}};

// What the parameter `quantum` means, by its value.
inline constexpr std::array<QuantumValue, 9> kQuantumValues{{
    {0.0, 0.0},
    {std::nullopt, 0.25},
    {std::nullopt, 0.5},
    {std::nullopt, 1.0},
    {std::nullopt, 2.0},
    {1.0, 0.0},
    {2.0, 0.0},
    {4.0, 0.0},
    {8.0, 0.0},
}};

// The row's index, or -1; at compile time too.
constexpr int parameter_index(std::string_view name) {
    for (size_t i = 0; i < kParameters.size(); ++i)
        if (kParameters[i].name == name) return static_cast<int>(i);
    return -1;
}

constexpr int meter_index(std::string_view name) {
    for (size_t i = 0; i < kMeters.size(); ++i)
        if (kMeters[i].name == name) return static_cast<int>(i);
    return -1;
}

// The word's place in the list, or -1.
constexpr int word_index(const Words& words, std::string_view word) {
    for (size_t i = 0; i < words.size(); ++i)
        if (words[i] == word) return static_cast<int>(i);
    return -1;
}

}  // namespace attacca::protocol
