// A call comes in: checked, handed to the model's kernels, and what they found becomes tokens.
#include "step.h"

#include <algorithm>
#include <new>

#include "model.h"

namespace attacca {
namespace {

constexpr int SLACK = 64;  // floats beyond a buffer's end, which sixteen at a time may touch

bool possible(const attacca_sizes& s, const attacca_call& call) {
    if (call.rows < 1 || call.past < 0 || int64_t(call.past) + call.rows > call.capacity || !call.stack || !call.cache)
        return false;
    if ((s.rotary && (!call.cosine || !call.sine)) || (s.conditions && !call.conditions)) return false;
    for (int i = 0; i < call.rows * s.codebooks; i++)
        if (call.stack[i] < 0 || call.stack[i] >= s.table_rows) return false;
    for (int i = 0; call.level && i < call.rows; i++)
        if (call.level[i] < 0 || call.level[i] > s.codebooks) return false;
    if (s.cross && (call.prompt_tokens < 1 || !call.cross_key || !call.cross_value || !call.cross_mask)) return false;
    if (!call.wanted) return true;
    for (int k = 0; call.row_of_level && k < s.codebooks; k++)
        if (call.row_of_level[k] < 0 || call.row_of_level[k] >= call.rows) return false;
    return call.noise && call.temperature && call.guidance && call.top_k && call.tokens && call.logits;
}

}  // namespace

// Classifier-free guidance (Ho and Salimans 2022): without + guidance * (with - without).
void guide(const attacca_sizes& sizes, const attacca_call& call, int codebook, const float* with,
           const float* without) {
    float* logits = call.logits + size_t(codebook) * sizes.codebook_size;
    const float guidance = *call.guidance;
    for (int i = 0; i < sizes.codebook_size; i++) logits[i] = without[i] + (with[i] - without[i]) * guidance;
}

// The token: argmax(logits + temperature * Gumbel noise) over the top_k, which is exact sampling; greedy at 0.
void draw(const attacca_sizes& sizes, const attacca_call& call, int codebook, float* room) {
    const int size = sizes.codebook_size;
    const float *logits = call.logits + size_t(codebook) * size, *noise = call.noise + size_t(codebook) * size;
    const int64_t kept = std::min<int64_t>(std::max<int64_t>(*call.top_k, 1), size);
    float threshold = -3.0e38f, lost = 0.0f;
    for (int i = 0; i < size; i++) lost += logits[i] * 0.0f;
    if (kept < size && lost == 0.0f) {  // what is no number has no place in an order; the caller refuses such logits
        std::copy(logits, logits + size, room);
        std::nth_element(room, room + (kept - 1), room + size, [](float a, float b) { return a > b; });
        threshold = room[kept - 1];
    }
    int best = 0;
    float most = -3.4e38f;
    for (int i = 0; i < size; i++) {
        const float score = logits[i] >= threshold ? logits[i] + noise[i] * *call.temperature : -3.0e38f;
        if (score > most) {
            most = score;
            best = i;
        }
    }
    call.tokens[codebook] = best;
}

}  // namespace attacca

using namespace attacca;

attacca_workspace* attacca_workspace_new(const attacca_model* model, int32_t rows) {
    const attacca_sizes& s = model->sizes;
    auto* room = rows >= 1 && rows <= 4096 ? new (std::nothrow) attacca_workspace : nullptr;
    if (!room) return nullptr;
    const size_t all = size_t(rows) * ATTACCA_BRANCHES;
    const int dim = round_up(s.dim, TILE), hidden = round_up(s.hidden, TILE);
    int wide = std::max(round_up(3 * s.dim, TILE), round_up(model->ffn_width(), TILE));
    wide = std::max(wide, round_up(s.joined_heads ? s.codebooks * s.codebook_size : s.codebook_size, TILE));
    const int inputs = round_up(std::max({s.dim, s.hidden, s.conditions}), 4096) + 16;  // whatever a block pads them to
    const int blocks = round_up(inputs, 16) / 16;
    room->rows = rows;
    room->score_stride = round_up(s.window + rows + SLACK, 16);
    const auto floats = [](Buffer& buffer, size_t count) { return buffer.allocate((count + SLACK) * sizeof(float)); };
    const bool there =
        floats(room->residual, all * dim) && floats(room->normed, all * dim) && floats(room->wide, all * wide) &&
        floats(room->narrow, all * std::max(dim, hidden)) && room->codes.allocate(all * inputs) &&
        floats(room->code_scales, all * blocks) && floats(room->code_sums, all * blocks) &&
        floats(room->scores, size_t(room->score_stride) * MOST_TOGETHER) && room->kept.allocate(all * sizeof(Row)) &&
        floats(room->picked, all * dim) && floats(room->select, size_t(s.codebook_size));
    if (there) return room;
    delete room;
    return nullptr;
}

void attacca_workspace_free(attacca_workspace* workspace) { delete workspace; }

int32_t attacca_step(const attacca_model* model, attacca_workspace* workspace, const attacca_call* calls,
                     int32_t count) {
    int64_t rows = 0;
    for (int i = 0; i < count; i++) {
        rows += std::max(calls[i].rows, 0);
        if (!possible(model->sizes, calls[i]) || (model->levels.rows && !calls[i].level) || rows > workspace->rows ||
            calls[i].prompt_tokens > workspace->score_stride - SLACK)
            return -1;
    }
    if (count < 1) return -1;
    model->run(*model, *workspace, calls, count);
    return 0;
}
