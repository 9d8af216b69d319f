#include "text/clip_bpe.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

#define NO_RULE UINT32_MAX
#define END UINT32_MAX

/* ---- rules ---- */

static size_t slot_of(const bpe *b, uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    return (size_t)(h >> 20) & b->slot_mask;
}

flux1_status bpe_reserve(bpe *b, size_t rules, flux1_error *err)
{
    size_t slots = 16, bytes;
    while (slots / 2 < rules)
        if (!size_mul(slots, 2, &slots))
            return error_oom(err, 0, "merge rules");
    if (!size_mul(slots, sizeof *b->slots, &bytes) || !(b->slots = malloc(bytes)))
        return error_oom(err, slots, "merge rules");
    for (size_t i = 0; i < slots; i++)
        b->slots[i] = (merge_rule){0, 0, 0, NO_RULE};
    b->slot_mask = slots - 1;
    return FLUX1_OK;
}

static merge_rule *find_slot(const bpe *b, uint32_t left, uint32_t right)
{
    size_t i = slot_of(b, left, right);
    while (b->slots[i].product != NO_RULE && (b->slots[i].left != left || b->slots[i].right != right))
        i = (i + 1) & b->slot_mask;
    return &b->slots[i];
}

void bpe_add_rule(bpe *b, merge_rule rule) { *find_slot(b, rule.left, rule.right) = rule; }

void bpe_free(bpe *b)
{
    free(b->ids);
    free(b->slots);
    memset(b, 0, sizeof *b);
}

/* ---- merging ----
 * A word is a doubly linked list of symbols in arrays; pairs that have a rule wait in a heap ordered by (rank, place).
 * All pairs of the lowest rank are merged from left to right before any pair that this creates is looked at, even one
 * of lower rank: that is what the reference's passes over the word do. */

typedef struct waiting_pair {
    uint32_t rank, place;
    uint32_t left, right; /* the symbols seen when it was put in: the pair is stale when they changed */
} waiting_pair;

typedef struct bpe_word {
    uint32_t *symbol, *next, *previous;
    waiting_pair *heap, *batch;
    size_t heap_count, batch_count;
} bpe_word;

static bool before(const waiting_pair *a, const waiting_pair *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->place < b->place;
}

static void heap_push(bpe_word *w, waiting_pair pair)
{
    size_t i = w->heap_count++;
    while (i > 0 && before(&pair, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = pair;
}

static waiting_pair heap_pop(bpe_word *w)
{
    waiting_pair top = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->heap_count)
            break;
        if (child + 1 < w->heap_count && before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!before(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static void consider(const bpe *b, bpe_word *w, uint32_t place)
{
    if (place == END || w->next[place] == END)
        return;
    uint32_t left = w->symbol[place], right = w->symbol[w->next[place]];
    const merge_rule *rule = find_slot(b, left, right);
    if (rule->product != NO_RULE)
        heap_push(w, (waiting_pair){rule->rank, place, left, right});
}

static void merge(const bpe *b, bpe_word *w, const waiting_pair *pair)
{
    uint32_t place = pair->place, gone = w->next[place];
    if (w->symbol[place] != pair->left || gone == END || w->symbol[gone] != pair->right)
        return;
    w->symbol[place] = find_slot(b, pair->left, pair->right)->product;
    w->symbol[gone] = END;
    w->next[place] = w->next[gone];
    if (w->next[place] != END)
        w->previous[w->next[place]] = place;
    consider(b, w, w->previous[place]);
    consider(b, w, place);
}

static void merge_all(const bpe *b, bpe_word *w)
{
    while (w->heap_count) {
        w->batch_count = 0;
        do
            w->batch[w->batch_count++] = heap_pop(w);
        while (w->heap_count && w->heap[0].rank == w->batch[0].rank);
        for (size_t i = 0; i < w->batch_count; i++)
            merge(b, w, &w->batch[i]);
    }
}

flux1_status bpe_encode(const bpe *b, const unsigned char *word, size_t count, id_list *out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    size_t pairs, bytes;
    bpe_word w = {0};
    if (count == 1) {
        id_list_push(out, b->ids[b->last_byte[word[0]]]);
        return FLUX1_OK;
    }
    /* each of the at most count - 1 merges takes one pair away and puts in at most two */
    if (count >= END / 4 || !size_mul(count, 3, &pairs) || !size_mul(pairs, sizeof *w.heap, &bytes))
        return error_oom(err, 0, "a word's merges");
    w.symbol = malloc(3 * count * sizeof *w.symbol);
    w.heap = malloc(bytes);
    w.batch = malloc(bytes);
    if (!w.symbol || !w.heap || !w.batch) {
        st = error_oom(err, 2 * bytes, "a word's merges");
        goto cleanup;
    }
    w.next = w.symbol + count;
    w.previous = w.next + count;
    for (uint32_t i = 0; i < count; i++) {
        w.symbol[i] = i + 1 < count ? b->byte[word[i]] : b->last_byte[word[i]];
        w.next[i] = i + 1 < count ? i + 1 : END;
        w.previous[i] = i ? i - 1 : END;
    }
    for (uint32_t i = 0; i < count; i++)
        consider(b, &w, i);
    merge_all(b, &w);
    for (uint32_t i = 0; i != END && !out->full; i = w.next[i])
        id_list_push(out, b->ids[w.symbol[i]]);
cleanup:
    free(w.symbol);
    free(w.heap);
    free(w.batch);
    return st;
}
