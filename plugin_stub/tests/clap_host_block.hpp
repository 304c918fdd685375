// Builds one process() call: transport, events, buffers; and keeps what came out. Thread: audio (all but the
// constructor), one block at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "clap_host_plugin.hpp"
#include "clap_host_script.hpp"
#include "clap_host_transport.hpp"

namespace attacca::host {

// Events of one block, in the host's own memory, ascending by time.
class EventList {
public:
    EventList();
    void clear() { slots_.clear(); }
    void add(const Action& action, uint32_t time, const Plugin& plugin);
    void add(const clap_event_transport_t& transport, uint32_t time);
    void sort();
    const clap_input_events_t* list() const { return &list_; }

private:
    static constexpr size_t kLargest = sizeof(clap_event_transport_t);
    struct Slot {
        alignas(8) std::array<unsigned char, kLargest> bytes{};
        clap_event_header_t& header() { return *reinterpret_cast<clap_event_header_t*>(bytes.data()); }
        const clap_event_header_t& header() const {
            return *reinterpret_cast<const clap_event_header_t*>(bytes.data());
        }
    };
    template <class T>
    T& next(uint16_t type, uint32_t time);
    std::vector<Slot> slots_;
    clap_input_events_t list_{};
};

// What the plugin sends; counted, not kept.
struct OutEvents {
    int64_t params{}, notes{}, others{}, misplaced{};
    uint32_t block{};
    clap_output_events_t list{};
    OutEvents();
};

inline constexpr float kUntouched = 1.0e30F;  // what lies outside a block

// All channels of all ports of one side, as CLAP wants them.
class Buffers {
public:
    Buffers(const std::vector<clap_audio_port_info_t>& ports, int64_t max_block);
    int channels() const { return static_cast<int>(channels_.size()); }
    float* channel(int index) { return channels_[static_cast<size_t>(index)].data(); }
    clap_audio_buffer_t* ports() { return ports_.data(); }
    uint32_t num_ports() const { return static_cast<uint32_t>(ports_.size()); }
    void share(Buffers& other);                           // the same memory: in place
    void fill(int64_t from, int64_t count, float value);  // samples [from, from + count) of every channel
    bool spilled(int64_t from) const;                     // something was written at or after `from`

private:
    std::vector<std::vector<float>> channels_;
    std::vector<std::vector<float*>> pointers_;
    std::vector<clap_audio_buffer_t> ports_;
};

// The input signal at any sample of the run.
class InputSignal {
public:
    InputSignal(const Script& script, int channels);
    float at(int64_t position, int channel) const;

private:
    const Script& script_;
    const int channels_;
    std::vector<float> raw_;
};

// The told transport, from the true one.
void tell(const ExactTransport& truth, const Telling& telling, double song_s, clap_event_transport_t& told);

}  // namespace attacca::host
