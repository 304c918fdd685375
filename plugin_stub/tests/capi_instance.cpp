// A whole plugin instance without a plugin format, for tests (tests/plugin/native_instance.py): what a shell around it
// does, by plain C calls. `process` belongs to one thread, everything else to the main thread.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "../instance.hpp"
#include "capi_host.hpp"

#if defined(_WIN32)
#define EXPORTED extern "C" __declspec(dllexport)
#else
#define EXPORTED extern "C" __attribute__((visibility("default")))
#endif

namespace {

using namespace attacca;

Instance& of(void* instance) { return *static_cast<Instance*>(instance); }

int copy_text(const std::string& text, char* out, int64_t capacity) {
    const size_t length = std::min(text.size(), static_cast<size_t>(capacity - 1));
    std::memcpy(out, text.data(), length);
    out[length] = '\0';
    return static_cast<int>(length);
}

}  // namespace

EXPORTED void* attacca_instance_new(const char* address, const char* client, double rate, int channels,
                                    int64_t max_block_samples, double ring_s, double wait_s) {
    InstanceConfig config;
    config.address = address;
    config.client = client;
    config.audio.sample_rate = rate;
    config.audio.channels = channels;
    config.audio.max_block_samples = max_block_samples;
    config.audio.ring_s = ring_s;
    config.audio.wait_s = wait_s;
    return new Instance(config);
}

EXPORTED void attacca_instance_free(void* instance) { delete static_cast<Instance*>(instance); }
EXPORTED void attacca_instance_start(void* instance) { of(instance).start(); }
EXPORTED void attacca_instance_stop(void* instance) { of(instance).stop(); }
EXPORTED void attacca_instance_parameter(void* instance, int32_t index, double value) {
    of(instance).set_parameter(index, value);
}
EXPORTED void attacca_instance_bypass(void* instance, int bypass) { of(instance).set_bypass(bypass != 0); }

// `inputs` and `outputs`: [channels] pointers; `inputs` may be null. `events`:
// `num_events` of MidiEvent's own layout.
EXPORTED void attacca_instance_process(void* instance, const HostFields* host, const float* const* inputs,
                                       float* const* outputs, uint32_t samples, const MidiEvent* events,
                                       uint32_t num_events) {
    of(instance).process(to_block(*host, inputs, outputs, samples, events, num_events));
}

// 0 the state in words, 1 the model.
EXPORTED int attacca_instance_text(void* instance, int which, char* out, int64_t capacity) {
    return copy_text(which == 0 ? of(instance).state_text() : of(instance).model_text(), out, capacity);
}

// In the order of native_instance.METERS.
EXPORTED void attacca_instance_meters(void* instance, int64_t* out) { copy_meters(of(instance).exchange(), out); }
