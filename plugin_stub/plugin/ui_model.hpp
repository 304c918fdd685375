// UiModel: all that the plugin window shows, copied from meters and parameters each idle, with its short memory (takes,
// histories, levels, fading). Between Instance's meters and the drawing; no plugin format and no graphics in it, so
// that it is tested as it is. Memory is fixed. Thread: main.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "../core/exchange.hpp"
#include "../protocol.hpp"
#include "ui_grid.hpp"
#include "ui_words.hpp"

namespace attacca::ui {

// One look at the plugin. Positions are stream positions; -1: not known.
struct Reading {
    BarLaw law;
    bool connected{false}, sounding{false};
    float rtf{0.0f};
    int64_t lookahead_samples{0};
    int64_t committed_end_samples{0}, planned_end_samples{0};
    int64_t take{0}, take_start_samples{-1}, take_end_samples{-1};
    int64_t underrun_callbacks{0};
};

Reading read_meters(const Exchange& exchange, double sample_rate_hz);

// The last kSize values, oldest first.
class History {
public:
    static constexpr size_t kSize = 96;
    static constexpr double kStep_s = 0.25;

    void push(float value);
    size_t size() const { return count_; }
    float operator[](size_t index) const { return values_[(next_ + kSize - count_ + index) % kSize]; }

private:
    std::array<float, kSize> values_{};
    size_t next_{0}, count_{0};
};

struct Take {
    int64_t number{0};
    int64_t start_samples{-1};
    bool sounded{false};
};

class UiModel {
public:
    UiModel();

    // One idle with access to the instance. `now_s`: seconds since some moment.
    void update(const Reading& reading, const PeakStrip& peaks, std::string_view state, double now_s);
    // One idle without it: what the output parameters said, or that the host has it switched off.
    void update_blind(bool switched_off, double now_s);

    void set_parameter(int index, double value);  // of protocol::kParameters; clamped
    void set_meter(int index, double value);      // of protocol::kMeters
    double parameter(int index) const { return parameters_[static_cast<size_t>(index)]; }

    // Changes whenever the picture does (at `pixels_per_s` of scrolling): no change, no repaint.
    uint64_t picture(double px_per_sample) const;

    bool sighted() const { return sighted_; }                   // the last update had access to the instance
    bool running() const { return running_; }                   // the host calls the plugin
    double position_samples() const { return shown_samples_; }  // present, moving evenly between callbacks
    double span_samples() const { return span_samples_; }       // of the whole picture
    const Reading& reading() const { return reading_; }
    const BarGrid& grid() const { return grid_; }
    const Words& words() const { return words_; }
    const std::array<Take, 8>& takes() const { return takes_; }  // newest at takes()[0]
    bool armed() const;
    bool take_alive() const;
    double beats_until(int64_t position_samples) const;  // of the present law

    Peaks peaks(int64_t slot) const { return peaks_[static_cast<size_t>(slot & (PeakStrip::kSlots - 1))].at(slot); }
    int64_t slot_samples() const { return slot_samples_; }

    const History& rtf_history() const { return rtf_; }
    const History& lookahead_history_ms() const { return lookahead_ms_; }
    double rtf() const { return rtf_now_; }
    double lookahead_ms() const { return lookahead_now_ms_; }
    bool measured() const { return measured_; }  // RTF and look-ahead mean something now
    int64_t underruns() const { return underruns_; }
    double underrun_heat() const;  // 1 when they have just grown, 0 after kCool_s

    static constexpr double kCool_s = 8.0;

private:
    struct Slot {
        int64_t number{-1};
        Peaks peaks;
        Peaks at(int64_t slot) const { return slot == number ? peaks : Peaks{}; }
    };

    void follow_position(const Reading& reading, double now_s);
    void follow_takes(const Reading& reading);
    void follow_peaks(const PeakStrip& peaks, int64_t position_samples);
    void follow_figures(double rtf, double lookahead_ms, bool measured, int64_t underruns, double now_s);
    void add_countdown();

    Reading reading_;
    BarGrid grid_;
    Words words_;
    std::array<Take, 8> takes_;
    std::array<double, protocol::kParameters.size()> parameters_;
    std::array<double, protocol::kMeters.size()> meters_{};
    std::vector<Slot> peaks_;
    int64_t slot_samples_{240}, peaks_seen_{-1}, loud_slot_{-1};
    History rtf_, lookahead_ms_;
    double rtf_now_{0.0}, lookahead_now_ms_{0.0};
    bool measured_{false}, sighted_{false}, running_{false}, begun_{false};
    double shown_samples_{0.0}, span_samples_{14.0 * 48000.0};
    double now_s_{0.0}, moved_at_s_{0.0}, sampled_at_s_{0.0}, underrun_at_s_{-1e9};
    int64_t underruns_{-1};
};

}  // namespace attacca::ui
