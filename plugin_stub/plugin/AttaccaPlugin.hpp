// The DPF shell: parameters, MIDI, transport and state of a host on one side, an attacca::Instance on the other.
// Nothing is decided here. Main thread: all but run() and parameter values, which are any thread's, and states, which
// some hosts set from a worker of theirs.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>

#include "DistrhoPlugin.hpp"
#include "core/host_dialect.hpp"
#include "instance.hpp"
#include "protocol.hpp"
#include "saved_state.hpp"

START_NAMESPACE_DISTRHO

class AttaccaPlugin : public Plugin {
public:
    // Parameters as hosts number them: those of the table, bypass, then the meters.
    static constexpr uint32_t kParameters = static_cast<uint32_t>(attacca::protocol::kParameters.size());
    static constexpr uint32_t kBypass = kParameters;
    static constexpr uint32_t kFirstMeter = kBypass + 1;
    static constexpr uint32_t kCount = kFirstMeter + static_cast<uint32_t>(attacca::protocol::kMeters.size());

    AttaccaPlugin();

    // Main thread; null while the host has not activated the plugin.
    const attacca::Instance* instance() const { return instance_.get(); }
    const std::string& address() const { return address_; }
    std::string words() const;  // what to play

protected:
    const char* getLabel() const override;
    const char* getDescription() const override;
    const char* getMaker() const override { return "Attacca"; }
    const char* getHomePage() const override { return "https://github.com/attacca/attacca"; }
    const char* getLicense() const override { return "Apache-2.0"; }
    uint32_t getVersion() const override { return d_version(ATTACCA_VERSION_NUMBERS); }
    int64_t getUniqueId() const override {
        return ATTACCA_INSTRUMENT ? d_cconst('A', 't', 'I', 'n') : d_cconst('A', 't', ATTACCA_MONO ? 'M' : 'F', 'x');
    }

    void initAudioPort(bool input, uint32_t index, AudioPort& port) override;
    void initParameter(uint32_t index, Parameter& parameter) override;
    void initState(uint32_t index, State& state) override;
    float getParameterValue(uint32_t index) const override;
    void setParameterValue(uint32_t index, float value) override;
    String getState(const char* key) const override;
    void setState(const char* key, const char* value) override;

    void activate() override;
    void deactivate() override;
    void run(const float** inputs, float** outputs, uint32_t frames, const MidiEvent* events,
             uint32_t event_count) override;

private:
    static constexpr uint32_t kMaxEvents = 1024;  // of a block; more are dropped, the last

    float meter(uint32_t index) const;
    void follow_parameters();
    void follow_trigger();

    std::array<std::atomic<float>, kParameters + 1> values_;
    std::atomic<uint32_t> trigger_changes_{0};    // from off to on or back since the last block
    std::atomic<bool> loaded_{false};             // a state, since the last block: its values come after it
    std::array<float, kParameters + 1> given_{};  // run(): what the instance has of `values_`
    std::array<attacca::MidiEvent, kMaxEvents> events_{};
    std::unique_ptr<attacca::Instance> instance_;
    attacca::HostDialect dialect_;
    mutable std::mutex state_lock_;  // of `saved_`, and of making and unmaking `instance_`; never taken in run()
    attacca::SavedState saved_;
    std::string address_;
    bool offline_{false};  // the environment says that every render is

    DISTRHO_DECLARE_NON_COPYABLE_WITH_LEAK_DETECTOR(AttaccaPlugin)
};

END_NAMESPACE_DISTRHO
