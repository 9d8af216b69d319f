#include "server/fault.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    int http;
    const char *type, *code, *field_code;
} kinds[] = {
#define FAULT_ROW(kind, http, type, code, field_code) {http, type, code, field_code},
    FAULT_MAP(FAULT_ROW)
#undef FAULT_ROW
};

/* A text that was cut, as a whole or where it quotes a name ("%.60s"), may have a part of a character: that is left
 * out. */
static void drop_parts_of_characters(char *text)
{
    for (size_t n; text[n = utf8_valid_prefix(text, strlen(text))];)
        memmove(text + n, text + n + 1, strlen(text + n));
}

bool fault_set(fault *f, fault_kind kind, const char *param, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    f->kind = kind;
    snprintf(f->param, sizeof f->param, "%s", param ? param : "");
    vsnprintf(f->message, sizeof f->message, format, ap);
    va_end(ap);
    drop_parts_of_characters(f->message);
    drop_parts_of_characters(f->param);
    return false;
}

fault_kind fault_kind_of_file(flux1_status status)
{
    return status == FLUX1_ERR_MEMORY ? FAULT_SERVER : status == FLUX1_ERR_IO ? FAULT_UNAVAILABLE : FAULT_INVALID;
}

int fault_http(const fault *f) { return kinds[f->kind].http; }

void fault_put(json_writer *w, const char *key, const fault *f)
{
    const char *code = f->param[0] ? kinds[f->kind].field_code : kinds[f->kind].code;
    json_begin_object(w, key);
    json_put_string(w, "message", f->message);
    json_put_string(w, "type", kinds[f->kind].type);
    json_put_string(w, "param", f->param[0] ? f->param : NULL);
    json_put_string(w, "code", code[0] ? code : NULL);
    json_end_object(w);
}
