#include "cli/progress.h"

#include "cli/console.h"

#include <stdio.h>
#include <time.h>

#define BAR 24
#define REDRAW_SECONDS 0.1

const char *const progress_stage_keys[STAGES] = {"load", "text", "denoise", "decode"};
static const char *const stage_titles[STAGES] = {"load", "text encoders", "denoise", "decode"};

double monotonic_seconds(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void progress_begin(progress *p, bool quiet)
{
    *p = (progress){.quiet = quiet, .terminal = console_is_terminal(), .drawn = -1};
}

/* "image 2/3, " where there are several. */
static void image_prefix(const progress *p, char text[48])
{
    text[0] = '\0';
    if (p->images > 1 && p->stage >= FLUX1_STAGE_DENOISE)
        snprintf(text, 48, "image %d/%d, ", p->image + 1, p->images);
}

void duration(double seconds, char text[32])
{
    int whole = (int)(seconds + 0.5);
    if (seconds < 10)
        snprintf(text, 32, "%.1f s", seconds);
    else if (whole < 120)
        snprintf(text, 32, "%d s", whole);
    else if (whole < 7200)
        snprintf(text, 32, "%d min %02d s", whole / 60, whole % 60);
    else
        snprintf(text, 32, "%d h %02d min", whole / 3600, whole / 60 % 60);
}

/* The stage that ended, on a line of its own. */
static void tell_stage(const progress *p, double end)
{
    char prefix[48], time[32], steps[32] = "";
    if (p->quiet || p->terminal)
        return;
    image_prefix(p, prefix);
    duration(end - p->stage_start, time);
    if (p->stage == FLUX1_STAGE_DENOISE)
        snprintf(steps, sizeof steps, "%d step%s, ", p->steps, p->steps == 1 ? "" : "s");
    print_note("%s%s: %s%s", prefix, stage_titles[p->stage], steps, time);
}

static void draw(const progress *p, const flux1_progress *now)
{
    char prefix[48], steps[32] = "", left[48] = "", time[32], bar[BAR + 1], line[256];
    int full = (int)(now->fraction * BAR);
    image_prefix(p, prefix);
    if (now->stage == FLUX1_STAGE_DENOISE)
        snprintf(steps, sizeof steps, " %d/%d", now->step, now->steps);
    if (now->seconds_left >= 0) {
        duration(now->seconds_left, time);
        snprintf(left, sizeof left, "  %s left", time);
    }
    for (int i = 0; i < BAR; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR] = '\0';
    snprintf(line, sizeof line, "%s%s%s  [%s] %3.0f%%%s", prefix, stage_titles[p->stage], steps, bar,
             100 * now->fraction, left);
    console_redraw(line);
}

void progress_update(progress *p, const flux1_progress *now)
{
    int stage = (int)now->stage;
    if (stage < 0 || stage >= STAGES)
        return;
    bool changed = !p->started || stage != p->stage || now->image != p->image;
    /* a stage's first call says that the one before is over; every other call, that its own stage has come so far */
    bool first_of_stage = changed && now->stage_fraction <= 0;
    if (p->started)
        p->seconds[first_of_stage ? p->stage : stage] += now->seconds - p->last;
    else
        p->seconds[stage] += now->seconds;
    if (changed && p->started) {
        double end = first_of_stage ? now->seconds : p->last;
        tell_stage(p, end);
        p->stage_start = end;
    }
    p->started = true;
    p->stage = stage;
    p->image = now->image;
    p->images = now->images;
    p->steps = now->steps;
    p->last = now->seconds;
    if (!p->quiet && p->terminal && (changed || now->seconds - p->drawn >= REDRAW_SECONDS)) {
        draw(p, now);
        p->drawn = now->seconds;
    }
}

void progress_end(progress *p, bool finished)
{
    console_wipe();
    if (finished && p->started)
        tell_stage(p, p->last);
}
