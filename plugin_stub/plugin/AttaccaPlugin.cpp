// See AttaccaPlugin.hpp.
#include "AttaccaPlugin.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/text_rules.hpp"
#include "engine_address.hpp"

START_NAMESPACE_DISTRHO

namespace {

namespace protocol = attacca::protocol;

constexpr uint32_t kPortGroup = ATTACCA_MONO ? kPortGroupMono : kPortGroupStereo;
constexpr const char* kStateKey = "attacca";
constexpr const char* kTextKey =
    "text";  // the same text as in the other: a window can change and be told of this alone
constexpr const char* kOfflineVariable = "ATTACCA_OFFLINE";  // for renderers that do not say that they are offline
constexpr double kLeastRing_s = 20.0;
constexpr uint32_t kTrigger = static_cast<uint32_t>(protocol::parameter_index("trigger"));
constexpr uint32_t kMostChanges = 8;  // of the trigger in one block; even, so that its sense stays

bool is_on(float value) { return value > 0.5f; }

bool says_offline() {
    const char* value = std::getenv(kOfflineVariable);
    return value != nullptr && *value != '\0' && std::strcmp(value, "0") != 0;
}

String string_of(std::string_view text) { return String(std::string(text).c_str()); }

// Named values of a list parameter or meter; DPF owns the array.
void name_choices(ParameterEnumerationValues& values, const protocol::Words& words) {
    auto* const entries = new ParameterEnumerationValue[words.size()];
    uint8_t count = 0;
    for (const std::string_view word : words) {
        entries[count].value = static_cast<float>(count);
        entries[count].label = string_of(word);
        ++count;
    }
    values.count = count;
    values.restrictedMode = true;
    values.values = entries;
}

attacca::HostTime host_time(const TimePosition& position, bool offline) {
    const TimePosition::Musical& musical = position.musical;
    attacca::HostTime host;
    host.valid = musical.valid;
    host.tick_grid = musical.tickGrid;
    host.carried = musical.carried;
    host.playing = position.playing;
    host.non_realtime = musical.nonRealtime || offline;
    host.has_loop = musical.loop;
    host.ppq = musical.ppq;
    host.bpm = musical.bpm;
    host.bar_start_ppq = musical.barStartPpq;
    host.loop_start_ppq = musical.loopStartPpq;
    host.loop_end_ppq = musical.loopEndPpq;
    host.meter_num = musical.meterNum;
    host.meter_den = musical.meterDen;
    host.frame = musical.frame;
    return host;
}

}  // namespace

AttaccaPlugin::AttaccaPlugin() : Plugin(kCount, 0, 2), address_(attacca::engine_address()), offline_(says_offline()) {
    for (uint32_t i = 0; i < kParameters; ++i) values_[i] = static_cast<float>(protocol::kParameters[i].initial);
    values_[kBypass] = 0.0f;
    // What is generated is placed by its stream position, ahead of time: nothing is delayed.
    setLatency(0);
}

const char* AttaccaPlugin::getLabel() const {
    return ATTACCA_INSTRUMENT ? "AttaccaInstrument" : ATTACCA_MONO ? "AttaccaMono" : "Attacca";
}

const char* AttaccaPlugin::getDescription() const {
    return "Continues what was just played by a generative model, in time with the host.";
}

void AttaccaPlugin::initAudioPort(bool input, uint32_t index, AudioPort& port) {
    port.groupId = kPortGroup;
    if (input && ATTACCA_INSTRUMENT) port.hints = kAudioPortIsSidechain;
    Plugin::initAudioPort(input, index, port);
    if (input && ATTACCA_INSTRUMENT) port.groupId = kPortGroup;
}

