// Sixteen floats, whatever the processor's registers are: what the kernels are written in. Included once for each set
// of instructions, inside that set's namespace; ATTACCA_SET says which. An operation is the same arithmetic in every
// set but where a product and a sum are one instruction (fused), which the portable set has not.

#if ATTACCA_SET == ATTACCA_SET_AVX512
using Lane = __m512;
using IntLane = __m512i;
constexpr int LANES = 16;
INLINE Lane lane_load(const float* at) { return _mm512_loadu_ps(at); }
INLINE void lane_store(float* at, Lane v) { _mm512_storeu_ps(at, v); }
INLINE Lane lane_set(float v) { return _mm512_set1_ps(v); }
INLINE Lane lane_add(Lane a, Lane b) { return _mm512_add_ps(a, b); }
INLINE Lane lane_sub(Lane a, Lane b) { return _mm512_sub_ps(a, b); }
INLINE Lane lane_mul(Lane a, Lane b) { return _mm512_mul_ps(a, b); }
INLINE Lane lane_div(Lane a, Lane b) { return _mm512_div_ps(a, b); }
INLINE Lane lane_fma(Lane a, Lane b, Lane c) { return _mm512_fmadd_ps(a, b, c); }
INLINE Lane lane_max(Lane a, Lane b) { return _mm512_max_ps(a, b); }
INLINE Lane lane_min(Lane a, Lane b) { return _mm512_min_ps(a, b); }
INLINE Lane lane_abs(Lane a) { return _mm512_abs_ps(a); }
INLINE Lane lane_sign(Lane size, Lane sign)  // size with the other's sign
{
    const __m512i top = _mm512_set1_epi32(INT32_MIN);
    const __m512i bits = _mm512_and_si512(_mm512_castps_si512(sign), top);
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(size), bits));
}
INLINE IntLane lane_round(Lane a) { return _mm512_cvtps_epi32(a); }
INLINE Lane lane_float(IntLane a) { return _mm512_cvtepi32_ps(a); }
INLINE Lane lane_power_of_two(IntLane n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}
INLINE IntLane ints_zero() { return _mm512_setzero_si512(); }
INLINE IntLane ints_set(int32_t v) { return _mm512_set1_epi32(v); }
INLINE IntLane ints_add(IntLane a, IntLane b) { return _mm512_add_epi32(a, b); }
INLINE IntLane ints_sub(IntLane a, IntLane b) { return _mm512_sub_epi32(a, b); }
INLINE Lane lane_load_codes(const int8_t* at) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))));
}
INLINE void lane_store_codes(int8_t* at, IntLane v)  // saturates
{
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm512_cvtsepi32_epi8(v));
}

#elif ATTACCA_SET == ATTACCA_SET_AVX2 || ATTACCA_SET == ATTACCA_SET_AVXVNNI
using Lane = __m256;
using IntLane = __m256i;
constexpr int LANES = 8;
INLINE Lane lane_load(const float* at) { return _mm256_loadu_ps(at); }
INLINE void lane_store(float* at, Lane v) { _mm256_storeu_ps(at, v); }
INLINE Lane lane_set(float v) { return _mm256_set1_ps(v); }
INLINE Lane lane_add(Lane a, Lane b) { return _mm256_add_ps(a, b); }
INLINE Lane lane_sub(Lane a, Lane b) { return _mm256_sub_ps(a, b); }
INLINE Lane lane_mul(Lane a, Lane b) { return _mm256_mul_ps(a, b); }
INLINE Lane lane_div(Lane a, Lane b) { return _mm256_div_ps(a, b); }
INLINE Lane lane_fma(Lane a, Lane b, Lane c) { return _mm256_fmadd_ps(a, b, c); }
INLINE Lane lane_max(Lane a, Lane b) { return _mm256_max_ps(a, b); }
INLINE Lane lane_min(Lane a, Lane b) { return _mm256_min_ps(a, b); }
INLINE Lane lane_abs(Lane a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
INLINE Lane lane_sign(Lane size, Lane sign) { return _mm256_or_ps(size, _mm256_and_ps(_mm256_set1_ps(-0.0f), sign)); }
INLINE IntLane lane_round(Lane a) { return _mm256_cvtps_epi32(a); }
INLINE Lane lane_float(IntLane a) { return _mm256_cvtepi32_ps(a); }
INLINE Lane lane_power_of_two(IntLane n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
INLINE IntLane ints_zero() { return _mm256_setzero_si256(); }
INLINE IntLane ints_set(int32_t v) { return _mm256_set1_epi32(v); }
INLINE IntLane ints_add(IntLane a, IntLane b) { return _mm256_add_epi32(a, b); }
INLINE IntLane ints_sub(IntLane a, IntLane b) { return _mm256_sub_epi32(a, b); }
INLINE Lane lane_load_codes(const int8_t* at) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))));
}
INLINE void lane_store_codes(int8_t* at, IntLane v) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(at), _mm_packs_epi16(words, words));
}

