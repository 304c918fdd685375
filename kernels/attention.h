// Attention of rows over a cache, and across to a prompt. Included once for each set of instructions.
//
// Slots are scored one by one and mixed in their order, so a row's numbers depend on its slots alone. An 8-bit cache
// has a scale for each channel: keys' scales go into the query, values' into the result.

constexpr int MOST_HEAD = 256;  // width of a head, most
constexpr int SLOTS = SUMMED;   // scored at a time
// Rows that share what is read of a cache: as many as leave their sums in registers.
constexpr int ROWS_TOGETHER = ATTACCA_SET == ATTACCA_SET_AVX512 ? MOST_TOGETHER : 1;

// Sixteen channels of a slot, as floats.
INLINE Floats channels(const float* slot) { return load(slot); }
INLINE Floats channels(const int8_t* slot) { return load_codes(slot); }

// Slots `slot` to `slot` + 3; of those beyond `room` the last one again, whose result is not used.
template <typename T>
INLINE void slots_at(const T* cache, int width, int slot, int room, const T** at) {
    for (int i = 0; i < SLOTS; i++) at[i] = cache + size_t(slot + i < room ? slot + i : room - 1) * width;
}

// Asks for slots that are read when these are done with: the values while keys are scored, then the next head's keys.
template <typename T>
INLINE void slots_ahead(const T* next, int width, int slot) {
    const char* from = reinterpret_cast<const char*>(next + size_t(slot) * width);
    for (int line = 0; line < SLOTS * width * int(sizeof(T)); line += ALIGNMENT) ahead(from + line);
}

// scores[row][i] = queries[row] . the slot at[i].
template <int ROWS, typename T>
INLINE void score_slots(const float (*queries)[MOST_HEAD], const T* const* at, int width, float* scores, int stride) {
    const int whole = width / 16 * 16;
    Floats found[ROWS][SLOTS];
    for (int row = 0; row < ROWS; row++)
        for (int i = 0; i < SLOTS; i++) found[row][i] = splat(0.0f);
    for (int channel = 0; channel < whole; channel += 16) {
        Floats query[ROWS];
        for (int row = 0; row < ROWS; row++) query[row] = load(queries[row] + channel);
        for (int i = 0; i < SLOTS; i++) {
            const Floats key = channels(at[i] + channel);
            for (int row = 0; row < ROWS; row++) found[row][i] = fma(query[row], key, found[row][i]);
        }
    }
    for (int row = 0; row < ROWS; row++) {
        sums(found[row], scores + row * stride);
        for (int channel = whole; channel < width; channel++)
            for (int i = 0; i < SLOTS; i++) scores[row * stride + i] += queries[row][channel] * float(at[i][channel]);
    }
}

// scores[row][i] = queries[row] . keys of slot i, for whole groups of slots, so beyond `count` too. Two rows at most
// share a key in a register; a group's keys stay near for the others.
template <int ROWS, typename T>
INLINE void score(const float (*queries)[MOST_HEAD], const T* keys, const T* next, int width, int count, int room,
                  float* scores, int stride) {
    for (int slot = 0; slot < count; slot += SLOTS) {
        const T* at[SLOTS];
        slots_at(keys, width, slot, room, at);
        slots_ahead(next, width, slot);
        for (int row = 0; row + 1 < ROWS; row += 2)
            score_slots<2>(queries + row, at, width, scores + row * stride + slot, stride);
        if (ROWS % 2) score_slots<1>(queries + ROWS - 1, at, width, scores + (ROWS - 1) * stride + slot, stride);
    }
}

#if ATTACCA_SET == ATTACCA_SET_AVX512
constexpr int WIDE = 64;  // channels of a head whose codes fill a register
constexpr int FOUR = 4;   // slots whose products one instruction adds