void AttaccaPlugin::initParameter(uint32_t index, Parameter& parameter) {
    if (index == kBypass) {
        parameter.initDesignation(kParameterDesignationBypass);
        return;
    }
    if (index >= kFirstMeter) {
        const protocol::Meter& row = protocol::kMeters[index - kFirstMeter];
        parameter.hints = kParameterIsOutput | (row.integer ? kParameterIsInteger : 0u);
        parameter.name = string_of(row.label);
        parameter.symbol = string_of(row.name);
        parameter.unit = string_of(row.unit);
        parameter.description = string_of(row.description);
        parameter.ranges = ParameterRanges(static_cast<float>(row.minimum), static_cast<float>(row.minimum),
                                           static_cast<float>(row.maximum));
        if (row.choices.size() > 0) name_choices(parameter.enumValues, row.choices);
        return;
    }
    const protocol::Parameter& row = protocol::kParameters[index];
    const bool is_switch = row.integer && row.minimum == 0.0 && row.maximum == 1.0;
    parameter.hints = kParameterIsAutomatable | (row.integer ? kParameterIsInteger : 0u);
    if (is_switch) parameter.hints |= kParameterIsBoolean;
    parameter.name = string_of(row.label);
    parameter.symbol = string_of(row.name);
    parameter.unit = string_of(row.unit);
    parameter.description = string_of(row.description);
    parameter.ranges = ParameterRanges(static_cast<float>(row.initial), static_cast<float>(row.minimum),
                                       static_cast<float>(row.maximum));
    if (row.midi_cc >= 0) parameter.midiCC = static_cast<uint8_t>(row.midi_cc);
    if (row.choices.size() > 0) name_choices(parameter.enumValues, row.choices);
}

void AttaccaPlugin::initState(uint32_t index, State& state) {
    if (index == 1) {
        state.key = kTextKey;
        state.label = "Text";
        state.description = "What to play, in words, for models that take text.";
        state.defaultValue = "";
        return;
    }
    state.key = kStateKey;
    state.label = "Session";
    state.hints = kStateIsOnlyForDSP;
    state.defaultValue = attacca::SavedState{}.text().c_str();
}

float AttaccaPlugin::getParameterValue(uint32_t index) const {
    if (index < values_.size()) return values_[index].load(std::memory_order_relaxed);
    return index < kCount ? meter(index - kFirstMeter) : 0.0f;
}

// Any thread; run() hands on what changed.
void AttaccaPlugin::setParameterValue(uint32_t index, float value) {
    if (index >= values_.size()) return;
    const float before = values_[index].exchange(value, std::memory_order_relaxed);
    if (index == kTrigger && is_on(before) != is_on(value)) trigger_changes_.fetch_add(1, std::memory_order_release);
}

void AttaccaPlugin::follow_parameters() {
    for (uint32_t i = 0; i <= kParameters; ++i) {
        const float value = values_[i].load(std::memory_order_relaxed);
        if (i == kTrigger || value == given_[i]) continue;
        given_[i] = value;
        if (i == kBypass) {
            instance_->set_bypass(is_on(value));
        } else {
            instance_->set_parameter(static_cast<int32_t>(i), value);
        }
    }
    follow_trigger();
}

// On and off again within one block is a take begun and released. What a state brings starts nothing.
void AttaccaPlugin::follow_trigger() {
    const bool loaded = loaded_.exchange(false, std::memory_order_acquire);
    uint32_t changes = trigger_changes_.exchange(0, std::memory_order_acquire);
    const bool on = is_on(values_[kTrigger].load(std::memory_order_relaxed));
    if (loaded && changes > 0) {
        instance_->restore_parameter(static_cast<int32_t>(kTrigger), on);
        return;
    }
    if (changes > kMostChanges) changes = kMostChanges + changes % 2;
    for (; changes > 0; --changes) {
        instance_->set_parameter(static_cast<int32_t>(kTrigger), changes % 2 == 1 ? on : !on);
    }
}

float AttaccaPlugin::meter(uint32_t index) const {
    if (!instance_) return 0.0f;
    const attacca::AudioMeters& audio = instance_->exchange().audio;
    const attacca::EngineMeters& engine = instance_->exchange().engine;
    const protocol::Meter& row = protocol::kMeters[index];
    double value = 0.0;
    if (row.name == "rtf") {
        value = engine.rtf_total.load(std::memory_order_relaxed);
    } else if (row.name == "lookahead_now_ms") {
        value = static_cast<double>(audio.lookahead_samples.load(std::memory_order_relaxed)) * 1000.0 / getSampleRate();
    } else if (row.name == "underruns") {
        value = static_cast<double>(audio.underrun_callbacks.load(std::memory_order_relaxed));
    } else if (row.name == "connection") {
        // A session outlives its connection for some heartbeats; an engine that is gone does not answer.
        const bool absent = engine.absent.load(std::memory_order_relaxed);
        value = engine.connected.load(std::memory_order_relaxed) && !absent ? 1.0 : 0.0;
    } else if (row.name == "state") {
        value = std::max(0, protocol::word_index(row.choices, attacca::play_state(audio)));
    }
    return static_cast<float>(std::clamp(value, row.minimum, row.maximum));
}

