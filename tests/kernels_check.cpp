// Every set of instructions that this processor has, on random models of all kinds, against the portable one; and rows
// in company against rows alone, to the bit. Built and run by tests/test_kernels.py, under sanitizers; by hand on other
// processors: g++ -std=c++17 -O2 -ffp-contract=off -Ikernels tests/kernels_check.cpp kernels/[ms][oet]*.cpp
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "step.h"

namespace {

struct Kind {
    const char* name;
    bool gated, cross;
    int kv_bits, weights, block, head_dim;
};

const Kind KINDS[] = {
    {"floats", true, false, 32, ATTACCA_FLOAT, 0, 16},
    {"halves", false, true, 8, ATTACCA_HALF, 0, 24},
    {"rows", true, false, 32, ATTACCA_ROWS7, 0, 64},
    {"blocks of 8 bits", false, true, 8, ATTACCA_BLOCKS8, 32, 64},
    {"blocks of 4 bits", false, true, 8, ATTACCA_BLOCKS4, 64, 64},
    {"odd sizes", true, false, 32, ATTACCA_ROWS7, 0, 10},
};

constexpr int LAYERS = 2, HEADS = 2, BOOKS = 3, SIZE = 40, CONDITIONS = 5, WINDOW = 21, CAPACITY = 64, TOKENS = 7;
constexpr int ROWS = 5;

std::mt19937 random_bits(1);
float normal() { return std::normal_distribution<float>(0.0f, 1.0f)(random_bits); }
std::vector<float> normals(size_t count, float scale = 1.0f) {
    std::vector<float> found(count);
    for (float& each : found) each = scale * normal();
    return found;
}

uint16_t half_of(float value) {  // of numbers that halves hold well
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const int exponent = int(bits >> 23 & 255) - 112;
    return uint16_t(exponent <= 0 ? 0 : (bits >> 16 & 0x8000) | uint32_t(exponent) << 10 | (bits >> 13 & 0x3ff));
}

struct Weights {
    std::vector<uint8_t> codes;
    std::vector<float> scales;
};

struct Built {
    attacca_model* model;
    attacca_workspace* room;
};

void must(bool right, const std::string& what) {
    if (right) return;
    std::printf("FAILED: %s\n", what.c_str());
    std::exit(1);
}

attacca_sizes sizes_of(const Kind& kind) {
    attacca_sizes s{};
    s.version = ATTACCA_VERSION;
    s.layers = LAYERS;
    s.heads = HEADS;
    s.head_dim = kind.head_dim;
    s.dim = HEADS * kind.head_dim;
    s.hidden = 2 * s.dim;
    s.codebooks = BOOKS;
    s.codebook_size = SIZE;
    s.table_rows = SIZE + 1;
    s.conditions = kind.gated ? CONDITIONS : 0;
    s.window = WINDOW;
    s.kv_bits = kind.kv_bits;
    s.layer_norm = !kind.gated;
    s.gated = s.rotary = kind.gated;
    s.cross = s.joined_heads = kind.cross;
    s.norm_epsilon = 1e-5f;
    return s;
}

// One model for a set, of the same random weights each time; `broken`: one in the last feed-forward is no number.
Built build(const Kind& kind, const char* set, bool broken = false) {
    random_bits.seed(7);
    const attacca_sizes s = sizes_of(kind);
    char why[200] = "";
    attacca_model* model = attacca_model_new(&s, set, why);
    must(model != nullptr, std::string(set) + ": " + why);
    const auto put = [&](int role, int layer, int as, int inputs, int outputs, const void* codes, const float* scales) {
        must(attacca_model_set(model, role, layer, as, inputs, outputs, kind.block, codes, scales, why) == 0, why);
    };
    const auto vector = [&](int role, int layer, float middle) {
        std::vector<float> values = normals(size_t(s.dim), 0.1f);
        for (float& each : values) each = std::fabs(each + middle);
        put(role, layer, ATTACCA_FLOAT, 1, s.dim, values.data(), nullptr);
    };
    const auto product = [&](int role, int layer, int inputs, int outputs) {
        const float scale = 1.0f / std::sqrt(float(inputs));
        const size_t count = size_t(inputs) * outputs;
        Weights w;
        const bool breaks = broken && role == ATTACCA_IN && layer == LAYERS - 1;
        if (kind.weights == ATTACCA_FLOAT) {
            w.scales = normals(count, scale);
            if (breaks) w.scales[0] = NAN;
            return put(role, layer, kind.weights, inputs, outputs, w.scales.data(), nullptr);
        }
        if (kind.weights == ATTACCA_HALF) {
            std::vector<uint16_t> halves(count);
            for (uint16_t& each : halves) each = half_of(scale * normal());
            if (breaks) halves[0] = 0x7e00;
            return put(role, layer, kind.weights, inputs, outputs, halves.data(), nullptr);
        }
        const int blocks = kind.block ? (inputs + kind.block - 1) / kind.block : 1;
        const size_t bytes = kind.weights == ATTACCA_ROWS7 ? count : size_t(outputs) * blocks * kind.block;
        w.codes.resize(kind.weights == ATTACCA_BLOCKS4 ? bytes / 2 : bytes);
        for (uint8_t& each : w.codes)
            each =
                kind.weights == ATTACCA_ROWS7 ? uint8_t(int8_t(int(random_bits() % 129) - 64)) : uint8_t(random_bits());
        w.scales.resize(size_t(outputs) * blocks);
        const float most = kind.weights == ATTACCA_BLOCKS4 ? 8.0f : kind.weights == ATTACCA_ROWS7 ? 64.0f : 128.0f;
        for (float& each : w.scales) each = scale / most * (0.5f + std::fabs(normal()));
        if (breaks) w.scales[0] = NAN;
        put(role, layer, kind.weights, inputs, outputs, w.codes.data(), w.scales.data());
    };
    const std::vector<float> table = normals(size_t(BOOKS) * (SIZE + 1) * s.dim),
                             levels = normals(size_t(BOOKS + 1) * s.dim);
    put(ATTACCA_TOKENS, 0, ATTACCA_FLOAT, BOOKS * (SIZE + 1), s.dim, table.data(), nullptr);
    must(attacca_model_finish(model, why) == -1 && std::strlen(why) > 0, "a model without layers was finished");
    if (kind.gated) {
        put(ATTACCA_LEVELS, 0, ATTACCA_FLOAT, BOOKS + 1, s.dim, levels.data(), nullptr);
        const std::vector<float> told = normals(size_t(CONDITIONS) * s.dim);
        put(ATTACCA_CONDITIONS, 0, ATTACCA_FLOAT, CONDITIONS, s.dim, told.data(), nullptr);
    }
    for (int layer = 0; layer < LAYERS; layer++) {
        for (const int role : {ATTACCA_NORM1, ATTACCA_NORM2}) vector(role, layer, 1.0f);
        if (s.layer_norm)
            for (const int role : {ATTACCA_NORM1_BIAS, ATTACCA_NORM2_BIAS}) vector(role, layer, 0.0f);
        product(ATTACCA_QKV, layer, s.dim, 3 * s.dim);
        product(ATTACCA_OUT, layer, s.dim, s.dim);
        product(ATTACCA_IN, layer, s.dim, kind.gated ? 2 * s.hidden : s.hidden);
        product(ATTACCA_FFN_OUT, layer, s.hidden, s.dim);
        if (s.kv_bits == 8)
            for (const int role : {ATTACCA_KEY_SCALE, ATTACCA_VALUE_SCALE}) {
                const std::vector<float> steps(size_t(s.dim), 0.03f);
                put(role, layer, ATTACCA_FLOAT, 1, s.dim, steps.data(), nullptr);
            }
        if (!s.cross) continue;
        vector(ATTACCA_NORM_CROSS, layer, 1.0f);
        vector(ATTACCA_NORM_CROSS_BIAS, layer, 0.0f);
        product(ATTACCA_CROSS_QUERY, layer, s.dim, s.dim);
        product(ATTACCA_CROSS_OUT, layer, s.dim, s.dim);
    }
    vector(ATTACCA_NORM, 0, 1.0f);
    if (s.layer_norm) vector(ATTACCA_NORM_BIAS, 0, 0.0f);
    if (s.joined_heads)
        product(ATTACCA_HEADS, 0, s.dim, BOOKS * SIZE);
    else
        for (int k = 0; k < BOOKS; k++) product(ATTACCA_HEADS, k, s.dim, SIZE);
    must(attacca_model_finish(model, why) == 0, why);
    must(attacca_model_bytes(model) > 0, "a model of no bytes");
    return {model, attacca_workspace_new(model, 2 * CAPACITY)};
}

// A take: its inputs, its cache, what it drew.
struct Take {
    std::vector<int64_t> stack, level, of_level = std::vector<int64_t>(BOOKS), tokens = std::vector<int64_t>(BOOKS);
    std::vector<float> position, cosine, sine, conditions, noise, logits = std::vector<float>(size_t(BOOKS) * SIZE);
    std::vector<float> cross_keys, cross_values, mask = std::vector<float>(TOKENS);
    std::vector<const float*> keys, values;
    std::vector<uint8_t> cache;
    float temperature = 1.0f, guidance = 1.5f;
    int64_t top_k = 9;

