#include "support/token_golden.h"

#include "base/file.h"

typedef struct golden {
    char *prompts, *ids;
    size_t prompts_size, ids_size;
    uint32_t length, vocabulary, pad, count;
} golden;

static uint32_t golden_u32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, 4); /* the files are little-endian, and so are the machines that test */
    return v;
}

static golden golden_open(const char *name)
{
    golden g;
    flux1_error err = {0};
    char path[4096];
    snprintf(path, sizeof path, "%s/tokens/%s.bin", TEST_DATA, name);
    if (file_read(TEST_DATA "/tokens/prompts.bin", SIZE_MAX - 1, &g.prompts, &g.prompts_size, &err) ||
        file_read(path, SIZE_MAX - 1, &g.ids, &g.ids_size, &err))
        fail_msg("%s", err.message);
    g.length = golden_u32(g.ids);
    g.vocabulary = golden_u32(g.ids + 4);
    g.pad = golden_u32(g.ids + 8);
    g.count = golden_u32(g.ids + 12);
    assert_true(golden_u32(g.prompts) >= g.count && g.count > 1000);
    return g;
}

static void golden_close(golden *g)
{
    free(g->prompts);
    free(g->ids);
}

/* Every prompt's ids, count and cut mark equal the oracle's; what follows is padding. */
void golden_check(const char *name, const void *tokenizer, golden_tokenize *tokenize, int32_t vocabulary)
{
    golden g = golden_open(name);
    flux1_error err = {0};
    const char *prompt = g.prompts + 4, *expected = g.ids + 16;
    int32_t *ids = malloc(g.length * sizeof *ids);
    assert_non_null(ids);
    assert_int_equal(vocabulary, g.vocabulary);
    for (uint32_t i = 0; i < g.count; i++) {
        uint32_t bytes = golden_u32(prompt);
        uint16_t head, id;
        int used = -1;
        bool truncated = false;
        if (tokenize(tokenizer, prompt + 4, bytes, (int)g.length, ids, &used, &truncated, &err))
            fail_msg("%s, prompt %u: %s", name, i, err.message);
        memcpy(&head, expected, 2);
        if (used != (head & 0x7FFF) || truncated != head >> 15)
            fail_msg("%s, prompt %u \"%.*s\": %d ids%s, the oracle has %d%s", name, i, (int)bytes, prompt + 4, used,
                     truncated ? " (cut)" : "", head & 0x7FFF, head >> 15 ? " (cut)" : "");
        for (int k = 0; k < (int)g.length; k++) {
            int32_t want = (int32_t)g.pad;
            if (k < used) {
                memcpy(&id, expected + 2 + 2 * k, 2);
                want = id;
            }
            if (ids[k] != want)
                fail_msg("%s, prompt %u \"%.*s\": id %d is %d, the oracle has %d", name, i, (int)bytes, prompt + 4, k,
                         ids[k], want);
        }
        expected += 2 + 2 * used;
        prompt += 4 + bytes;
    }
    assert_ptr_equal(expected, g.ids + g.ids_size);
    free(ids);
    golden_close(&g);
}

void skip_without(const char *path)
{
    if (file_exists(path))
        return;
    print_message("%s is absent: skipped\n", path);
    skip();
}

void file_set(text_file *f, const char *name, const char *bytes, size_t size)
{
    free(f->name);
    free(f->bytes);
    f->name = strdup(name);
    f->bytes = NULL;
    f->size = size;
    if (!bytes)
        return;
    f->bytes = malloc(size + 1);
    assert_non_null(f->bytes);
    memcpy(f->bytes, bytes, size);
    f->bytes[size] = '\0';
}

void file_set_text(text_file *f, const char *name, const char *text) { file_set(f, name, text, strlen(text)); }

void files_name(tokenizer_files *f)
{
    memset(f, 0, sizeof *f);
#define ROW(member, file_name) file_set(&f->member, file_name, NULL, 0);
    TOKENIZER_FILES(ROW)
#undef ROW
}

void file_load(text_file *f, const char *path)
{
    flux1_error err = {0};
    free(f->bytes);
    if (file_read(path, SIZE_MAX - 1, &f->bytes, &f->size, &err))
        fail_msg("%s", err.message);
}

void assert_message(const flux1_error *err, const char *words)
{
    if (!strstr(err->message, words) || strchr(err->message, '\n'))
        fail_msg("\"%s\" lacks \"%s\"", err->message, words);
}
