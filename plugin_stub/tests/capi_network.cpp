// The network half on a scripted link and a clock set by hand, for tests (tests/plugin/native_network.py). Everything
// runs on the one thread that calls.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "capi_bench.hpp"

#if defined(_WIN32)
#define EXPORTED extern "C" __declspec(dllexport)
#else
#define EXPORTED extern "C" __attribute__((visibility("default")))
#endif

namespace {

using namespace attacca;

Bench& of(void* bench) { return *static_cast<Bench*>(bench); }

int copy_text(const std::string& text, char* out, int64_t capacity) {
    const size_t length = std::min(text.size(), static_cast<size_t>(capacity - 1));
    std::memcpy(out, text.data(), length);
    out[length] = '\0';
    return static_cast<int>(length);
}

}  // namespace

EXPORTED void* attacca_net_new(int64_t rate, int64_t channels, double history_s, int64_t ring, int64_t input) {
    NetworkConfig config;
    config.client = "bench";
    config.sample_rate = rate;
    config.channels = channels;
    config.history_s = history_s;
    return new Bench(config, ring, input);
}

EXPORTED void attacca_net_free(void* bench) { delete static_cast<Bench*>(bench); }
EXPORTED void attacca_net_clock(void* bench, double now_s) { of(bench).now_s = now_s; }
EXPORTED int attacca_net_pump(void* bench) { return of(bench).half.pump(0); }
EXPORTED void attacca_net_close(void* bench) { of(bench).half.close(); }
EXPORTED int attacca_net_reopened(void* bench) { return of(bench).wire.reopened; }

EXPORTED void attacca_net_attach(void* bench) { of(bench).half.attach(std::make_unique<ScriptedLink>(of(bench).wire)); }

EXPORTED void attacca_net_wire(void* bench, int ready, int full) {
    of(bench).wire.ready = ready != 0;
    of(bench).wire.full = full != 0;
}

EXPORTED void attacca_net_feed(void* bench, const uint8_t* bytes, const int64_t* sizes, int count) {
    Frames frames;
    for (int i = 0; i < count; ++i) {
        frames.emplace_back(bytes, bytes + sizes[i]);
        bytes += sizes[i];
    }
    of(bench).wire.coming.push_back(std::move(frames));
}

// The next message sent: number of its frames, -1 if none, -2 if it does not fit (then it is gone).
EXPORTED int attacca_net_sent(void* bench, uint8_t* out, int64_t capacity, int64_t* sizes, int most) {
    auto& sent = of(bench).wire.sent;
    if (sent.empty()) return -1;
    const Frames frames = std::move(sent.front());
    sent.pop_front();
    int64_t at = 0;
    for (size_t i = 0; i < frames.size(); ++i) {
        const auto size = static_cast<int64_t>(frames[i].size());
        if (at + size > capacity || static_cast<int>(i) >= most) return -2;
        std::copy(frames[i].begin(), frames[i].end(), out + at);
        sizes[i] = size;
        at += size;
    }
    return static_cast<int>(frames.size());
}

// --- the audio thread's side --------------------------------------------------------------------------------------

EXPORTED int attacca_net_audio(void* bench, int64_t position, const float* samples, int64_t count) {
    ToNetwork record;
    record.kind = ToNetwork::Kind::audio;
    record.position = position;
    record.audio.samples = count;
    return of(bench).exchange.input.push(samples, count) && of(bench).exchange.outbox.push(record);
}

EXPORTED int attacca_net_param(void* bench, int64_t position, int32_t index, double value) {
    ToNetwork record;
    record.kind = ToNetwork::Kind::param;
    record.position = position;
    record.param = {index, value};
    return of(bench).exchange.outbox.push(record);
}

EXPORTED int attacca_net_transport(void* bench, int64_t position, int64_t epoch, double ppq, double bpm, int num,
                                   int den, double bar_start, int playing, const double* loop, int non_realtime) {
    ToNetwork record;
    record.kind = ToNetwork::Kind::transport;
    record.position = position;
    record.transport.epoch = epoch;
    record.transport.position = position;
    HostTime& host = record.transport.host;
    host.valid = true;
    host.ppq = ppq;
    host.bpm = bpm;
    host.meter_num = num;
    host.meter_den = den;
    host.bar_start_ppq = bar_start;
    host.playing = playing != 0;
    host.non_realtime = non_realtime != 0;
    host.has_loop = loop != nullptr;
    if (loop != nullptr) {
        host.loop_start_ppq = loop[0];
        host.loop_end_ppq = loop[1];
    }
    return of(bench).exchange.outbox.push(record);
}