#elif ATTACCA_SET == ATTACCA_SET_NEON
using Lane = float32x4_t;
using IntLane = int32x4_t;
constexpr int LANES = 4;
INLINE Lane lane_load(const float* at) { return vld1q_f32(at); }
INLINE void lane_store(float* at, Lane v) { vst1q_f32(at, v); }
INLINE Lane lane_set(float v) { return vdupq_n_f32(v); }
INLINE Lane lane_add(Lane a, Lane b) { return vaddq_f32(a, b); }
INLINE Lane lane_sub(Lane a, Lane b) { return vsubq_f32(a, b); }
INLINE Lane lane_mul(Lane a, Lane b) { return vmulq_f32(a, b); }
INLINE Lane lane_div(Lane a, Lane b) { return vdivq_f32(a, b); }
INLINE Lane lane_fma(Lane a, Lane b, Lane c) { return vfmaq_f32(c, a, b); }
INLINE Lane lane_max(Lane a, Lane b) { return vmaxq_f32(a, b); }
INLINE Lane lane_min(Lane a, Lane b) { return vminq_f32(a, b); }
INLINE Lane lane_abs(Lane a) { return vabsq_f32(a); }
INLINE Lane lane_sign(Lane size, Lane sign) { return vbslq_f32(vdupq_n_u32(0x80000000u), sign, size); }
INLINE IntLane lane_round(Lane a) { return vcvtnq_s32_f32(a); }
INLINE Lane lane_float(IntLane a) { return vcvtq_f32_s32(a); }
INLINE Lane lane_power_of_two(IntLane n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
INLINE IntLane ints_zero() { return vdupq_n_s32(0); }
INLINE IntLane ints_set(int32_t v) { return vdupq_n_s32(v); }
INLINE IntLane ints_add(IntLane a, IntLane b) { return vaddq_s32(a, b); }
INLINE IntLane ints_sub(IntLane a, IntLane b) { return vsubq_s32(a, b); }
INLINE Lane lane_load_codes(const int8_t* at) {
    const float found[4] = {float(at[0]), float(at[1]), float(at[2]), float(at[3])};
    return vld1q_f32(found);
}
INLINE void lane_store_codes(int8_t* at, IntLane v) {
    const int8x8_t codes = vqmovn_s16(vcombine_s16(vqmovn_s32(v), vdup_n_s16(0)));
    vst1_lane_s32(reinterpret_cast<int32_t*>(at), vreinterpret_s32_s8(codes), 0);
}

#else
using Lane = float;
using IntLane = int32_t;
constexpr int LANES = 1;
INLINE Lane lane_load(const float* at) { return *at; }
INLINE void lane_store(float* at, Lane v) { *at = v; }
INLINE Lane lane_set(float v) { return v; }
INLINE Lane lane_add(Lane a, Lane b) { return a + b; }
INLINE Lane lane_sub(Lane a, Lane b) { return a - b; }
INLINE Lane lane_mul(Lane a, Lane b) { return a * b; }
INLINE Lane lane_div(Lane a, Lane b) { return a / b; }
INLINE Lane lane_fma(Lane a, Lane b, Lane c) { return a * b + c; }
INLINE Lane lane_max(Lane a, Lane b) { return a > b ? a : b; }
INLINE Lane lane_min(Lane a, Lane b) { return a < b ? a : b; }
INLINE Lane lane_abs(Lane a) { return __builtin_fabsf(a); }
INLINE Lane lane_sign(Lane size, Lane sign) { return __builtin_copysignf(size, sign); }
INLINE IntLane lane_round(Lane a) {
    const float magic = 12582912.0f;  // 1.5 * 2^23: to the nearest, ties to even, within +-2^22
    return int32_t((a + magic) - magic);
}
INLINE Lane lane_float(IntLane a) { return float(a); }
INLINE Lane lane_power_of_two(IntLane n) {
    const int32_t bits = int32_t(uint32_t(n + 127) << 23);
    float found;
    memcpy(&found, &bits, sizeof found);
    return found;
}
INLINE IntLane ints_zero() { return 0; }
INLINE IntLane ints_set(int32_t v) { return v; }
INLINE IntLane ints_add(IntLane a, IntLane b) { return a + b; }
INLINE IntLane ints_sub(IntLane a, IntLane b) { return a - b; }
INLINE Lane lane_load_codes(const int8_t* at) { return float(*at); }
INLINE void lane_store_codes(int8_t* at, IntLane v) { *at = int8_t(v < -128 ? -128 : v > 127 ? 127 : v); }
#endif

constexpr int PARTS = 16 / LANES;

// Asks for a cache line that is soon read; beyond the end of an array it asks for nothing.
INLINE void ahead(const void* at) { __builtin_prefetch(at); }

struct Floats {
    Lane part[PARTS];
};
struct Ints {
    IntLane part[PARTS];
};

#define EACH_PART for (int i = 0; i < PARTS; i++)

INLINE Floats load(const float* at) {
    Floats v;
    EACH_PART v.part[i] = lane_load(at + i * LANES);
    return v;
}
INLINE void store(float* at, Floats v) { EACH_PART lane_store(at + i * LANES, v.part[i]); }
INLINE Floats splat(float value) {
    Floats v;
    EACH_PART v.part[i] = lane_set(value);
    return v;
}
INLINE Floats operator+(Floats a, Floats b) {
    EACH_PART a.part[i] = lane_add(a.part[i], b.part[i]);
    return a;
}
INLINE Floats operator-(Floats a, Floats b) {
    EACH_PART a.part[i] = lane_sub(a.part[i], b.part[i]);
    return a;
}
INLINE Floats operator*(Floats a, Floats b) {
    EACH_PART a.part[i] = lane_mul(a.part[i], b.part[i]);
    return a;
}
INLINE Floats operator/(Floats a, Floats b) {
    EACH_PART a.part[i] = lane_div(a.part[i], b.part[i]);
    return a;
}
INLINE Floats fma(Floats a, Floats b, Floats c) {
    EACH_PART a.part[i] = lane_fma(a.part[i], b.part[i], c.part[i]);
    return a;
}
INLINE Floats max(Floats a, Floats b) {
    EACH_PART a.part[i] = lane_max(a.part[i], b.part[i]);
    return a;
}
INLINE Floats min(Floats a, Floats b) {
    EACH_PART a.part[i] = lane_min(a.part[i], b.part[i]);
    return a;
}
INLINE Floats abs(Floats a) {
    EACH_PART a.part[i] = lane_abs(a.part[i]);
    return a;
}
INLINE Floats with_sign(Floats size, Floats sign) {
    EACH_PART size.part[i] = lane_sign(size.part[i], sign.part[i]);
    return size;
}
INLINE Ints round(Floats a) {
    Ints v;
    EACH_PART v.part[i] = lane_round(a.part[i]);
    return v;
}
INLINE Floats to_floats(Ints a) {
    Floats v;
    EACH_PART v.part[i] = lane_float(a.part[i]);
    return v;
}
INLINE Floats power_of_two(Ints n) {
    Floats v;
    EACH_PART v.part[i] = lane_power_of_two(n.part[i]);
    return v;
}
INLINE Floats load_codes(const int8_t* at) {
    Floats v;
    EACH_PART v.part[i] = lane_load_codes(at + i * LANES);
    return v;
}
INLINE void store_codes(int8_t* at, Ints v) { EACH_PART lane_store_codes(at + i * LANES, v.part[i]); }

// Sums and the largest of sixteen, halves onto halves: the same tree in every set. `sums` is of SUMMED at once.
#if ATTACCA_SET == ATTACCA_SET_AVX512 || ATTACCA_SET == ATTACCA_SET_AVX2 || ATTACCA_SET == ATTACCA_SET_AVXVNNI
INLINE __m128 quarter(Floats v) {
#if ATTACCA_SET == ATTACCA_SET_AVX512
    const __m256 upper = _mm512_extractf32x8_ps(v.part[0], 1);
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v.part[0]), upper);
#else
    const __m256 half = _mm256_add_ps(v.part[0], v.part[1]);
