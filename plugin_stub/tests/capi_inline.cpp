// An audio half at the other end of capi_network.cpp's bench: a plugin whose every exchange with an engine happens
// between two calls (tests/plugin/native_instance.py InlinePlugin).
#include "capi_bench.hpp"
#include "capi_host.hpp"

#if defined(_WIN32)
#define EXPORTED extern "C" __declspec(dllexport)
#else
#define EXPORTED extern "C" __attribute__((visibility("default")))
#endif

namespace {

using namespace attacca;

Bench& of(void* bench) { return *static_cast<Bench*>(bench); }

}  // namespace

// An audio half in place of the records above.
EXPORTED void attacca_net_audio_half(void* bench, double rate) {
    AudioConfig config;
    config.sample_rate = rate;
    config.channels = of(bench).exchange.ring.channels();
    of(bench).audio = std::make_shared<AudioHalf>(config, of(bench).exchange);
}

EXPORTED void attacca_net_parameter(void* bench, int32_t index, double value) {
    of(bench).audio->set_parameter(index, value);
}

EXPORTED void attacca_net_process(void* bench, const HostFields* host, const float* const* inputs,
                                  float* const* outputs, uint32_t samples, const MidiEvent* events,
                                  uint32_t num_events) {
    of(bench).audio->process(to_block(*host, inputs, outputs, samples, events, num_events));
}

// In the order of native_instance.METERS.
EXPORTED void attacca_net_all_meters(void* bench, int64_t* out) { copy_meters(of(bench).exchange, out); }
