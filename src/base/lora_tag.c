#include "base/lora_tag.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BEGIN "<lora:"
#define WORD_ROOM 40 /* of a number; nothing longer is one */

typedef struct word {
    const char *text;
    size_t bytes;
} word;

static word word_at(const char *text) { return (word){text, strcspn(text, ":>")}; }

/* What stands in the word behind `from` bytes. */
static bool number_of(word w, size_t from, double *out)
{
    char text[WORD_ROOM], *end;
    const size_t n = w.bytes - from;
    if (n == 0 || n >= sizeof text)
        return false;
    memcpy(text, w.text + from, n);
    text[n] = '\0';
    *out = strtod(text, &end);
    return end > text && end[strspn(end, " ")] == '\0' && strspn(text, " 0123456789.eE+-") == n &&
           isfinite((float)*out);
}

static bool begins(word w, const char *with)
{
    return w.bytes >= strlen(with) && memcmp(w.text, with, strlen(with)) == 0;
}

/* The words behind the name, each behind a colon. */
static bool take_scales(const char *at, lora_tag *t)
{
    double placed[2] = {1, 1}, te = 0, unet = 0;
    int places = 0;
    bool good = true, has_te = false, has_unet = false;
    while (*at == ':' && good) {
        const word w = word_at(at + 1);
        at = w.text + w.bytes;
        if (begins(w, "te="))
            good = has_te = number_of(w, strlen("te="), &te);
        else if (begins(w, "unet="))
            good = has_unet = number_of(w, strlen("unet="), &unet);
        else if (!memchr(w.text, '=', w.bytes) && places++ < 2)
            good = number_of(w, 0, &placed[places - 1]);
    }
    t->text_scale = has_te ? te : placed[0];
    t->scale = has_unet ? unet : places > 1 ? placed[1] : t->text_scale;
    return good;
}

bool lora_tag_find(const char *text, lora_tag *out)
{
    const char *begin = strstr(text, BEGIN), *last = begin ? strchr(begin, '>') : NULL;
    if (!last)
        return false;
    const word name = word_at(begin + strlen(BEGIN));
    *out = (lora_tag){.begin = begin, .end = last + 1, .name = name.text, .name_bytes = name.bytes};
    out->is_number = take_scales(name.text + name.bytes, out);
    return true;
}

char *lora_tag_cut(char *text, const lora_tag *tag)
{
    char *at = text + (tag->begin - text);
    memmove(at, tag->end, strlen(tag->end) + 1);
    return at;
}

bool lora_tag_add(builder *b, const char *name, size_t bytes, float scale)
{
    if (bytes == 0 || memchr(name, ':', bytes) || memchr(name, '>', bytes) || memchr(name, '=', bytes))
        return false;
    builder_add(b, b->length > 0 ? " " BEGIN : BEGIN);
    builder_add_bytes(b, name, bytes);
    builder_add(b, ":");
    builder_float(b, scale);
    builder_add(b, ">");
    return true;
}