#endif
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
INLINE float sum(Floats v) {
    const __m128 four = quarter(v);
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
#if ATTACCA_SET == ATTACCA_SET_AVX512
constexpr int SUMMED = 8;
INLINE __m512 halves(__m512 a, __m512 b) {  // eight sums of two lanes, of each
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
}
INLINE __m512 quarters(__m512 a, __m512 b) {  // four of four lanes, of each of the four in these
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}
INLINE void sums(const Floats* each, float* out) {
    const __m512 a = quarters(halves(each[0].part[0], each[1].part[0]), halves(each[2].part[0], each[3].part[0]));
    const __m512 b = quarters(halves(each[4].part[0], each[5].part[0]), halves(each[6].part[0], each[7].part[0]));
    const __m512 pairs = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
    const __m512 found = _mm512_add_ps(pairs, _mm512_shuffle_ps(pairs, pairs, 0xb1));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm256_storeu_ps(out, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, found)));
}
#else
constexpr int SUMMED = 4;
INLINE void sums(const Floats* each, float* out) {
    __m128 a = quarter(each[0]), b = quarter(each[1]), c = quarter(each[2]), d = quarter(each[3]);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(out, _mm_add_ps(_mm_add_ps(a, c), _mm_add_ps(b, d)));
}
#endif
#else
INLINE float sum(Floats v) {
    float each[16];
    store(each, v);
    for (int half = 8; half >= 1; half /= 2)
        for (int i = 0; i < half; i++) each[i] += each[i + half];
    return each[0];
}
constexpr int SUMMED = 4;
INLINE void sums(const Floats* each, float* out) {
    for (int i = 0; i < SUMMED; i++) out[i] = sum(each[i]);
}
#endif
INLINE float largest(Floats v) {
    float each[16];
    store(each, v);
    float found = each[0];
    for (int i = 1; i < 16; i++) found = each[i] > found ? each[i] : found;
    return found;
}

