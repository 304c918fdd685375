// The plugin's window: DPF's events and idle on one side, UiModel, Hands and the pictures on the other. It looks at the
// instance's atomics and texts, and changes it by host parameters alone; nothing of the audio thread waits for it.
// Thread: main.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "AttaccaPlugin.hpp"
#include "DistrhoUI.hpp"
#include "core/text_rules.hpp"
#include "ui_draw.hpp"

START_NAMESPACE_DISTRHO

namespace {

using namespace attacca;

constexpr const char* kRateVariable = "ATTACCA_WINDOW_FPS";  // for machines that draw OpenGL by the processor
constexpr const char* kTextKey = "text";
constexpr double kBlink_s = 0.53;
constexpr uint kEnter = 0x0D;
constexpr double kUsualRate_hz = 31.0, kLeastRate_hz = 1.0, kMostRate_hz = 60.0;

double frame_s() {
    const char* value = std::getenv(kRateVariable);
    const double wanted = value != nullptr ? std::atof(value) : 0.0;
    return 1.0 / (wanted > 0.0 ? std::clamp(wanted, kLeastRate_hz, kMostRate_hz) : kUsualRate_hz);
}

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

class AttaccaUI : public UI, private ui::Edits {
public:
    AttaccaUI() : UI(ui::kWidth_px, ui::kHeight_px), hands_(model_, *this) {
        const double scale = std::max(1.0, getScaleFactor());
        setGeometryConstraints(scaled(ui::kLeastWidth_px, scale), scaled(ui::kLeastHeight_px, scale));
        setSize(scaled(ui::kWidth_px, scale), scaled(ui::kHeight_px, scale));
        loadSharedResources();
    }

protected:
    void parameterChanged(uint32_t index, float value) override {
        if (index < AttaccaPlugin::kParameters) {
            model_.set_parameter(static_cast<int>(index), value);
        } else if (index >= AttaccaPlugin::kFirstMeter) {
            model_.set_meter(static_cast<int>(index - AttaccaPlugin::kFirstMeter), value);
        }
    }

    void stateChanged(const char* key, const char* value) override {
        if (std::strcmp(key, kTextKey) == 0) show_words(readable_text(value));
    }

    void uiScaleFactorChanged(double scale) override {
        setSize(scaled(ui::kWidth_px, scale), scaled(ui::kHeight_px, scale));
    }

    void uiIdle() override {
        const double now = now_s();
        if (hands_.tick(now)) touched_ = true;
        if (now - looked_at_s_ < frame_s_) return;
        looked_at_s_ = now;
        look(now);
        if (edit_.editing() && caret_shown(now) != caret_) {
            caret_ = !caret_;
            touched_ = true;
        }
        const ui::Layout layout = this->layout();
        const uint64_t picture = model_.picture(layout.unit_px * layout.grid.w / model_.span_samples());
        if (!touched_ && picture == shown_) return;
        shown_ = picture;
        touched_ = false;
        repaint();
    }

    void onNanoDisplay() override {
        const ui::Layout made = layout();
        ui::Pen pen(*this);
        fontFace(NANOVG_DEJAVU_SANS_TTF);
        const ui::Picture picture{model_, hands_, made, engine_model_};
        pen.fill({0, 0, static_cast<float>(getWidth()), static_cast<float>(getHeight())}, ui::kGround);
        scale(made.unit_px, made.unit_px);
        ui::draw_header(pen, picture);
        ui::draw_grid(pen, picture);
        ui::draw_figures(pen, picture);
        ui::draw_controls(pen, picture);
        ui::draw_field(pen, picture, {edit_, words_, refused_, takes_, caret_});
    }

    bool onMouse(const MouseEvent& event) override {
        if (event.button != kMouseButtonLeft) return false;
        const ui::Layout made = layout();
        const double x = event.pos.getX() / made.unit_px, y = event.pos.getY() / made.unit_px;
        if (event.press && press_field(made, x, y)) return true;
        return touch(event.press ? hands_.press(made, x, y, now_s()) : hands_.release());
    }

