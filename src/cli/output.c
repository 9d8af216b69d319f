#include "cli/output.h"

#include "base/builder.h"
#include "base/file.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>

#define SLUG_MAX 48        /* characters of a prompt in a name */
#define SLUG_BYTES 160     /* with seed, number and ending below the 255 bytes of a name */
#define NAMES_MAX 100000   /* of one prompt and seed; beyond it something else is wrong */
#define NUMBER_WIDTH_MAX 9 /* of a pattern's %0Nd */

static const char *const endings[] = {".png", ".png", ".jpg", ".webp"};   /* by flux1_format */
static const char *const format_names[] = {"png", "png", "jpeg", "webp"}; /* as --format has them */

const char *output_ending(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    return dot && dot != name ? dot : name + strlen(name);
}

/* ---- made-up names ---- */

/* Letters, their marks, and digits of every script. */
static bool belongs_to_word(int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL: return true;
    default: return false;
    }
}

/* The prompt's letters and digits, small, with one dash between words: "A red fox, at dawn!" → "a-red-fox-at-dawn". */
static void add_slug(builder *b, const char *prompt)
{
    size_t left = strlen(prompt), characters = 0, word = 0; /* word: where the last whole word ends */
    const size_t begin = b->length;
    for (size_t n; left > 0; prompt += n, left -= n) {
        char small[UTF8_BYTES_MAX];
        int32_t c = ' ';
        n = utf8_decode(prompt, left, &c);
        n = n ? n : 1;
        const bool inside = belongs_to_word(c);
        const size_t bytes = inside ? utf8_encode(utf8proc_tolower(c), small) : 1;
        if (characters == SLUG_MAX || b->length - begin + bytes > SLUG_BYTES) {
            b->length = inside && word ? word : b->length;
            break;
        }
        if (!inside && (b->length == begin || b->text[b->length - 1] == '-'))
            continue;
        if (!inside)
            word = b->length;
        builder_add_bytes(b, inside ? small : "-", bytes);
        characters++;
    }
    while (b->length > begin && b->text[b->length - 1] == '-')
        b->length--;
    if (b->length == begin)
        builder_add(b, "image");
}

/* ---- names by --output ---- */

/* The length of a %d or %0Nd at `s`, 0 if it is none; its width in *width. */
static size_t pattern_bytes(const char *s, int *width)
{
    *width = 0;
    if (s[0] != '%')
        return 0;
    if (s[1] == 'd')
        return 2;
    if (s[1] != '0' || s[2] < '1' || s[2] > '0' + NUMBER_WIDTH_MAX || s[3] != 'd')
        return 0;
    *width = s[2] - '0';
    return 4;
}

bool output_has_number(const char *output)
{
    int width;
    const char *s = output;
    while (*s && !pattern_bytes(s, &width))
        s++;
    return *s != '\0';
}

static void add_given(builder *b, const output_names *n, int index)
{
    bool numbered = false;
    int width;
    const char *ending = output_ending(n->output);
    for (const char *s = n->output; *s;) {
        const size_t bytes = pattern_bytes(s, &width);
        if (s == ending && !numbered && n->count > 1 && !strstr(ending, "%"))
            break;
        if (bytes)
            builder_format(b, "%0*" PRId64, width, n->before + index + 1);
        else
            builder_add_bytes(b, s, 1);
        numbered |= bytes > 0;
        s += bytes ? bytes : 1;
    }
    if (!numbered && n->count > 1)
        builder_format(b, "-%d%s", index + 1, ending);
}

static void add_folder(builder *b, const output_names *n)
{
    if (!n->folder || (n->output && n->output[0] == '/'))
        return;
    builder_add(b, n->folder);
    if (n->folder[0] && n->folder[strlen(n->folder) - 1] != '/')
        builder_add(b, "/");
}

static char *take(builder *b)
{
    char *name;
    builder_take(b, "a file name", &name, NULL);
    return name;
}

/* A made-up name. */
typedef struct picture_name {
    const output_names *names;
    uint64_t seed;
} picture_name;