// e ** x to 2e-7 relative, by 2 ** n times a polynomial (Cephes' coefficients); 0 below -87.
INLINE Floats exponential(Floats x) {
    x = max(min(x, splat(88.0f)), splat(-87.3f));
    const Ints n = round(x * splat(1.44269504f));
    const Floats whole = to_floats(n);
    const Floats rest = fma(whole, splat(2.12194440e-4f), fma(whole, splat(-0.693359375f), x));
    Floats y = splat(1.9875691500e-4f);
    y = fma(y, rest, splat(1.3981999507e-3f));
    y = fma(y, rest, splat(8.3334519073e-3f));
    y = fma(y, rest, splat(4.1665795894e-2f));
    y = fma(y, rest, splat(1.6666665459e-1f));
    y = fma(y, rest, splat(5.0000001201e-1f));
    y = fma(y, rest * rest, rest) + splat(1.0f);
    return y * power_of_two(n);
}

// erf to 1.5e-7 (Abramowitz and Stegun 7.1.26).
INLINE Floats error_function(Floats x) {
    const Floats size = abs(x);
    const Floats t = splat(1.0f) / fma(splat(0.3275911f), size, splat(1.0f));
    Floats y = splat(1.061405429f);
    y = fma(y, t, splat(-1.453152027f));
    y = fma(y, t, splat(1.421413741f));
    y = fma(y, t, splat(-0.284496736f));
    y = fma(y, t, splat(0.254829592f));
    const Floats tail = y * t * exponential(splat(0.0f) - size * size);
    return with_sign(splat(1.0f) - tail, x);
}
