#include "cli/shared_model.h"

#include "base/clock.h"
#include "cli/console.h"
#include "cli/launcher.h"
#include "cli/lora_files.h"
#include "cli/verbose.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct opened_lora {
    flux1_adapter *adapter;
    struct opened_lora *next;
    char path[];
} opened_lora;

static void on_warning(void *user, flux1_log_level level, const char *message)
{
    (void)user;
    if (level == FLUX1_LOG_WARNING)
        print_warning("%s", message);
}

static int open_once(shared_model *s)
{
    flux1_model_parts parts;
    if (!name_parts(s->opt, &parts))
        return EXIT_USAGE;
    int status = s->context ? EXIT_DONE : open_context(s->opt, &s->context);
    if (status != EXIT_DONE)
        return status;
    s->info.size = sizeof s->info;
    flux1_status st = flux1_context_get_info(s->context, &s->info);
    if (st != FLUX1_OK)
        return report(s->context, st);
    watch_signals(s->context);
    double start = clock_seconds();
    if ((st = flux1_model_open_parts(s->context, &parts, &s->model)) != FLUX1_OK)
        return report_opening(s->opt, s->context, st);
    s->load_seconds = clock_seconds() - start;
    st = open_plain_context(on_warning, &s->writer);
    if (st == FLUX1_OK && s->opt->values[OPT_VERBOSE].given)
        verbose_tell(s, &parts);
    return st == FLUX1_OK ? EXIT_DONE : report(s->writer, st);
}

int shared_model_join(shared_model *s)
{
    return launcher_processes() > 1 ? open_context(s->opt, &s->context) : EXIT_DONE;
}

int shared_model_open(shared_model *s)
{
    int status = s->model ? EXIT_DONE : open_once(s);
    s->failed = status != EXIT_DONE;
    return status;
}

/* ---- adapters ---- */

static int open_lora(shared_model *s, const char *path, size_t length, opened_lora **out)
{
    for (opened_lora *l = s->loras; l; l = l->next)
        if (strlen(l->path) == length && memcmp(l->path, path, length) == 0) {
            *out = l;
            return EXIT_DONE;
        }
    opened_lora *l = calloc(1, sizeof *l + length + 1);
    if (!l)
        return report(NULL, FLUX1_ERR_MEMORY);
    memcpy(l->path, path, length);
    flux1_status st = flux1_adapter_open(s->context, s->model, l->path, &l->adapter);
    if (st != FLUX1_OK) {
        free(l);
        return report(s->context, st);
    }
    l->next = s->loras;
    s->loras = *out = l;
    return EXIT_DONE;
}

/* applied 304 of 304 (rank 16, scale 0.8), and which kinds where they are not plain LoRA alone. */
static void tell(const opened_lora *l, float scale)
{
    flux1_adapter_info info = {.size = sizeof info};
    char ranks[64] = "", kinds[128] = "";
    flux1_adapter_get_info(l->adapter, &info);
    if (strcmp(info.kinds, "LoRA") != 0)
        snprintf(kinds, sizeof kinds, "%s, ", info.kinds);
    if (info.rank_min < info.rank_max)
        snprintf(ranks, sizeof ranks, "ranks %d to %d, ", info.rank_min, info.rank_max);
    else if (info.rank_max > 0)
        snprintf(ranks, sizeof ranks, "rank %d, ", info.rank_max);
    print_note("%s: applied %d of %d (%s%sscale %g)", l->path, info.applied, info.pairs, kinds, ranks, (double)scale);
}

int shared_model_adapters(shared_model *s, const options *opt, flux1_adapter_use *uses)
{
    for (int i = 0; i < opt->loras; i++) {
        opened_lora *l = NULL;
        float scale;
        size_t length;
        if (!lora_split(opt->lora[i], &length, &scale))
            return EXIT_USAGE;
        int status = open_lora(s, opt->lora[i], length, &l);
        if (status != EXIT_DONE)
            return status;
        uses[i] = (flux1_adapter_use){l->adapter, scale};
        tell(l, scale);
    }
    return EXIT_DONE;
}

void shared_model_close(shared_model *s)
{
    watch_signals(NULL);
    for (opened_lora *l = s->loras, *next; l; l = next) {
        next = l->next;
        flux1_adapter_close(l->adapter);
        free(l);
    }
    flux1_model_close(s->model);
    flux1_context_destroy(s->writer);
    flux1_context_destroy(s->context);
}