// The same over codes, in integers: a query in 15 bits, as two halves of 7 and 8, against keys as unsigned codes.
template <int ROWS>
INLINE void score_codes(const float (*queries)[MOST_HEAD], const int8_t* keys, const int8_t* next, int count, int room,
                        float* scores, int stride) {
    __m512i coarse[ROWS], fine[ROWS], flipped[ROWS];
    float step[ROWS];
    const __m512i flip = _mm512_set1_epi8(-128), ones = _mm512_set1_epi8(1), none = _mm512_setzero_si512();
    for (int row = 0; row < ROWS; row++) {
        Floats most = splat(0.0f);
        for (int i = 0; i < WIDE; i += 16) most = max(most, abs(load(queries[row] + i)));
        const float top = largest(most), inverse = top > 0.0f ? 16383.0f / top : 0.0f;
        alignas(64) int8_t high[WIDE], low[WIDE];
        for (int i = 0; i < WIDE; i += 16) {
            const __m512i code = round(load(queries[row] + i) * splat(inverse)).part[0];
            const __m512i upper = _mm512_srai_epi32(code, 7), lower = _mm512_and_si512(code, _mm512_set1_epi32(127));
            _mm_store_si128(reinterpret_cast<__m128i*>(high + i), _mm512_cvtepi32_epi8(upper));
            _mm_store_si128(reinterpret_cast<__m128i*>(low + i), _mm512_cvtepi32_epi8(lower));
        }
        coarse[row] = _mm512_load_si512(high);
        fine[row] = _mm512_load_si512(low);
        step[row] = top / 16383.0f;
        const __m512i upper = _mm512_slli_epi32(_mm512_dpbusd_epi32(none, ones, coarse[row]), 7);
        flipped[row] = _mm512_sub_epi32(none, _mm512_dpbusd_epi32(upper, ones, fine[row]));  // what 128 adds, / 128
    }
    for (int slot = 0; slot < count; slot += SLOTS) {
        const int8_t* at[SLOTS];
        slots_at(keys, WIDE, slot, room, at);
        slots_ahead(next, WIDE, slot);
        __m512i key[SLOTS];
        for (int i = 0; i < SLOTS; i++) key[i] = _mm512_xor_si512(_mm512_loadu_si512(at[i]), flip);
        for (int row = 0; row < ROWS; row++) {
            Floats found[SLOTS];
            for (int i = 0; i < SLOTS; i++) {
                const __m512i upper = _mm512_slli_epi32(_mm512_dpbusd_epi32(flipped[row], key[i], coarse[row]), 7);
                found[i].part[0] = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(upper, key[i], fine[row]));
            }
            float* to = scores + row * stride + slot;
            sums(found, to);
            _mm256_storeu_ps(to, _mm256_mul_ps(_mm256_loadu_ps(to), _mm256_set1_ps(step[row])));
        }
    }
}
#endif

// Softmax in place, not divided; returns the sum. Room for sixteen more is there.
INLINE float soften(float* scores, int count) {
    const int whole = count / 16 * 16;
    float top = scores[0];
    if (whole) {
        Floats most = load(scores);
        for (int i = 16; i < whole; i += 16) most = max(most, load(scores + i));
        top = largest(most);
    }
    for (int i = whole; i < count; i++) top = scores[i] > top ? scores[i] : top;
    for (int i = count; i < whole + 16; i++)  // the last sixteen: what is beyond counts as nothing
        scores[i] = -1e30f;
    Floats total = splat(0.0f);
    for (int i = 0; i < count; i += 16) {
        const Floats found = exponential(load(scores + i) - splat(top));
        store(scores + i, found);
        if (i + 16 > count)
            for (int beyond = count; beyond < i + 16; beyond++) scores[beyond] = 0.0f;
        total = total + load(scores + i);
    }
    return sum(total);
}

// Sixteen by PIECES channels of the sums of weights[row][i] * values of slot i.
template <int ROWS, int PIECES, typename T>
INLINE void mix_pieces(const float* weights, int stride, const T* values, const T* next, int width, int count,
                       Floats (*found)[PIECES]) {
    for (int row = 0; row < ROWS; row++)
        for (int piece = 0; piece < PIECES; piece++) found[row][piece] = splat(0.0f);
    for (int slot = 0; slot < count; slot++) {
        for (int piece = 0; piece < PIECES; piece++) ahead(next + size_t(slot) * width + piece * 16);
        Floats value[PIECES];
        for (int piece = 0; piece < PIECES; piece++)
            value[piece] = channels(values + size_t(slot) * width + piece * 16);
        for (int row = 0; row < ROWS; row++) {
            const Floats weight = splat(weights[row * stride + slot]);
            for (int piece = 0; piece < PIECES; piece++)
                found[row][piece] = fma(weight, value[piece], found[row][piece]);
        }
    }
}

