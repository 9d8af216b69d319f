#include "fetch/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KINDS 2

struct digest {
    const fetch_libraries *lib;
    char expected[2 * EVP_MAX_MD_SIZE + 1]; /* "": the ETag says nothing */
    EVP_MD_CTX *context[KINDS];             /* the hashes that it may be */
};

static bool is_hash(const char *etag, size_t digits)
{
    return strlen(etag) == digits && strspn(etag, "0123456789abcdef") == digits;
}

/* One of the hashes, of `prefix` and what will be added. */
static bool open_context(digest *d, int kind, const EVP_MD *function, const char *prefix, size_t bytes)
{
    d->context[kind] = d->lib->EVP_MD_CTX_new();
    return d->context[kind] && d->lib->EVP_DigestInit_ex(d->context[kind], function, NULL) &&
           d->lib->EVP_DigestUpdate(d->context[kind], prefix, bytes);
}

flux1_status digest_begin(const fetch_libraries *lib, const char *etag, int64_t size, digest **out, flux1_error *err)
{
    char head[32];
    bool good = true;
    digest *d = calloc(1, sizeof *d);
    *out = d;
    if (!d)
        return error_oom(err, sizeof *d, "a checksum");
    d->lib = lib;
    if (is_hash(etag, 64) || is_hash(etag, 40))
        memcpy(d->expected, etag, strlen(etag) + 1);
    if (is_hash(etag, 64))
        good = open_context(d, 0, lib->EVP_sha256(), "", 0);
    else if (is_hash(etag, 40)) {
        int n = snprintf(head, sizeof head, "blob %" PRId64, size);
        good = open_context(d, 0, lib->EVP_sha1(), head, (size_t)n + 1) && open_context(d, 1, lib->EVP_sha1(), "", 0);
    }
    if (good)
        return FLUX1_OK;
    digest_end(d);
    *out = NULL;
    return error_oom(err, 0, "a checksum");
}

void digest_add(digest *d, const void *bytes, size_t count)
{
    for (int i = 0; i < KINDS; i++)
        if (d->context[i])
            d->lib->EVP_DigestUpdate(d->context[i], bytes, count);
}

bool digest_matches(digest *d)
{
    bool matches = d->expected[0] == '\0';
    for (int i = 0; i < KINDS; i++) {
        unsigned char hash[EVP_MAX_MD_SIZE];
        char text[2 * EVP_MAX_MD_SIZE + 1] = "";
        unsigned bytes = 0;
        if (!d->context[i])
            continue;
        d->lib->EVP_DigestFinal_ex(d->context[i], hash, &bytes);
        for (unsigned j = 0; j < bytes; j++)
            snprintf(text + 2 * j, 3, "%02x", hash[j]);
        matches = matches || strcmp(text, d->expected) == 0;
    }
    return matches;
}

void digest_end(digest *d)
{
    if (!d)
        return;
    for (int i = 0; i < KINDS; i++)
        if (d->context[i])
            d->lib->EVP_MD_CTX_free(d->context[i]);
    free(d);
}
