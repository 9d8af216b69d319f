#include "cli/distinct.h"

#include "cli/console.h"
#include "cli/taken.h"

#include <stdlib.h>

/* The options of one file, beside those of pictures. */
static const option_id single[] = {OPT_DUMP, OPT_PROFILE, OPT_EVENTS, OPT_TIMELINE, OPT_RECORD};
enum { SINGLE = sizeof single / sizeof *single };

/* Option `id` writes `path`. `files` holds those of the options before it, with their number + 1 for a line. */
static bool take(taken *files, const options *opt, option_id id, const char *path)
{
    const long number = taken_by(files, path);
    if (number == 0) {
        taken_add(files, path, (long)id + 1);
        return true;
    }
    const option_id first = (option_id)(number - 1);
    if (first == OPT_OUTPUT && !opt->values[first].given)
        print_error("--%s: the picture would be written to %s too; give another name, or the picture's with --output",
                    option_rows[id].name, path);
    else
        print_error("--%s and --%s would both write %s; give each a file of its own", option_rows[first].name,
                    option_rows[id].name, path);
    return false;
}

static bool take_numbered(taken *files, const options *opt, option_id id, const output_names *names, uint64_t seed)
{
    bool good = true;
    for (int i = 0; good && i < names->count; i++) {
        char *name = output_name(names, seed + (uint64_t)i, i);
        good = !name || take(files, opt, id, name); /* without memory the run ends soon anyway */
        free(name);
    }
    return good;
}

bool outputs_distinct(const options *opt, const output_names *pictures, const output_names *previews, uint64_t seed)
{
    taken files = {0};
    bool good = true, others = previews != NULL;
    for (size_t i = 0; i < SINGLE; i++)
        others = others || opt->values[single[i]].given;
    if (pictures && others && !output_is_stream(pictures))
        good = take_numbered(&files, opt, OPT_OUTPUT, pictures, seed);
    if (good && previews)
        good = take_numbered(&files, opt, OPT_PREVIEW, previews, seed);
    for (size_t i = 0; good && i < SINGLE; i++)
        if (opt->values[single[i]].given)
            good = take(&files, opt, single[i], opt->values[single[i]].text);
    taken_free(&files);
    return good;
}
