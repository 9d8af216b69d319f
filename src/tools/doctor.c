/* What would keep this machine from making pictures, one line a check, with what to do. */
#include "base/file.h"
#include "base/hub.h"
#include "base/json_write.h"
#include "base/limits.h"
#include "base/units.h"
#include "flux1_tools.h"
#include "ops/ttnn_setup.h"
#include "pipeline/context.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MEMORY_LEAST (512.0 * 1024 * 1024)      /* the mini model's pictures, and some more */
#define DISK_LEAST (64.0 * 1024 * 1024)         /* of the working folder: pictures */
#define MODEL_BYTES (34.0 * 1024 * 1024 * 1024) /* FLUX.1 as published */

typedef struct doctor {
    json_writer w;
    int wrong;
    flux1_context *c;
    const flux1_doctor_params *params;
} doctor;

static void put(doctor *d, const char *check, const char *state, const char *found, const char *remedy)
{
    json_begin_object(&d->w, NULL);
    json_put_string(&d->w, "check", check);
    json_put_string(&d->w, "state", state);
    json_put_string(&d->w, "found", found);
    json_put_string(&d->w, "remedy", remedy);
    json_end_object(&d->w);
}

static void ok(doctor *d, const char *check, const char *found) { put(d, check, "ok", found, NULL); }

/* Wrong where it is asked for, otherwise a note. */
static void lacks(doctor *d, const char *check, bool asked, const char *found, const char *remedy)
{
    d->wrong += asked;
    put(d, check, asked ? "wrong" : "note", found, remedy);
}

static bool asks_for(const doctor *d, const char *device)
{
    return d->params->device && strcmp(d->params->device, device) == 0;
}

/* ---- devices ---- */

static void check_device(doctor *d, const ops_device_kind *kind, int ordinal)
{
    ops_device_info info;
    flux1_error problem = {0};
    char found[256], bytes[BYTES_TEXT];
    if (kind->describe(ordinal, &info, &problem) != FLUX1_OK) {
        lacks(d, kind->name, asks_for(d, kind->name), problem.message, NULL);
        return;
    }
    if (info.memory)
        snprintf(found, sizeof found, "%s: %s, %s", info.id, info.name,
                 format_bytes(bytes, sizeof bytes, (double)info.memory));
    else
        snprintf(found, sizeof found, "%s", info.name);
    ok(d, kind->name, found);
}

static void check_libraries(doctor *d, const ops_device_kind *kind)
{
    ops_library list[OPS_LIBRARIES];
    char found[512];
    const int count = kind->libraries ? kind->libraries(list) : 0;
    for (int i = 0; i < count; i++) {
        snprintf(found, sizeof found, "%s %s", list[i].version, list[i].path ? list[i].path : "is missing");
        if (list[i].missing)
            lacks(d, list[i].name, asks_for(d, kind->name), "missing", list[i].missing);
        else
            ok(d, list[i].name, found);
    }
}

static void check_kind(doctor *d, const ops_device_kind *kind)
{
    int count = 0;
    flux1_error none = {0};
    if (kind->count(&count, &none) != FLUX1_OK || count == 0)
        lacks(d, kind->name, asks_for(d, kind->name), "none", none.message[0] ? none.message : NULL);
    for (int i = 0; i < count; i++)
        check_device(d, kind, i);
    if (count)
        check_libraries(d, kind);
}

/* Every kind but the reference, which is there to compare with. */
static void check_kinds(doctor *d)
{
    bool has_asked = !d->params->device || asks_for(d, "ttnn");
    for (const ops_device_kind *const *k = ops_device_kinds; *k; k++) {
        has_asked = has_asked || asks_for(d, (*k)->name);
        if (*k != &ops_ref_device)
            check_kind(d, *k);
    }
    if (!has_asked)
        lacks(d, d->params->device, true, "this build has no such devices", "build with -DFLUX1_CUDA=ON");
}

static void check_card(doctor *d, const card *c)
{
    char found[256];
    snprintf(found, sizeof found, "%s %s at %s%s%s", c->chip_name, c->board, c->bus,
             c->firmware[0] ? ", firmware " : "", c->firmware);
    if (c->problem[0])
        lacks(d, "card", asks_for(d, "ttnn"), found, c->problem);
    else
        ok(d, "card", found);
}

static flux1_status check_cards(doctor *d)
{
    cards found;
    ttnn_setup setup;
    const bool asked = asks_for(d, "ttnn");
    TRY(cards_find("", &found, &d->c->error));
    if (found.count == 0)
        lacks(d, "card", asked, "none of Tenstorrent's on the PCI bus",
              asked ? "in a virtual machine a card has to be passed on to it" : NULL);
    for (int i = 0; i < found.count; i++)
        check_card(d, &found.card[i]);
    if (found.count == 0 && !asked)
        return FLUX1_OK;
    ttnn_setup_find("", &found, &setup);
    for (int i = 0; i < TTNN_NEED_COUNT; i++)
        if (setup.part[i].missing[0])
            lacks(d, setup.part[i].name, asked, "missing", setup.part[i].missing);
        else
            ok(d, setup.part[i].name, setup.part[i].found);
    return FLUX1_OK;
}

/* ---- memory, model, folders ---- */

static void check_memory(doctor *d)
{
    char bytes[BYTES_TEXT], found[64];
    const uint64_t memory = limits_memory();
    if (memory == UINT64_MAX) {
        put(d, "memory", "note", "not known", NULL);
        return;
    }
    snprintf(found, sizeof found, "%s available", format_bytes(bytes, sizeof bytes, (double)memory));
    if ((double)memory < MEMORY_LEAST)
        lacks(d, "memory", true, found, "end other programs, or raise the limit of this process or container");
    else
        ok(d, "memory", found);
}

