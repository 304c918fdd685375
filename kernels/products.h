// Rows times matrices. Included once for each set of instructions, after vectors.h.
//
// Rows in 8 bits have one scale each (ROWS7) or one per block of inputs; sums of products are integers, exact in any
// order, and each block's is scaled and added in the order of the blocks: so a row's outputs do not depend on which
// rows are computed beside it. Codes of weights are unsigned for the processors' sake; what their zero adds is taken
// off again by the sum of a row's codes.

// Four inputs of sixteen outputs: codes in memory order [16][4].
struct Codes {
    IntLane part[PARTS];
};

#if ATTACCA_SET == ATTACCA_SET_AVX512
constexpr int MOST_ROWS = 12;                                 // of a kernel, so that all sums stay in registers
constexpr int copies(int rows) { return rows <= 4 ? 2 : 1; }  // of few sums, so that one need not wait for another
INLINE Codes load_weights(const uint8_t* at) { return {{_mm512_loadu_si512(at)}}; }
INLINE Codes low_halves(Codes v) { return {{_mm512_and_si512(v.part[0], _mm512_set1_epi8(15))}}; }
INLINE Codes high_halves(Codes v) {
    return {{_mm512_and_si512(_mm512_srli_epi16(v.part[0], 4), _mm512_set1_epi8(15))}};
}
template <int KIND>
INLINE Ints dot(Ints sum, Codes weights, const int8_t* x) {
    int32_t four;
    memcpy(&four, x, 4);
    return {{_mm512_dpbusd_epi32(sum.part[0], weights.part[0], _mm512_set1_epi32(four))}};
}

#elif ATTACCA_SET == ATTACCA_SET_AVX2 || ATTACCA_SET == ATTACCA_SET_AVXVNNI
constexpr int MOST_ROWS = 2;
constexpr int copies(int) { return 1; }
INLINE Codes load_weights(const uint8_t* at) {
    const __m256i* from = reinterpret_cast<const __m256i*>(at);
    return {{_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)}};
}
INLINE Codes low_halves(Codes v) {
    EACH_PART v.part[i] = _mm256_and_si256(v.part[i], _mm256_set1_epi8(15));
    return v;
}
INLINE Codes high_halves(Codes v) {
    EACH_PART v.part[i] = _mm256_and_si256(_mm256_srli_epi16(v.part[i], 4), _mm256_set1_epi8(15));
    return v;
}
template <int KIND>
INLINE Ints dot(Ints sum, Codes weights, const int8_t* x) {
    int32_t four;
    memcpy(&four, x, 4);
    const __m256i inputs = _mm256_set1_epi32(four);
#if ATTACCA_SET == ATTACCA_SET_AVXVNNI
    EACH_PART sum.part[i] = _mm256_dpbusd_avx_epi32(sum.part[i], weights.part[i], inputs);
#else
    const __m256i ones = _mm256_set1_epi16(1);
    if (KIND == ATTACCA_BLOCKS8)  // two products of 255 * 127 do not fit 16 bits: halves of the codes do
        EACH_PART {
            const __m256i low = _mm256_and_si256(weights.part[i], _mm256_set1_epi8(15));
            const __m256i high = _mm256_and_si256(_mm256_srli_epi16(weights.part[i], 4), _mm256_set1_epi8(15));
            const __m256i fine = _mm256_madd_epi16(_mm256_maddubs_epi16(low, inputs), ones);
            const __m256i coarse = _mm256_madd_epi16(_mm256_maddubs_epi16(high, inputs), ones);
            const __m256i both = _mm256_add_epi32(fine, _mm256_slli_epi32(coarse, 4));
            sum.part[i] = _mm256_add_epi32(sum.part[i], both);
        }
    else  // 2 * 128 * 127 does
        EACH_PART {
            const __m256i products = _mm256_madd_epi16(_mm256_maddubs_epi16(weights.part[i], inputs), ones);
            sum.part[i] = _mm256_add_epi32(sum.part[i], products);
        }
#endif
    return sum;
}

