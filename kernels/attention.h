// Attention of rows over a cache, and across to a prompt. Included once for each set of instructions.
//
// Slots are scored one by one and mixed in their order, so a row's numbers depend on its slots alone. An 8-bit cache
// has a scale for each channel: keys' scales go into the query, values' into the result.

constexpr int MOST_HEAD = 256;  // width of a head, most
constexpr int TOGETHER = 4;     // slots scored at a time

// Sixteen channels of a slot, as floats.
INLINE Floats channels(const float* slot) { return load(slot); }
INLINE Floats channels(const int8_t* slot) { return load_codes(slot); }

// scores[i] = query . keys of slot i, for whole fours beyond `count` too (`room` slots may be read).
template <typename T>
INLINE void score(const float* query, const T* keys, int width, int count, int room, float* scores) {
    const int whole = width / 16 * 16;
    for (int slot = 0; slot < count; slot += TOGETHER) {
        const T* at[TOGETHER];
        Floats found[TOGETHER];
        for (int i = 0; i < TOGETHER; i++) {
            at[i] = keys + size_t(slot + i < room ? slot + i : room - 1) * width;
            found[i] = splat(0.0f);
        }
        for (int channel = 0; channel < whole; channel += 16) {
            const Floats q = load(query + channel);
            for (int i = 0; i < TOGETHER; i++) found[i] = fma(q, channels(at[i] + channel), found[i]);
        }
        sums(found, scores + slot);
        for (int channel = whole; channel < width; channel++)
            for (int i = 0; i < TOGETHER; i++) scores[slot + i] += query[channel] * float(at[i][channel]);
    }
}

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

// result = sum of weights[i] * values of slot i, times `factor`, times the channels' scales if there are any.
template <typename T, int PIECES>
INLINE void mix_pieces(const float* weights, const T* values, int width, int count, Floats* found) {
    for (int piece = 0; piece < PIECES; piece++) found[piece] = splat(0.0f);
    for (int slot = 0; slot < count; slot++) {
        const Floats weight = splat(weights[slot]);
        for (int piece = 0; piece < PIECES; piece++)
            found[piece] = fma(weight, channels(values + size_t(slot) * width + piece * 16), found[piece]);
    }
}

template <typename T>
INLINE void mix(const float* weights, const T* values, int width, int count, float factor, const float* scales,
                float* result) {
    int channel = 0;
    for (; channel + 64 <= width; channel += 64) {
        Floats found[4];
        mix_pieces<T, 4>(weights, values + channel, width, count, found);
        for (int piece = 0; piece < 4; piece++) {
            const Floats scale = scales ? load(scales + channel + piece * 16) * splat(factor) : splat(factor);
            store(result + channel + piece * 16, found[piece] * scale);
        }
    }
    for (; channel + 16 <= width; channel += 16) {
        Floats found[1];
        mix_pieces<T, 1>(weights, values + channel, width, count, found);
        const Floats scale = scales ? load(scales + channel) * splat(factor) : splat(factor);
        store(result + channel, found[0] * scale);
    }
    for (; channel < width; channel++) {
        float found = 0.0f;
        for (int slot = 0; slot < count; slot++) found += weights[slot] * float(values[size_t(slot) * width + channel]);
        result[channel] = found * (scales ? scales[channel] * factor : factor);
    }
}

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
            const float held = code < -128.0f ? -128.0f : code > 127.0f ? 127.0f : code;
            to[i] = int8_t(__builtin_rintf(held));
        }
    }
}

// One row's attention over one layer's cache of a branch: queries [heads, hd] at slot `slot` -> result [heads, hd].
template <typename T>
INLINE void attend(const Model& model, const Layer& layer, Workspace& room, const float* queries, const T* keys,
                   const T* values, int capacity, int slot, float* result) {
    const attacca_sizes& sizes = model.sizes;
    const int width = sizes.head_dim, first = slot + 1 > sizes.window ? slot + 1 - sizes.window : 0;
    const int count = slot + 1 - first;
    const float scale = 1.0f / __builtin_sqrtf(float(width));
    const bool coded = sizeof(T) == 1;
    float* scores = room.scores.at<float>();
    float query[MOST_HEAD];
    for (int head = 0; head < sizes.heads; head++) {
        const size_t at = (size_t(head) * capacity + first) * width;
        for (int i = 0; i < width; i++)
            query[i] =
                queries[head * width + i] * (coded ? layer.key_scale.at<float>()[head * width + i] * scale : scale);
        score(query, keys + at, width, count, capacity - first, scores);
        const float total = soften(scores, count);
        const float* scales = coded ? layer.value_scale.at<float>() + head * width : nullptr;
        mix(scores, values + at, width, count, 1.0f / total, scales, result + head * width);
    }
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
        const float total = soften(scores, count);
        mix(scores, values, width, count, 1.0f / total, nullptr, result + head * width);
    }
}
