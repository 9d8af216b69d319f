/* Blocks of weights on the GPU. A block is one piece of memory, filled when it is first begun: kept for good where all
 * of a model's blocks fit (and found again by the next backend that wants the same), otherwise streamed through a few
 * slots of the largest block's size, the next block being copied while one is used. The host's part of a copy (reading
 * the mapped file, changing type and order) is spread over threads, into two pinned buffers in turn. */
#include "ops/cuda/cuda.h"

#include "base/checked.h"
#include "base/half.h"
#include "base/pool.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define STAGING ((size_t)32 << 20)

enum { SLOTS = 3 };

typedef struct cuda_block {
    block head;
    cuda_weight *weights, **last;
    size_t bytes;
    uint64_t key[2];
    cuda_kept *kept;         /* resident */
    int slot;                /* streamed: where it lies, or −1 */
    struct cuda_block *next; /* in creation order */
} cuda_block;

typedef struct slot {
    CUdeviceptr data;
    cuda_block *holds;
    CUevent loaded, done; /* done: the compute stream is through with what it holds */
} slot;

typedef enum policy { POLICY_OPEN, POLICY_RESIDENT, POLICY_STREAMED } policy;

struct cuda_blocks {
    cuda_block *first, **last;
    policy policy;
    slot slot[SLOTS];
    int next_slot;
    CUstream stream; /* of copies */
    unsigned char *staging[2];
    CUevent staged[2]; /* the buffer has been read */
    int turn;
    pool *workers;
    CUdeviceptr plain;              /* a coarse weight on its way to e4m3 */
    size_t plain_bytes, plain_room; /* the largest's so far; what there is room for */
    float *rows;                    /* a decoded row each worker: room_floats each */
    size_t row_floats, room_floats; /* the longest row of all weights so far; what there is room for */
    int threads;
};

/* Two backends that want the same block: the second must find it whole. */
static pthread_mutex_t upload_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- creation ---- */

flux1_status cuda_blocks_create(cuda_ops *o, int threads)
{
    struct cuda_blocks *b = calloc(1, sizeof *b);
    if (!b)
        return error_oom(o->head.err, sizeof *b, "the weights' blocks");
    o->blocks = b;
    b->last = &b->first;
    b->row_floats = 1; /* a bias: beside a matrix without columns there is no other row */
    b->threads = threads > 1 ? threads : 1;
    TRY(cuda_check(&o->head, o->lib->cuStreamCreate(&b->stream, CU_STREAM_NON_BLOCKING), "cannot make a stream"));
    for (int i = 0; i < 2; i++) {
        TRY(cuda_check(&o->head, o->lib->cuMemHostAlloc((void **)&b->staging[i], STAGING, 0),
                       "cannot take pinned memory"));
        TRY(cuda_check(&o->head, o->lib->cuEventCreate(&b->staged[i], CU_EVENT_DISABLE_TIMING),
                       "cannot make an event"));
    }
    return pool_create(b->threads, &b->workers, o->head.err);
}

