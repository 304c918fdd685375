// Weights come in: checked against the sizes, and packed as products.h reads them.
#include "model.h"

#include <algorithm>
#include <cstdio>
#include <new>

#include "sets.h"
#if defined(ATTACCA_X86)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace attacca {

#if defined(ATTACCA_X86)
static bool has_avxvnni() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

namespace {
constexpr size_t CHUNK = 8 << 20, LARGE_PAGE = 2 << 20;
}  // namespace

Arena::~Arena() {
    for (void* chunk : chunks_) std::free(chunk);
}

void* Arena::take(size_t bytes) {
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (bytes > room_ - used_) {
        const size_t size = (std::max(bytes, CHUNK) + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
        void* chunk = std::aligned_alloc(LARGE_PAGE, size);
        if (!chunk) return nullptr;
#if defined(__linux__)
        madvise(chunk, size, MADV_HUGEPAGE);  // where it is not granted, small pages do
#endif
        chunks_.push_back(chunk);
        used_ = 0;
        room_ = size;
    }
    void* found = static_cast<char*>(chunks_.back()) + used_;
    used_ += bytes;
    std::memset(found, 0, bytes);
    return found;
}

const std::vector<Kernels>& available() {
    static const std::vector<Kernels> found = [] {
        std::vector<Kernels> sets;
#if defined(ATTACCA_X86)
        __builtin_cpu_init();
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512vnni"))
            sets.push_back(AVX512);
        if (avx2 && has_avxvnni()) sets.push_back(AVXVNNI);
        if (avx2) sets.push_back(AVX2);
#endif
#if defined(ATTACCA_ARM)
        sets.push_back(NEON);
#endif
        sets.push_back(PORTABLE);
        return sets;
    }();
    return found;
}

namespace {

constexpr int WHY = 200;       // characters
constexpr int MOST = 1 << 20;  // of any size

int32_t refuse(char* why, const char* format, const char* what, int a = 0, int b = 0, int c = 0) {
    if (why) std::snprintf(why, WHY, format, what, a, b, c);
    return -1;
}

struct Known {
    const char* name;
    int role;
    bool each_layer;
};
constexpr Known ROLES[] = {
    {"tokens", ATTACCA_TOKENS, false},
    {"levels", ATTACCA_LEVELS, false},
    {"conditions", ATTACCA_CONDITIONS, false},
    {"norm1", ATTACCA_NORM1, true},
    {"norm1 bias", ATTACCA_NORM1_BIAS, true},
    {"qkv", ATTACCA_QKV, true},
    {"out", ATTACCA_OUT, true},
    {"cross norm", ATTACCA_NORM_CROSS, true},
    {"cross norm bias", ATTACCA_NORM_CROSS_BIAS, true},
    {"cross query", ATTACCA_CROSS_QUERY, true},
    {"cross out", ATTACCA_CROSS_OUT, true},
    {"norm2", ATTACCA_NORM2, true},
    {"norm2 bias", ATTACCA_NORM2_BIAS, true},
    {"feed-forward in", ATTACCA_IN, true},
    {"feed-forward out", ATTACCA_FFN_OUT, true},
    {"key scale", ATTACCA_KEY_SCALE, true},
    {"value scale", ATTACCA_VALUE_SCALE, true},
    {"norm", ATTACCA_NORM, false},
    {"norm bias", ATTACCA_NORM_BIAS, false},
    {"heads", ATTACCA_HEADS, false},
};

const Known* known(int role) {
    for (const Known& each : ROLES)
        if (each.role == role) return &each;
    return nullptr;
}

// Where a role's weight is kept: one of the three is set.
struct Place {
    Product* product = nullptr;
    Table* table = nullptr;
    Buffer* vector = nullptr;
    Buffer* inverse = nullptr;    // of a vector: 1 / each
    int inputs = 0, outputs = 0;  // as it has to be
};

Place place_of(Model& model, int role, int layer) {
    const attacca_sizes& s = model.sizes;
    Layer& at = model.layers[size_t(known(role)->each_layer ? layer : 0)];
    const auto product = [](Product& to, int inputs, int outputs) {
        return Place{&to, nullptr, nullptr, nullptr, inputs, outputs};
    };
    const auto vector = [&](Buffer& to, Buffer* inverse = nullptr) {
        return Place{nullptr, nullptr, &to, inverse, 1, s.dim};
    };
    switch (role) {
        case ATTACCA_TOKENS:
            return {nullptr, &model.tokens, nullptr, nullptr, s.codebooks * s.table_rows, s.dim};
        case ATTACCA_LEVELS:
            return {nullptr, &model.levels, nullptr, nullptr, s.codebooks + 1, s.dim};
        case ATTACCA_CONDITIONS:
            return product(model.conditions, s.conditions, s.dim);
        case ATTACCA_NORM1:
            return vector(at.norm1);
        case ATTACCA_NORM1_BIAS:
            return vector(at.norm1_bias);
        case ATTACCA_QKV:
            return product(at.qkv, s.dim, 3 * s.dim);
        case ATTACCA_OUT:
            return product(at.out, s.dim, s.dim);
        case ATTACCA_NORM_CROSS:
            return vector(at.norm_cross);
        case ATTACCA_NORM_CROSS_BIAS:
            return vector(at.norm_cross_bias);
        case ATTACCA_CROSS_QUERY:
            return product(at.cross_query, s.dim, s.dim);
        case ATTACCA_CROSS_OUT:
            return product(at.cross_out, s.dim, s.dim);
        case ATTACCA_NORM2:
            return vector(at.norm2);
        case ATTACCA_NORM2_BIAS:
            return vector(at.norm2_bias);
        case ATTACCA_IN:
            return product(at.in, s.dim, model.ffn_width());
        case ATTACCA_FFN_OUT:
            return product(at.ffn_out, s.hidden, s.dim);
        case ATTACCA_KEY_SCALE:
            return vector(at.key_scale, &at.key_inverse);
        case ATTACCA_VALUE_SCALE:
            return vector(at.value_scale, &at.value_inverse);
        case ATTACCA_NORM:
            return vector(model.norm);
        case ATTACCA_NORM_BIAS:
            return vector(model.norm_bias);
        default: {
            const int width = s.joined_heads ? s.codebooks * s.codebook_size : s.codebook_size;
            return product(model.heads[size_t(layer)], s.dim, width);
        }
    }
}

float float_at(int kind, const void* from, size_t index) {
    return kind == ATTACCA_HALF ? widened(static_cast<const uint16_t*>(from)[index])
                                : static_cast<const float*>(from)[index];
}

// A code as it is packed: unsigned. Inputs and outputs beyond the matrix are zeros, whatever the row's code for it.
uint8_t code_at(const Product& w, const uint8_t* codes, int input, int output) {
    const int zero = w.kind == ATTACCA_ROWS7 ? 64 : w.kind == ATTACCA_BLOCKS8 ? 128 : 8;
    if (input >= w.inputs || output >= w.outputs) return uint8_t(zero);
    if (w.kind == ATTACCA_ROWS7)
        return uint8_t(int(static_cast<int8_t>(codes[size_t(input) * w.outputs + output])) + zero);
    const size_t at = size_t(output) * w.padded + input;
    return w.kind == ATTACCA_BLOCKS8 ? codes[at] : uint8_t(at % 2 ? codes[at / 2] >> 4 : codes[at / 2] & 15);
}

bool pack_floats(Arena& arena, Product& w, int kind, const void* from) {
    w.padded = w.inputs;
    if (!w.codes.allocate(size_t(w.tiles) * TILE * w.inputs * sizeof(float), &arena)) return false;
    float* to = w.codes.at<float>();
    for (int output = 0; output < w.outputs; output++)
        for (int input = 0; input < w.inputs; input++)
            to[(size_t(output / TILE) * w.inputs + input) * TILE + output % TILE] =
                float_at(kind, from, size_t(input) * w.outputs + output);
    return true;
}

bool pack_codes(Arena& arena, Product& w, const uint8_t* from, const float* scales) {
    const bool halves = w.kind == ATTACCA_BLOCKS4;
    const size_t bytes = size_t(w.tiles) * TILE * w.padded / (halves ? 2 : 1);
    if (!w.codes.allocate(bytes, &arena) ||
        !w.scales.allocate(size_t(w.tiles) * TILE * w.blocks * sizeof(float), &arena))
        return false;
    uint8_t* to = w.codes.at<uint8_t>();
    for (int tile = 0; tile < w.tiles; tile++)
        for (int group = 0; group < w.padded / GROUP; group += halves ? 2 : 1)
            for (int output = 0; output < TILE; output++)
                for (int i = 0; i < GROUP; i++) {
                    const int input = group * GROUP + i, out = tile * TILE + output;
                    const uint8_t low = code_at(w, from, input, out);
                    *to++ = halves ? uint8_t(low | code_at(w, from, input + GROUP, out) << 4) : low;
                }
    float* steps = w.scales.at<float>();
    for (int output = 0; output < w.outputs; output++)
        for (int block = 0; block < w.blocks; block++)
            steps[(size_t(output / TILE) * w.blocks + block) * TILE + output % TILE] =
                scales[size_t(output) * w.blocks + block];
    return true;
}

bool pack(Arena& arena, Product& w, int kind, int inputs, int outputs, int block, const void* codes,
          const float* scales) {
    w.kind = kind == ATTACCA_HALF ? int(ATTACCA_FLOAT) : kind;
    w.inputs = inputs;
    w.outputs = outputs;
    w.tiles = round_up(outputs, TILE) / TILE;
    w.blocks = 1;
    if (w.kind == ATTACCA_FLOAT) return pack_floats(arena, w, kind, codes);
    w.padded = kind == ATTACCA_ROWS7 ? round_up(inputs, 2 * GROUP) : round_up(inputs, block);
    w.blocks = kind == ATTACCA_ROWS7 ? 1 : w.padded / block;
    w.block = w.padded / w.blocks;
    return pack_codes(arena, w, static_cast<const uint8_t*>(codes), scales);
}

bool keep_vector(Buffer& to, int kind, const void* from, int count) {
    if (!to.allocate(size_t(round_up(count, 16)) * sizeof(float))) return false;
    for (int i = 0; i < count; i++) to.at<float>()[i] = float_at(kind, from, size_t(i));
    return true;
}

bool keep_table(Table& to, int kind, const void* from, int rows, int width) {
    const size_t bytes = size_t(rows) * width * (kind == ATTACCA_HALF ? 2 : 4);
    if (!to.values.allocate(bytes)) return false;
    std::memcpy(to.values.at<void>(), from, bytes);
    to.kind = kind;
    to.rows = rows;
    return true;
}

const char* wrong_size(const attacca_sizes& s) {
    const int positive[] = {s.layers, s.dim, s.heads, s.head_dim, s.hidden, s.codebooks, s.codebook_size, s.window};
    for (int each : positive)
        if (each < 1 || each > MOST) return "a size is outside 1..2^20";
    if (s.version != ATTACCA_VERSION) return "another version of the interface";
    if (s.dim != s.heads * s.head_dim || s.head_dim % 2 || s.head_dim > 256)
        return "heads do not make up dim, or are odd, or wider than 256";
    if (s.kv_bits != 8 && s.kv_bits != 32) return "kv_bits is not 8 or 32";
    if (s.table_rows < s.codebook_size || s.table_rows > MOST || s.conditions < 0 || s.conditions > MOST)
        return "table_rows or conditions is out of range";
    if (!(s.norm_epsilon > 0.0f)) return "norm_epsilon is not above 0";
    return nullptr;
}

}  // namespace
}  // namespace attacca

