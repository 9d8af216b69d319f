/* Three strips: the whole step, then one of its first blocks and one of its last enlarged. In each strip the upper lane
 * has what the rank does (computing, or waiting for an exchange), the lower lane what its links do at the same time. */
#include "tools/timeline.h"

#include "base/builder.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 1600, MARGIN = 20, LANE = 40, STRIP = 150, TOP = 50, LEGEND = 40 };

static const char *const COLOUR[COSTS] = {
    [COST_PRODUCTS] = "#3b6fb6",    [COST_ATTENTION] = "#7b4fa3",   [COST_CONVOLUTIONS] = "#2f8f83",
    [COST_MEMORY] = "#9aa5b1",      [COST_LAUNCH] = "#d9d9d9",      [COST_EXCHANGE_SP] = "#e08a1e",
    [COST_EXCHANGE_TP] = "#c8412b", [COST_EXCHANGE_ALL] = "#8a5a2b"};

static bool is_exchange(cost_part p) { return p >= COST_EXCHANGE_SP; }

/* ---- spans ---- */

static bool has_suffix(const char *text, const char *suffix)
{
    size_t n = strlen(text), k = strlen(suffix);
    return n >= k && strcmp(text + n - k, suffix) == 0;
}

static bool room_for(void **list, size_t count, int more, size_t size)
{
    void *larger = more ? realloc(*list, 2 * (count + 8) * size) : *list;
    if (larger)
        *list = larger;
    return larger != NULL;
}

static int block_number(timeline *t, const char *name)
{
    if (!name)
        return -1;
    if (t->blocks > 0 && strncmp(t->block[t->blocks - 1], name, sizeof *t->block - 1) == 0)
        return t->blocks - 1;
    void *names = t->block;
    if (!room_for(&names, (size_t)t->blocks, t->blocks == t->block_capacity, sizeof *t->block)) {
        t->failed = true;
        return -1;
    }
    if (t->blocks == t->block_capacity)
        t->block_capacity = 2 * (t->blocks + 8);
    t->block = names;
    snprintf(t->block[t->blocks], sizeof *t->block, "%s", name);
    return t->blocks++;
}

void timeline_hear(void *user, cost_part part, const char *operation, const char *in, double begin, double end)
{
    timeline *t = user;
    bool hidden = has_suffix(operation, "_begin");
    int number = block_number(t, in);
    timeline_span *last = t->count ? &t->span[t->count - 1] : NULL;
    begin -= t->origin;
    end -= t->origin;
    if (last && last->part == part && last->hidden == hidden && last->block == number && begin <= last->end) {
        last->end = end;
        return;
    }
    void *spans = t->span;
    if (!room_for(&spans, t->count, t->count == t->capacity, sizeof *t->span)) {
        t->failed = true;
        return;
    }
    if (t->count == t->capacity)
        t->capacity = 2 * (t->count + 8);
    t->span = spans;
    t->span[t->count++] = (timeline_span){part, hidden, begin, end, number};
}

void timeline_free(timeline *t)
{
    free(t->span);
    free(t->block);
    *t = (timeline){0};
}

/* ---- the picture ---- */

/* <, & and " of names; the title is ours. */
static void add_escaped(builder *b, const char *text)
{
    for (; *text; text++)
        switch (*text) {
        case '<': builder_add(b, "&lt;"); break;
        case '>': builder_add(b, "&gt;"); break;
        case '&': builder_add(b, "&amp;"); break;
        case '"': builder_add(b, "&quot;"); break;
        default:
            if ((unsigned char)*text >= ' ')
                builder_add_bytes(b, text, 1);
        }
}

static void add_text(builder *b, double x, double y, const char *text)
{
    builder_format(b, "<text x=\"%.1f\" y=\"%.1f\">", x, y);
    add_escaped(b, text);
    builder_add(b, "</text>\n");
}

static void add_bar(builder *b, const timeline *t, const timeline_span *s, double x, double width, double y)
{
    builder_format(b, "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%d\" fill=\"%s\"><title>%s", x, y, width,
                   LANE, COLOUR[s->part], cost_name(s->part));
    if (s->block >= 0) {
        builder_add(b, ", ");
        add_escaped(b, t->block[s->block]);
    }
    builder_format(b, ", %.3f ms%s</title></rect>\n", 1e3 * (s->end - s->begin),
                   s->hidden ? " (behind computing)" : "");
}

