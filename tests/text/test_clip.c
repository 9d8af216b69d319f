#include "support/token_golden.h"
#include "text/clip_open.h"

#define SMALL TEST_DATA "/tokenizers/clip"

static flux1_status tokenize(const void *t, const char *prompt, size_t bytes, int length, int32_t *ids, int *used,
                             bool *truncated, flux1_error *err)
{
    return clip_tokenize(t, prompt, bytes, length, ids, used, truncated, err);
}

static clip_tokenizer *open_folder(const char *folder)
{
    clip_tokenizer *t;
    flux1_error err = {0};
    if (clip_tokenizer_open(folder, &t, &err))
        fail_msg("%s", err.message);
    return t;
}

static void check_folder(const char *folder, const char *name, int length)
{
    clip_tokenizer *t = open_folder(folder);
    assert_int_equal(clip_tokenizer_length(t), length);
    golden_check(name, t, tokenize, clip_tokenizer_vocabulary(t));
    clip_tokenizer_close(t);
}

static void small_vocabulary_equals_oracle(void **state)
{
    (void)state;
    check_folder(SMALL, "clip", 77);
}

static void tokenizer_json_with_another_pad_equals_oracle(void **state)
{
    (void)state;
    check_folder(TEST_DATA "/tokenizers/clip_json", "clip_json", 40);
}

/* What transformers 5 saves: tokenizer.json, and a tokenizer_config.json without a list of added tokens. */
static void saved_by_transformers_5_equals_oracle(void **state)
{
    (void)state;
    check_folder(TEST_DATA "/tokenizers/clip_later", "clip_later", 77);
}

static void mini_model_equals_oracle(void **state)
{
    (void)state;
    skip_without(SHARED_DATA "/mini-trial/tokenizer");
    check_folder(SHARED_DATA "/mini-trial/tokenizer", "clip_mini", 32);
}

static void compiled_in_data_equals_oracle(void **state)
{
    (void)state;
    check_folder(NULL, "clip_real", 77);
}

static void real_vocabulary_equals_oracle(void **state)
{
    (void)state;
    skip_without(SHARED_DATA "/tokenizers/clip");
    check_folder(SHARED_DATA "/tokenizers/clip", "clip_real", 77);
}

/* OpenAI's ids for a plain sentence, known from several independent projects. */
static void known_sentence_has_its_known_ids(void **state)
{
    (void)state;
    static const int32_t expected[12] = {49406, 320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496, 49407};
    skip_without(SHARED_DATA "/tokenizers/clip");
    clip_tokenizer *t = open_folder(SHARED_DATA "/tokenizers/clip");
    const char *prompt = "a photo of an astronaut riding a horse on mars";
    int32_t ids[12];
    int used;
    bool truncated = true;
    assert_int_equal(clip_tokenize(t, prompt, strlen(prompt), 12, ids, &used, &truncated, NULL), FLUX1_OK);
    assert_memory_equal(ids, expected, sizeof ids);
    assert_int_equal(used, 12);
    assert_false(truncated);
    clip_tokenizer_close(t);
}

static void invalid_utf8_is_refused_with_its_offset(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *words;
    } bad[] = {{"ab\xff", 3, "byte 0xff at offset 2"},
               {"\x80", 1, "offset 0"},
               {"x\xc3", 2, "offset 1"},
               {"\xc0\xaf", 2, "offset 0"},
               {"a\xed\xa0\x80", 4, "offset 1"},
               {"\xf4\x90\x80\x80", 4, "offset 0"},
               {"\xe0\x80\x80", 3, "offset 0"},
               {"caf\xc3\xa9 \xe7\x8c", 8, "offset 6"},
               {"\xf0\x80\x80\x80", 4, "offset 0"},
               {"\xf8\x88\x80\x80\x80", 5, "offset 0"}};
    clip_tokenizer *t = open_folder(SMALL);
    int32_t ids[16];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        flux1_error err = {0};
        assert_int_equal(clip_tokenize(t, bad[i].bytes, bad[i].size, 16, ids, NULL, NULL, &err), FLUX1_ERR_ARGUMENT);
        assert_message(&err, bad[i].words);
    }
    clip_tokenizer_close(t);
}

