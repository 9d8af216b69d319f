#include "weights/prepared_format.h"

#include "base/checked.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

static const char magic[8] = {'f', 'l', 'u', 'x', '1', 'p', '1', '\n'};
enum { AT_HEADER = 8, AT_FILE = 16, AT_KEY = 24, AT_COUNT = 40, AT_TEXT = 48, AT_CHECKSUM = 56, ROW = 40 };

static void put(unsigned char *out, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t get(const unsigned char *in)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)in[i] << (8 * i);
    return value;
}

/* ---- making ---- */

static flux1_status too_much(flux1_error *err)
{
    return error_set(err, FLUX1_ERR_LIMIT, "these weights are too many for an entry of the cache");
}

static flux1_status lay_out(prepared_header *h, flux1_error *err)
{
    size_t end = (size_t)h->header_bytes;
    for (size_t i = 0; i < h->count; i++) {
        prepared_block *b = &h->block[i];
        b->offset = end;
        if (b->bytes > SIZE_MAX / 2 || !size_add(end, (size_t)b->bytes, &end) || end > SIZE_MAX / 2)
            return too_much(err);
        h->file_bytes = end;
        end = size_round_up(end, PREPARED_ALIGN);
    }
    return FLUX1_OK;
}

static void make_key(prepared_header *h, unsigned char *scratch)
{
    for (size_t i = 0; i < h->count; i++) {
        put(scratch + 24 * i, h->block[i].key[0]);
        put(scratch + 24 * i + 8, h->block[i].key[1]);
        put(scratch + 24 * i + 16, h->block[i].bytes);
    }
    h->key[0] = hash_bytes(scratch, 24 * h->count);
    memcpy(scratch + 24 * h->count, magic, sizeof magic); /* a second number, and other keys for another format */
    h->key[1] = hash_bytes(scratch, 24 * h->count + sizeof magic);
}

flux1_status prepared_header_make(const prepared_block *block, size_t count, const char *description,
                                  prepared_header *out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    prepared_header h = {.count = count};
    *out = (prepared_header){0};
    if (count == 0 || count > PREPARED_HEADER_MOST / 2 / ROW || strlen(description) > PREPARED_HEADER_MOST / 4)
        return too_much(err);
    size_t used = PREPARED_HEAD + count * ROW + strlen(description);
    h.file_bytes = h.header_bytes = size_round_up(used, PREPARED_ALIGN);
    unsigned char *scratch = malloc(24 * count + sizeof magic);
    h.block = malloc(count * sizeof *block);
    h.description = strdup(description);
    if (!scratch || !h.block || !h.description) {
        st = error_oom(err, used, "an entry of the cache");
        goto cleanup;
    }
    memcpy(h.block, block, count * sizeof *block);
    TRY_CLEANUP(lay_out(&h, err));
    make_key(&h, scratch);
    *out = h;
cleanup:
    free(scratch);
    if (st != FLUX1_OK)
        prepared_header_free(&h);
    return st;
}

/* Of a header whose own checksum is zero for now. */
static uint64_t checksum_of(unsigned char *header, size_t size)
{
    unsigned char there[8];
    memcpy(there, header + AT_CHECKSUM, sizeof there);
    memset(header + AT_CHECKSUM, 0, sizeof there);
    uint64_t sum = hash_bytes(header, size);
    memcpy(header + AT_CHECKSUM, there, sizeof there);
    return sum;
}

void prepared_header_write(const prepared_header *h, unsigned char *out)
{
    memset(out, 0, (size_t)h->header_bytes);
    memcpy(out, magic, sizeof magic);
    put(out + AT_HEADER, h->header_bytes);
    put(out + AT_FILE, h->file_bytes);
    put(out + AT_KEY, h->key[0]), put(out + AT_KEY + 8, h->key[1]);
    put(out + AT_COUNT, h->count);
    put(out + AT_TEXT, strlen(h->description));
    for (size_t i = 0; i < h->count; i++) {
        const prepared_block *b = &h->block[i];
        const uint64_t row[] = {b->key[0], b->key[1], b->offset, b->bytes, b->checksum};
        for (size_t k = 0; k < sizeof row / sizeof *row; k++)
            put(out + PREPARED_HEAD + i * ROW + 8 * k, row[k]);
    }
    memcpy(out + PREPARED_HEAD + h->count * ROW, h->description, strlen(h->description));
    put(out + AT_CHECKSUM, checksum_of(out, (size_t)h->header_bytes));
}

