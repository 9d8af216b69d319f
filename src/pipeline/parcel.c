#include "pipeline/parcel.h"

#include "base/checked.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void parcel_begin(parcel *p)
{
    p->received = false;
    p->size = p->at = 0;
    p->bulks = 0;
}

flux1_status parcel_open(parcel *p, const void *bytes, size_t size, flux1_error *err)
{
    parcel_begin(p);
    p->received = true;
    if (size > PARCEL_BYTES)
        return error_set(err, FLUX1_ERR_COMM, "an order of %zu bytes from the leading process: at most %d", size,
                         PARCEL_BYTES);
    memcpy(p->bytes, bytes, size);
    p->size = size;
    return FLUX1_OK;
}

void parcel_free(parcel *p)
{
    for (int i = 0; p->received && i < p->bulks; i++)
        free(p->bulk[i].data);
    p->bulks = 0;
}

/* Processes of one build on machines of one kind: bytes are as they lie in memory. */
static flux1_status move(parcel *p, const char *what, void *v, size_t size, flux1_error *err)
{
    if (p->received) {
        if (size > p->size - p->at)
            return error_set(err, FLUX1_ERR_COMM, "an order from the leading process ends before its %s", what);
        memcpy(v, p->bytes + p->at, size);
        p->at += size;
        return FLUX1_OK;
    }
    if (size > PARCEL_BYTES - p->size)
        return error_set(err, FLUX1_ERR_LIMIT, "%s: too long for the other processes of the mesh", what);
    memcpy(p->bytes + p->size, v, size);
    p->size += size;
    return FLUX1_OK;
}

static flux1_status refuse(const parcel *p, const char *what, flux1_error *err)
{
    return error_set(err, p->received ? FLUX1_ERR_COMM : FLUX1_ERR_LIMIT, "%s is out of range in an order %s", what,
                     p->received ? "from the leading process" : "for the other processes of the mesh");
}

flux1_status parcel_i64(parcel *p, const char *what, int64_t lowest, int64_t highest, int64_t *v, flux1_error *err)
{
    TRY(move(p, what, v, sizeof *v, err));
    return *v >= lowest && *v <= highest ? FLUX1_OK : refuse(p, what, err);
}

flux1_status parcel_int(parcel *p, const char *what, int lowest, int highest, int *v, flux1_error *err)
{
    int64_t wide = p->received ? 0 : *v; /* what lies where it is received need not be a number, or a bool */
    TRY(parcel_i64(p, what, lowest, highest, &wide, err));
    *v = (int)wide;
    return FLUX1_OK;
}

flux1_status parcel_u64(parcel *p, const char *what, uint64_t *v, flux1_error *err)
{
    return move(p, what, v, sizeof *v, err);
}

flux1_status parcel_bool(parcel *p, const char *what, bool *v, flux1_error *err)
{
    int wide = p->received ? 0 : *v;
    TRY(parcel_int(p, what, 0, 1, &wide, err));
    *v = wide != 0;
    return FLUX1_OK;
}

flux1_status parcel_float(parcel *p, const char *what, float *v, flux1_error *err)
{
    TRY(move(p, what, v, sizeof *v, err));
    return isfinite(*v) ? FLUX1_OK : refuse(p, what, err);
}

flux1_status parcel_text(parcel *p, const char *what, char *text, size_t room, flux1_error *err)
{
    int64_t length = p->received ? 0 : (int64_t)strlen(text);
    TRY(parcel_i64(p, what, 0, (int64_t)room - 1, &length, err));
    TRY(move(p, what, text, (size_t)length, err));
    if (memchr(text, '\0', (size_t)length))
        return refuse(p, what, err);
    text[length] = '\0';
    return FLUX1_OK;
}

flux1_status parcel_bulk(parcel *p, const char *what, int64_t count, size_t size, void **data, flux1_error *err)
{
    size_t bytes;
    if (count < 1 || !size_mul((size_t)count, size, &bytes) || p->bulks == PARCEL_BULKS)
        return refuse(p, what, err);
    if (p->received && !(*data = malloc(bytes)))
        return error_oom(err, bytes, what);
    p->bulk[p->bulks].data = *data;
    p->bulk[p->bulks].bytes = bytes;
    p->bulks++;
    return FLUX1_OK;
}

flux1_status parcel_tensor(parcel *p, const char *what, int dims, const int64_t *shape, tensor *t, flux1_error *err)
{
    int64_t count = 1;
    for (int i = 0; i < dims; i++)
        if (shape[i] < 1 || !i64_mul(count, shape[i], &count))
            return refuse(p, what, err);
    if (p->received) {
        *t = (tensor){.type = DTYPE_F32, .dims = dims};
        memcpy(t->shape, shape, (size_t)dims * sizeof *shape);
    } else if (tensor_elements(t) != count)
        return error_set(err, FLUX1_ERR_INTERNAL, "%s has another shape than its order says", what);
    return parcel_bulk(p, what, count, sizeof(float), &t->data, err);
}

flux1_status parcel_end(const parcel *p, flux1_error *err)
{
    if (p->at == p->size)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_COMM, "an order from the leading process is %zu bytes too long", p->size - p->at);
}
