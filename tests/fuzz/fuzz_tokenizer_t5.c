/* T5's files: any bytes in place of one of them give a tokenizer that works or one sentence.
 * The first byte chooses: s spiece.model, j tokenizer.json, c tokenizer_config.json beside a small tokenizer.json. */
#include "fuzz.h"

#include "text/t5_open.h"

#include <stdlib.h>
#include <string.h>

static char json[] = "{\"model\":{\"type\":\"Unigram\",\"unk_id\":2,\"vocab\":[[\"<pad>\",0],[\"</"
                     "s>\",0],[\"<unk>\",0],[\"\xe2\x96\x81\",-2],[\"a\",-3],[\"ab\",-3.5]]},"
                     "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"}}";

static void check(const t5_tokenizer *t)
{
    enum { LENGTH = 24 };
    static const char prompt[] = "abab  a</s>b \xef\xac\x81\xcc\x81 e\xcc\x82\xcc\x81 \xc2\xbd "
                                 "\xe7\x8c\xab\r\n<extra_id_0> \xf0\x9f\x99\x82 \xef\xb7\xba";
    int32_t ids[LENGTH];
    int used = 0;
    bool truncated;
    flux1_error err = {0};
    flux1_status st = t5_tokenize(t, prompt, sizeof prompt, LENGTH, ids, &used, &truncated, &err);
    if (st == FLUX1_ERR_MODEL || st == FLUX1_ERR_LIMIT)
        return; /* no unknown piece, or a character map that makes megabytes */
    if (st != FLUX1_OK || used < 0 || used > LENGTH)
        abort();
    for (int i = 0; i < LENGTH; i++)
        if (ids[i] < 0 || ids[i] >= t5_tokenizer_vocabulary(t))
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
    tokenizer_files files = {
        {(char[]){"v"}, NULL, 0}, {(char[]){"m"}, NULL, 0}, {(char[]){"j"}, NULL, 0}, {(char[]){"s"}, NULL, 0},
        {(char[]){"c"}, NULL, 0}, {(char[]){"p"}, NULL, 0}, {(char[]){"a"}, NULL, 0}, false};
    if (data[0] == 's')
        files.model = input;
    else if (data[0] == 'j')
        files.tokenizer = input;
    else {
        files.tokenizer = (text_file){files.tokenizer.name, json, sizeof json - 1};
        files.config = input;
    }
    t5_tokenizer *t;
    flux1_error err = {0};
    flux1_status st = t5_tokenizer_open_files(&files, &t, &err);
    if ((st == FLUX1_OK) != (t != NULL) || (st != FLUX1_OK && (err.status != st || !err.message[0])))
        abort();
    if (t)
        check(t);
    t5_tokenizer_close(t);
    free(text);
    return 0;
}