    Take(const attacca_sizes& s, unsigned seed) {
        random_bits.seed(seed);
        const int rows = CAPACITY;
        for (int i = 0; i < rows * BOOKS; i++) stack.push_back(int64_t(random_bits() % (SIZE + 1)));
        for (int i = 0; i < rows; i++) level.push_back(int64_t(random_bits() % (BOOKS + 1)));
        for (int k = 0; k < BOOKS; k++) of_level[size_t(k)] = k + 1;
        position = normals(size_t(rows) * s.dim, 0.1f);
        for (int i = 0; i < rows * s.head_dim / 2; i++) {
            cosine.push_back(std::cos(0.1f * float(i)));
            sine.push_back(std::sin(0.1f * float(i)));
        }
        conditions = normals(size_t(rows) * CONDITIONS);
        noise = normals(size_t(BOOKS) * SIZE);
        cross_keys = normals(size_t(LAYERS) * s.dim * TOKENS, 0.2f);
        cross_values = normals(size_t(LAYERS) * s.dim * TOKENS);
        for (int layer = 0; layer < LAYERS; layer++) {
            keys.push_back(cross_keys.data() + size_t(layer) * s.dim * TOKENS);
            values.push_back(cross_values.data() + size_t(layer) * s.dim * TOKENS);
        }
        cache.resize(size_t(2) * LAYERS * 2 * s.dim * CAPACITY * (s.kv_bits / 8));
    }