#else
constexpr int MOST_ROWS = 2;
constexpr int copies(int) { return 1; }
struct Bytes {
    uint8_t code[64];
};
INLINE Bytes load_weights(const uint8_t* at) {
    Bytes v;
    memcpy(v.code, at, sizeof v.code);
    return v;
}
INLINE Bytes low_halves(Bytes v) {
    for (int i = 0; i < 64; i++) v.code[i] &= 15;
    return v;
}
INLINE Bytes high_halves(Bytes v) {
    for (int i = 0; i < 64; i++) v.code[i] >>= 4;
    return v;
}
#if ATTACCA_SET == ATTACCA_SET_NEON
// Its instruction multiplies signed by signed: codes lose 128 here, and `offset` says that they did.
template <int KIND>
INLINE Ints dot(Ints sum, const Bytes& weights, const int8_t* x) {
    int32_t four;
    memcpy(&four, x, 4);
    const int8x16_t inputs = vreinterpretq_s8_s32(vdupq_n_s32(four));
    EACH_PART {
        const uint8x16_t codes = vld1q_u8(weights.code + 16 * i);
        const int8x16_t centred = vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(128)));
        sum.part[i] = vdotq_s32(sum.part[i], centred, inputs);
    }
    return sum;
}
#else
template <int KIND>
INLINE Ints dot(Ints sum, const Bytes& weights, const int8_t* x) {
    EACH_PART for (int j = 0; j < GROUP; j++) sum.part[i] += int32_t(weights.code[i * GROUP + j]) * x[j];
    return sum;
}
#endif
#endif

// Weights stream from memory, which answers late: so much, in bytes, is asked for beforehand.
constexpr size_t AHEAD = 2048;

// What a sum over codes lacks to one over weights, as a multiple of the sum of x.
template <int KIND>
constexpr int offset() {
    const int zero = KIND == ATTACCA_ROWS7 ? 64 : KIND == ATTACCA_BLOCKS8 ? 128 : 8;
    return ATTACCA_SET == ATTACCA_SET_NEON ? zero - 128 : zero;
}

// Rows in 8 bits, as a product wants them.
struct Quantised {
    const int8_t* codes;
    const float* scales;  // [rows, blocks]
    const int32_t* sums;  // [rows, blocks]
    int stride, blocks;
};