// results[row] = those sums, times factors[row], times the channels' scales if there are any.
template <int ROWS, typename T>
INLINE void mix(const float* weights, int stride, const T* values, const T* next, int width, int count,
                const float* factors, const float* scales, float* const* results) {
    int channel = 0;
    for (; channel + 64 <= width; channel += 64) {
        Floats found[ROWS][4];
        mix_pieces<ROWS, 4>(weights, stride, values + channel, next + channel, width, count, found);
        for (int row = 0; row < ROWS; row++)
            for (int piece = 0; piece < 4; piece++) {
                const int at = channel + piece * 16;
                const Floats scale = scales ? load(scales + at) * splat(factors[row]) : splat(factors[row]);
                store(results[row] + at, found[row][piece] * scale);
            }
    }
    for (; channel + 16 <= width; channel += 16) {
        Floats found[ROWS][1];
        mix_pieces<ROWS, 1>(weights, stride, values + channel, next + channel, width, count, found);
        for (int row = 0; row < ROWS; row++) {
            const Floats scale = scales ? load(scales + channel) * splat(factors[row]) : splat(factors[row]);
            store(results[row] + channel, found[row][0] * scale);
        }
    }
    for (; channel < width; channel++)
        for (int row = 0; row < ROWS; row++) {
            float found = 0.0f;
            for (int slot = 0; slot < count; slot++)
                found += weights[row * stride + slot] * float(values[size_t(slot) * width + channel]);
            results[row][channel] = found * (scales ? scales[channel] * factors[row] : factors[row]);
        }
}

#if ATTACCA_SET == ATTACCA_SET_AVX512
// The same over codes, in integers: weights, the largest of which is 1, in 16 bits, as two halves of 8. Four slots'
// codes of a channel are brought side by side, for the instruction that adds four products.
template <int ROWS>
INLINE void mix_codes(const float* weights, int stride, const int8_t* values, const int8_t* next, int count, int room,
                      const float* factors, const float* scales, float* const* results) {
    __m512i coarse[ROWS][4], fine[ROWS][4];
    for (int row = 0; row < ROWS; row++)
        for (int i = 0; i < 4; i++) coarse[row][i] = fine[row][i] = _mm512_setzero_si512();
    for (int slot = 0; slot < count; slot += FOUR) {
        const int8_t* at[FOUR];
        for (int i = 0; i < FOUR; i++) {
            at[i] = values + size_t(slot + i < room ? slot + i : room - 1) * WIDE;
            ahead(next + size_t(slot + i) * WIDE);
        }
        const __m512i a = _mm512_loadu_si512(at[0]), b = _mm512_loadu_si512(at[1]);
        const __m512i c = _mm512_loadu_si512(at[2]), d = _mm512_loadu_si512(at[3]);
        const __m512i ab = _mm512_unpacklo_epi8(a, b), AB = _mm512_unpackhi_epi8(a, b);
        const __m512i cd = _mm512_unpacklo_epi8(c, d), CD = _mm512_unpackhi_epi8(c, d);
        const __m512i four[4] = {_mm512_unpacklo_epi16(ab, cd), _mm512_unpackhi_epi16(ab, cd),
                                 _mm512_unpacklo_epi16(AB, CD), _mm512_unpackhi_epi16(AB, CD)};
        for (int row = 0; row < ROWS; row++) {
            const __m128 weight = _mm_loadu_ps(weights + row * stride + slot);
            const __m128i code = _mm_cvtps_epi32(_mm_mul_ps(weight, _mm_set1_ps(65535.0f)));
            const __m512i upper = _mm512_broadcastd_epi32(_mm_cvtepi32_epi8(_mm_srli_epi32(code, 8)));
            const __m512i lower = _mm512_broadcastd_epi32(_mm_cvtepi32_epi8(code));
            for (int i = 0; i < 4; i++) {
                coarse[row][i] = _mm512_dpbusd_epi32(coarse[row][i], upper, four[i]);
                fine[row][i] = _mm512_dpbusd_epi32(fine[row][i], lower, four[i]);
            }
        }
    }
    for (int row = 0; row < ROWS; row++) {
        Floats found[4];  // channels 4 i to 4 i + 3 of each quarter of the head
        for (int i = 0; i < 4; i++)
            found[i].part[0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(coarse[row][i]), _mm512_set1_ps(256.0f),
                                               _mm512_cvtepi32_ps(fine[row][i]));
        for (int i = 0; i < 4; i++) {
            alignas(64) float quarters[16];
            store(quarters, found[i]);
            for (int quarter = 0; quarter < 4; quarter++)
                memcpy(results[row] + quarter * 16 + i * 4, quarters + quarter * 4, 4 * sizeof(float));
        }
        for (int channel = 0; channel < WIDE; channel += 16) {
            const Floats scale = load(scales + channel) * splat(factors[row] * (1.0f / 65535.0f));
            store(results[row] + channel, load(results[row] + channel) * scale);
        }
    }
}
#endif