static void nul_is_dropped_like_any_control_character(void **state)
{
    (void)state;
    clip_tokenizer *t = open_folder(SMALL);
    int32_t with[16], without[16];
    assert_int_equal(clip_tokenize(t, "red\0car \0", 9, 16, with, NULL, NULL, NULL), FLUX1_OK);
    assert_int_equal(clip_tokenize(t, "redcar ", 7, 16, without, NULL, NULL, NULL), FLUX1_OK);
    assert_memory_equal(with, without, sizeof with);
    clip_tokenizer_close(t);
}

static void shortest_length_holds_start_and_end(void **state)
{
    (void)state;
    clip_tokenizer *t = open_folder(SMALL);
    flux1_error err = {0};
    int32_t ids[2];
    int used;
    bool truncated;
    assert_int_equal(clip_tokenize(t, "cat", 3, 2, ids, &used, &truncated, &err), FLUX1_OK);
    assert_true(ids[0] == 498 && ids[1] == 499 && used == 2 && truncated);
    assert_int_equal(clip_tokenize(t, "", 0, 2, ids, &used, &truncated, &err), FLUX1_OK);
    assert_false(truncated);
    assert_int_equal(clip_tokenize(t, "cat", 3, 1, ids, &used, &truncated, &err), FLUX1_ERR_ARGUMENT);
    clip_tokenizer_close(t);
}

/* One word, one run of marks, one run of punctuation, of the largest size each: seconds at worst if anything were
 * quadratic it would be hours. */
static void longest_prompts_take_no_quadratic_time(void **state)
{
    (void)state;
    clip_tokenizer *t = open_folder(SMALL);
    flux1_error err = {0};
    int32_t ids[77];
    char *prompt = malloc(TEXT_PROMPT_MAX + 1);
    static const char *const units[] = {"a", "ing",          "!",       "\xcc\x81\xcc\xa3", "\xe7\x8c\xab",
                                        " ", "<|endoftext|", "\xce\xa3"};
    assert_non_null(prompt);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t n = strlen(units[i]), size = TEXT_PROMPT_MAX / n * n;
        for (size_t at = 0; at < size; at += n)
            memcpy(prompt + at, units[i], n);
        if (clip_tokenize(t, prompt, size, 77, ids, NULL, NULL, &err))
            fail_msg("%s", err.message);
    }
    memset(prompt, 'a', TEXT_PROMPT_MAX + 1);
    assert_int_equal(clip_tokenize(t, prompt, TEXT_PROMPT_MAX + 1, 77, ids, NULL, NULL, &err), FLUX1_ERR_LIMIT);
    assert_message(&err, "shorten it");
    free(prompt);
    clip_tokenizer_close(t);
}

/* Marks in descending order of class must come out sorted and composed however long their run is: e, 300 acutes, 300
 * dots below. */
static void long_runs_of_marks_are_put_in_canonical_order(void **state)
{
    (void)state;
    clip_tokenizer *t = open_folder(SMALL);
    char mixed[2 + 1200], sorted[3 + 1200];
    size_t a = 0, b = 0;
    int32_t first[700], second[700];
    mixed[a++] = 'e';
    for (int i = 0; i < 300; i++, a += 4)
        memcpy(mixed + a, "\xcc\x81\xcc\xa3", 4); /* U+0301 (230), U+0323 (220) */
    memcpy(sorted, "\xe1\xba\xb9", b = 3);        /* U+1EB9: e with dot below */
    for (int i = 1; i < 300; i++, b += 2)
        memcpy(sorted + b, "\xcc\xa3", 2);
    for (int i = 0; i < 300; i++, b += 2)
        memcpy(sorted + b, "\xcc\x81", 2);
    assert_int_equal(clip_tokenize(t, mixed, a, 700, first, NULL, NULL, NULL), FLUX1_OK);
    assert_int_equal(clip_tokenize(t, sorted, b, 700, second, NULL, NULL, NULL), FLUX1_OK);
    assert_memory_equal(first, second, sizeof first);
    clip_tokenizer_close(t);
}