template <int ROWS, int KIND>
INLINE void tile_of_codes(const Product& w, int tile, const Quantised& x, float* y, int stride, size_t distance) {
    constexpr int HALF_GROUPS = KIND == ATTACCA_BLOCKS4 ? 2 : 1;  // groups of inputs in 4 * 32 bytes
    constexpr int BYTES = TILE * GROUP;
    constexpr int COPIES = copies(ROWS);
    const int groups = w.padded / w.blocks / GROUP;  // of a block: even
    const uint8_t* codes = w.codes.at<uint8_t>() + size_t(tile) * w.padded * TILE / HALF_GROUPS;
    const float* scales = w.scales.at<float>() + size_t(tile) * w.blocks * TILE;
    Floats found[ROWS][2];
    for (int row = 0; row < ROWS; row++) found[row][0] = found[row][1] = splat(0.0f);
    for (int block = 0; block < w.blocks; block++) {
        Ints sums[ROWS][COPIES][2];
        for (int row = 0; row < ROWS; row++)
            for (int copy = 0; copy < COPIES; copy++)
                EACH_PART sums[row][copy][0].part[i] = sums[row][copy][1].part[i] = ints_zero();
        const int8_t* inputs = x.codes + size_t(block) * groups * GROUP;
        for (int group = 0; group < groups; group += 2) {
            const auto a = load_weights(codes), b = load_weights(codes + 64);
            ahead(codes + distance);
            ahead(codes + distance + 64);
            if (KIND == ATTACCA_BLOCKS4) {
                const auto a0 = low_halves(a), b0 = low_halves(b), a1 = high_halves(a), b1 = high_halves(b);
                for (int row = 0; row < ROWS; row++) {
                    const int8_t* at = inputs + row * x.stride + group * GROUP;
                    sums[row][0][0] = dot<KIND>(sums[row][0][0], a0, at);
                    sums[row][0][1] = dot<KIND>(sums[row][0][1], b0, at);
                    sums[row][COPIES - 1][0] = dot<KIND>(sums[row][COPIES - 1][0], a1, at + GROUP);
                    sums[row][COPIES - 1][1] = dot<KIND>(sums[row][COPIES - 1][1], b1, at + GROUP);
                }
                codes += BYTES;
            } else {
                const auto c = load_weights(codes + BYTES), d = load_weights(codes + BYTES + 64);
                ahead(codes + distance + BYTES);
                ahead(codes + distance + BYTES + 64);
                for (int row = 0; row < ROWS; row++) {
                    const int8_t* at = inputs + row * x.stride + group * GROUP;
                    sums[row][0][0] = dot<KIND>(sums[row][0][0], a, at);
                    sums[row][0][1] = dot<KIND>(sums[row][0][1], b, at);
                    sums[row][COPIES - 1][0] = dot<KIND>(sums[row][COPIES - 1][0], c, at + GROUP);
                    sums[row][COPIES - 1][1] = dot<KIND>(sums[row][COPIES - 1][1], d, at + GROUP);
                }
                codes += 2 * BYTES;
            }
        }
        const Floats steps[2] = {load(scales + block * TILE), load(scales + block * TILE + 16)};
        for (int row = 0; row < ROWS; row++) {
            const int at = row * x.blocks + block;
            const Floats scale = splat(x.scales[at]);
            for (int half = 0; half < 2; half++) {
                Ints total = sums[row][0][half];
                EACH_PART {
                    if (COPIES > 1) total.part[i] = ints_add(total.part[i], sums[row][COPIES - 1][half].part[i]);
                    total.part[i] = ints_sub(total.part[i], ints_set(offset<KIND>() * x.sums[at]));
                }
                found[row][half] = fma(to_floats(total), steps[half] * scale, found[row][half]);
            }
        }
    }
    for (int row = 0; row < ROWS; row++) {
        store(y + size_t(row) * stride + tile * TILE, found[row][0]);
        store(y + size_t(row) * stride + tile * TILE + 16, found[row][1]);
    }
}

template <int ROWS>
INLINE void tile_of_floats(const Product& w, int tile, const float* x, int from, float* y, int to) {
    const float* weights = w.codes.at<float>() + size_t(tile) * w.inputs * TILE;
    Floats found[ROWS][2];
    for (int row = 0; row < ROWS; row++) found[row][0] = found[row][1] = splat(0.0f);
    for (int input = 0; input < w.inputs; input++) {
        const Floats a = load(weights + input * TILE), b = load(weights + input * TILE + 16);
        for (int row = 0; row < ROWS; row++) {
            const Floats value = splat(x[size_t(row) * from + input]);
            found[row][0] = fma(value, a, found[row][0]);
            found[row][1] = fma(value, b, found[row][1]);
        }
    }
    for (int row = 0; row < ROWS; row++) {
        store(y + size_t(row) * to + tile * TILE, found[row][0]);
        store(y + size_t(row) * to + tile * TILE + 16, found[row][1]);
    }
}

// A tile for 1 to MOST_ROWS rows.
template <int ROWS, int KIND>
void tile_of(const Product& w, int tile, int rows, const Quantised& q, size_t distance, const float* x, int from,
             float* y, int to) {
    if constexpr (ROWS > 1) {
        if (rows < ROWS) return tile_of<ROWS - 1, KIND>(w, tile, rows, q, distance, x, from, y, to);
    }
    if constexpr (KIND == ATTACCA_FLOAT)
        tile_of_floats<ROWS>(w, tile, x, from, y, to);
    else
        tile_of_codes<ROWS, KIND>(w, tile, q, y, to, distance);
}

