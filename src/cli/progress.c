#include "cli/progress.h"

#include "cli/console.h"

#include <stdio.h>
#include <string.h>

#define BAR 16 /* so that a line with several pictures and all numbers fits 79 columns */
#define REDRAW_SECONDS 0.1

const char *const progress_stage_keys[STAGES] = {"load", "text", "denoise", "decode"};
static const char *const stage_titles[STAGES] = {"load", "text encoders", "denoise", "decode"};

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

/* "1.23", "12.3", "123" */
static const char *three_digits(double value, char text[16])
{
    snprintf(text, 16, "%.*f", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value);
    return text;
}

/* The same as duration, for narrow terminals: "45s", "3m05s", "2h10m" */
static void short_duration(double seconds, char text[32])
{
    const int whole = (int)(seconds + 0.5);
    if (whole < 120)
        snprintf(text, 32, "%ds", whole);
    else if (whole < 7200)
        snprintf(text, 32, "%dm%02ds", whole / 60, whole % 60);
    else
        snprintf(text, 32, "%dh%02dm", whole / 3600, whole / 60 % 60);
}

/* The stage that ended, on a line of its own. */
static void tell_stage(const progress *p, double end)
{
    char prefix[48], time[32], steps[32] = "", each[32] = "", number[16];
    if (p->quiet || p->terminal)
        return;
    image_prefix(p, prefix);
    duration(end - p->stage_start, time);
    if (p->stage == FLUX1_STAGE_DENOISE && p->steps > 0)
        snprintf(steps, sizeof steps, "%d step%s, ", p->steps, p->steps == 1 ? "" : "s");
    if (p->stage == FLUX1_STAGE_DENOISE && p->steps > 1)
        snprintf(each, sizeof each, " (%s s/step)", three_digits((end - p->stage_start) / p->steps, number));
    print_note("%s%s: %s%s%s", prefix, stage_titles[p->stage], steps, time, each);
}

/* What a drawn line can tell; a text is "" where there is nothing to tell. */
typedef struct facts {
    char prefix[48], bar[BAR + 3], steps[32], each[32], left[32], short_left[32];
    int percent;
    const char *title;
} facts;

static void collect(const progress *p, const flux1_progress *now, facts *f)
{
    const int full = (int)(now->fraction * BAR);
    char number[16];
    *f = (facts){.percent = (int)(100 * now->fraction), .title = stage_titles[p->stage]};
    image_prefix(p, f->prefix);
    f->bar[0] = '[';
    for (int i = 0; i < BAR; i++)
        f->bar[1 + i] = i < full ? '#' : '.';
    f->bar[1 + BAR] = ']';
    if (now->stage == FLUX1_STAGE_DENOISE && now->steps > 0)
        snprintf(f->steps, sizeof f->steps, "%d/%d", now->step, now->steps);
    if (f->steps[0] && now->step > 0)
        snprintf(f->each, sizeof f->each, "%s", three_digits((now->seconds - p->stage_start) / now->step, number));
    if (now->seconds_left >= 0) {
        duration(now->seconds_left, f->left);
        short_duration(now->seconds_left, f->short_left);
    }
}

/* The form-th of the lines, from the widest to the narrowest. Returns false behind the last. */
static bool compose(const facts *f, int form, char *line, size_t room)
{
    const char *gap = f->steps[0] ? " " : "", *rate = f->each[0] ? " s/step" : "", *sep = f->each[0] ? "  " : "",
               *left = f->left[0] ? " left" : "", *tight = f->each[0] ? "s/step " : "";
    switch (form) {
    case 0:
        snprintf(line, room, "%s%s%s%s  %s %3d%%%s%s%s  %s%s", f->prefix, f->title, gap, f->steps, f->bar, f->percent,
                 sep, f->each, rate, f->left, left);
        return true;
    case 1:
        snprintf(line, room, "%s%s%s%s %3d%%%s%s%s  %s%s", f->prefix, f->title, gap, f->steps, f->percent, sep, f->each,
                 rate, f->left, left);
        return true;
    case 2:
        snprintf(line, room, "%s%s%s %d%% %s%s%s", f->title, gap, f->steps, f->percent, f->each, tight, f->short_left);
        return true;
    case 3:
        if (f->steps[0])
            snprintf(line, room, "%s %s%s%s", f->steps, f->each, tight, f->short_left);
        else
            snprintf(line, room, "%s %d%% %s", f->title, f->percent, f->short_left);
        return true;
    case 4: snprintf(line, room, "%d%% %s", f->percent, f->short_left); return true;
    default: return false;
    }
}

static void draw(const progress *p, const flux1_progress *now)
{
    char line[256] = "";
    facts f;
    collect(p, now, &f);
    for (int form = 0; compose(&f, form, line, sizeof line) && (int)strlen(line) > console_width(); form++) {
    }
    size_t end = strlen(line);
    while (end > 0 && line[end - 1] == ' ')
        end--;
    line[end] = '\0';
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
