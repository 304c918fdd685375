// Weights as the kernels read them, and the buffers of a call. Inside the library only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "step.h"

namespace attacca {

constexpr int TILE = 32;  // outputs that are computed together, packed side by side
constexpr int GROUP = 4;  // inputs that one instruction multiplies and adds
constexpr int ALIGNMENT = 64;

inline int round_up(int value, int step) { return (value + step - 1) / step * step; }

// An IEEE half as a float.
inline __attribute__((always_inline)) float widened(std::uint16_t half) {
    const std::uint32_t sign = std::uint32_t(half & 0x8000) << 16, rest = half & 0x7fff;
    if (rest < 0x400) return (sign ? -1.0f : 1.0f) * float(rest) * (1.0f / 16777216.0f);
    const std::uint32_t bits = sign | (rest >= 0x7c00 ? 0x7f800000 | (rest & 0x3ff) << 13 : (rest << 13) + 0x38000000);
    float found;
    std::memcpy(&found, &bits, sizeof found);
    return found;
}

// Memory for what is read from end to end at each step: in large pages where the system has them, for looking up
// small ones takes a good part of the time that memory does.
class Arena {
public:
    Arena() = default;
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    ~Arena();
    void* take(std::size_t bytes);  // zeros, at a cache line's start; null if there is none to be had

private:
    std::vector<void*> chunks_;
    std::size_t used_ = 0, room_ = 0;  // of the last chunk
};

// Memory at a cache line's start, zeros at first; an arena's if one is named, which then must live as long.
class Buffer {
public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { std::free(own_); }

    // False if there is none to be had.
    bool allocate(std::size_t bytes, Arena* arena = nullptr) {
        std::free(own_);
        own_ = arena ? nullptr : std::calloc(bytes + ALIGNMENT, 1);
        const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(own_) + ALIGNMENT - 1;
        at_ = arena ? arena->take(bytes) : own_ ? reinterpret_cast<void*>(begin / ALIGNMENT * ALIGNMENT) : nullptr;
        bytes_ = at_ ? bytes : 0;
        return at_ != nullptr;
    }
    template <typename T>
    T* at() const {
        return static_cast<T*>(at_);
    }
    std::size_t bytes() const { return bytes_; }

private:
    void *own_ = nullptr, *at_ = nullptr;
    std::size_t bytes_ = 0;
};

// y = x times a matrix. Outputs lie in tiles of 32, padded with zeros. Codes are unsigned, their zero in the middle:
// [tile][group of 4 inputs][32 outputs][4], where BLOCKS4 has two groups in a byte's halves. FLOAT: [tile][input][32].
struct Product {
    int kind = -1;                // an attacca_kind, halves widened to FLOAT
    int inputs = 0, outputs = 0;  // as told
    int padded = 0;               // inputs, to whole blocks and pairs of groups
    int tiles = 0;
    int block = 0, blocks = 0;  // inputs that share a scale
    Buffer codes;
    Buffer scales;  // float [tile][block][32]
};

// A table of rows of d.
struct Table {
    int kind = -1;
    int rows = 0;
    Buffer values;
};

struct Layer {
    Buffer norm1, norm1_bias, norm2, norm2_bias, norm_cross, norm_cross_bias, key_scale, value_scale, key_inverse,
        value_inverse;
    Product qkv, out, cross_query, cross_out, in, ffn_out;
};

struct Model;
struct Workspace;
using Run = void (*)(const Model&, Workspace&, const attacca_call*, int);

// Where a row of a call comes from: its branch, its take among the calls, its number there.
struct Row {
    int branch, call, number;
};

constexpr int MOST_TOGETHER = 4;  // rows that share attention's reading, in any set

struct Kernels {
    const char* name;
    Run run;
};

struct Model {
    attacca_sizes sizes{};
    Arena arena;  // of the products
    Run run = nullptr;
    Table tokens, levels;
    Product conditions;
    std::vector<Layer> layers;
    Buffer norm, norm_bias;
    std::vector<Product> heads;

    int ffn_width() const { return sizes.gated ? 2 * sizes.hidden : sizes.hidden; }
};

struct Workspace {
    int rows = 0;                           // of all calls, most
    Buffer residual, normed, wide, narrow;  // float rows: d, d, the widest product, d or hidden
    Buffer codes, code_scales, code_sums;   // rows in 8 bits
    Buffer scores;                          // of rows over the slots, or over a prompt
    Buffer kept;                            // int32: which rows go on
    Buffer picked;                          // float rows of a head
    Buffer select;                          // float [V]
    int score_stride = 0;                   // of a row's scores
};

// Sets of instructions, each with a whole step of its own; fastest first. Those that this processor has not are left
// out.
const std::vector<Kernels>& available();

// Tokens and guided logits of a call from its heads' outputs: `with` and `without` are [V] of codebook k.
void guide(const attacca_sizes& sizes, const attacca_call& call, int codebook, const float* with, const float* without);
void draw(const attacca_sizes& sizes, const attacca_call& call, int codebook, float* room);

}  // namespace attacca

struct attacca_model : attacca::Model {};
struct attacca_workspace : attacca::Workspace {};
