// A decoder step on the CPU, whole: what engine/native.py calls in place of onnxruntime. C, so that ctypes can.
//
// A model holds weights alone and is read-only once it is finished: any number of threads may step on it at a time,
// each with a workspace of its own. A call's rows are computed one like another: a row's numbers are the same to the
// bit whichever rows, takes or pieces of a prefill stand beside it. Nothing here keeps a pointer that it was given.
#pragma once

#include <stdint.h>

#if defined(_WIN32)
#define ATTACCA_API __declspec(dllexport)
#else
#define ATTACCA_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define ATTACCA_VERSION 1   // of this interface
#define ATTACCA_BRANCHES 2  // of guidance: with conditions, without

// What a weight is, and of which layer (0 where it belongs to none).
enum attacca_role {
    ATTACCA_TOKENS = 0,      // table [K * table_rows, d], FLOAT or HALF
    ATTACCA_LEVELS = 1,      // table [K + 1, d]; not given: rows have no level
    ATTACCA_CONDITIONS = 2,  // product [conditions -> d]; not given: rows have none
    ATTACCA_NORM1 = 3,       // FLOAT [d], before attention
    ATTACCA_NORM1_BIAS = 4,
    ATTACCA_QKV = 5,  // product [d -> 3 d]
    ATTACCA_OUT = 6,  // product [d -> d]
    ATTACCA_NORM_CROSS = 7,
    ATTACCA_NORM_CROSS_BIAS = 8,
    ATTACCA_CROSS_QUERY = 9,  // product [d -> d]
    ATTACCA_CROSS_OUT = 10,   // product [d -> d]
    ATTACCA_NORM2 = 11,       // before the feed-forward
    ATTACCA_NORM2_BIAS = 12,
    ATTACCA_IN = 13,         // product [d -> hidden], [d -> 2 hidden] where gated
    ATTACCA_FFN_OUT = 14,    // product [hidden -> d]
    ATTACCA_KEY_SCALE = 15,  // FLOAT [d], of an 8-bit cache
    ATTACCA_VALUE_SCALE = 16,
    ATTACCA_NORM = 17,  // the last
    ATTACCA_NORM_BIAS = 18,
    ATTACCA_HEADS = 19,  // product [d -> V], `layer` is the codebook; or one [d -> K V] at layer 0 (joined_heads)
};

// How a weight is stored, as export/graph.py writes it into the ONNX file.
enum attacca_kind {
    ATTACCA_FLOAT = 0,    // float32: tables and vectors as they are, products [in, out]
    ATTACCA_HALF = 1,     // IEEE half, likewise
    ATTACCA_ROWS7 = 2,    // int8 codes [in, out] in -64..64, scales float32 [out]; rows of x in 8 bits with one scale
    ATTACCA_BLOCKS8 = 3,  // uint8 [out, blocks, block], zero 128, scales float32 [out, blocks]; x in 8 bits by blocks
    ATTACCA_BLOCKS4 = 4,  // uint8 [out, blocks, block / 2], the earlier in the low half, zero 8; likewise
};

typedef struct {
    int32_t version;  // ATTACCA_VERSION
    int32_t layers, dim, heads, head_dim, hidden;
    int32_t codebooks, codebook_size;  // K, V
    int32_t table_rows;                // of a codebook in TOKENS
    int32_t conditions;                // width of a row's; 0: none
    int32_t window;                    // slots that a row attends to at most, its own counted
    int32_t kv_bits;                   // 8 or 32
    int32_t layer_norm;                // 1: with mean and bias; 0: RMS
    int32_t gated;                     // feed-forward: 1: silu(first half) * second half; 0: gelu (by erf)
    int32_t rotary;                    // 1: queries and keys are turned by cos and sin
    int32_t cross;                     // 1: rows of the first branch attend to a prompt
    int32_t joined_heads;              // 1: HEADS is one product, of the first row
    float norm_epsilon;
} attacca_sizes;

// One take's rows. Its pointers must hold until the call returns; what a model has no use for is null.
typedef struct {
    int32_t rows;                // R >= 1
    int32_t past;                // slots before the first row's
    const int64_t* stack;        // [R, K], below table_rows
    const int64_t* level;        // [R]
    const float* position;       // [R, d], added
    const float *cosine, *sine;  // [R, hd / 2]
    const float* conditions;     // [R, conditions], of the first branch
    const float* given;          // [2, R, d], added to each branch
    void* cache;                 // [2 * layers * 2, heads, capacity, hd]: branch, then layer, then key or value
    int32_t capacity;
    int32_t wanted;               // 0: keys and values alone, as a prefill; tokens and logits are left as they are
    const int64_t* row_of_level;  // [K], the row whose output is codebook k's; null: the first row
    int32_t prompt_tokens;
    const float* const* cross_key;    // [layers] of [heads, hd, prompt_tokens], scaled by hd ** -0.5
    const float* const* cross_value;  // [layers] of [heads, prompt_tokens, hd]
    const float* cross_mask;          // [prompt_tokens], added
    const float* noise;               // [K, V]
    const float* temperature;         // [1]
    const float* guidance;            // [1]
    const int64_t* top_k;             // [1], 1..V
    int64_t* tokens;                  // [K]
    float* logits;                    // [K, V], guided, before temperature
} attacca_call;

typedef struct attacca_model attacca_model;
typedef struct attacca_workspace attacca_workspace;

// Which kernels this processor gets: "avx512vnni", "avxvnni", "avx2", "neon" or "portable". [any thread]
ATTACCA_API const char* attacca_kernels(void);

// How many kinds of kernels there are to choose among here, fastest first, and their names. [any thread]
ATTACCA_API int32_t attacca_kernels_count(void);
ATTACCA_API const char* attacca_kernels_name(int32_t index);

// An empty model, or null if the sizes are not possible; `why` (may be null) takes up to 200 characters.
// `kernels` is a name from the list, or null for the fastest. [load thread]
ATTACCA_API attacca_model* attacca_model_new(const attacca_sizes* sizes, const char* kernels, char* why);
ATTACCA_API void attacca_model_free(attacca_model* model);

// Copies a weight. 0, or -1 if it does not fit, with the reason in `why`. `codes` has `inputs` by `outputs` entries
// in the kind's layout; a table has `inputs` rows, a vector has inputs 1. [load thread]
ATTACCA_API int32_t attacca_model_set(attacca_model* model, int32_t role, int32_t layer, int32_t kind, int32_t inputs,
                                      int32_t outputs, int32_t block, const void* codes, const float* scales,
                                      char* why);

// 0 once every weight that the sizes ask for is there, else -1 with the first that is missing. [load thread]
ATTACCA_API int32_t attacca_model_finish(const attacca_model* model, char* why);

// Bytes that the model holds. [any thread]
ATTACCA_API int64_t attacca_model_bytes(const attacca_model* model);

// Buffers for calls of up to `rows` rows in all. Null if memory is short. [load thread]
ATTACCA_API attacca_workspace* attacca_workspace_new(const attacca_model* model, int32_t rows);
ATTACCA_API void attacca_workspace_free(attacca_workspace* workspace);

// Runs the rows of `count` takes, each over its own cache, through the weights together. 0, or -1 if a call is not
// possible (rows beyond the workspace or the cache, a token or level out of range); then no cache was written.
// Allocates nothing, waits for nothing. [one thread per workspace at a time]
ATTACCA_API int32_t attacca_step(const attacca_model* model, attacca_workspace* workspace, const attacca_call* calls,
                                 int32_t count);

#ifdef __cplusplus
}
#endif
