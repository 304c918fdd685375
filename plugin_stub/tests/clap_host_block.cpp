#include "clap_host_block.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>

namespace attacca::host {

namespace {

constexpr size_t kManyEvents = 4096;
constexpr int64_t kMargin = 16;    // samples after a block's end that must stay as they were
constexpr int64_t kRampBits = 24;  // the ramp counts samples exactly, below 1

uint64_t scrambled(uint64_t x) {  // splitmix64
    x += 0x9E3779B97F4A7C15ULL;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
}

int64_t fixed(double value) { return std::llround(value * static_cast<double>(CLAP_BEATTIME_FACTOR)); }

}  // namespace

EventList::EventList() {
    slots_.reserve(kManyEvents);
    list_.ctx = this;
    list_.size = [](const clap_input_events_t* list) {
        return static_cast<uint32_t>(static_cast<const EventList*>(list->ctx)->slots_.size());
    };
    list_.get = [](const clap_input_events_t* list, uint32_t index) {
        return &static_cast<const EventList*>(list->ctx)->slots_[index].header();
    };
}

template <class T>
T& EventList::next(uint16_t type, uint32_t time) {
    static_assert(sizeof(T) <= kLargest);
    Slot& slot = slots_.emplace_back();
    slot.header() = {sizeof(T), time, CLAP_CORE_EVENT_SPACE_ID, type, CLAP_EVENT_IS_LIVE};
    return *reinterpret_cast<T*>(slot.bytes.data());
}

void EventList::add(const Action& action, uint32_t time, const Plugin& plugin) {
    if (action.kind == Kind::param) {
        const Parameter* parameter = plugin.parameter(action.text);
        if (parameter == nullptr) return;
        auto& event = next<clap_event_param_value_t>(CLAP_EVENT_PARAM_VALUE, time);
        event.param_id = parameter->info.id;
        event.cookie = parameter->info.cookie;
        event.note_id = event.port_index = event.channel = event.key = -1;
        event.value = action.values[0];
    } else if (action.kind == Kind::midi) {
        auto& event = next<clap_event_midi_t>(CLAP_EVENT_MIDI, time);
        for (size_t i = 0; i < 3; ++i) event.data[i] = static_cast<uint8_t>(action.numbers[i]);
    } else {
        const uint16_t type = action.kind == Kind::note_on    ? CLAP_EVENT_NOTE_ON
                              : action.kind == Kind::note_off ? CLAP_EVENT_NOTE_OFF
                                                              : CLAP_EVENT_NOTE_CHOKE;
        auto& event = next<clap_event_note_t>(type, time);
        event.note_id = -1;
        event.channel = static_cast<int16_t>(action.numbers[0]);
        event.key = static_cast<int16_t>(action.numbers[1]);
        event.velocity = action.values.empty() ? 0.0 : action.values[0];
    }
}

void EventList::add(const clap_event_transport_t& transport, uint32_t time) {
    auto& event = next<clap_event_transport_t>(CLAP_EVENT_TRANSPORT, time);
    const clap_event_header_t header = event.header;
    event = transport;
    event.header = header;
}

void EventList::sort() {
    std::stable_sort(slots_.begin(), slots_.end(),
                     [](const Slot& a, const Slot& b) { return a.header().time < b.header().time; });
}

OutEvents::OutEvents() {
    list.ctx = this;
    list.try_push = [](const clap_output_events_t* self, const clap_event_header_t* event) {
        auto& events = *static_cast<OutEvents*>(self->ctx);
        events.misplaced += event->time >= events.block;
        if (event->type == CLAP_EVENT_PARAM_VALUE)
            ++events.params;
        else if (event->type <= CLAP_EVENT_NOTE_END || event->type == CLAP_EVENT_MIDI)
            ++events.notes;
        else
            ++events.others;
        return true;
    };
}

Buffers::Buffers(const std::vector<clap_audio_port_info_t>& ports, int64_t max_block) {
    for (const clap_audio_port_info_t& info : ports) {
        for (uint32_t i = 0; i < info.channel_count; ++i) {
            channels_.emplace_back(static_cast<size_t>(max_block + kMargin), kUntouched);
        }
    }
    size_t next = 0;
    for (const clap_audio_port_info_t& info : ports) {
        std::vector<float*> pointers;
        for (uint32_t i = 0; i < info.channel_count; ++i) pointers.push_back(channels_[next++].data());
        pointers_.push_back(std::move(pointers));
    }
    for (size_t i = 0; i < ports.size(); ++i) {
        ports_.push_back({pointers_[i].data(), nullptr, ports[i].channel_count, 0, 0});
    }
}

void Buffers::share(Buffers& other) {
    for (size_t i = 0; i < std::min(ports_.size(), other.ports_.size()); ++i) {
        if (ports_[i].channel_count == other.ports_[i].channel_count) ports_[i].data32 = other.ports_[i].data32;
    }
}

void Buffers::fill(int64_t from, int64_t count, float value) {
    for (auto& channel : channels_) std::fill_n(channel.begin() + from, count, value);
}

bool Buffers::spilled(int64_t from) const {
    return std::any_of(channels_.begin(), channels_.end(), [from](const std::vector<float>& channel) {
        const auto begin = channel.begin() + from;
        return std::any_of(begin, begin + kMargin, [](float value) { return value != kUntouched; });
    });
}

InputSignal::InputSignal(const Script& script, int channels) : script_(script), channels_(channels) {
    if (script.input != "raw") return;
    std::ifstream in(script.input_file, std::ios::binary);
    const std::string data{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    raw_.resize(data.size() / sizeof(float));
    std::memcpy(raw_.data(), data.data(), raw_.size() * sizeof(float));
}

float InputSignal::at(int64_t position, int channel) const {
    if (script_.input == "ramp") {
        const auto value = static_cast<float>(position % (int64_t{1} << kRampBits)) * 0x1p-24F;
        return channel % 2 == 0 ? value : -value;
    }
    if (script_.input == "noise") {
        const uint64_t bits = scrambled(script_.input_seed * 1000003ULL + static_cast<uint64_t>(position) * 64ULL +
                                        static_cast<uint64_t>(channel));
        return static_cast<float>(bits >> 40) * 0x1p-24F - 0.5F;
    }
    const auto index = static_cast<size_t>(position * channels_ + channel);
    return index < raw_.size() ? raw_[index] : 0.0F;
}

void tell(const ExactTransport& truth, const Telling& telling, double song_s, clap_event_transport_t& told) {
    told = {};
    told.header = {sizeof told, 0, CLAP_CORE_EVENT_SPACE_ID, CLAP_EVENT_TRANSPORT, 0};
    told.flags = CLAP_TRANSPORT_HAS_BEATS_TIMELINE | CLAP_TRANSPORT_HAS_SECONDS_TIMELINE;
    if (truth.playing()) told.flags |= CLAP_TRANSPORT_IS_PLAYING;
    told.song_pos_beats = truth.ppq_beats(telling.ticks);
    told.song_pos_seconds = fixed(song_s);
    if (telling.tempo) {
        told.flags |= CLAP_TRANSPORT_HAS_TEMPO;
        told.tempo = truth.bpm();
        told.tempo_inc = truth.bpm_per_sample();
    }
    if (truth.looping()) {
        told.flags |= CLAP_TRANSPORT_IS_LOOP_ACTIVE;
        told.loop_start_beats = truth.loop_start_beats();
        told.loop_end_beats = truth.loop_end_beats();
    }
    if (telling.meter) {
        told.flags |= CLAP_TRANSPORT_HAS_TIME_SIGNATURE;
        told.tsig_num = static_cast<uint16_t>(truth.meter_num());
        told.tsig_denom = static_cast<uint16_t>(truth.meter_den());
    }
    if (telling.bar) {
        told.bar_start = truth.bar_start_beats(telling.ticks) + fixed(as_double(telling.bar_offset));
        told.bar_number = truth.bar_number();
    }
}

}  // namespace attacca::host
