// See DistrhoPluginInfo.h. Sleeps in run() until the block is due, counted from the first block.
#include <chrono>
#include <cstring>
#include <thread>

#include "DistrhoPlugin.hpp"

START_NAMESPACE_DISTRHO

class Pacer : public Plugin {
public:
    Pacer() : Plugin(0, 0, 0) {}

protected:
    const char* getLabel() const override { return "AttaccaPacer"; }
    const char* getMaker() const override { return "Attacca"; }
    const char* getLicense() const override { return "Apache-2.0"; }
    uint32_t getVersion() const override { return d_version(0, 1, 0); }
    int64_t getUniqueId() const override { return d_cconst('A', 't', 'P', 'c'); }

    void activate() override { samples_ = 0; }

    void run(const float** inputs, float** outputs, uint32_t frames) override {
        using Clock = std::chrono::steady_clock;
        if (samples_ == 0) started_ = Clock::now();
        for (int channel = 0; channel < 2; ++channel)
            if (inputs[channel] != outputs[channel])
                std::memcpy(outputs[channel], inputs[channel], sizeof(float) * frames);
        samples_ += frames;
        const std::chrono::duration<double> due(double(samples_) / getSampleRate());
        std::this_thread::sleep_until(started_ + std::chrono::duration_cast<Clock::duration>(due));
    }

private:
    uint64_t samples_ = 0;
    std::chrono::steady_clock::time_point started_;
};

Plugin* createPlugin() { return new Pacer; }

END_NAMESPACE_DISTRHO
