#include "cli/request_state.h"

#include "base/clock.h"
#include "cli/console.h"
#include "cli/from.h"
#include "cli/latents.h"
#include "cli/taken.h"
#include "flux1_tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void write_preview(request *r, const flux1_image *preview)
{
    char *name = output_name(&r->previews, preview->seed, preview->index);
    flux1_status st = name ? flux1_image_write(r->s->writer, preview, r->s->model, &r->params, &r->preview_how, name)
                           : FLUX1_ERR_MEMORY;
    free(name);
    if (st == FLUX1_OK)
        return;
    r->preview_failed = true; /* the picture itself may still come out */
    print_warning("previews stop: %s", name ? flux1_context_message(r->s->writer) : flux1_status_text(st));
}

static int on_progress(void *user, const flux1_progress *now)
{
    request *r = user;
    if (!now->preview) /* one is of any picture of the batch, and no stage begins or ends with it */
        progress_update(&r->progress, now);
    if (r->hooks.progress)
        r->hooks.progress(r->hooks.user, now);
    if (now->preview && !r->preview_failed)
        write_preview(r, now->preview);
    return was_interrupted();
}

/* Of latents from a file the picture says what the file says. */
static flux1_write_params writing_of(const request *r, const flux1_image *image)
{
    flux1_write_params how = r->how;
    if (r->hooks.latents) {
        how.parameters = flux1_latents_text(r->hooks.latents, image->index, "parameters");
        how.json = flux1_latents_text(r->hooks.latents, image->index, "flux1");
        how.parameters = how.parameters ? how.parameters : "";
        how.json = how.json ? how.json : "";
    }
    return how;
}

/* To standard output, which takes nothing else then. */
static int write_stream(request *r, const flux1_image *image)
{
    uint8_t *bytes;
    size_t count;
    const flux1_write_params how = writing_of(r, image);
    flux1_status st = flux1_image_encode(r->s->writer, image, r->s->model, &r->params, &how, &bytes, &count);
    if (st != FLUX1_OK)
        return report(r->s->writer, st);
    fwrite(bytes, 1, count, stdout);
    flux1_bytes_free(bytes);
    return finish_output(EXIT_DONE);
}

/* Writes the picture and prints its name. */
static int write_picture(request *r, const flux1_image *image)
{
    picture *p = &r->pictures[image->index];
    bool claimed;
    if (output_is_stream(&r->names))
        return write_stream(r, image);
    p->name = output_claim(&r->names, image->seed, image->index, &claimed);
    if (!p->name)
        return report(NULL, FLUX1_ERR_MEMORY);
    const flux1_write_params how = writing_of(r, image);
    flux1_status st = flux1_image_write(r->s->writer, image, r->s->model, &r->params, &how, p->name);
    if (st != FLUX1_OK && claimed)
        unlink(p->name);
    if (st != FLUX1_OK)
        return report(r->s->writer, st);
    p->written = true;
    p->seed = image->seed;
    p->width = image->width;
    p->height = image->height;
    p->steps_reused = image->steps_reused;
    if (r->hooks.taken)
        taken_add(r->hooks.taken, p->name, r->hooks.line);
    if (r->opt->values[OPT_JSON].given || r->hooks.answer)
        return EXIT_DONE;
    console_wipe();
    print_name(p->name);
    return finish_output(EXIT_DONE);
}

/* A finished picture leaves at once, also when the run was interrupted meanwhile: those behind it may take long, or
 * fail. */
static int on_image(void *user, const flux1_image *image)
{
    request *r = user;
    double start = clock_seconds();
    r->failure = write_picture(r, image);
    r->write_seconds += clock_seconds() - start;
    r->pictures[image->index].distance = step_check_tell(&r->check, image);
    return r->failure != EXIT_DONE || was_interrupted();
}

/* Of a picture that could not be decoded: its latents go where it would have gone. A file that was written is told of
 * after the reason; one that could not be is a warning, as the request's error is the decode's. */
static void on_undecoded(void *user, const flux1_image *image, const flux1_latents *latents)
{
    request *r = user;
    picture *p = &r->pictures[image->index];
    output_names names = r->names;
    if (output_is_stream(&names))
        names.output = NULL;
    char *name = output_name(&names, image->seed, image->index);
    p->latents = name ? latents_claim(name) : NULL;
    free(name);
    if (!p->latents)
        return;
    if (flux1_latents_write(r->s->writer, latents, image, r->s->model, &r->params, p->latents) == FLUX1_OK)
        return;
    print_warning("the latents are not kept: %s", flux1_context_message(r->s->writer));
    unlink(p->latents);
    free(p->latents);
    p->latents = NULL;
}