/* ---- reading ---- */

size_t prepared_header_bytes(const unsigned char *head)
{
    uint64_t bytes = get(head + AT_HEADER);
    bool good = memcmp(head, magic, sizeof magic) == 0 && bytes >= PREPARED_HEAD && bytes <= PREPARED_HEADER_MOST &&
                bytes % PREPARED_ALIGN == 0;
    return good ? (size_t)bytes : 0;
}

static flux1_status wrong(flux1_error *err, const char *what) { return error_set(err, FLUX1_ERR_FORMAT, "%s", what); }

/* Rows behind each other, within the file, nothing behind the last. */
static bool rows_fit(const prepared_header *h)
{
    uint64_t end = h->header_bytes;
    for (size_t i = 0; i < h->count; i++) {
        const prepared_block *b = &h->block[i];
        uint64_t begin = (end + PREPARED_ALIGN - 1) / PREPARED_ALIGN * PREPARED_ALIGN;
        if (b->offset != begin || b->bytes > h->file_bytes || begin > h->file_bytes - b->bytes)
            return false;
        end = begin + b->bytes;
    }
    return end == h->file_bytes;
}

static void read_rows(const unsigned char *bytes, prepared_header *h)
{
    for (size_t i = 0; i < h->count; i++) {
        const unsigned char *row = bytes + PREPARED_HEAD + i * ROW;
        h->block[i] = (prepared_block){.key = {get(row), get(row + 8)},
                                       .offset = get(row + 16),
                                       .bytes = get(row + 24),
                                       .checksum = get(row + 32)};
    }
}

static flux1_status check_sum(const unsigned char *bytes, size_t size, flux1_error *err)
{
    unsigned char *copy = malloc(size);
    if (!copy)
        return error_oom(err, size, "an entry of the cache");
    memcpy(copy, bytes, size);
    bool good = checksum_of(copy, size) == get(bytes + AT_CHECKSUM);
    free(copy);
    return good ? FLUX1_OK : wrong(err, "the checksum of the header does not match");
}

flux1_status prepared_header_read(const unsigned char *bytes, size_t size, prepared_header *out, flux1_error *err)
{
    *out = (prepared_header){0};
    if (size < PREPARED_HEAD || prepared_header_bytes(bytes) != size)
        return wrong(err, "it does not begin as an entry of the cache");
    TRY(check_sum(bytes, size, err));
    prepared_header h = {.header_bytes = size,
                         .file_bytes = get(bytes + AT_FILE),
                         .key = {get(bytes + AT_KEY), get(bytes + AT_KEY + 8)}};
    const uint64_t count = get(bytes + AT_COUNT), text = get(bytes + AT_TEXT), room = size - PREPARED_HEAD;
    if (count == 0 || count > room / ROW || text > room - count * ROW || h.file_bytes > SIZE_MAX / 2)
        return wrong(err, "its header has numbers that do not fit together");
    h.count = (size_t)count;
    h.block = malloc(h.count * sizeof *h.block);
    h.description = strndup((const char *)bytes + PREPARED_HEAD + h.count * ROW, (size_t)text);
    if (!h.block || !h.description) {
        prepared_header_free(&h);
        return error_oom(err, size, "an entry of the cache");
    }
    read_rows(bytes, &h);
    if (!rows_fit(&h)) {
        prepared_header_free(&h);
        return wrong(err, "its blocks do not lie as they should");
    }
    *out = h;
    return FLUX1_OK;
}

void prepared_header_free(prepared_header *h)
{
    free(h->block);
    free(h->description);
    *h = (prepared_header){0};
}