/* ---- opening ---- */

static flux1_status open_texts(const char *vocab, const char *merges, const char *config, clip_tokenizer **t,
                               flux1_error *err)
{
    tokenizer_files f;
    files_name(&f);
    if (vocab)
        file_set_text(&f.vocab, "vocab.json", vocab);
    else
        file_load(&f.vocab, SMALL "/vocab.json");
    if (merges)
        file_set_text(&f.merges, "merges.txt", merges);
    else
        file_load(&f.merges, SMALL "/merges.txt");
    if (config)
        file_set_text(&f.config, "tokenizer_config.json", config);
    flux1_status st = clip_tokenizer_open_files(&f, t, err);
    tokenizer_files_free(&f);
    return st;
}

static void expect_refusal(const char *vocab, const char *merges, const char *config, flux1_status status,
                           const char *words)
{
    clip_tokenizer *t;
    flux1_error err = {0};
    flux1_status st = open_texts(vocab, merges, config, &t, &err);
    if (st != status)
        fail_msg("status %d, should be %d: %s", st, status, err.message);
    assert_null(t);
    assert_message(&err, words);
}

static void faulty_files_are_refused_by_name(void **state)
{
    (void)state;
    expect_refusal("[1]", NULL, NULL, FLUX1_ERR_FORMAT, "vocab.json: the vocabulary should be an object");
    expect_refusal("{}", NULL, NULL, FLUX1_ERR_FORMAT, "vocab.json");
    expect_refusal("{\"a\": -1}", NULL, NULL, FLUX1_ERR_FORMAT, "vocab.json: the id of \"a\"");
    expect_refusal("{\"a\": 2147483647}", NULL, NULL, FLUX1_ERR_FORMAT, "the id of \"a\"");
    expect_refusal("{\"a\": \"b\"}", NULL, NULL, FLUX1_ERR_FORMAT, "the id of \"a\"");
    expect_refusal("{\"a\": 1, \"a\": NaN}", NULL, NULL, FLUX1_ERR_FORMAT, "vocab.json: the id of \"a\"");
    expect_refusal("{\"a\"", NULL, NULL, FLUX1_ERR_FORMAT, "vocab.json:1:");
    expect_refusal("{\"a\": 1}", "", NULL, FLUX1_ERR_MODEL, "has no id");
    expect_refusal(NULL, "#version\na b\nabc\n", NULL, FLUX1_ERR_FORMAT, "merges.txt:3: should be two symbols");
    expect_refusal(NULL, "#version\na b c\n", NULL, FLUX1_ERR_FORMAT, "merges.txt:2:");
    expect_refusal(NULL, "#version\n\xff b\n", NULL, FLUX1_ERR_FORMAT, "merges.txt: not valid UTF-8");
    expect_refusal(NULL, NULL, "{\"padding_side\": \"left\"}", FLUX1_ERR_UNSUPPORTED, "\"padding_side\" is \"left\"");
    expect_refusal(NULL, NULL, "{\"model_max_length\": 1}", FLUX1_ERR_FORMAT, "\"model_max_length\" is 1");
    expect_refusal(NULL, NULL, "{\"model_max_length\": \"long\"}", FLUX1_ERR_FORMAT, "model_max_length");
    expect_refusal(NULL, NULL, "{\"pad_token\": 3}", FLUX1_ERR_FORMAT, "\"pad_token\" should be a string");
    expect_refusal(NULL, NULL, "{\"pad_token\": \"\"}", FLUX1_ERR_FORMAT, "must not be empty");
    expect_refusal(NULL, NULL, "{\"added_tokens_decoder\": {\"x\": {\"content\": \"y\"}}}", FLUX1_ERR_FORMAT, "\"x\"");
    expect_refusal(NULL, NULL, "{\"added_tokens_decoder\": {\"5\": {\"content\": \"y\", \"single_word\": true}}}",
                   FLUX1_ERR_UNSUPPORTED, "single_word");
    expect_refusal(NULL, NULL, "{\"added_tokens_decoder\": {\"5\": {}}}", FLUX1_ERR_FORMAT, "\"content\" is missing");
}