    // Keys go to the host but while a text is edited.
    bool onKeyboard(const KeyboardEvent& event) override {
        if (!edit_.editing()) return false;
        if (!event.press) return true;
        begun_caret_s_ = now_s();
        switch (event.key) {
            case kEnter:
                tell();
                break;
            case kKeyEscape:
                edit_.abandon();
                break;
            case kKeyLeft:
                edit_.key(TextKey::left);
                break;
            case kKeyRight:
                edit_.key(TextKey::right);
                break;
            case kKeyHome:
                edit_.key(TextKey::home);
                break;
            case kKeyEnd:
                edit_.key(TextKey::end);
                break;
            case kKeyBackspace:
                edit_.key(TextKey::backspace);
                break;
            case kKeyDelete:
                edit_.key(TextKey::remove);
                break;
            default:
                break;
        }
        return touch(true);
    }

    bool onCharacterInput(const CharacterInputEvent& event) override {
        if (!edit_.editing()) return false;
        if ((event.mod & (kModifierControl | kModifierAlt | kModifierSuper)) == 0) edit_.type(event.character);
        return touch(true);
    }

    bool onMotion(const MotionEvent& event) override {
        const ui::Layout made = layout();
        const bool fine = (event.mod & kModifierShift) != 0;
        return touch(hands_.move(made, event.pos.getX() / made.unit_px, event.pos.getY() / made.unit_px, fine));
    }

    bool onScroll(const ScrollEvent& event) override {
        const ui::Layout made = layout();
        const double x = event.pos.getX() / made.unit_px, y = event.pos.getY() / made.unit_px;
        return touch(hands_.scroll(made, x, y, event.delta.getY(), (event.mod & kModifierShift) != 0));
    }

private:
    static uint scaled(unsigned size_px, double scale) { return static_cast<uint>(size_px * scale + 0.5); }

    ui::Layout layout() const { return ui::layout_of(getWidth(), getHeight()); }

    bool touch(bool changed) {
        touched_ = touched_ || changed;
        return changed;
    }

    // A click into the field edits it, one elsewhere says what was typed.
    bool press_field(const ui::Layout& made, double x, double y) {
        if (!made.text.contains(x, y)) {
            if (edit_.editing()) tell();
            return false;
        }
        if (takes_ && !edit_.editing()) {
            edit_.begin(words_);
            begun_caret_s_ = now_s();
            getWindow().focus();
        }
        return touch(true);
    }

    void tell() {
        const std::string words = edit_.finish();
        touched_ = true;
        if (words == words_) return;
        words_ = words;
        setState(kTextKey, words_.c_str());
    }

    bool caret_shown(double now) const { return std::fmod(now - begun_caret_s_, 2 * kBlink_s) < kBlink_s; }

    void show_words(std::string words) { touched_ = replace(words_, std::move(words)) || touched_; }

    template <class T>
    static bool replace(T& old, T now) {
        const bool changed = old != now;
        old = std::move(now);
        return changed;
    }

    void look(double now) {
        const auto* const plugin = static_cast<const AttaccaPlugin*>(getPluginInstancePointer());
        const Instance* const instance = plugin != nullptr ? plugin->instance() : nullptr;
        if (plugin != nullptr && !edit_.editing()) show_words(plugin->words());
        const bool takes = instance == nullptr || instance->takes_words();
        if (!takes && edit_.editing()) edit_.abandon();
        if (replace(takes_, takes)) touched_ = true;
        if (replace(refused_, instance == nullptr ? std::string() : instance->words_refused())) touched_ = true;
        if (instance == nullptr) return model_.update_blind(plugin != nullptr, now);
        const Exchange& exchange = instance->exchange();
        model_.update(ui::read_meters(exchange, getSampleRate()), exchange.audio.peaks, instance->state_text(), now);
        if (std::string name = instance->model_text(); name != engine_model_) {
            engine_model_ = std::move(name);
            touched_ = true;
        }
    }

    void begin(int parameter) override { editParameter(static_cast<uint32_t>(parameter), true); }
    void set(int parameter, double value) override {
        setParameterValue(static_cast<uint32_t>(parameter), static_cast<float>(value));
    }
    void end(int parameter) override { editParameter(static_cast<uint32_t>(parameter), false); }

    ui::UiModel model_;
    ui::Hands hands_;
    std::string engine_model_, words_, refused_;
    TextEdit edit_;
    bool takes_{true}, caret_{true};
    double begun_caret_s_{0.0};
    const double frame_s_{frame_s()};
    double looked_at_s_{0.0};
    uint64_t shown_{0};
    bool touched_{true};

    DISTRHO_DECLARE_NON_COPYABLE_WITH_LEAK_DETECTOR(AttaccaUI)
};

UI* createUI() { return new AttaccaUI; }

END_NAMESPACE_DISTRHO
