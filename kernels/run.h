// A step of several takes' rows through all layers. Included once for each set of instructions, last.
//
// Rows of both branches lie one after another, all of the first branch first: a row is its branch, its take (call) and
// its number there. After the last layer's keys and values only rows that an output is read from go on.

class Step {
public:
    Step(const Model& model, Workspace& room, const attacca_call* calls, int count)
        : model_(model),
          sizes_(model.sizes),
          room_(room),
          calls_(calls),
          count_(count),
          residual_(room.residual.at<float>()),
          normed_(room.normed.at<float>()),
          wide_(room.wide.at<float>()),
          narrow_(room.narrow.at<float>()),
          rows_(room.kept.at<Row>()),
          dim_(round_up(model.sizes.dim, TILE)),
          hidden_(round_up(model.sizes.hidden, TILE)) {}

    void run() {
        enter();
        for (int layer = 0; layer < sizes_.layers; layer++) {
            const Layer& weights = model_.layers[size_t(layer)];
            norm(weights.norm1, weights.norm1_bias);
            const int wide = through(weights.qkv, normed_, dim_, wide_);
            each_cache(layer, wide, true);
            if (layer + 1 == sizes_.layers && !keep_wanted(wide)) return;
            each_cache(layer, wide, false);
            through(weights.out, narrow_, dim_, wide_);
            sum_up(wide_, dim_);
            if (sizes_.cross) across(weights, layer);
            norm(weights.norm2, weights.norm2_bias);
            const int inner = through(weights.in, normed_, dim_, wide_);
            for (int row = 0; row < total_; row++)
                activate(sizes_, wide_ + size_t(row) * inner, narrow_ + size_t(row) * hidden_);
            through(weights.ffn_out, narrow_, hidden_, wide_);
            sum_up(wide_, dim_);
        }
        norm(model_.norm, model_.norm_bias);
        answer();
    }

private:
    // Rows as they come in: embeddings of the stack, the level, the position; conditions for the first branch alone.
    void enter() {
        total_ = 0;
        for (int branch = 0; branch < ATTACCA_BRANCHES; branch++) {
            for (int c = 0; c < count_; c++) {
                const attacca_call& call = calls_[c];
                for (int number = 0; number < call.rows; number++) {
                    float* to = residual_ + size_t(total_) * dim_;
                    rows_[total_++] = {branch, c, number};
                    if (branch)
                        memcpy(to, residual_ + size_t(total_ - 1 - total_of_branch_) * dim_,
                               size_t(dim_) * sizeof(float));
                    else
                        embed(call, number, to);
                }
            }
            if (!branch) total_of_branch_ = total_;
        }
        for (int row = 0; row < total_; row++) {
            const attacca_call& call = calls_[rows_[row].call];
            if (call.given)
                add(residual_ + size_t(row) * dim_,
                    call.given + (size_t(rows_[row].branch) * call.rows + rows_[row].number) * sizes_.dim, sizes_.dim);
        }
        if (sizes_.conditions)
            for (int c = 0, row = 0; c < count_; row += calls_[c++].rows) {
                const int wide =
                    through(model_.conditions, calls_[c].conditions, sizes_.conditions, wide_, calls_[c].rows);
                for (int i = 0; i < calls_[c].rows; i++)
                    add(residual_ + size_t(row + i) * dim_, wide_ + size_t(i) * wide, sizes_.dim);
            }
    }

    void embed(const attacca_call& call, int number, float* to) {
        memset(to, 0, size_t(dim_) * sizeof(float));
        for (int k = 0; k < sizes_.codebooks; k++)
            add_row(model_.tokens, call.stack[number * sizes_.codebooks + k] + int64_t(k) * sizes_.table_rows,
                    sizes_.dim, to);
        if (model_.levels.rows) add_row(model_.levels, call.level[number], sizes_.dim, to);
        if (call.position) add(to, call.position + size_t(number) * sizes_.dim, sizes_.dim);
    }

    void norm(const Buffer& weight, const Buffer& bias) {
        for (int row = 0; row < total_; row++)
            normalise(sizes_, residual_ + size_t(row) * dim_, weight.at<float>(), bias.at<float>(),
                      normed_ + size_t(row) * dim_);
    }

    // The rows through a product; returns the width of a row of what came.
    int through(const Product& w, const float* x, int from, float* y) { return through(w, x, from, y, total_); }
    int through(const Product& w, const float* x, int from, float* y, int rows) {
        const int to = w.tiles * TILE;
        product(w, room_, x, from, rows, y, to);
        return to;
    }

    void sum_up(const float* delta, int width) {
        for (int row = 0; row < total_; row++)
            add(residual_ + size_t(row) * dim_, delta + size_t(row) * width, sizes_.dim);
    }

    // Rows' keys and values into their caches (`writing`), or their attention over them into narrow_.
    void each_cache(int layer, int wide, bool writing) {
        for (int row = 0; row < total_;) {
            int rows = 1;  // of the same take and branch
            while (row + rows < total_ && rows < ROWS_TOGETHER && rows_[row + rows].branch == rows_[row].branch &&
                   rows_[row + rows].call == rows_[row].call)
                rows++;
            if (sizes_.kv_bits == 8)
                cache_of<int8_t>(layer, wide, writing, row, rows);
            else
                cache_of<float>(layer, wide, writing, row, rows);
            row += rows;
        }
    }