// Queries and keys turn alike: pairs of channels half a head apart by an angle (RoPE, Su et al. 2021, halves together).
INLINE void turn(float* heads, int count, int width, const float* cosine, const float* sine) {
    const int half = width / 2;
    for (int head = 0; head < count; head++) {
        float *first = heads + size_t(head) * width, *second = first + half;
        for (int i = 0; i < half; i++) {
            const float a = first[i], b = second[i];
            first[i] = a * cosine[i] - b * sine[i];
            second[i] = b * cosine[i] + a * sine[i];
        }
    }
}

// A row's keys or values [heads, hd] into slot `slot`.
INLINE void remember(float* cache, const float* row, int heads, int width, int capacity, int slot, const float*) {
    for (int head = 0; head < heads; head++)
        memcpy(cache + (size_t(head) * capacity + slot) * width, row + size_t(head) * width,
               size_t(width) * sizeof(float));
}
INLINE void remember(int8_t* cache, const float* row, int heads, int width, int capacity, int slot,
                     const float* inverse) {
    for (int head = 0; head < heads; head++) {
        int8_t* to = cache + (size_t(head) * capacity + slot) * width;
        for (int i = 0; i < width; i++) {
            const float code = row[head * width + i] * inverse[head * width + i];
            const float held = code > -128.0f ? code < 127.0f ? code : 127.0f : -128.0f;
            to[i] = int8_t(__builtin_rintf(held));
        }
    }
}

// Keys and values of one branch and layer, for rows of one take.
template <typename T>
struct Slots {
    const T *keys, *values;
    int capacity;
};

template <int ROWS>
INLINE void score_any(const float (*queries)[MOST_HEAD], const float* keys, const float* next, int width, int count,
                      int room, float* scores, int stride) {
    score<ROWS>(queries, keys, next, width, count, room, scores, stride);
}
template <int ROWS>
INLINE void mix_any(const float* weights, int stride, const float* values, const float* next, int width, int count, int,
                    const float* factors, const float*, float* const* results) {
    mix<ROWS>(weights, stride, values, next, width, count, factors, nullptr, results);
}
template <int ROWS>
INLINE void score_any(const float (*queries)[MOST_HEAD], const int8_t* keys, const int8_t* next, int width, int count,
                      int room, float* scores, int stride) {
#if ATTACCA_SET == ATTACCA_SET_AVX512
    if (width == WIDE) return score_codes<ROWS>(queries, keys, next, count, room, scores, stride);
#endif
    score<ROWS>(queries, keys, next, width, count, room, scores, stride);
}
template <int ROWS>
INLINE void mix_any(const float* weights, int stride, const int8_t* values, const int8_t* next, int width, int count,
                    [[maybe_unused]] int room, const float* factors, const float* scales, float* const* results) {
#if ATTACCA_SET == ATTACCA_SET_AVX512
    if (width == WIDE) return mix_codes<ROWS>(weights, stride, values, next, count, room, factors, scales, results);
#endif
    mix<ROWS>(weights, stride, values, next, width, count, factors, scales, results);
}

