/* Prompts: any bytes become ids of the vocabulary, and the same ones at a shorter length; bytes that are no UTF-8 are
 * refused by both tokenizers alike. */
#include "fuzz.h"

#include "text/text.h"

#include <stdlib.h>
#include <string.h>

enum { LONG = 64, SHORT = 9 };

static clip_tokenizer *clip[2];
static t5_tokenizer *t5[3];

static void open_once(void)
{
    flux1_error err;
    if (!t5[2] && (clip_tokenizer_open(TEST_DATA "/tokenizers/clip", &clip[0], &err) ||
                   clip_tokenizer_open(TEST_DATA "/tokenizers/clip_later", &clip[1], &err) ||
                   t5_tokenizer_open(TEST_DATA "/tokenizers/t5", &t5[0], &err) ||
                   t5_tokenizer_open(TEST_DATA "/tokenizers/t5_json", &t5[1], &err) ||
                   t5_tokenizer_open(TEST_DATA "/tokenizers/t5_later", &t5[2], &err)))
        abort();
}

/* The shorter row begins as the longer one, up to its end token. */
static void check(const int32_t *longer, int longer_used, const int32_t *shorter, int shorter_used, bool cut,
                  int32_t vocabulary)
{
    if (cut != (longer_used > SHORT) || shorter_used != (cut ? SHORT : longer_used) ||
        memcmp(longer, shorter, (size_t)(shorter_used - 1) * sizeof *longer) != 0)
        abort();
    for (int i = 0; i < LONG; i++)
        if (longer[i] < 0 || longer[i] >= vocabulary)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int32_t a[LONG], b[SHORT];
    int a_used = 0, b_used = 0;
    bool a_cut, b_cut = false;
    flux1_error err = {0};
    open_once();
    char *prompt = malloc(size ? size : 1);
    if (!prompt)
        return 0;
    if (size)
        memcpy(prompt, data, size);
    const flux1_status st = clip_tokenize(clip[0], prompt, size, LONG, a, &a_used, &a_cut, &err);
    if (st != FLUX1_OK && (st != FLUX1_ERR_ARGUMENT || !strstr(err.message, "offset")))
        abort();
    for (int i = 0; i < 2; i++) {
        if (clip_tokenize(clip[i], prompt, size, LONG, a, &a_used, &a_cut, &err) != st)
            abort();
        if (st != FLUX1_OK)
            continue;
        if (clip_tokenize(clip[i], prompt, size, SHORT, b, &b_used, &b_cut, &err) != FLUX1_OK)
            abort();
        check(a, a_used, b, b_used, b_cut, clip_tokenizer_vocabulary(clip[i]));
    }
    for (int i = 0; i < 3; i++) {
        if (t5_tokenize(t5[i], prompt, size, LONG, a, &a_used, &a_cut, &err) != st)
            abort();
        if (st != FLUX1_OK)
            continue;
        if (t5_tokenize(t5[i], prompt, size, SHORT, b, &b_used, &b_cut, &err) != FLUX1_OK)
            abort();
        check(a, a_used, b, b_used, b_cut, t5_tokenizer_vocabulary(t5[i]));
    }
    free(prompt);
    return 0;
}