static void free_block(cuda_ops *o, cuda_block *b)
{
    cuda_device_unkeep(o->device, b->kept);
    for (cuda_weight *w = b->weights, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    free(b->head.name);
    free(b);
}

void cuda_blocks_free(cuda_ops *o)
{
    struct cuda_blocks *b = o->blocks;
    if (!b)
        return;
    if (b->stream)
        o->lib->cuStreamSynchronize(b->stream);
    for (cuda_block *k = b->first, *next; k; k = next) {
        next = k->next;
        free_block(o, k);
    }
    for (int i = 0; i < SLOTS; i++) {
        cuda_device_release(o->device, b->slot[i].data);
        if (b->slot[i].loaded)
            o->lib->cuEventDestroy(b->slot[i].loaded);
        if (b->slot[i].done)
            o->lib->cuEventDestroy(b->slot[i].done);
    }
    for (int i = 0; i < 2; i++) {
        if (b->staging[i])
            o->lib->cuMemFreeHost(b->staging[i]);
        if (b->staged[i])
            o->lib->cuEventDestroy(b->staged[i]);
    }
    if (b->stream)
        o->lib->cuStreamDestroy(b->stream);
    cuda_device_release(o->device, b->plain);
    pool_destroy(b->workers);
    free(b->rows);
    free(b);
    o->blocks = NULL;
}

flux1_status cuda_block_create(ops *base, const char *name, block **out)
{
    struct cuda_blocks *all = cuda_self(base)->blocks;
    cuda_block *b = calloc(1, sizeof *b);
    if (!b || !(b->head.name = strdup(name))) {
        free(b);
        return error_oom(base->err, sizeof *b, "a weight block");
    }
    b->last = &b->weights;
    b->slot = -1;
    b->key[0] = 0x9E3779B97F4A7C15u ^ (uint64_t)cuda_self(base)->bf16 ^ (uint64_t)cuda_self(base)->fp8 << 1 ^
                (uint64_t)cuda_self(base)->scales_rows << 2,
    b->key[1] = 0xD1B54A32D192ED03u;
    *all->last = b;
    all->last = &b->next;
    *out = &b->head;
    return FLUX1_OK;
}

void cuda_block_destroy(ops *base, block *head)
{
    struct cuda_blocks *all = cuda_self(base)->blocks;
    cuda_block *b = (cuda_block *)head, **at = &all->first;
    if (!b)
        return;
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    if (!*at)
        all->last = at;
    for (int i = 0; i < SLOTS; i++)
        if (all->slot[i].holds == b)
            all->slot[i].holds = NULL;
    free_block(cuda_self(base), b);
}

void cuda_rest(ops *o) { (void)o; }

/* What was enqueued with a block that was begun and not ended may still read it. */
void cuda_blocks_unwind(cuda_ops *o)
{
    for (cuda_block *b = o->blocks->first; b; b = b->next) {
        if (b->head.held && b->slot >= 0)
            o->lib->cuEventRecord(o->blocks->slot[b->slot].done, o->stream);
        b->head.held = false;
    }
}

/* splitmix64's finisher (Steele, Lea, Flood 2014) over two lanes. */
static void mix(uint64_t key[2], uint64_t value)
{
    for (int i = 0; i < 2; i++) {
        uint64_t z = key[i] ^ (value + 0x9E3779B97F4A7C15u * (uint64_t)(i + 1));
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        key[i] = z ^ (z >> 31);
    }
}

/* What a block's bytes are made of: the store's number tells a closed folder's tensors from those of another one opened
 * at the same address. */
static void mix_recipe(uint64_t key[2], const weight_recipe *r)
{
    mix(key, (uint64_t)r->role << 32 | (uint64_t)(unsigned)r->kernel);
    mix(key, (uint64_t)r->rows), mix(key, (uint64_t)r->cols);
    for (int i = 0; i < r->count; i++) {
        const recipe_piece *p = &r->piece[i];
        const int64_t place[] = {p->source_row, p->source_col, p->row, p->col, p->rows, p->cols};
        mix(key, p->source->store), mix(key, (uint64_t)(uintptr_t)p->source->view.data), mix(key, p->source->view.type);
        for (size_t k = 0; k < sizeof place / sizeof *place; k++)
            mix(key, (uint64_t)place[k]);
    }
}

static size_t place(size_t *end, int64_t count, size_t element)
{
    size_t at = *end;
    *end += size_round_up((size_t)count * element, CUDA_ALIGN);
    return at;
}

/* Type and places of a weight's parts behind *end, which moves on. */
static void lay_out(cuda_weight *w, const weight_recipe *r, const weight_recipe *bias, bool bf16, bool fp8,
                    bool scales_rows, size_t *end)
{
    w->bf16 = bf16 && r->role != WEIGHT_VECTOR;
    w->e4m3 = fp8 && r->coarse && r->rows > 0 && r->cols > 0;
    w->at = place(end, r->rows * r->cols, w->e4m3 ? 1 : w->bf16 ? 2 : 4);
    if (w->e4m3)
        w->scales_at = place(end, scales_rows ? r->rows : 1, sizeof(float));
    if (bias)
        w->bias_at = place(end, bias->rows, 4);
    if (bias && bf16)
        w->bias_bf16_at = place(end, bias->rows, 2);
}

size_t cuda_weight_bytes(const ops_config *c, const weight_recipe *r, const weight_recipe *bias)
{
    size_t bytes = 0;
    lay_out(&(cuda_weight){0}, r, bias, c->arithmetic == DTYPE_BF16, c->fp8 != FP8_NO, true, &bytes);
    return bytes;
}

flux1_status cuda_prepare(ops *base, block *into, const weight_recipe *r, const weight_recipe *bias, weight **out)
{
    cuda_ops *o = cuda_self(base);
    cuda_block *b = (cuda_block *)into;
    struct cuda_blocks *all = o->blocks;
    cuda_weight *w = calloc(1, sizeof *w);
    if (!w)
        return error_oom(base->err, sizeof *w, "a weight");
    *b->last = w;
    b->last = &w->next;
    w->head = (weight){.role = r->role,
                       .rows = r->rows,
                       .cols = r->cols,
                       .kernel = r->kernel,
                       .has_bias = bias != NULL,
                       .owner = into};
    w->recipe = *r;
    lay_out(w, r, bias, o->bf16, o->fp8, o->scales_rows, &b->bytes);
    mix_recipe(b->key, r);
    if (bias) {
        w->bias_recipe = *bias;
        mix_recipe(b->key, bias);
    }
    size_t plain = w->e4m3 ? (size_t)(r->rows * r->cols) * (w->bf16 ? 2 : 4) : 0;
    all->plain_bytes = plain > all->plain_bytes ? plain : all->plain_bytes;
    all->row_floats = (size_t)r->cols > all->row_floats ? (size_t)r->cols : all->row_floats;
    *out = &w->head;
    return FLUX1_OK;
}

/* ---- the host's part of a copy ---- */

/* One weight's rows [first, first + count) on their way into pinned memory. */
typedef struct fill_job {
    const cuda_weight *w;
    const weight_recipe *recipe;
    bool bf16;
    int64_t first, count, chunk;
    unsigned char *out;
    float *rows;
    size_t row_floats;
    flux1_error *err;
    atomic_int status;
} fill_job;

static const unsigned char *piece_row(const recipe_piece *p, int64_t row)
{
    const tensor *t = &p->source->view;
    int64_t ld = 1;
    for (int i = 1; i < t->dims; i++)
        ld *= t->shape[i];
    return (const unsigned char *)t->data +
           (size_t)((p->source_row + row - p->row) * ld + p->source_col) * (size_t)dtype_describe(t->type)->block_bytes;
}

/* Copies the row as it lies in the file, if all of it has the type that is wanted; false otherwise. */
static bool copy_row(const fill_job *j, int64_t row, unsigned char *out)
{
    const dtype type = j->bf16 ? DTYPE_BF16 : DTYPE_F32;
    const size_t element = j->bf16 ? 2 : 4;
    int64_t copied = 0;
    for (int i = 0; i < j->recipe->count; i++) {
        const recipe_piece *p = &j->recipe->piece[i];
        if (row < p->row || row >= p->row + p->rows)
            continue;
        if (p->source->view.type != type)
            return false;
        memcpy(out + (size_t)p->col * element, piece_row(p, row), (size_t)p->cols * element);
        copied += p->cols;
    }
    return copied == j->recipe->cols;
}

/* A filter's row [in, ky, kx] in the order (ky, kx, in). */
static int64_t filter_source(const weight_recipe *r, int64_t i)
{
    int64_t taps = (int64_t)r->kernel * r->kernel, channels = r->cols / taps;
    return i % channels * taps + i / channels;
}

static flux1_status decode_row(const fill_job *j, int64_t row, float *line, unsigned char *out, flux1_error *err)
{
    const weight_recipe *r = j->recipe;
    bool permuted = r->role == WEIGHT_CONV && r->kernel > 1;
    TRY(recipe_decode(r, row, 0, r->cols, line, err));
    for (int64_t i = 0; i < r->cols; i++) {
        float x = line[permuted ? filter_source(r, i) : i];
        if (j->bf16)
            ((uint16_t *)(void *)out)[i] = bf16_from_f32(x);
        else
            ((float *)(void *)out)[i] = x;
    }
    return FLUX1_OK;
}

static void fill_rows(void *arg, int64_t index, int worker)
{
    fill_job *j = arg;
    const weight_recipe *r = j->recipe;
    size_t row_bytes = (size_t)r->cols * (j->bf16 ? 2 : 4);
    int64_t last = i64_min(j->count, (index + 1) * j->chunk);
    bool plain = r->role != WEIGHT_CONV || r->kernel == 1;
    for (int64_t i = index * j->chunk; i < last; i++) {
        unsigned char *out = j->out + (size_t)i * row_bytes;
        if (plain && copy_row(j, j->first + i, out))
            continue;
        flux1_error err = {0};
        int none = FLUX1_OK;
        flux1_status st = decode_row(j, j->first + i, j->rows + (size_t)worker * j->row_floats, out, &err);
        if (st != FLUX1_OK && atomic_compare_exchange_strong(&j->status, &none, (int)st))
            error_set(j->err, st, "%s", err.message);
    }
}

static flux1_status copy_matrix(cuda_ops *o, const weight_recipe *r, bool bf16, CUdeviceptr to)
{
    struct cuda_blocks *b = o->blocks;
    size_t row_bytes = (size_t)r->cols * (bf16 ? 2 : 4);
    if (r->rows == 0 || r->cols == 0)
        return FLUX1_OK;
    if (row_bytes > STAGING)
        return error_set(o->head.err, FLUX1_ERR_LIMIT,
                         "device cuda: a weight with rows of %zu bytes; at most %zu are possible", row_bytes, STAGING);
    int64_t most = (int64_t)(STAGING / row_bytes);
    for (int64_t first = 0; first < r->rows; first += most, b->turn ^= 1) {
        fill_job j = {.recipe = r,
                      .bf16 = bf16,
                      .first = first,
                      .count = i64_min(most, r->rows - first),
                      .out = b->staging[b->turn],
                      .rows = b->rows,
                      .row_floats = b->room_floats,
                      .err = o->head.err};
        j.chunk = i64_max(1, i64_ceil_div(j.count, 8 * (int64_t)b->threads));
        TRY(cuda_check(&o->head, o->lib->cuEventSynchronize(b->staged[b->turn]), "the GPU reports a failure"));
        pool_run(b->workers, i64_ceil_div(j.count, j.chunk), fill_rows, &j);
        if (atomic_load(&j.status) != FLUX1_OK)
            return (flux1_status)atomic_load(&j.status);
        TRY(cuda_check(&o->head,
                       o->lib->cuMemcpyHtoDAsync(to + (CUdeviceptr)((size_t)first * row_bytes), j.out,
                                                 (size_t)j.count * row_bytes, b->stream),
                       "cannot copy to the GPU"));
        TRY(cuda_check(&o->head, o->lib->cuEventRecord(b->staged[b->turn], b->stream), "cannot record an event"));
    }
    return FLUX1_OK;
}

/* The largest weight in the arithmetic's type, and behind it CUDA_ALIGN bytes for its largest magnitude. */
static flux1_status room_for_plain(cuda_ops *o)
{
    struct cuda_blocks *all = o->blocks;
    if (all->plain_room >= all->plain_bytes)
        return FLUX1_OK;
    TRY(cuda_check(&o->head, o->lib->cuStreamSynchronize(all->stream), "the GPU reports a failure"));
    cuda_device_release(o->device, all->plain);
    all->plain = 0;
    all->plain_room = 0;
    TRY(cuda_device_allocate(o->device, size_round_up(all->plain_bytes, CUDA_ALIGN) + CUDA_ALIGN,
                             "a weight on its way to fp8", &all->plain, o->head.err));
    all->plain_room = all->plain_bytes;
    return FLUX1_OK;
}

/* To the GPU as it is, and there to e4m3: the copies' stream does both, so that the next weight may take its place. */
static flux1_status copy_quantised(cuda_ops *o, const cuda_weight *w, CUdeviceptr to)
{
    struct cuda_blocks *all = o->blocks;
    TRY(room_for_plain(o));
    TRY(copy_matrix(o, &w->recipe, w->bf16, all->plain));
    cuda_view plain = cuda_dense_view(all->plain, w->head.rows, w->head.cols, w->bf16);
    return cuda_quantise(o, all->stream, &plain, 1, to + w->at, to + w->scales_at,
                         all->plain + size_round_up(all->plain_room, CUDA_ALIGN));
}

static flux1_status room_for_rows(cuda_ops *o)
{
    struct cuda_blocks *all = o->blocks;
    if (all->rows && all->room_floats >= all->row_floats)
        return FLUX1_OK;
    free(all->rows);
    all->room_floats = all->row_floats;
    all->rows = malloc((size_t)all->threads * (all->room_floats + 1) * sizeof *all->rows);
    return all->rows
               ? FLUX1_OK
               : error_oom(o->head.err, (size_t)all->threads * all->room_floats * sizeof *all->rows, "a weight's rows");
}

static flux1_status copy_block(cuda_ops *o, const cuda_block *b, CUdeviceptr to)
{
    TRY(room_for_rows(o));
    for (const cuda_weight *w = b->weights; w; w = w->next) {
        TRY(cuda_begin(&o->head, "uploading weights", NULL)); /* a cancel is seen between weights */
        TRY(w->e4m3 ? copy_quantised(o, w, to) : copy_matrix(o, &w->recipe, w->bf16, to + w->at));
        if (w->head.has_bias)
            TRY(copy_matrix(o, &w->bias_recipe, false, to + w->bias_at));
        if (w->head.has_bias && o->bf16)
            TRY(copy_matrix(o, &w->bias_recipe, true, to + w->bias_bf16_at));
    }
    return FLUX1_OK;
}

/* ---- policy ---- */

static void locate(const cuda_ops *o, cuda_block *b, CUdeviceptr data)
{
    for (cuda_weight *w = b->weights; w; w = w->next) {
        w->data = data + w->at;
        w->scales = w->e4m3 ? data + w->scales_at : 0;
        w->bias = w->head.has_bias ? data + w->bias_at : 0;
        w->bias_bf16 = w->head.has_bias && o->bf16 ? data + w->bias_bf16_at : 0;
    }
}

/* Takes the blocks that are on the device already, so that they count as room no more; bytes of the others. */
static size_t take_present(cuda_ops *o)
{
    size_t bytes = 0;
    for (cuda_block *b = o->blocks->first; b; b = b->next) {
        b->kept = cuda_device_find(o->device, b->key);
        if (b->kept)
            locate(o, b, b->kept->data);
        else
            bytes += b->bytes;
    }
    return bytes;
}

/* Blocks that are streamed need no other place. */
static void give_back(cuda_ops *o)
{
    for (cuda_block *b = o->blocks->first; b; b = b->next) {
        cuda_device_unkeep(o->device, b->kept);
        b->kept = NULL;
    }
}

static flux1_status make_slots(cuda_ops *o)
{
    struct cuda_blocks *all = o->blocks;
    size_t largest = CUDA_ALIGN;
    for (const cuda_block *b = all->first; b; b = b->next)
        largest = b->bytes > largest ? b->bytes : largest;
    for (int i = 0; i < SLOTS; i++) {
        TRY(cuda_device_allocate(o->device, largest,
                                 "a block of weights (they are streamed, since all of them do not fit)",
                                 &all->slot[i].data, o->head.err));
        TRY(cuda_check(&o->head, o->lib->cuEventCreate(&all->slot[i].loaded, CU_EVENT_DISABLE_TIMING),
                       "cannot make an event"));
        TRY(cuda_check(&o->head, o->lib->cuEventCreate(&all->slot[i].done, CU_EVENT_DISABLE_TIMING),
                       "cannot make an event"));
    }
    o->capture.off = true; /* the host takes part in every step */
    return FLUX1_OK;
}

/* All blocks are known when the first is begun. */
static flux1_status choose_policy(cuda_ops *o)
{
    struct cuda_blocks *all = o->blocks;
    if (all->policy != POLICY_OPEN)
        return FLUX1_OK;
    size_t wanted = take_present(o), left = cuda_device_free_bytes(o->device);
    wanted += wanted ? all->plain_bytes : 0;
    all->policy =
        wanted == 0 || (left > OPS_CUDA_SPARE && wanted <= left - OPS_CUDA_SPARE) ? POLICY_RESIDENT : POLICY_STREAMED;
    if (all->policy == POLICY_RESIDENT)
        return FLUX1_OK;
    give_back(o);
    return make_slots(o);
}

static flux1_status upload_kept(cuda_ops *o, cuda_block *b)
{
    TRY(cuda_device_keep(o->device, b->key, b->bytes, &b->kept, o->head.err));
    if (!b->kept)
        return error_set(
            o->head.err, FLUX1_ERR_MEMORY,
            "device cuda: %zu MiB for the weights of \"%s\" are not free any more; another program took them",
            b->bytes >> 20, b->head.name);
    if (b->kept->whole)
        return FLUX1_OK;
    TRY(copy_block(o, b, b->kept->data));
    TRY(cuda_check(&o->head, o->lib->cuStreamSynchronize(o->blocks->stream), "the GPU reports a failure"));
    b->kept->whole = true;
    return FLUX1_OK;
}

static flux1_status begin_resident(cuda_ops *o, cuda_block *b)
{
    if (b->kept)
        return FLUX1_OK;
    pthread_mutex_lock(&upload_lock);
    flux1_status st = upload_kept(o, b);
    pthread_mutex_unlock(&upload_lock);
    if (st != FLUX1_OK) {
        o->lib->cuStreamSynchronize(
            o->blocks->stream); /* copies on their way: whoever gets this memory next must not find them coming */
        cuda_device_unkeep(o->device, b->kept);
        b->kept = NULL;
        return st;
    }
    locate(o, b, b->kept->data);
    return FLUX1_OK;
}

/* Copies b into the next slot, once the block that lies there has been used. */
static flux1_status fetch(cuda_ops *o, cuda_block *b)
{
    struct cuda_blocks *all = o->blocks;
    if (b->slot >= 0)
        return FLUX1_OK;
    while (all->slot[all->next_slot].holds && all->slot[all->next_slot].holds->head.held)
        all->next_slot = (all->next_slot + 1) % SLOTS;
    slot *s = &all->slot[all->next_slot];
    if (s->holds) {
        s->holds->slot = -1;
        TRY(cuda_check(&o->head, o->lib->cuStreamWaitEvent(all->stream, s->done, 0), "cannot wait for an event"));
    }
    s->holds = NULL;
    TRY(copy_block(o, b, s->data));
    TRY(cuda_check(&o->head, o->lib->cuEventRecord(s->loaded, all->stream), "cannot record an event"));
    s->holds = b;
    b->slot = all->next_slot;
    all->next_slot = (all->next_slot + 1) % SLOTS;
    return FLUX1_OK;
}

static flux1_status begin_streamed(cuda_ops *o, cuda_block *b)
{
    TRY(fetch(o, b));
    locate(o, b, o->blocks->slot[b->slot].data);
    return cuda_check(&o->head, o->lib->cuStreamWaitEvent(o->stream, o->blocks->slot[b->slot].loaded, 0),
                      "cannot wait for an event");
}

flux1_status cuda_block_begin(ops *base, block *head)
{
    cuda_ops *o = cuda_self(base);
    cuda_block *b = (cuda_block *)head;
    TRY(cuda_begin(base, "block_begin", NULL));
    if (head->held)
        return error_set(base->err, FLUX1_ERR_INTERNAL, "block \"%s\" is begun twice", head->name);
    TRY(choose_policy(o));
    TRY(o->blocks->policy == POLICY_RESIDENT ? begin_resident(o, b) : begin_streamed(o, b));
    head->held = true;
    return FLUX1_OK;
}

/* The block's calls are enqueued: now the host has time to fetch the next one. */
flux1_status cuda_block_end(ops *base, block *head)
{
    cuda_ops *o = cuda_self(base);
    cuda_block *b = (cuda_block *)head;
    head->held = false;
    if (o->blocks->policy != POLICY_STREAMED || b->slot < 0)
        return FLUX1_OK;
    TRY(cuda_check(base, o->lib->cuEventRecord(o->blocks->slot[b->slot].done, o->stream), "cannot record an event"));
    return b->next ? fetch(o, b->next) : FLUX1_OK;
}
