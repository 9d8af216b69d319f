/* What --device can name on this machine. */
#include "flux1_tools.h"
#include "pipeline/context.h"

#include <jansson.h>
#include <stdio.h>

static json_t *describe(const ops_device_info *d)
{
    json_t *o = json_pack("{s:s,s:s,s:I,s:b,s:b}", "device", d->id, "name", d->name, "memory", (json_int_t)d->memory,
                          "multiplies bf16", d->bf16_native, "multiplies fp8", d->fp8);
    for (int i = 0; o && i < d->facts; i++) {
        const ops_fact *f = &d->fact[i];
        if (json_object_set_new(o, f->name, f->text[0] ? json_string(f->text) : json_integer(f->number)) != 0) {
            json_decref(o);
            o = NULL;
        }
    }
    return o;
}

/* All devices of one kind, or why there are none. */
static bool add_kind(json_t *root, json_t *list, const ops_device_kind *kind)
{
    int count = 0;
    flux1_error none = {0};
    if (kind->count(&count, &none) != FLUX1_OK)
        return false;
    for (int i = 0; i < count; i++) {
        ops_device_info info;
        if (kind->describe(i, &info, &none) == FLUX1_OK && json_array_append_new(list, describe(&info)) != 0)
            return false;
    }
    char key[40];
    snprintf(key, sizeof key, "no %s", kind->name);
    return !none.message[0] || json_object_set_new(root, key, json_string(none.message)) == 0;
}

flux1_status flux1_devices_json(flux1_context *c, char **json)
{
    TRY(context_begin(c));
    json_t *root = json_object(), *list = json_array();
    bool good = root && list;
    for (const ops_device_kind *const *k = ops_device_kinds; good && *k; k++)
        good = add_kind(root, list, *k);
    good = good && json_object_set_new(root, "devices", json_incref(list)) == 0;
    *json = good ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(list);
    json_decref(root);
    return *json ? FLUX1_OK : error_oom(&c->error, 0, "the list of devices");
}