static void tell_of_latents(const request *r)
{
    for (int i = 0; r->pictures && i < r->params.count; i++) {
        if (!r->pictures[i].latents)
            continue;
        char *output = r->opt->values[OPT_OUTPUT].given && !output_is_stream(&r->names)
                           ? output_name(&r->names, r->params.seed + (uint64_t)i, i)
                           : NULL;
        latents_tell(r->pictures[i].latents, output, r->opt);
        free(output);
    }
}

static void free_request(request *r)
{
    step_check_free(&r->check);
    for (int i = 0; r->pictures && i < r->params.count; i++) {
        free(r->pictures[i].name);
        free(r->pictures[i].latents);
    }
    flux1_latents_close(r->initial);
    free(r->pictures);
    free(r->prompt);
}

static void set_callbacks(request *r)
{
    r->params.adapters = r->adapters;
    r->params.adapter_count = r->opt->loras;
    r->params.text = r->hooks.text;
    r->params.negative_text = r->hooks.negative_text;
    r->params.progress = on_progress;
    r->params.progress_user = r;
    r->params.image = on_image;
    r->params.image_user = r;
    r->params.undecoded = r->hooks.latents ? NULL : on_undecoded; /* they are in a file already */
    r->params.cancel = signal_token();
}

/* With --step-cache-check twice: in full first. */
static flux1_status make_pictures(request *r)
{
    shared_model *s = r->s;
    flux1_generate_params *p = &r->params;
    flux1_status st = was_interrupted() ? FLUX1_ERR_CANCELLED : FLUX1_OK;
    set_callbacks(r);
    progress_begin(&r->progress, r->opt->values[OPT_QUIET].given);
    if (st == FLUX1_OK && r->opt->values[OPT_STEP_CACHE_CHECK].given && p->step_cache > 0) {
        st = step_check_make(&r->check, s->context, s->model, p);
        r->failure = r->check.failed ? EXIT_FAILED : r->failure;
        progress_end(&r->progress, st == FLUX1_OK);
        if (st == FLUX1_OK)
            print_note("without the step cache: %.1f s", r->check.seconds);
        progress_begin(&r->progress, r->opt->values[OPT_QUIET].given);
    }
    if (st == FLUX1_OK)
        st = r->hooks.latents     ? flux1_decode(s->context, s->model, flux1_latents_of(r->hooks.latents), p, NULL)
             : r->hooks.recording ? flux1_recording_run(s->context, s->model, r->hooks.recording, p, NULL)
                                  : flux1_generate(s->context, s->model, p, NULL);
    progress_end(&r->progress, st == FLUX1_OK);
    return st;
}

/* The file of latents, if the message is about them: the library has been given values alone. */
static const char *blamed_file(const request *r)
{
    const char *message = flux1_context_message(r->s->context);
    const bool blames = strncmp(message, "latents", 7) == 0 || strncmp(message, "packed latents", 14) == 0;
    return !blames ? NULL : r->hooks.latents ? r->opt->operand : r->opt->values[OPT_LATENTS].text;
}

int request_run(shared_model *s, const options *opt, const request_hooks *hooks)
{
    request r = {.s = s, .opt = opt, .began = clock_seconds()};
    if (hooks)
        r.hooks = *hooks;
    int status = request_prepare(&r);
    if (status == EXIT_DONE)
        status = shared_model_open(s);
    if (status == EXIT_DONE && r.hooks.repeats)
        from_picture_compare(r.hooks.repeats, s->info.dtype);
    if (status == EXIT_DONE)
        status = request_prepare_files(&r);
    if (status == EXIT_DONE)
        status = shared_model_adapters(s, opt, r.adapters);
    if (status == EXIT_DONE) {
        const flux1_status st = make_pictures(&r);
        status = r.failure != EXIT_DONE ? r.failure : report_about(s->context, st, blamed_file(&r));
    }
    tell_of_latents(&r);
    if (status == EXIT_DONE || r.hooks.answer)
        request_print_results(&r, status);
    if (status != EXIT_DONE)
        request_print_finished(&r);
    free_request(&r);
    console_forget_warnings();
    return status;
}
