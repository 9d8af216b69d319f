#include "server/picture_text.h"

#include "server/base64.h"
#include "server/failure.h"

#include <stdlib.h>

static void put_bytes(json_writer *w, const char *key, const uint8_t *bytes, size_t count)
{
    builder text = {0};
    base64_add(&text, bytes, count);
    json_put_string(w, key, text.text);
    w->text.failed |= text.failed;
    builder_free(&text);
}

bool picture_text_put(json_writer *w, const char *key, const server *s, const job_picture *p, fault *f)
{
    uint8_t *bytes = NULL;
    size_t count = 0;
    flux1_error err = {0};
    if (history_read_picture(s->history, p->name, &bytes, &count, &err) != FLUX1_OK)
        return failure_fault(s, f, err.status, "a picture was made and cannot be read", err.message);
    put_bytes(w, key, bytes, count);
    free(bytes);
    return true;
}

bool picture_text_put_finished(json_writer *w, const char *key, const server *s, const job *j, int i, fault *f)
{
    if (i < j->made)
        return picture_text_put(w, key, s, &j->pictures[i], f);
    put_bytes(w, key, j->unkept, j->unkept_bytes);
    return true;
}