/* Unicode 16: a letter of Todhri joins its neighbours, a digit of Garay stands alone (ids: tokenizers 0.22.2). */
static void stated_steps_know_newer_letters_and_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *prompt;
        int32_t ids[8];
    } rows[] = {{"a\xf0\x90\x97\x80"
                 "b",
                 {498, 37, 176, 82, 89, 66, 219, 499}},
                {"a\xf0\x90\xb5\x81"
                 "b",
                 {498, 218, 176, 82, 119, 248, 219, 499}}};
    clip_tokenizer *t = open_folder(TEST_DATA "/tokenizers/clip_later");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int32_t ids[8];
        int used;
        assert_int_equal(clip_tokenize(t, rows[i].prompt, 6, 8, ids, &used, NULL, NULL), FLUX1_OK);
        assert_memory_equal(ids, rows[i].ids, sizeof ids);
        assert_int_equal(used, 8);
    }
    clip_tokenizer_close(t);
}

/* The fixture's tokenizer.json with `from` replaced by `to`. */
static void expect_json_refusal(const char *from, const char *to, const char *words)
{
    tokenizer_files f;
    clip_tokenizer *t;
    flux1_error err = {0};
    files_name(&f);
    file_load(&f.tokenizer, TEST_DATA "/tokenizers/clip_later/tokenizer.json");
    char *at = strstr(f.tokenizer.bytes, from), *text = malloc(f.tokenizer.size + strlen(to) + 1);
    assert_non_null(at);
    assert_non_null(text);
    *at = '\0';
    sprintf(text, "%s%s%s", f.tokenizer.bytes, to, at + strlen(from));
    file_set_text(&f.tokenizer, "tokenizer.json", text);
    free(text);
    assert_int_equal(clip_tokenizer_open_files(&f, &t, &err), FLUX1_ERR_UNSUPPORTED);
    assert_null(t);
    assert_message(&err, words);
    tokenizer_files_free(&f);
}

static void steps_of_no_clip_are_refused(void **state)
{
    (void)state;
    expect_json_refusal("\"NFC\"", "\"NFKC\"", "the normalizer is not what");
    expect_json_refusal("\"NFC\"", "\"Lowercase\"", "the normalizer is not what"); /* another order */
    expect_json_refusal("\\\\s+", "\\\\s", "the normalizer is not what");
    expect_json_refusal("\"Split\"", "\"Whitespace\"", "the pre_tokenizer is not what");
    expect_json_refusal("'ll|", "", "the pre_tokenizer's Split");
    expect_json_refusal("\"invert\": true", "\"invert\": false", "the pre_tokenizer's Split");
    expect_json_refusal("\"use_regex\": true", "\"use_regex\": false", "the pre_tokenizer's ByteLevel");
    expect_json_refusal("\"RobertaProcessing\"", "\"BertProcessing\"", "the post_processor is not what");
    expect_json_refusal("\"fuse_unk\": false", "\"fuse_unk\": true", "\"fuse_unk\" is true");
    expect_json_refusal("\"continuing_subword_prefix\": \"\"", "\"continuing_subword_prefix\": \"@\"", "is \"@\"");
}

