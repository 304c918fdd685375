// What stands between products: sums, norms, gates. Included once for each set of instructions.

INLINE void add(float* to, const float* from, int count) {
    int i = 0;
    for (; i + 16 <= count; i += 16) store(to + i, load(to + i) + load(from + i));
    for (; i < count; i++) to[i] += from[i];
}

// A row by its norm: RMS (Zhang and Sennrich 2019), or with mean and bias (Ba et al. 2016).
INLINE void normalise(const attacca_sizes& sizes, const float* x, const float* weight, const float* bias, float* y) {
    const int whole = sizes.dim / 16 * 16;
    float mean = 0.0f;
    if (sizes.layer_norm) {
        Floats total = splat(0.0f);
        for (int i = 0; i < whole; i += 16) total = total + load(x + i);
        mean = sum(total);
        for (int i = whole; i < sizes.dim; i++) mean += x[i];
        mean /= float(sizes.dim);
    }
    Floats squares = splat(0.0f);
    const Floats centre = splat(mean);
    for (int i = 0; i < whole; i += 16) {
        const Floats value = load(x + i) - centre;
        squares = fma(value, value, squares);
    }
    float spread = sum(squares);
    for (int i = whole; i < sizes.dim; i++) spread += (x[i] - mean) * (x[i] - mean);
    const float inverse = 1.0f / __builtin_sqrtf(spread / float(sizes.dim) + sizes.norm_epsilon);
    for (int i = 0; i < whole; i += 16) {
        const Floats found = (load(x + i) - centre) * splat(inverse) * load(weight + i);
        store(y + i, bias ? found + load(bias + i) : found);
    }
    for (int i = whole; i < sizes.dim; i++) y[i] = (x[i] - mean) * inverse * weight[i] + (bias ? bias[i] : 0.0f);
}

INLINE Floats silu(Floats x) { return x / (splat(1.0f) + exponential(splat(0.0f) - x)); }
INLINE Floats gelu(Floats x) { return splat(0.5f) * x * (splat(1.0f) + error_function(x * splat(0.70710678f))); }

// x -> y [hidden]: the gated form has both halves in x. Whole sixteens: x and y have room for them.
INLINE void activate(const attacca_sizes& sizes, const float* x, float* y) {
    for (int i = 0; i < sizes.hidden; i += 16) {
        if (!sizes.gated) {
            store(y + i, gelu(load(x + i)));
            continue;
        }
        store(y + i, silu(load(x + i)) * load(x + sizes.hidden + i));
    }
}

// Adds row `index` of a table.
INLINE void add_row(const Table& table, int64_t index, int dim, float* to) {
    if (table.kind == ATTACCA_FLOAT) return add(to, table.values.at<float>() + size_t(index) * dim, dim);
    const uint16_t* from = table.values.at<uint16_t>() + size_t(index) * dim;
    for (int i = 0; i < dim; i++) to[i] += widened(from[i]);
}