    template <typename T>
    void cache_of(int layer, int wide, bool writing, int row, int rows) {
        const Layer& weights = model_.layers[size_t(layer)];
        const attacca_call& call = calls_[rows_[row].call];
        const size_t tensor = (size_t(rows_[row].branch) * sizes_.layers + layer) * 2;
        const size_t size = size_t(sizes_.heads) * call.capacity * sizes_.head_dim;
        T* keys = static_cast<T*>(call.cache) + tensor * size;
        const float* queries[ROWS_TOGETHER];
        float* results[ROWS_TOGETHER];
        int slots[ROWS_TOGETHER];
        for (int i = 0; i < rows; i++) {
            const int number = rows_[row + i].number;
            float* qkv = wide_ + size_t(row + i) * wide;
            queries[i] = qkv;
            results[i] = narrow_ + size_t(row + i) * dim_;
            slots[i] = call.past + number;
            if (writing) write(weights, call, number, qkv, keys, keys + size, slots[i]);
        }
        if (!writing)
            attend<ROWS_TOGETHER, T>(model_, weights, room_, {keys, keys + size, call.capacity}, rows, queries, slots,
                                     results);
    }

    template <typename T>
    void write(const Layer& weights, const attacca_call& call, int number, float* qkv, T* keys, T* values, int slot) {
        const int heads = sizes_.heads, width = sizes_.head_dim, half = width / 2;
        if (sizes_.rotary)
            turn(qkv, 2 * heads, width, call.cosine + size_t(number) * half, call.sine + size_t(number) * half);
        remember(keys, qkv + sizes_.dim, heads, width, call.capacity, slot, weights.key_inverse.at<float>());
        remember(values, qkv + 2 * sizes_.dim, heads, width, call.capacity, slot, weights.value_inverse.at<float>());
    }

    // Drops rows that no output is read from, in residual_, wide_ and rows_. False if none is left.
    bool keep_wanted(int wide) {
        int kept = 0;
        for (int row = 0; row < total_; row++) {
            if (!is_read(rows_[row])) continue;
            if (kept < row) {
                memcpy(residual_ + size_t(kept) * dim_, residual_ + size_t(row) * dim_, size_t(dim_) * sizeof(float));
                memcpy(wide_ + size_t(kept) * wide, wide_ + size_t(row) * wide, size_t(wide) * sizeof(float));
                rows_[kept] = rows_[row];
            }
            kept++;
        }
        total_ = kept;
        return kept > 0;
    }

    bool is_read(const Row& row) const {
        const attacca_call& call = calls_[row.call];
        if (!call.wanted) return false;
        if (!call.row_of_level) return row.number == 0;
        for (int k = 0; k < sizes_.codebooks; k++)
            if (call.row_of_level[k] == row.number) return true;
        return false;
    }

    void across(const Layer& weights, int layer) {
        norm(weights.norm_cross, weights.norm_cross_bias);
        int prompted = 0;
        while (prompted < total_ && rows_[prompted].branch == 0) prompted++;
        const int wide = through(weights.cross_query, normed_, dim_, wide_, prompted);
        for (int row = 0; row < prompted; row++)
            attend_across(model_, layer, room_, wide_ + size_t(row) * wide, calls_[rows_[row].call],
                          narrow_ + size_t(row) * dim_);
        through(weights.cross_out, narrow_, dim_, wide_, prompted);
        for (int row = 0; row < prompted; row++)
            add(residual_ + size_t(row) * dim_, wide_ + size_t(row) * dim_, sizes_.dim);
    }

    const float* row_of(int branch, int call, int64_t number) const {
        int row = 0;
        while (rows_[row].branch != branch || rows_[row].call != call || rows_[row].number != number) row++;
        return normed_ + size_t(row) * dim_;
    }

    // Each codebook's head on its rows, both branches of every take that wants them together.
    void answer() {
        float* picked = room_.picked.at<float>();
        const int products = sizes_.joined_heads ? 1 : sizes_.codebooks;
        for (int k = 0; k < products; k++) {
            int rows = 0;
            for (int c = 0; c < count_; c++)
                for (int branch = 0; calls_[c].wanted && branch < ATTACCA_BRANCHES; branch++) {
                    const int64_t number = calls_[c].row_of_level ? calls_[c].row_of_level[k] : 0;
                    memcpy(picked + size_t(rows++) * dim_, row_of(branch, c, number), size_t(dim_) * sizeof(float));
                }
            const int wide = through(model_.heads[size_t(k)], picked, dim_, wide_, rows);
            const float* found = wide_;
            for (int c = 0; c < count_; c++) {
                if (!calls_[c].wanted) continue;
                for (int j = k; j < (sizes_.joined_heads ? sizes_.codebooks : k + 1); j++) {
                    const float* with = found + size_t(j - k) * sizes_.codebook_size;
                    guide(sizes_, calls_[c], j, with, with + wide);
                    draw(sizes_, calls_[c], j, room_.select.at<float>());
                }
                found += 2 * size_t(wide);
            }
        }
    }

    const Model& model_;
    const attacca_sizes& sizes_;
    Workspace& room_;
    const attacca_call* calls_;
    const int count_;
    float *residual_, *normed_, *wide_, *narrow_;
    Row* rows_;
    const int dim_, hidden_;  // width of a row of d, of hidden
    int total_ = 0, total_of_branch_ = 0;
};

void run(const Model& model, Workspace& room, const attacca_call* calls, int count) {
    Step(model, room, calls, count).run();
}