// Rows [rows, inputs] in 8 bits, into the workspace: one scale for each block of inputs.
Quantised quantise(const Product& w, Workspace& room, const float* x, int from, int rows) {
    int8_t* codes = room.codes.at<int8_t>();
    float* scales = room.code_scales.at<float>();
    int32_t* sums = room.code_sums.at<int32_t>();
    const int stride = round_up(w.padded, 16);
    const int block = w.padded / w.blocks;
    for (int row = 0; row < rows; row++) {
        int8_t* to = codes + size_t(row) * stride;
        for (int part = 0; part < w.blocks; part++) {
            const float* values = x + size_t(row) * from + part * block;
            const int count = w.inputs - part * block < block ? w.inputs - part * block : block;
            const int whole = count / 16 * 16;
            Floats most = splat(0.0f), lost = splat(0.0f);  // what is not finite has no code: it is told by the scale
            for (int i = 0; i < whole; i += 16) {
                const Floats value = load(values + i);
                most = max(most, abs(value));
                lost = fma(value, splat(0.0f), lost);
            }
            float top = largest(most), none = sum(lost);
            for (int i = whole; i < count; i++) {
                top = __builtin_fabsf(values[i]) > top ? __builtin_fabsf(values[i]) : top;
                none += values[i] * 0.0f;
            }
            const int at = row * w.blocks + part;
            if (!(none == 0.0f)) {
                memset(to + part * block, 0, size_t(block));
                scales[at] = none;
                sums[at] = 0;
                continue;
            }
            const float inverse = top > 0.0f ? 127.0f / top : 0.0f;
            Ints total;
            EACH_PART total.part[i] = ints_zero();
            int8_t* each = to + part * block;
            for (int i = 0; i < whole; i += 16) {
                const Ints found = round(load(values + i) * splat(inverse));
                EACH_PART total.part[i] = ints_add(total.part[i], found.part[i]);
                store_codes(each + i, found);
            }
            alignas(64) int32_t added[16];
            memcpy(added, &total, sizeof added);
            int32_t sum = 0;
            for (int i = 0; i < 16; i++) sum += added[i];
            for (int i = whole; i < count; i++) {
                each[i] = int8_t(__builtin_rintf(values[i] * inverse));
                sum += each[i];
            }
            for (int i = count < 0 ? 0 : count; i < block; i++) each[i] = 0;
            scales[at] = top * (1.0f / 127.0f);
            sums[at] = sum;
        }
    }
    return {codes, scales, sums, stride, w.blocks};
}

template <int KIND>
void product_of(const Product& w, const Quantised& q, const float* x, int from, int rows, float* y, int to) {
    // Tiles first: a tile's codes are read from memory once, and again by further rows from the cache beside the core.
    // Its last rows ask for the next tile meanwhile.
    const size_t tile_bytes = size_t(w.padded) * TILE / (KIND == ATTACCA_BLOCKS4 ? 2 : 1);
    const int calls = (rows + MOST_ROWS - 1) / MOST_ROWS, most = (rows + calls - 1) / calls;
    for (int tile = 0; tile < w.tiles; tile++)
        for (int row = 0; row < rows; row += most) {
            const int count = rows - row < most ? rows - row : most;
            const Quantised part = {q.codes + size_t(row) * q.stride, q.scales + row * q.blocks,
                                    q.sums + row * q.blocks, q.stride, q.blocks};
            const size_t distance = calls > 1 && row + most >= rows ? tile_bytes : AHEAD;
            tile_of<MOST_ROWS, KIND>(w, tile, count, part, distance, x + size_t(row) * from, from, y + size_t(row) * to,
                                     to);
        }
}

// y [rows, to] = x [rows, from] times w; `to` has room for whole tiles.
void product(const Product& w, Workspace& room, const float* x, int from, int rows, float* y, int to) {
    if (w.kind == ATTACCA_FLOAT) return product_of<ATTACCA_FLOAT>(w, Quantised{}, x, from, rows, y, to);
    const Quantised q = quantise(w, room, x, from, rows);
    if (w.kind == ATTACCA_ROWS7)
        product_of<ATTACCA_ROWS7>(w, q, x, from, rows, y, to);
    else if (w.kind == ATTACCA_BLOCKS8)
        product_of<ATTACCA_BLOCKS8>(w, q, x, from, rows, y, to);
    else
        product_of<ATTACCA_BLOCKS4>(w, q, x, from, rows, y, to);
}
