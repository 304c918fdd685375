// HostDialect: what hosts with ticks mean outside x/4. JACK and LV2 count beats of the meter, and so does the tempo;
// some hosts tell the tempo in quarter notes, and Ardour's LV2 counts beats of the meter but parts of them in quarter
// notes (an eighth ends at .5). Known by what song position and ppq show while the host plays. Stands between the shell
// and BarClock. Thread: audio.
#pragma once

#include <cstdint>

#include "host_time.hpp"

namespace attacca {

class HostDialect {
public:
    // Once a block, in order: puts tempo and ppq right, which were read as beats of the meter.
    void translate(HostTime& host, double sample_rate) noexcept;

private:
    enum Kind { beats, quarter_tempo, quarter_parts, kKinds };

    struct Meaning {
        double ppq, bpm;
    };

    static Meaning meaning(const HostTime& host, int kind) noexcept;
    void look(const HostTime& host, double sample_rate) noexcept;

    int kind_{beats};
    int32_t wrong_[kKinds]{};  // how often each was
    HostTime anchor_;          // as it came
    double last_ppq_{0.0};     // as it was handed on
    int64_t last_frame_{-1};
};

}  // namespace attacca
