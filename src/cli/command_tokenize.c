/* flux1 tokenize: what the text encoders are given. */
#include "cli/cli.h"

#include "base/json_write.h"
#include "cli/answer.h"
#include "cli/console.h"
#include "cli/lines.h"
#include "flux1_tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_ids(json_writer *w, const char *key, const int32_t *ids, int count)
{
    json_begin_array(w, key);
    for (int i = 0; i < count; i++)
        json_put_integer(w, NULL, ids[i]);
    json_end_array(w);
}

static void print_json_line(const flux1_tokens *tokens)
{
    json_writer w = {.style = JSON_LINE};
    char *text;
    json_begin_object(&w, NULL);
    put_ids(&w, "clip", tokens->clip, tokens->clip_count);
    put_ids(&w, "t5", tokens->t5, tokens->t5_count);
    json_end_object(&w);
    if (json_take(&w, "the result", &text, NULL) == FLUX1_OK)
        puts(text);
    else
        print_error("out of memory for the result");
    free(text);
}

static void print_ids(const int32_t *ids, int count)
{
    for (int i = 0; i < count; i++)
        printf("%s%d", i ? " " : "", ids[i]);
}

static void print_text(const flux1_tokens *tokens)
{
    printf("clip (%d%s): ", tokens->clip_count, tokens->clip_truncated ? ", the prompt is longer" : "");
    print_ids(tokens->clip, tokens->clip_count);
    printf("\nt5 (%d%s): ", tokens->t5_count, tokens->t5_truncated ? ", the prompt is longer" : "");
    print_ids(tokens->t5, tokens->t5_count);
    puts("");
}

/* The prompt in one line of JSON, borrowed from *root. */
static flux1_status line_prompt(const char *line, size_t bytes, json_value **root, const char **prompt,
                                size_t *prompt_bytes, flux1_error *err)
{
    TRY(json_parse(line, bytes, "JSON", root, err));
    const json_value *value = json_object_get(*root, "prompt");
    if (!json_is_string(value))
        return error_set(err, FLUX1_ERR_ARGUMENT, "expected an object such as {\"prompt\": \"a red fox\"}");
    *prompt = json_string_value(value);
    *prompt_bytes = json_string_length(value);
    return FLUX1_OK;
}

/* The answer to a line that has no ids, printed as an error too. */
static void print_failed(const answer *a)
{
    json_writer w = {.style = JSON_LINE};
    char *text = NULL;
    print_failure(a->error->status, "standard input, line %ld: %s", a->line, a->error->message);
    json_begin_object(&w, NULL);
    answer_put(&w, a);
    json_end_object(&w);
    if (json_take(&w, "the answer", &text, NULL) == FLUX1_OK)
        puts(text);
    free(text);
}

/* One line in, one line out. line NULL: it was too long. */
static int tokenize_line(flux1_context *context, const flux1_tokenizer *tokenizer, const char *line, size_t bytes,
                         long number, int length)
{
    json_value *root = NULL;
    const char *prompt = NULL;
    size_t prompt_bytes = 0;
    flux1_tokens tokens = {0};
    flux1_error err = {0};
    flux1_status st = line ? line_prompt(line, bytes, &root, &prompt, &prompt_bytes, &err)
                           : error_set(&err, FLUX1_ERR_LIMIT, "longer than %zu bytes", LINE_MOST);
    if (st == FLUX1_OK && (st = flux1_tokenizer_run(context, tokenizer, prompt, prompt_bytes, length, &tokens)))
        error_set(&err, st, "%s", flux1_context_message(context));
    if (st == FLUX1_OK)
        print_json_line(&tokens);
    else
        print_failed(&(answer){json_object_get(root, "id"), number, &err});
    flux1_tokens_free(&tokens);
    json_free(root);
    return st == FLUX1_OK ? EXIT_DONE : EXIT_FAILED;
}

static int tokenize_lines(flux1_context *context, const flux1_tokenizer *tokenizer, int length)
{
    lines input = {0};
    char *line;
    size_t bytes = 0;
    int status = EXIT_DONE;
    line_state st = LINE_READ;
    lines_tell_waiting(&input, "requests, a JSON object a line,");
    while (!ferror(stdout) && ((st = lines_next(&input, true, &line, &bytes)) == LINE_READ || st == LINE_LONG)) {
        const char *text = st == LINE_READ ? line : NULL;
        if (tokenize_line(context, tokenizer, text, bytes, input.number, length) != EXIT_DONE)
            status = EXIT_FAILED;
        fflush(stdout); /* the caller reports a failure */
    }
    if (st == LINE_FAILED)
        status = EXIT_FAILED;
    lines_free(&input);
    return status;
}

static int tokenize_one(const options *opt, flux1_context *context, const flux1_tokenizer *tokenizer, int length)
{
    char *prompt;
    size_t bytes;
    flux1_tokens tokens = {0};
    int status = read_prompt(opt, &prompt, &bytes);
    if (status != EXIT_DONE)
        return status;
    flux1_status st = flux1_tokenizer_run(context, tokenizer, prompt, bytes, length, &tokens);
    if (st == FLUX1_OK && opt->values[OPT_JSON].given)
        print_json_line(&tokens);
    else if (st == FLUX1_OK)
        print_text(&tokens);
    flux1_tokens_free(&tokens);
    free(prompt);
    return report(context, st);
}

int tokenize_run(const options *opt)
{
    const option_value *v = opt->values;
    int length = (int)v[OPT_MAX_SEQUENCE_LENGTH].whole;
    flux1_context *context = NULL;
    flux1_tokenizer *tokenizer = NULL;
    flux1_model_parts parts;
    if (v[OPT_JSONL].given && (v[OPT_PROMPT].given || v[OPT_PROMPT_FILE].given)) {
        print_error("--%s cannot be combined with --jsonl", v[OPT_PROMPT].given ? "prompt" : "prompt-file");
        return EXIT_USAGE;
    }
    if (!v[OPT_JSONL].given && v[OPT_PROMPT].given == v[OPT_PROMPT_FILE].given) {
        print_error(v[OPT_PROMPT].given ? "--prompt cannot be combined with --prompt-file"
                                        : "tokenize needs a prompt: --prompt TEXT, --prompt-file FILE or --jsonl");
        return EXIT_USAGE;
    }
    if (!name_parts(opt, &parts))
        return EXIT_USAGE;
    int status = open_context(opt, &context);
    if (status == EXIT_DONE)
        status = report_opening(opt, context, flux1_tokenizer_open_parts(context, &parts, &tokenizer));
    if (status == EXIT_DONE)
        status = v[OPT_JSONL].given ? tokenize_lines(context, tokenizer, length)
                                    : tokenize_one(opt, context, tokenizer, length);
    flux1_tokenizer_close(tokenizer);
    flux1_context_destroy(context);
    return finish_output(status);
}