EXPORTED int attacca_net_midi(void* bench, int64_t position, const uint8_t* data, int size) {
    ToNetwork record;
    record.kind = ToNetwork::Kind::midi;
    record.position = position;
    record.midi.size = static_cast<uint8_t>(size);
    std::copy(data, data + size, record.midi.data);
    return of(bench).exchange.outbox.push(record);
}

EXPORTED int attacca_net_trigger(void* bench, int64_t position, int64_t take, int in_bars, double quantum, int mode,
                                 int bars, int wait, int64_t seed) {
    ToNetwork record;
    record.kind = ToNetwork::Kind::trigger;
    record.position = position;
    record.trigger = {take, position, {in_bars != 0, quantum}, static_cast<TakeMode>(mode), bars, wait != 0, seed};
    return of(bench).exchange.outbox.push(record);
}

EXPORTED int attacca_net_release(void* bench, int64_t position, int64_t take, int quantized) {
    ToNetwork record;
    record.kind = ToNetwork::Kind::release;
    record.position = position;
    record.release = {take, quantized != 0};
    return of(bench).exchange.outbox.push(record);
}

EXPORTED int attacca_net_due(void* bench, int32_t generation, int64_t epoch, int64_t take) {
    ToNetwork record;
    record.kind = ToNetwork::Kind::due;
    record.due = {generation, epoch, take};
    return of(bench).exchange.outbox.push(record);
}

EXPORTED int attacca_net_settled(void* bench, int64_t number) {
    ToNetwork record;
    record.kind = ToNetwork::Kind::settled;
    record.position = number;
    return of(bench).exchange.outbox.push(record);
}

// The next note for the audio thread: kind, generation, epoch, take, position; 0 if there is none.
EXPORTED int attacca_net_note(void* bench, int64_t* out) {
    ToAudio note;
    if (!of(bench).exchange.inbox.pop(note)) return 0;
    const int64_t values[]{static_cast<int64_t>(note.kind), note.generation, note.epoch, note.take, note.position};
    std::copy(std::begin(values), std::end(values), out);
    return 1;
}

EXPORTED int attacca_net_cut(void* bench, int64_t position, int32_t generation) {
    return of(bench).exchange.ring.cut(position, generation);
}

EXPORTED void attacca_net_read(void* bench, int64_t position, int64_t count, float* samples, uint8_t* sources) {
    const std::unique_ptr<int32_t[]> generations(new int32_t[static_cast<size_t>(count)]);
    of(bench).exchange.ring.read(position, count, samples, reinterpret_cast<Source*>(sources), generations.get());
}

// --- any thread's view --------------------------------------------------------------------------------------------

// connected, seed, settled, lost sessions, chunks: arrived, lost, disordered, stale, broken; bad, unsent messages;
// committed and planned end.
EXPORTED void attacca_net_meters(void* bench, int64_t* out) {
    const EngineMeters& meters = of(bench).exchange.engine;
    const int64_t values[]{meters.connected,     meters.seed,         meters.settled,           meters.sessions_lost,
                           meters.chunks,        meters.lost_chunks,  meters.disordered_chunks, meters.stale_chunks,
                           meters.broken_chunks, meters.bad_messages, meters.unsent_messages,   meters.committed_end,
                           meters.planned_end};
    std::copy(std::begin(values), std::end(values), out);
}

EXPORTED void attacca_net_words(void* bench, const char* words) { of(bench).half.set_words(words); }
EXPORTED int attacca_net_takes_words(void* bench) { return of(bench).half.takes_words(); }

// 0 state, 1 error, 2 model, 3 why the words were refused.
EXPORTED int attacca_net_text(void* bench, int which, char* out, int64_t capacity) {
    const NetworkHalf& half = of(bench).half;
    const std::string texts[]{half.state_text(), half.error_text(), half.model_text(), half.words_refused()};
    const std::string& text = texts[which];
    return copy_text(text, out, capacity);
}
