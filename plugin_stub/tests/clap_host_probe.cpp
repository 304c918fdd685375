// A CLAP plugin whose behaviour is known, to prove the scriptable host by: channel 0 is input * gain plus key / 128 at
// the very sample of every note-on, channel 1 clicks (1.0) at every bar line that the host's transport tells, and
// "sin" makes it do what an audio thread must not, once a block. Thread: as CLAP says.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include <clap/entry.h>
#include <clap/ext/audio-ports.h>
#include <clap/ext/note-ports.h>
#include <clap/ext/params.h>
#include <clap/ext/state.h>
#include <clap/plugin-factory.h>
#include <clap/plugin-features.h>
#include <pthread.h>
#include <unistd.h>

namespace {

enum Id : clap_id { kGain, kSin, kHeard, kRender, kNumParams };
enum Sin { kNone, kMalloc, kLock, kTryLock, kSystemCall, kNoise };  // kNoise: not a number, and beyond the block's end

struct Row {
    const char* symbol;
    double maximum, standard;
    bool read_only;
};
constexpr Row kRows[kNumParams] = {
    {"gain", 2.0, 1.0, false}, {"sin", 5.0, 0.0, false}, {"heard", 1e9, 0.0, true}, {"render", 1.0, 0.0, true}};

const char* const kFeatures[] = {CLAP_PLUGIN_FEATURE_AUDIO_EFFECT, nullptr};
const clap_plugin_descriptor_t kAbout{
    CLAP_VERSION, "attacca.probe", "Probe", "Attacca tests", "", "", "", "1", "", const_cast<const char**>(kFeatures)};

struct Probe {
    clap_plugin_t plugin{};
    double values[kNumParams] = {kRows[0].standard, kRows[1].standard, kRows[2].standard, kRows[3].standard};
    double rate{48000.0};
    clap_event_transport_t transport{};
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