/* Opens the model and plans its default picture. */
static void check_model(doctor *d)
{
    flux1_model *model = NULL;
    flux1_generate_params request;
    flux1_model_info info = {.size = sizeof info};
    char found[512];
    const bool asked = d->params->model_asked;
    if (!d->params->model) {
        lacks(d, "model", false, "none is named, and the mini model is not there",
              "flux1 pull black-forest-labs/FLUX.1-schnell fetches one");
        return;
    }
    flux1_generate_params_defaults(&request);
    request.prompt = "a picture";
    if (flux1_model_open(d->c, d->params->model, &model) != FLUX1_OK)
        lacks(d, "model", asked, d->params->model, flux1_context_message(d->c));
    else if (flux1_generate_check(d->c, model, &request) != FLUX1_OK)
        lacks(d, "model", asked, d->params->model, flux1_context_message(d->c));
    else {
        flux1_model_get_info(model, &info);
        snprintf(found, sizeof found, "%s (%s) opens; a picture of %d×%d can be made%s", info.name, info.variant,
                 info.default_width, info.default_height, asked ? "" : "; none is named, so this one is taken");
        ok(d, "model", found);
    }
    flux1_model_close(model);
    error_clear(&d->c->error);
}

/* The folder itself, or what is above it where it is not there yet; "." and "/" are the last, though even they may not
 * be looked at. `path` is changed. */
static void existing_part(char *path)
{
    while (strcmp(path, ".") != 0 && strcmp(path, "/") != 0 && !file_exists(path)) {
        char *slash = strrchr(path, '/');
        if (!slash)
            snprintf(path, 2, ".");
        else if (slash == path)
            path[1] = '\0';
        else
            *slash = '\0';
    }
}

/* Whether the folder, or the one that it would be made in, can be written to, and has room for `least` bytes. */
static void check_folder(doctor *d, const char *check, bool asked, const char *folder, double least)
{
    char place[4096], found[4096 + 96], bytes[BYTES_TEXT], need[96];
    struct statvfs disk;
    if (strlen(folder) >= sizeof place) {
        lacks(d, check, asked, "a path that is too long", NULL);
        return;
    }
    snprintf(place, sizeof place, "%s", folder[0] ? folder : ".");
    existing_part(place);
    if (file_exists(place) && !file_is_directory(place)) {
        snprintf(found, sizeof found, "%s is no folder", place);
        lacks(d, check, asked, found, "name another folder");
    } else if (access(place, W_OK | X_OK) != 0 || statvfs(place, &disk) != 0) {
        snprintf(found, sizeof found, "%s: %s", place, strerror(errno));
        lacks(d, check, asked, found, "name another folder, or give this user the right to write there");
    } else {
        const double room = (double)disk.f_bavail * (double)disk.f_frsize;
        snprintf(found, sizeof found, "%s: %s free", folder, format_bytes(bytes, sizeof bytes, room));
        snprintf(need, sizeof need, "%s are wanted", format_bytes(bytes, sizeof bytes, least));
        if (room < least)
            lacks(d, check, asked, found, need);
        else
            ok(d, check, found);
    }
}

static flux1_status check_folders(doctor *d)
{
    const char *environment = getenv("FLUX1_CACHE_DIR");
    const char *cache = d->params->cache ? d->params->cache : environment && *environment ? environment : NULL;
    char *hub = NULL;
    flux1_error none = {0};
    if (cache)
        check_folder(d, "prepared weights", true, cache, DISK_LEAST);
    else
        put(d, "prepared weights", "note", "not kept between runs", "FLUX1_CACHE_DIR may name a folder for them");
    if (hub_cache_root(&hub, &none) != FLUX1_OK) {
        put(d, "fetched models", "note", none.message, NULL);
        TRY(error_pass_memory(&none, &d->c->error));
    } else
        check_folder(d, "fetched models", false, hub, MODEL_BYTES);
    free(hub);
    check_folder(d, "working folder", true, ".", DISK_LEAST);
    return FLUX1_OK;
}

/* ---- all of it ---- */

void flux1_doctor_params_defaults(flux1_doctor_params *p)
{
    if (p)
        *p = (flux1_doctor_params){.size = sizeof *p};
}

static flux1_status check_params(flux1_context *c, const flux1_doctor_params *p, char **json)
{
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    TRY(context_needs(c, p, "params"));
    if (p->size < offsetof(flux1_doctor_params, reserved))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "the parameters were not set up by flux1_doctor_params_defaults");
    if (p->device && strcmp(p->device, "cuda") != 0 && strcmp(p->device, "ttnn") != 0)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "device \"%s\": must be cuda or ttnn", p->device);
    return context_flag(c, "model_asked", p->model_asked);
}

flux1_status flux1_doctor_json(flux1_context *c, const flux1_doctor_params *params, char **json)
{
    TRY(context_begin(c));
    TRY(check_params(c, params, json));
    doctor d = {.w = {.style = JSON_INDENTED}, .c = c, .params = params};
    json_begin_object(&d.w, NULL);
    json_begin_array(&d.w, "checks");
    check_kinds(&d);
    check_memory(&d);
    flux1_status st = check_cards(&d);
    if (st == FLUX1_OK) {
        check_model(&d);
        st = check_folders(&d);
    }
    json_end_array(&d.w);
    json_put_integer(&d.w, "wrong", d.wrong);
    json_end_object(&d.w);
    if (st == FLUX1_OK)
        return json_take(&d.w, "the checks", json, &c->error);
    json_abandon(&d.w);
    return st;
}