String AttaccaPlugin::getState(const char* key) const {
    const std::lock_guard<std::mutex> guard(state_lock_);
    if (std::strcmp(key, kTextKey) == 0) return String(saved_.words.c_str());
    attacca::SavedState now = saved_;
    if (instance_) {
        const int64_t seed = instance_->exchange().engine.seed.load(std::memory_order_relaxed);
        if (seed >= 0) now.seed = std::to_string(seed);
    }
    return String(now.text().c_str());
}

// An address or model takes effect when the host activates the plugin next: projects are loaded before that. A text at
// once.
void AttaccaPlugin::setState(const char* key, const char* value) {
    const bool text = std::strcmp(key, kTextKey) == 0;
    if (!text && std::strcmp(key, kStateKey) != 0) return;
    const std::lock_guard<std::mutex> guard(state_lock_);
    if (text) {
        saved_.words = attacca::readable_text(value);
    } else {
        saved_ = attacca::SavedState::parse(value);
        loaded_.store(true, std::memory_order_release);
    }
    if (instance_) instance_->set_words(saved_.words);
}

std::string AttaccaPlugin::words() const {
    const std::lock_guard<std::mutex> guard(state_lock_);
    return saved_.words;
}

void AttaccaPlugin::activate() {
    const std::lock_guard<std::mutex> guard(state_lock_);
    address_ = saved_.address.empty() ? attacca::engine_address() : saved_.address;
    attacca::InstanceConfig config;
    config.audio.sample_rate = getSampleRate();
    config.audio.channels = DISTRHO_PLUGIN_NUM_OUTPUTS;
    config.audio.max_block_samples = std::clamp<int64_t>(getBufferSize(), 64, 8192);
    config.audio.ring_s = kLeastRing_s;
    config.address = address_;
    config.client = std::string(DISTRHO_PLUGIN_NAME) + " " + ATTACCA_VERSION;
    config.model = saved_.model;
    try {
        instance_ = std::make_unique<attacca::Instance>(config);
    } catch (...) {  // no memory: the input passes through
        instance_.reset();
        return;
    }
    trigger_changes_ = 0;
    loaded_ = false;
    for (uint32_t i = 0; i < kParameters; ++i) {
        given_[i] = values_[i];
        instance_->restore_parameter(static_cast<int32_t>(i), given_[i]);
    }
    given_[kBypass] = values_[kBypass];
    instance_->set_bypass(is_on(given_[kBypass]));
    instance_->set_words(saved_.words);
    instance_->start();
}

void AttaccaPlugin::deactivate() {
    const std::lock_guard<std::mutex> guard(state_lock_);
    instance_.reset();
}

void AttaccaPlugin::run(const float** inputs, float** outputs, uint32_t frames, const MidiEvent* events,
                        uint32_t event_count) {
    if (!instance_) {
        for (uint32_t channel = 0; channel < DISTRHO_PLUGIN_NUM_OUTPUTS; ++channel)
            if (outputs[channel] != inputs[channel])
                std::memmove(outputs[channel], inputs[channel], sizeof(float) * frames);
        return;
    }
    follow_parameters();
    const bool offline = offline_;
    uint32_t count = 0;
    for (uint32_t i = 0; i < event_count && count < kMaxEvents; ++i) {
        const MidiEvent& event = events[i];
        if (event.size < 1 || event.size > 3) continue;
        attacca::MidiEvent& to = events_[count++];
        to.offset = event.frame;
        to.size = static_cast<uint8_t>(event.size);
        std::memcpy(to.data, event.data, event.size);
    }
    attacca::Block block;
    block.host = host_time(getTimePosition(), offline);
    dialect_.translate(block.host, getSampleRate());
    block.inputs = inputs;
    block.outputs = outputs;
    block.samples = frames;
    block.events = events_.data();
    block.num_events = count;
    instance_->process(block);
}

Plugin* createPlugin() { return new AttaccaPlugin; }

END_NAMESPACE_DISTRHO