static char *made_up(const void *of, int attempt)
{
    const picture_name *p = of;
    builder b = {0};
    add_folder(&b, p->names);
    add_slug(&b, p->names->prompt);
    builder_format(&b, "_seed%" PRIu64, p->seed);
    if (attempt > 1)
        builder_format(&b, "-%d", attempt);
    builder_add(&b, endings[p->names->format]);
    return take(&b);
}

char *output_name(const output_names *n, uint64_t seed, int index)
{
    builder b = {0};
    char *name = NULL;
    if (n->output) {
        add_folder(&b, n);
        add_given(&b, n, index);
        return take(&b);
    }
    for (int attempt = 1; attempt <= NAMES_MAX; attempt++) {
        name = made_up(&(picture_name){n, seed}, attempt);
        if (!name || !file_exists(name) || attempt == NAMES_MAX)
            break;
        free(name);
    }
    return name;
}

char *output_claim_new(output_naming *name, const void *of, bool *claimed)
{
    for (int attempt = 1;; attempt++) {
        char *path = name(of, attempt);
        const int fd = path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666) : -1;
        *claimed = fd >= 0;
        if (*claimed)
            close(fd);
        if (*claimed || !path || errno != EEXIST || attempt == NAMES_MAX)
            return path;
        free(path);
    }
}

char *output_claim(const output_names *n, uint64_t seed, int index, bool *claimed)
{
    *claimed = false;
    if (n->output)
        return output_name(n, seed, index);
    return output_claim_new(made_up, &(picture_name){n, seed}, claimed); /* what is wrong, writing to it will say */
}

/* ---- checks ---- */

bool output_is_stream(const output_names *n) { return n->output && strcmp(n->output, "-") == 0; }

static const char *option_of(const output_names *n) { return n->option ? n->option : "output"; }

static flux1_status check_ending(const output_names *n, const char *format, flux1_error *err)
{
    const flux1_format ending = flux1_format_of(n->output);
    if (format && ending != FLUX1_FORMAT_AUTO && ending != n->format)
        return error_set(err, FLUX1_ERR_ARGUMENT, "--%s %s ends like a %s, but --format is %s", option_of(n), n->output,
                         format_names[ending], format);
    if (flux1_format_is_unwritten(n->output))
        return error_set(err, FLUX1_ERR_ARGUMENT,
                         "--%s %s: pictures are written as PNG, JPEG or WebP; name a file that ends in .png, .jpg or "
                         ".webp",
                         option_of(n), n->output);
    return FLUX1_OK;
}

flux1_status output_names_check(output_names *n, const char *format, flux1_error *err)
{
    n->format = n->output && !format ? flux1_format_of(n->output) : FLUX1_FORMAT_AUTO;
    for (int i = FLUX1_FORMAT_PNG; format && i <= FLUX1_FORMAT_WEBP; i++)
        if (strcmp(format, format_names[i]) == 0)
            n->format = (flux1_format)i;
    if (n->format == FLUX1_FORMAT_AUTO)
        n->format = FLUX1_FORMAT_PNG;
    if (n->folder && !n->folder[0])
        return error_set(err, FLUX1_ERR_ARGUMENT, "--output-dir: the name is empty");
    if (!n->output)
        return FLUX1_OK;
    if (!output_is_stream(n))
        return check_ending(n, format, err);
    if (n->count > 1)
        return error_set(err, FLUX1_ERR_ARGUMENT, "--output -: standard output takes one picture, not %d", n->count);
    if (isatty(STDOUT_FILENO))
        return error_set(err, FLUX1_ERR_ARGUMENT,
                         "--output -: standard output is a terminal; redirect it to a file or a program");
    return FLUX1_OK;
}

flux1_status output_make_folder(const output_names *n, flux1_error *err)
{
    if (!n->folder || file_is_directory(n->folder))
        return FLUX1_OK;
    char *path = strdup(n->folder);
    flux1_status st = path ? folder_make(path, 0777, err) : error_oom(err, 0, "--output-dir");
    free(path);
    return st;
}
