/* What --device can name on this machine. */
#include "base/json_write.h"
#include "flux1_tools.h"
#include "ops/ttnn_setup.h"
#include "pipeline/context.h"

#include <stdio.h>
#include <stdlib.h>

static void describe(json_writer *w, const ops_device_info *d)
{
    json_begin_object(w, NULL);
    json_put_string(w, "device", d->id);
    json_put_string(w, "name", d->name);
    if (d->memory > 0) /* else it computes in the host's */
        json_put_unsigned(w, "memory", d->memory);
    json_put_bool(w, "multiplies bf16", d->bf16_native);
    json_put_bool(w, "multiplies fp8", d->fp8);
    json_put_bool(w, "multiplies int8", d->int8);
    for (int i = 0; i < d->facts; i++) {
        const ops_fact *f = &d->fact[i];
        if (f->text[0])
            json_put_string(w, f->name, f->text);
        else
            json_put_integer(w, f->name, f->number);
    }
    json_end_object(w);
}

static void describe_kind(json_writer *w, const ops_device_kind *kind)
{
    int count = 0;
    flux1_error none = {0};
    if (kind->count(&count, &none) != FLUX1_OK)
        return;
    for (int i = 0; i < count; i++) {
        ops_device_info info;
        flux1_error problem = {0};
        if (kind->describe(i, &info, &problem) == FLUX1_OK) {
            describe(w, &info);
            continue;
        }
        json_begin_object(w, NULL);
        json_put_string(w, "device", kind->name);
        json_put_string(w, "problem", problem.message);
        json_end_object(w);
    }
}

/* Why there is none of this kind. */
static flux1_status describe_absence(json_writer *w, const ops_device_kind *kind, flux1_error *err)
{
    int count = 0;
    char key[40];
    flux1_error none = {0};
    if (kind->count(&count, &none) != FLUX1_OK)
        return error_set(err, none.status, "%s", none.message);
    snprintf(key, sizeof key, "no %s", kind->name);
    if (none.message[0])
        json_put_string(w, key, none.message);
    return FLUX1_OK;
}

static void describe_libraries(json_writer *w, const ops_device_kind *kind)
{
    ops_library list[OPS_LIBRARIES];
    int count = kind->libraries ? kind->libraries(list) : 0;
    if (count == 0)
        return;
    char key[40];
    snprintf(key, sizeof key, "libraries of %s", kind->name);
    json_begin_array(w, key);
    for (int i = 0; i < count; i++) {
        const ops_library *l = &list[i];
        json_begin_object(w, NULL);
        json_put_string(w, "library", l->name);
        json_put_string(w, "version", l->version[0] ? l->version : NULL); /* a table: rows have the same columns */
        json_put_string(w, "path", l->path);
        json_put_string(w, "missing", l->missing);
        json_end_object(w);
    }
    json_end_array(w);
}

/* ---- Tenstorrent's cards: no device of a context yet ---- */

static void describe_card(json_writer *w, const card *c)
{
    char node[CARD_TEXT];
    snprintf(node, sizeof node, "/dev/tenstorrent/%d", c->number);
    json_begin_object(w, NULL);
    json_put_string(w, "card", c->number < 0 ? NULL : node);
    json_put_string(w, "board", c->board[0] ? c->board : NULL);
    json_put_string(w, "chip", c->chip_name);
    json_put_string(w, "bus", c->bus);
    json_put_string(w, "serial", c->serial[0] ? c->serial : NULL);
    json_put_string(w, "firmware", c->firmware[0] ? c->firmware : NULL);
    json_put_string(w, "problem", c->problem[0] ? c->problem : NULL);
    json_end_object(w);
}

/* What ttnn needs is looked for where there is a card: it takes starting a Python. */
static void describe_cards(json_writer *w, const cards *found)
{
    ttnn_setup setup;
    if (found->count == 0)
        return;
    json_begin_array(w, "Tenstorrent cards");
    for (int i = 0; i < found->count; i++)
        describe_card(w, &found->card[i]);
    json_end_array(w);
    ttnn_setup_find("", found, &setup);
    json_begin_array(w, "what they need");
    for (int i = 0; i < TTNN_NEED_COUNT; i++) {
        const ttnn_part *p = &setup.part[i];
        json_begin_object(w, NULL);
        json_put_string(w, "part", p->name);
        json_put_string(w, "found", p->found[0] ? p->found : NULL);
        json_put_string(w, "missing", p->missing[0] ? p->missing : NULL);
        json_end_object(w);
    }
    json_end_array(w);
}

flux1_status flux1_devices_json(flux1_context *c, char **json)
{
    flux1_status st = FLUX1_OK;
    json_writer w = {.style = JSON_INDENTED};
    cards found;
    TRY(context_begin(c));
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    TRY(cards_find("", &found, &c->error));
    json_begin_object(&w, NULL);
    for (const ops_device_kind *const *k = ops_device_kinds; *k && st == FLUX1_OK; k++)
        st = describe_absence(&w, *k, &c->error);
    if (found.count == 0)
        json_put_string(&w, "no tenstorrent", "no card of Tenstorrent's on the PCI bus");
    json_begin_array(&w, "devices");
    for (const ops_device_kind *const *k = ops_device_kinds; *k; k++)
        describe_kind(&w, *k);
    json_end_array(&w);
    for (const ops_device_kind *const *k = ops_device_kinds; *k; k++)
        describe_libraries(&w, *k);
    describe_cards(&w, &found);
    json_end_object(&w);
    flux1_status written = json_take(&w, "the list of devices", json, st == FLUX1_OK ? &c->error : NULL);
    if (st == FLUX1_OK)
        return written;
    free(*json);
    *json = NULL;
    return st;
}