    attacca_call call(const attacca_sizes& s, int first, int rows, bool wanted) {
        attacca_call c{};
        c.rows = rows;
        c.past = first;
        c.stack = stack.data() + size_t(first) * BOOKS;
        if (s.rotary) {
            c.level = level.data() + first;
            c.cosine = cosine.data() + size_t(first) * s.head_dim / 2;
            c.sine = sine.data() + size_t(first) * s.head_dim / 2;
            c.conditions = conditions.data() + size_t(first) * CONDITIONS;
            c.row_of_level = of_level.data();
        } else
            c.position = position.data() + size_t(first) * s.dim;
        c.cache = cache.data();
        c.capacity = CAPACITY;
        c.wanted = wanted;
        c.prompt_tokens = s.cross ? TOKENS : 0;
        c.cross_key = keys.data();
        c.cross_value = values.data();
        c.cross_mask = mask.data();
        c.noise = noise.data();
        c.temperature = &temperature;
        c.guidance = &guidance;
        c.top_k = &top_k;
        c.tokens = tokens.data();
        c.logits = logits.data();
        return c;
    }
};

void run(const Built& on, std::vector<attacca_call> calls, const char* what) {
    must(attacca_step(on.model, on.room, calls.data(), int32_t(calls.size())) == 0, what);
}

void check(const Kind& kind, const char* set) {
    const std::string name = std::string(kind.name) + ", " + set;
    const attacca_sizes s = sizes_of(kind);
    const Built fast = build(kind, set), plain = build(kind, "portable");
    Take whole(s, 3), pieces(s, 3), other(s, 4), reference(s, 3);
    const int heard = 2 * WINDOW;
    run(fast, {whole.call(s, 0, heard, false)}, "a prefill in one");
    for (int at = 0; at < heard;) {
        const int rows = std::min(1 + at % 4, heard - at);
        run(fast, {other.call(s, at, rows, false), pieces.call(s, at, rows, false)}, "a prefill in pieces, in company");
        at += rows;
    }
    must(whole.cache == pieces.cache, name + ": pieces in company are not the whole");
    run(plain, {reference.call(s, 0, heard, false)}, "the portable prefill");
    run(fast, {whole.call(s, heard, ROWS, true)}, "a step");
    run(fast, {other.call(s, heard, ROWS, true), pieces.call(s, heard, ROWS, true)}, "a step in company");
    run(plain, {reference.call(s, heard, ROWS, true)}, "the portable step");
    must(whole.logits == pieces.logits && whole.tokens == pieces.tokens, name + ": a step in company is another");
    double apart = 0.0, size = 0.0;
    for (size_t i = 0; i < whole.logits.size(); i++) {
        apart += std::pow(whole.logits[i] - reference.logits[i], 2);
        size += std::pow(reference.logits[i], 2);
    }
    const double relative = std::sqrt(apart / size);
    const bool exact = kind.weights == ATTACCA_FLOAT;  // where nothing is rounded to codes, so that nothing tips over
    std::printf("%-26s %-11s %.2e\n", kind.name, set, relative);
    must(size > 0.0 && relative < (exact ? 1e-5 : 0.05), name + ": far from the portable kernels");
    attacca_call wrong = whole.call(s, heard, ROWS, true);
    wrong.capacity = heard + ROWS - 1;
    must(attacca_step(fast.model, fast.room, &wrong, 1) == -1, "rows beyond the cache were taken");
    whole.stack[size_t(heard) * BOOKS] = SIZE + 1;
    wrong = whole.call(s, heard, ROWS, true);
    must(attacca_step(fast.model, fast.room, &wrong, 1) == -1, "a token that does not exist was taken");
    const Built broken = build(kind, set, true);
    run(broken, {pieces.call(s, heard, ROWS, true)}, "a step of a model with a weight that is no number");
    must(!std::isfinite(pieces.logits[0]), name + ": what is no number was made one");
    for (const Built& each : {fast, plain, broken}) {
        attacca_workspace_free(each.room);
        attacca_model_free(each.model);
    }
}

}  // namespace

int main() {
    for (int32_t set = 0; set < attacca_kernels_count(); set++)
        for (const Kind& kind : KINDS) check(kind, attacca_kernels_name(set));
    must(attacca_kernels_name(attacca_kernels_count()) == nullptr, "a set beyond the last has a name");
    std::puts("right");
}