using namespace attacca;

const char* attacca_kernels(void) { return available().front().name; }
int32_t attacca_kernels_count(void) { return int32_t(available().size()); }
const char* attacca_kernels_name(int32_t index) {
    return index >= 0 && size_t(index) < available().size() ? available()[size_t(index)].name : nullptr;
}

attacca_model* attacca_model_new(const attacca_sizes* sizes, const char* kernels, char* why) try {
    if (const char* wrong = wrong_size(*sizes)) {
        refuse(why, "%s", wrong);
        return nullptr;
    }
    auto* model = new attacca_model;
    model->sizes = *sizes;
    for (const Kernels& each : available())
        if (!model->run && (!kernels || !std::strcmp(each.name, kernels))) model->run = each.run;
    if (!model->run) {
        refuse(why, "this processor has no kernels called %s", kernels);
        delete model;
        return nullptr;
    }
    model->layers = std::vector<Layer>(size_t(sizes->layers));
    model->heads = std::vector<Product>(size_t(sizes->joined_heads ? 1 : sizes->codebooks));
    return model;
} catch (const std::bad_alloc&) {
    refuse(why, "%s", "memory is short");
    return nullptr;
}

void attacca_model_free(attacca_model* model) { delete model; }

int32_t attacca_model_set(attacca_model* model, int32_t role, int32_t layer, int32_t kind, int32_t inputs,
                          int32_t outputs, int32_t block, const void* codes, const float* scales, char* why) {
    const Known* is = known(role);
    if (!is) return refuse(why, "%s", "no such role");
    const int layers = role == ATTACCA_HEADS ? int(model->heads.size()) : is->each_layer ? model->sizes.layers : 1;
    if (layer < 0 || layer >= layers) return refuse(why, "%s: layer %d is outside 0..%d", is->name, layer, layers - 1);
    const Place place = place_of(*model, role, layer);
    if (inputs != place.inputs || outputs != place.outputs || outputs < 1)
        return refuse(why, "%s of layer %d has %d inputs or another number of outputs than it should", is->name, layer,
                      inputs);
    const bool coded = kind == ATTACCA_ROWS7 || kind == ATTACCA_BLOCKS8 || kind == ATTACCA_BLOCKS4;
    const bool plain = kind == ATTACCA_FLOAT || kind == ATTACCA_HALF;
    if (!codes || !(plain || (coded && place.product && scales)))
        return refuse(why, "%s of layer %d cannot be of kind %d", is->name, layer, kind);
    if ((kind == ATTACCA_BLOCKS8 || kind == ATTACCA_BLOCKS4) && (block < 16 || block > 4096 || block % 16))
        return refuse(why, "%s of layer %d has blocks of %d, allowed: multiples of 16 up to 4096", is->name, layer,
                      block);
    bool kept;
    if (place.product)
        kept = pack(model->arena, *place.product, kind, inputs, outputs, block, codes, scales);
    else if (place.table)
        kept = keep_table(*place.table, kind, codes, inputs, outputs);
    else
        kept = keep_vector(*place.vector, kind, codes, outputs);
    if (kept && place.inverse) {
        kept = keep_vector(*place.inverse, kind, codes, outputs);
        for (int i = 0; kept && i < outputs; i++) {
            float& value = place.inverse->at<float>()[i];
            value = value > 0.0f ? 1.0f / value : 0.0f;
        }
    }
    return kept ? 0 : refuse(why, "%s: memory is short", is->name);
}