    void set(clap_id id, double value) {
        if (id < kNumParams && !kRows[id].read_only) values[id] = value;
    }
    void hear(const clap_event_header_t* event, float& pending);
    void click(uint32_t from, uint32_t until, uint32_t told_at, float* clicks) const;
    void misbehave(const clap_process_t* process);
    void process(const clap_process_t* process);
};

Probe& of(const clap_plugin_t* plugin) { return *static_cast<Probe*>(plugin->plugin_data); }

double quarters(int64_t beats) { return static_cast<double>(beats) / static_cast<double>(CLAP_BEATTIME_FACTOR); }

// `pending`: what a note adds to the sample it comes at.
void Probe::hear(const clap_event_header_t* event, float& pending) {
    values[kHeard] += 1.0;
    int key = -1;
    if (event->type == CLAP_EVENT_NOTE_ON) {
        key = reinterpret_cast<const clap_event_note_t*>(event)->key;
    } else if (event->type == CLAP_EVENT_MIDI) {
        const uint8_t* data = reinterpret_cast<const clap_event_midi_t*>(event)->data;
        if ((data[0] & 0xF0) == 0x90 && data[2] > 0) key = data[1];
    } else if (event->type == CLAP_EVENT_PARAM_VALUE) {
        const auto& change = *reinterpret_cast<const clap_event_param_value_t*>(event);
        set(change.param_id, change.value);
    } else if (event->type == CLAP_EVENT_TRANSPORT) {
        transport = *reinterpret_cast<const clap_event_transport_t*>(event);
    }
    if (key >= 0) pending += static_cast<float>(key) / 128.0F;
}

// Bar lines in [from, until), by what was told for sample `told_at`.
void Probe::click(uint32_t from, uint32_t until, uint32_t told_at, float* clicks) const {
    if ((transport.flags & CLAP_TRANSPORT_IS_PLAYING) == 0 || transport.tsig_denom == 0) return;
    const double bar = 4.0 * transport.tsig_num / transport.tsig_denom;
    const double start = quarters(transport.bar_start), position = quarters(transport.song_pos_beats);
    const double per_sample = transport.tempo / 60.0 / rate;
    for (double line = start; line < position + per_sample * (until + 1.0); line += bar) {
        const auto at = static_cast<int64_t>(told_at) + std::llround((line - position) / per_sample);
        if (at >= static_cast<int64_t>(from) && at < static_cast<int64_t>(until)) clicks[at] = 1.0F;
    }
}

void Probe::misbehave(const clap_process_t* process) {
    switch (static_cast<Sin>(values[kSin])) {
        case kMalloc: {
            void* volatile taken = std::malloc(64);
            std::free(taken);
            break;
        }
        case kLock:
            pthread_mutex_lock(&mutex);
            pthread_mutex_unlock(&mutex);
            break;
        case kTryLock:
            if (pthread_mutex_trylock(&mutex) == 0) pthread_mutex_unlock(&mutex);
            break;
        case kSystemCall:
            if (getppid() == 0) values[kHeard] += 1.0;
            break;
        case kNoise:
            process->audio_outputs[0].data32[0][0] = NAN;
            process->audio_outputs[0].data32[1][process->frames_count] = 1.0F;
            break;
        default:
            break;
    }
}

void Probe::process(const clap_process_t* process) {
    const uint32_t count = process->frames_count;
    const float* input = process->audio_inputs[0].data32[0];
    float* wet = process->audio_outputs[0].data32[0];
    float* clicks = process->audio_outputs[0].data32[1];
    if (process->transport != nullptr) transport = *process->transport;
    uint32_t done = 0, told_at = 0;
    float pending = 0.0F;
    std::fill(clicks, clicks + count, 0.0F);
    for (uint32_t i = 0, n = process->in_events->size(process->in_events); i <= n; ++i) {
        const clap_event_header_t* event = i < n ? process->in_events->get(process->in_events, i) : nullptr;
        const uint32_t until = event != nullptr ? event->time : count;
        for (uint32_t at = done; at < until; ++at) {
            wet[at] = input[at] * static_cast<float>(values[kGain]) + pending;
            pending = 0.0F;
        }
        click(done, until, told_at, clicks);
        done = until;
        if (event == nullptr) break;
        hear(event, pending);
        if (event->type == CLAP_EVENT_TRANSPORT) told_at = event->time;
    }
    misbehave(process);
}

const clap_plugin_audio_ports_t kPorts{[](const clap_plugin_t*, bool) { return 1U; },
                                       [](const clap_plugin_t*, uint32_t, bool input, clap_audio_port_info_t* info) {
                                           *info = {};
                                           info->flags = CLAP_AUDIO_PORT_IS_MAIN;
                                           info->channel_count = 2;
                                           info->port_type = CLAP_PORT_STEREO;
                                           info->in_place_pair = CLAP_INVALID_ID;
                                           std::strcpy(info->name, input ? "in" : "out");
                                           return true;
                                       }};

const clap_plugin_note_ports_t kNotes{
    [](const clap_plugin_t*, bool input) { return input ? 1U : 0U; },
    [](const clap_plugin_t*, uint32_t, bool, clap_note_port_info_t* info) {
        *info = {0, CLAP_NOTE_DIALECT_CLAP | CLAP_NOTE_DIALECT_MIDI, CLAP_NOTE_DIALECT_CLAP, "notes"};
        return true;
    }};

const clap_plugin_params_t kParams{
    [](const clap_plugin_t*) { return static_cast<uint32_t>(kNumParams); },
    [](const clap_plugin_t*, uint32_t index, clap_param_info_t* info) {
        const Row& row = kRows[index];
        *info = {};
        info->id = index;
        info->flags = row.read_only ? CLAP_PARAM_IS_READONLY : CLAP_PARAM_IS_AUTOMATABLE;
        std::strcpy(info->name, row.symbol);
        std::strcpy(info->module, row.symbol);
        info->max_value = row.maximum;
        info->default_value = row.standard;
        return true;
    },
    [](const clap_plugin_t* plugin, clap_id id, double* value) {
        if (id >= kNumParams) return false;
        *value = of(plugin).values[id];
        return true;
    },
    [](const clap_plugin_t*, clap_id, double, char*, uint32_t) { return false; },
    [](const clap_plugin_t*, clap_id, const char*, double*) { return false; },
    [](const clap_plugin_t* plugin, const clap_input_events_t* events, const clap_output_events_t*) {
        float nowhere = 0.0F;
        for (uint32_t i = 0; i < events->size(events); ++i) of(plugin).hear(events->get(events, i), nowhere);
    }};

const clap_plugin_state_t kState{
    [](const clap_plugin_t* plugin, const clap_ostream_t* stream) {
        return stream->write(stream, &of(plugin).values[kGain], sizeof(double)) == sizeof(double);
    },
    [](const clap_plugin_t* plugin, const clap_istream_t* stream) {
        return stream->read(stream, &of(plugin).values[kGain], sizeof(double)) == sizeof(double);
    }};

struct RenderExtension {
    bool (*has_hard_realtime_requirement)(const clap_plugin_t*);
    bool (*set)(const clap_plugin_t*, int32_t);
};
const RenderExtension kRenderExtension{[](const clap_plugin_t*) { return false; },
                                       [](const clap_plugin_t* plugin, int32_t mode) {
                                           of(plugin).values[kRender] = mode;
                                           return true;
                                       }};

const void* extension(const clap_plugin_t*, const char* id) {
    if (std::strcmp(id, CLAP_EXT_AUDIO_PORTS) == 0) return &kPorts;
    if (std::strcmp(id, CLAP_EXT_NOTE_PORTS) == 0) return &kNotes;
    if (std::strcmp(id, CLAP_EXT_PARAMS) == 0) return &kParams;
    if (std::strcmp(id, CLAP_EXT_STATE) == 0) return &kState;
    if (std::strcmp(id, "clap.render") == 0) return &kRenderExtension;
    return nullptr;
}

const clap_plugin_t* create(const clap_plugin_factory_t*, const clap_host_t*, const char* id) {
    if (std::strcmp(id, kAbout.id) != 0) return nullptr;
    auto* probe = new Probe;
    probe->plugin = {
        &kAbout,
        probe,
        [](const clap_plugin_t*) { return true; },
        [](const clap_plugin_t* plugin) { delete &of(plugin); },
        [](const clap_plugin_t* plugin, double rate, uint32_t, uint32_t) {
            of(plugin).rate = rate;
            return true;
        },
        [](const clap_plugin_t*) {},
        [](const clap_plugin_t*) { return true; },
        [](const clap_plugin_t*) {},
        [](const clap_plugin_t* plugin) { of(plugin).values[kHeard] = 0.0; },
        [](const clap_plugin_t* plugin, const clap_process_t* process) -> clap_process_status {
            of(plugin).process(process);
            return CLAP_PROCESS_CONTINUE;
        },
        extension,
        [](const clap_plugin_t*) {},
    };
    return &probe->plugin;
}

const clap_plugin_factory_t kFactory{[](const clap_plugin_factory_t*) { return 1U; },
                                     [](const clap_plugin_factory_t*, uint32_t) { return &kAbout; }, create};

}  // namespace

extern "C" CLAP_EXPORT const clap_plugin_entry_t clap_entry{
    CLAP_VERSION, [](const char*) { return true; }, [] {},
    [](const char* id) -> const void* { return std::strcmp(id, CLAP_PLUGIN_FACTORY_ID) == 0 ? &kFactory : nullptr; }};
