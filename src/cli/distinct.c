#include "cli/distinct.h"

#include "cli/console.h"
#include "cli/lora_files.h"
#include "cli/taken.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* The options of one file to write, beside those of pictures. */
static const option_id written[] = {OPT_DUMP, OPT_PROFILE, OPT_EVENTS, OPT_TIMELINE, OPT_RECORD, OPT_ACCESS_LOG};
enum { WRITTEN = sizeof written / sizeof *written };

/* The options of one file to read. */
static const option_id read_ones[] = {OPT_LATENTS,     OPT_FROM,     OPT_PROMPT_FILE, OPT_PROMPTS, OPT_MODEL,
                                      OPT_TRANSFORMER, OPT_CLIP,     OPT_T5,          OPT_VAE,     OPT_RULES,
                                      OPT_MACHINE,     OPT_HOSTFILE, OPT_API_KEY_FILE};
enum { READ_ONES = sizeof read_ones / sizeof *read_ones };

enum { THE_OPERAND = OPTION_COUNT }; /* in place of an option */

/* Both hold the number of an option + 1 for a file's line. */
typedef struct files {
    const options *opt;
    taken read, written;
} files;

/* ---- what is read ---- */

/* Folders, pipes and names of other things (org/name) are left out: no output replaces them. */
static void add_read(files *f, int by, const char *path)
{
    struct stat info;
    if (path && stat(path, &info) == 0 && S_ISREG(info.st_mode))
        taken_add(&f->read, path, by + 1);
}

static bool add_loras(files *f)
{
    lora_files loras;
    if (lora_files_of(f->opt, &loras) != EXIT_DONE)
        return false;
    for (int i = 0; i < loras.count; i++)
        add_read(f, OPT_LORA, loras.path[i]);
    lora_files_free(&loras);
    return true;
}

static bool add_all_read(files *f)
{
    for (size_t i = 0; i < READ_ONES; i++)
        if (f->opt->values[read_ones[i]].given)
            add_read(f, (int)read_ones[i], f->opt->values[read_ones[i]].text);
    add_read(f, THE_OPERAND, f->opt->operand);
    return add_loras(f);
}

/* A picture may replace the one that it repeats, which has been read by then. */
static bool is_read(const files *f, const char *written_by, bool picture, const char *path)
{
    const long number = taken_by(&f->read, path);
    if (number == 0 || (picture && number == OPT_FROM + 1))
        return false;
    if (number == THE_OPERAND + 1)
        print_error("%s%s would replace the file that is read; give another name", written_by, path);
    else
        print_error("%s%s would replace the file of --%s; give another name", written_by, path,
                    option_rows[number - 1].name);
    return true;
}

/* ---- what is written ---- */

/* Option `id` writes `path`. */
static bool take(files *f, option_id id, const char *path)
{
    char by[64];
    snprintf(by, sizeof by, "--%s ", option_rows[id].name);
    if (is_read(f, by, id == OPT_OUTPUT, path))
        return false;
    const long number = taken_by(&f->written, path);
    if (number == 0) {
        taken_add(&f->written, path, (long)id + 1);
        return true;
    }
    const option_id first = (option_id)(number - 1);
    if (first == OPT_OUTPUT && !f->opt->values[first].given)
        print_error("--%s: the picture would be written to %s too; give another name, or the picture's with --output",
                    option_rows[id].name, path);
    else
        print_error("--%s and --%s would both write %s; give each a file of its own", option_rows[first].name,
                    option_rows[id].name, path);
    return false;
}

static bool take_numbered(files *f, option_id id, const output_names *names, uint64_t seed)
{
    bool good = true;
    for (int i = 0; good && i < names->count; i++) {
        char *name = output_name(names, seed + (uint64_t)i, i);
        good = !name || take(f, id, name); /* without memory the run ends soon anyway */
        free(name);
    }
    return good;
}

/* Made-up names are new ones: they can only meet what this run writes. */
static bool pictures_matter(const options *opt, const output_names *pictures, const output_names *previews)
{
    bool others = previews != NULL || (pictures && pictures->output);
    for (size_t i = 0; i < WRITTEN; i++)
        others = others || opt->values[written[i]].given;
    return pictures && others && !output_is_stream(pictures);
}

bool outputs_distinct(const options *opt, const output_names *pictures, const output_names *previews, uint64_t seed)
{
    files f = {.opt = opt};
    bool good = add_all_read(&f);
    if (good && pictures_matter(opt, pictures, previews))
        good = take_numbered(&f, OPT_OUTPUT, pictures, seed);
    if (good && previews)
        good = take_numbered(&f, OPT_PREVIEW, previews, seed);
    for (size_t i = 0; good && i < WRITTEN; i++)
        if (opt->values[written[i]].given)
            good = take(&f, written[i], opt->values[written[i]].text);
    taken_free(&f.read);
    taken_free(&f.written);
    return good;
}

bool output_is_no_input(const options *opt, const char *path)
{
    files f = {.opt = opt};
    const bool good = add_all_read(&f) && !is_read(&f, "", false, path);
    taken_free(&f.read);
    return good;
}
