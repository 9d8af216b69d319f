/* CLIP's files: any bytes in place of one of them (or of two) give a tokenizer that works or one sentence.
 * The first byte chooses: v vocab.json, m merges.txt, j tokenizer.json, c tokenizer_config.json, s
 * special_tokens_map.json, b vocab.json and merges.txt with a byte 0xff between them. */
#include "fuzz.h"

#include "text/clip_open.h"

#include <stdlib.h>
#include <string.h>

static char vocab[] = "{\"<|startoftext|>\": 8, \"<|endoftext|>\": 9, \"a\": 0, \"b\": 1, \"a</w>\": 2, \"ab\": 3, "
                      "\"ab</w>\": 4, \"\xc4\xa0\": 5}";
static char merges[] = "#version: 0.2\na b\na b</w>\nab ab</w>\n";

static void check(const clip_tokenizer *t)
{
    enum { LENGTH = 24 };
    static const char prompt[] =
        "abab a<|endoftext|>b 'S \xce\x91\xce\xa3 \xe7\x8c\xab\xcc\x81\xcc\xa3 \xf0\x9f\x99\x82!";
    int32_t ids[LENGTH];
    int used;
    bool truncated;
    flux1_error err = {0};
    if (clip_tokenize(t, prompt, sizeof prompt, LENGTH, ids, &used, &truncated, &err) != FLUX1_OK || used < 2 ||
        used > LENGTH)
        abort();
    for (int i = 0; i < LENGTH; i++)
        if (ids[i] < 0 || ids[i] >= clip_tokenizer_vocabulary(t))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *text = malloc(size); /* exactly as large as the input: reading beyond it shows */
    if (!text)
        return 0;
    memcpy(text, data + 1, size - 1);
    text_file input = {(char[]){"f"}, text, size - 1};
    tokenizer_files files = {{(char[]){"v"}, vocab, sizeof vocab - 1},
                             {(char[]){"m"}, merges, sizeof merges - 1},
                             {(char[]){"j"}, NULL, 0},
                             {(char[]){"s"}, NULL, 0},
                             {(char[]){"c"}, NULL, 0},
                             {(char[]){"p"}, NULL, 0},
                             {(char[]){"a"}, NULL, 0},
                             false};
    char *cut = memchr(text, 0xFF, size - 1);
    if (data[0] == 'v')
        files.vocab = input;
    else if (data[0] == 'm')
        files.merges = input;
    else if (data[0] == 'c')
        files.config = input;
    else if (data[0] == 's')
        files.special = input;
    else if (data[0] == 'b' && cut) {
        files.vocab = (text_file){input.name, text, (size_t)(cut - text)};
        files.merges = (text_file){input.name, cut + 1, (size_t)(text + size - 1 - (cut + 1))};
    } else {
        files.vocab.bytes = files.merges.bytes = NULL;
        files.tokenizer = input;
    }
    clip_tokenizer *t;
    flux1_error err = {0};
    flux1_status st = clip_tokenizer_open_files(&files, &t, &err);
    if ((st == FLUX1_OK) != (t != NULL) || (st != FLUX1_OK && (err.status != st || !err.message[0])))
        abort();
    if (t)
        check(t);
    clip_tokenizer_close(t);
    free(text);
    return 0;
}
