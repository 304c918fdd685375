// One plugin instance without any plugin format: audio half, network half and the thread between them. What the DPF
// shell, the tests' C interface and the standalone all hold. Main thread: constructor, destructor, start, stop. Audio
// thread: process, set_parameter, restore_parameter, set_bypass. Any thread: the meters and texts.
#pragma once

#include <memory>
#include <string>

#include "core/audio_half.hpp"
#include "net/network_half.hpp"

namespace attacca {

struct InstanceConfig {
    AudioConfig audio;
    std::string address{"tcp://127.0.0.1:9123"};
    std::string client{"attacca plugin"};
    std::string model;
};

class Instance {
public:
    explicit Instance(const InstanceConfig& config);
    ~Instance();  // stops

    void
    start();  // starts the network thread; a thread that cannot be started leaves a plugin that passes audio through
    void stop();

    void process(const Block& block) noexcept;
    void set_parameter(int32_t index, double value) noexcept;
    void restore_parameter(int32_t index, double value) noexcept;  // of a saved state: see AudioHalf
    void set_bypass(bool bypass) noexcept;

    const Exchange& exchange() const noexcept;
    std::string state_text() const;  // for people: "no engine at tcp://…", "listening", "armed for bar 17", …
    std::string model_text() const;

    // What to play, in words. Any thread but audio.
    void set_words(const std::string& words);  // what cannot be read is left out
    std::string words_refused() const;         // why the engine did not take them; "" if it did
    bool takes_words() const;                  // whether the engine's model takes any; true while there is no engine

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace attacca