// Attention of ROWS rows of one take: queries[row] [heads, hd], at slots[row], ascending -> results[row] [heads, hd].
template <int ROWS, typename T>
INLINE void attend_together(const Model& model, const Layer& layer, Workspace& room, const Slots<T>& cache,
                            const float* const* queries, const int* slots, float* const* results) {
    const attacca_sizes& sizes = model.sizes;
    const int width = sizes.head_dim, stride = room.score_stride, end = slots[ROWS - 1] + 1;
    int first[ROWS];
    for (int row = 0; row < ROWS; row++) first[row] = slots[row] + 1 > sizes.window ? slots[row] + 1 - sizes.window : 0;
    const int begin = first[0], count = end - begin, left = cache.capacity - begin;
    const float scale = 1.0f / __builtin_sqrtf(float(width));
    const bool coded = sizeof(T) == 1;
    float* scores = room.scores.at<float>();
    alignas(64) float query[ROWS][MOST_HEAD];
    for (int head = 0; head < sizes.heads; head++) {
        const float* key_scales = coded ? layer.key_scale.at<float>() + head * width : nullptr;
        for (int row = 0; row < ROWS; row++)
            for (int i = 0; i < width; i++)
                query[row][i] = queries[row][head * width + i] * (coded ? key_scales[i] * scale : scale);
        const size_t at = (size_t(head) * cache.capacity + begin) * width;
        score_any<ROWS>(query, cache.keys + at, cache.values + at, width, count, left, scores, stride);
        float factors[ROWS];
        float* to[ROWS];
        for (int row = 0; row < ROWS; row++) {
            float* own = scores + row * stride;
            for (int i = begin; i < first[row]; i++) own[i - begin] = 0.0f;
            const int seen = slots[row] + 1 - first[row];
            factors[row] = 1.0f / soften(own + (first[row] - begin), seen);
            for (int i = slots[row] + 1; i < end + SLOTS; i++) own[i - begin] = 0.0f;
            to[row] = results[row] + head * width;
        }
        const float* scales = coded ? layer.value_scale.at<float>() + head * width : nullptr;
        mix_any<ROWS>(scores, stride, cache.values + at, cache.keys + at + size_t(cache.capacity) * width, width, count,
                      left, factors, scales, to);
    }
}

// The same for 1 to ROWS rows.
template <int ROWS, typename T>
void attend(const Model& model, const Layer& layer, Workspace& room, const Slots<T>& cache, int rows,
            const float* const* queries, const int* slots, float* const* results) {
    if constexpr (ROWS > 1) {
        if (rows < ROWS) return attend<ROWS - 1>(model, layer, room, cache, rows, queries, slots, results);
    }
    attend_together<ROWS>(model, layer, room, cache, queries, slots, results);
}

// One row's attention across: queries [heads, hd] over a prompt -> result [heads, hd].
INLINE void attend_across(const Model& model, int layer, Workspace& room, const float* queries,
                          const attacca_call& call, float* result) {
    const int width = model.sizes.head_dim, count = call.prompt_tokens;
    float* scores = room.scores.at<float>();
    for (int head = 0; head < model.sizes.heads; head++) {
        const float* keys = call.cross_key[layer] + size_t(head) * width * count;
        const float* values = call.cross_value[layer] + size_t(head) * width * count;
        for (int token = 0; token < count; token++) scores[token] = 0.0f;
        for (int i = 0; i < width; i++) {
            const float value = queries[head * width + i];
            for (int token = 0; token < count; token++) scores[token] += value * keys[size_t(i) * count + token];
        }
        for (int token = 0; token < count; token++) scores[token] += call.cross_mask[token];
        const float factor = 1.0f / soften(scores, count);
        float* to = result + head * width;
        mix<1>(scores, 0, values, values, width, count, &factor, nullptr, &to);
    }
}