int32_t attacca_model_finish(const attacca_model* model, char* why) {
    const attacca_sizes& s = model->sizes;
    for (const Known& each : ROLES) {
        const bool bias =
            each.role == ATTACCA_NORM1_BIAS || each.role == ATTACCA_NORM2_BIAS || each.role == ATTACCA_NORM_BIAS;
        const bool scale = each.role == ATTACCA_KEY_SCALE || each.role == ATTACCA_VALUE_SCALE;
        const bool across = each.role >= ATTACCA_NORM_CROSS && each.role <= ATTACCA_CROSS_OUT;
        if (each.role == ATTACCA_LEVELS || (bias && !s.layer_norm) || (scale && s.kv_bits != 8) ||
            (across && !s.cross) || (each.role == ATTACCA_NORM_CROSS_BIAS && !s.layer_norm) ||
            (each.role == ATTACCA_CONDITIONS && !s.conditions))
            continue;
        const int layers = each.role == ATTACCA_HEADS ? int(model->heads.size()) : each.each_layer ? s.layers : 1;
        for (int layer = 0; layer < layers; layer++) {
            const Place place = place_of(const_cast<attacca_model&>(*model), each.role, layer);
            const bool there = place.product ? place.product->kind >= 0
                               : place.table ? place.table->kind >= 0
                                             : place.vector->bytes() > 0;
            if (!there) return refuse(why, "%s of layer %d is missing", each.name, layer);
        }
    }
    return 0;
}

int64_t attacca_model_bytes(const attacca_model* model) {
    int64_t bytes = int64_t(model->tokens.values.bytes() + model->levels.values.bytes());
    const auto count = [&bytes](const Product& w) { bytes += int64_t(w.codes.bytes() + w.scales.bytes()); };
    count(model->conditions);
    for (const Layer& layer : model->layers)
        for (const Product* w :
             {&layer.qkv, &layer.out, &layer.cross_query, &layer.cross_out, &layer.in, &layer.ffn_out})
            count(*w);
    for (const Product& w : model->heads) count(w);
    return bytes;
}
