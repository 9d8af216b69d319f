/* The prompt of one request: from the command line, or from a file that may be a pipe or the terminal. */
#include "cli/cli.h"

#include "base/status.h"
#include "cli/console.h"
#include "cli/lines.h"

#include <stdlib.h>
#include <string.h>

#define PROMPT_MAX ((size_t)1 << 20)

/* In place: lines end as on Unix, and one newline at the end is the editor's, not the prompt's. */
static size_t tidy(char *text, size_t bytes)
{
    size_t to = 0;
    for (size_t i = 0; i < bytes; i++)
        if (text[i] != '\r' || i + 1 == bytes || text[i + 1] != '\n')
            text[to++] = text[i];
    if (to > 0 && text[to - 1] == '\n')
        to--;
    text[to] = '\0';
    return to;
}

static bool is_text(const char *path, const char *text, size_t bytes)
{
    const bool utf16 = bytes >= 2 && (memcmp(text, "\xFF\xFE", 2) == 0 || memcmp(text, "\xFE\xFF", 2) == 0);
    if (utf16)
        print_failure(FLUX1_ERR_FORMAT, "%s: it is UTF-16; save it as UTF-8", path);
    else if (strlen(text) != bytes)
        print_failure(FLUX1_ERR_FORMAT, "%s: a prompt must not contain zero bytes", path);
    return !utf16 && strlen(text) == bytes;
}

static int read_file(const char *path, char **prompt, size_t *bytes)
{
    lines in;
    char *text = NULL;
    int status = EXIT_FAILED;
    if (!lines_open(&in, path))
        return EXIT_FAILED;
    lines_tell_waiting(&in, "the prompt");
    const line_state st = lines_all(&in, PROMPT_MAX, &text, bytes);
    if (st == LINE_INTERRUPTED)
        status = report(NULL, FLUX1_ERR_CANCELLED);
    else if (st == LINE_READ && is_text(lines_name(&in), text, *bytes)) {
        *bytes = tidy(text, *bytes);
        *prompt = strdup(text);
        status = *prompt ? EXIT_DONE : report(NULL, FLUX1_ERR_MEMORY);
    }
    lines_free(&in);
    return status;
}

static bool is_blank(const char *text) { return text[strspn(text, " \t\r\n")] == '\0'; }

int read_prompt(const options *opt, char **prompt, size_t *bytes)
{
    const option_value *text = &opt->values[OPT_PROMPT], *file = &opt->values[OPT_PROMPT_FILE];
    int status = EXIT_DONE;
    *prompt = NULL;
    if (text->given == file->given) {
        print_error(
            text->given ? "--prompt cannot be combined with --prompt-file"
            : opt->command == COMMAND_RUN_PLAN
                ? "%s needs a prompt: --prompt TEXT or --prompt-file FILE"
                : "%s needs a prompt: --prompt TEXT, --prompt-file FILE, --prompts FILE, --jsonl or --from PICTURE",
            command_rows[opt->command].name);
        return EXIT_USAGE;
    }
    if (text->given) {
        *bytes = strlen(text->text);
        *prompt = strdup(text->text);
        status = *prompt ? EXIT_DONE : report(NULL, FLUX1_ERR_MEMORY);
    } else
        status = read_file(file->text, prompt, bytes);
    if (status == EXIT_DONE && opt->command != COMMAND_TOKENIZE && is_blank(*prompt) &&
        !opt->values[OPT_ALLOW_EMPTY].given) {
        print_error("the prompt is empty; --allow-empty makes a picture without one");
        status = EXIT_USAGE;
    }
    if (status != EXIT_DONE) {
        free(*prompt);
        *prompt = NULL;
    }
    return status;
}