/* From `begin` to `end`, over the whole width. */
static void add_strip(builder *b, const timeline *t, double begin, double end, double y)
{
    double scale = end > begin ? (WIDTH - 2 * MARGIN) / (end - begin) : 0;
    for (size_t i = 0; i < t->count; i++) {
        const timeline_span *s = &t->span[i];
        double from = s->begin > begin ? s->begin : begin, to = s->end < end ? s->end : end;
        double x = MARGIN + (from - begin) * scale, width = (to - from) * scale;
        if (width < 0.05) /* invisible */
            continue;
        if (!s->hidden)
            add_bar(b, t, s, x, width, y);
        if (is_exchange(s->part))
            add_bar(b, t, s, x, width, y + LANE + 4);
    }
    builder_format(b, "<path d=\"M%d %.1f H%d\" stroke=\"#333\"/>\n", MARGIN, y + 2 * LANE + 8, WIDTH - MARGIN);
    char label[48];
    snprintf(label, sizeof label, "%.3f ms", 1e3 * begin);
    add_text(b, MARGIN, y + 2 * LANE + 24, label);
    snprintf(label, sizeof label, "%.3f ms", 1e3 * end);
    add_text(b, WIDTH - MARGIN - 80, y + 2 * LANE + 24, label);
}

/* The time of one block of the step. */
static void block_extent(const timeline *t, int number, double *begin, double *end)
{
    *begin = 1e300;
    *end = 0;
    for (size_t i = 0; i < t->count; i++)
        if (t->span[i].block == number) {
            *begin = t->span[i].begin < *begin ? t->span[i].begin : *begin;
            *end = t->span[i].end > *end ? t->span[i].end : *end;
        }
}

static double block_seconds(const timeline *t, int number)
{
    double begin, end;
    block_extent(t, number, &begin, &end);
    return end > begin ? end - begin : 0;
}

/* The first and the last of the long blocks: embedders and the like are short. −1: there is none, or one alone. */
static void choose_blocks(const timeline *t, int shown[2])
{
    double longest = 0;
    shown[0] = shown[1] = -1;
    for (int i = 0; i < t->blocks; i++)
        longest = block_seconds(t, i) > longest ? block_seconds(t, i) : longest;
    for (int i = 0; i < t->blocks; i++)
        if (longest > 0 && block_seconds(t, i) >= longest / 3)
            shown[shown[0] < 0 ? 0 : 1] = i;
}

static void add_legend(builder *b, double y)
{
    double x = MARGIN;
    for (cost_part p = 0; p < COSTS; p++, x += 190) {
        builder_format(b, "<rect x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"14\" fill=\"%s\"/>\n", x, y, COLOUR[p]);
        add_text(b, x + 20, y + 12, cost_name(p));
    }
}

static void draw(builder *b, const timeline *t, const char *title)
{
    double end = 0, y = TOP + LEGEND;
    for (size_t i = 0; i < t->count; i++)
        end = t->span[i].end > end ? t->span[i].end : end;
    int shown[2];
    choose_blocks(t, shown);
    builder_format(b,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" "
                   "font-size=\"13\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
                   WIDTH, TOP + LEGEND + 3 * STRIP);
    add_text(b, MARGIN, 24, title);
    add_legend(b, TOP - 10);
    add_text(b, MARGIN, y - 6, "the step: above, what the rank does; below, what its links do");
    add_strip(b, t, 0, end, y);
    for (int i = 0; i < 2; i++) {
        double from, to;
        if (shown[i] < 0)
            continue;
        y += STRIP;
        block_extent(t, shown[i], &from, &to);
        add_text(b, MARGIN, y - 6, t->block[shown[i]]);
        add_strip(b, t, from, to, y);
    }
    builder_add(b, "</svg>\n");
}

flux1_status timeline_write(const timeline *t, const char *title, const char *path, flux1_error *err)
{
    builder b = {0};
    char *text = NULL;
    file_writer file = {0};
    flux1_status st;
    if (t->failed)
        return error_oom(err, 0, "the timeline");
    draw(&b, t, title);
    TRY(builder_take(&b, "the timeline", &text, err));
    TRY_CLEANUP(file_begin(path, &file, err));
    if (fputs(text, file.stream) < 0) {
        st = error_io(err, path, "write");
        goto cleanup;
    }
    st = file_commit(&file, err);
    file = (file_writer){0};
cleanup:
    file_abandon(&file);
    free(text);
    return st;
}

flux1_status timeline_check(const char *path, flux1_error *err)
{
    return has_suffix(path, ".svg")
               ? file_check_writable(path, err)
               : error_set(err, FLUX1_ERR_ARGUMENT,
                           "timeline \"%s\": it is drawn as SVG, so its name should end in .svg", path);
}