static void missing_parts_are_named(void **state)
{
    (void)state;
    clip_tokenizer *t;
    flux1_error err = {0};
    assert_int_equal(clip_tokenizer_open(TEST_DATA "/no such folder", &t, &err), FLUX1_ERR_IO);
    assert_message(&err, "no such folder");
    assert_int_equal(clip_tokenizer_open(TEST_DATA "/tokenizers", &t, &err), FLUX1_ERR_MODEL);
    assert_message(&err, "vocab.json: no such file");
}

static void placeholder_length_means_77(void **state)
{
    (void)state;
    clip_tokenizer *t;
    flux1_error err = {0};
    static const char *const configs[] = {"{}", "{\"model_max_length\": null}",
                                          "{\"model_max_length\": 1000000000000000019884624838656}",
                                          "{\"model_max_length\": 1e30}"};
    for (size_t i = 0; i < 4; i++) {
        if (open_texts(NULL, NULL, configs[i], &t, &err))
            fail_msg("%s", err.message);
        assert_int_equal(clip_tokenizer_length(t), 77);
        clip_tokenizer_close(t);
    }
}

/* Merges may come in an order that no training gives: "a b" before the rules for its own parts. The reference merges
 * all pairs of the lowest rank, left to right, before it looks again: "cabab" with rules (c ab), (a b) becomes c ab ab,
 * then cab ab. */
static void pairs_of_one_rank_are_merged_before_new_ones(void **state)
{
    (void)state;
    clip_tokenizer *t;
    flux1_error err = {0};
    const char *vocab = "{\"<|endoftext|>\": 0, \"<|startoftext|>\": 1, \"ab\": 2, \"ab</w>\": 3, \"cab\": 4, "
                        "\"abab</w>\": 5, \"c\": 6}";
    if (open_texts(vocab, "#version\nc ab\nab ab</w>\na b\na b</w>", NULL, &t, &err))
        fail_msg("%s", err.message);
    int32_t ids[6];
    int used;
    assert_int_equal(clip_tokenize(t, "cabab", 5, 6, ids, &used, NULL, &err), FLUX1_OK);
    /* (a b) has rank 2, (a b</w>) 3: after the former c ab a b</w>; then (c ab) goes: cab a b</w>; then cab ab</w> */
    assert_int_equal(used, 4);
    assert_true(ids[1] == 4 && ids[2] == 3);
    assert_int_equal(clip_tokenize(t, "abab", 4, 6, ids, &used, NULL, &err), FLUX1_OK);
    assert_true(used == 3 && ids[1] == 5);
    clip_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compiled_in_data_equals_oracle),
        cmocka_unit_test(small_vocabulary_equals_oracle),
        cmocka_unit_test(tokenizer_json_with_another_pad_equals_oracle),
        cmocka_unit_test(saved_by_transformers_5_equals_oracle),
        cmocka_unit_test(mini_model_equals_oracle),
        cmocka_unit_test(real_vocabulary_equals_oracle),
        cmocka_unit_test(known_sentence_has_its_known_ids),
        cmocka_unit_test(invalid_utf8_is_refused_with_its_offset),
        cmocka_unit_test(nul_is_dropped_like_any_control_character),
        cmocka_unit_test(shortest_length_holds_start_and_end),
        cmocka_unit_test(longest_prompts_take_no_quadratic_time),
        cmocka_unit_test(long_runs_of_marks_are_put_in_canonical_order),
        cmocka_unit_test(faulty_files_are_refused_by_name),
        cmocka_unit_test(stated_steps_know_newer_letters_and_numbers),
        cmocka_unit_test(steps_of_no_clip_are_refused),
        cmocka_unit_test(missing_parts_are_named),
        cmocka_unit_test(placeholder_length_means_77),
        cmocka_unit_test(pairs_of_one_rank_are_merged_before_new_ones),
    };
    return cmocka_run_group_tests_name("text: CLIP", tests, NULL, NULL);
}
