#include "server/picture_text.h"

#include "server/base64.h"
#include "server/failure.h"

#include <stdlib.h>

bool picture_text_put(json_writer *w, const char *key, const server *s, const job_picture *p, fault *f)
{
    uint8_t *bytes = NULL;
    size_t count = 0;
    builder text = {0};
    flux1_error err = {0};
    if (history_read_picture(s->history, p->name, &bytes, &count, &err) != FLUX1_OK)
        return failure_fault(s, f, err.status, "a picture was made and cannot be read", err.message);
    base64_add(&text, bytes, count);
    json_put_string(w, key, text.text);
    w->text.failed |= text.failed;
    builder_free(&text);
    free(bytes);
    return true;
}
