/* What was measured of this machine, kept between runs: a second or two for an estimate that is wanted at once. On a
 * machine that computes something else meanwhile the rates are rough, and are kept for minutes only. */
#include "tools/machine_cpu.h"

#include "base/hash.h"
#include "base/json.h"
#include "base/sysfile.h"
#include "weights/small_cache.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { KEPT_MOST = 1 << 16, ROUGH_SECONDS = 600 };

/* Kernels built without optimisation, or with sanitizers, have other rates. */
#if defined(__SANITIZE_ADDRESS__)
#define BUILD "sanitized"
#elif defined(__OPTIMIZE__)
#define BUILD "optimised"
#else
#define BUILD "plain"
#endif

/* ---- the CPU's name ---- */

/* The value of "model name : AMD EPYC 7B13"; NULL: it is another line. */
static const char *value_of(const char *line, const char *key)
{
    const size_t n = strlen(key);
    if (strncmp(line, key, n) != 0)
        return NULL;
    line += n + strspn(line + n, " \t");
    return *line == ':' ? line + 1 + strspn(line + 1, " \t") : NULL;
}

void machine_cpu_name(char out[CPU_NAME])
{
    static const char *const keys[] = {"model name", "CPU part"};
    sysfile f;
    char *line;
    out[0] = '\0';
    if (!sysfile_open(&f, "/proc", "/cpuinfo"))
        return;
    while (!out[0] && (line = sysfile_line(&f)))
        for (size_t k = 0; !out[0] && k < sizeof keys / sizeof *keys; k++) {
            const char *value = value_of(line, keys[k]);
            if (value)
                snprintf(out, CPU_NAME, "%s%.80s", k ? "CPU part " : "", value);
        }
    for (char *s = out; *s; s++)
        *s = isprint((unsigned char)*s) ? *s : '?';
    sysfile_close(&f);
}

static void describe(const flux1_context *c, machine_dtype type, machine *m)
{
    char name[CPU_NAME];
    const int threads = c->device.config.threads;
    machine_cpu_name(name);
    snprintf(m->about, sizeof m->about, "%s%s%s, %d thread%s, %s", name, name[0] ? ", " : "", ops_cpu_isa(), threads,
             threads == 1 ? "" : "s", machine_dtype_name(type));
}

/* ---- the entry ---- */

static void name_entry(const machine *m, char *out, size_t room)
{
    char key[512];
    const int n = snprintf(key, sizeof key, "%s|%s|%s", m->about, flux1_version(), BUILD);
    snprintf(out, room, "machine-%016llx", (unsigned long long)hash_bytes(key, (size_t)n));
}

/* Where the JSON begins. An entry is a line with the time until which it counts (seconds since 1970; 0: always), then
 * the machine. NULL: it counts no more, or is none. */
static const char *content_of(const char *entry, bool *rough)
{
    char *end;
    const long long until = strtoll(entry, &end, 10);
    *rough = until > 0;
    return *end == '\n' && (until == 0 || (until > 0 && (long long)time(NULL) < until)) ? end + 1 : NULL;
}

bool machine_recall(const flux1_context *c, machine_dtype type, machine *m)
{
    machine kept, here = {0};
    json_value *root = NULL;
    char name[64], *entry;
    size_t bytes;
    bool rough, counts = false;
    describe(c, type, &here);
    name_entry(&here, name, sizeof name);
    if (!small_cache_get(name, KEPT_MOST, &entry, &bytes))
        return false;
    const char *text = content_of(entry, &rough);
    if (text && json_parse(text, strlen(text), name, &root, NULL) == FLUX1_OK)
        counts =
            machine_read(root, name, &kept, NULL) == FLUX1_OK && kept.this_cpu && strcmp(kept.about, here.about) == 0;
    if (counts) {
        *m = kept;
        m->disturbed = rough;
    }
    json_free(root);
    free(entry);
    return counts;
}

void machine_keep(const flux1_context *c, machine_dtype type, const machine *m)
{
    json_writer w = {.style = JSON_COMPACT};
    machine rates = *m;
    char name[64], *text = NULL;
    describe(c, type, &rates);
    name_entry(&rates, name, sizeof name);
    rates.memory = 0; /* what is free changes */
    builder_format(&w.text, "%lld\n", m->disturbed ? (long long)time(NULL) + ROUGH_SECONDS : 0LL);
    machine_write(&w, &rates);
    if (json_take(&w, "a machine", &text, NULL) == FLUX1_OK)
        (void)small_cache_put(name, text, strlen(text), NULL); /* where it fails, it is measured again the next time */
    free(text);
}

flux1_status machine_kept(flux1_context *c, machine_dtype type, machine *m)
{
    const bool known = machine_recall(c, type, m);
    if (!known) {
        TRY(machine_find("this-cpu", m, &c->error));
        describe(c, type, m);
        context_log(c, FLUX1_LOG_INFO,
                    "measuring this CPU for the estimate, which takes a second or two and is kept for the next time");
    }
    TRY(machine_measure(c, type, m)); /* what is known already stays: of a kept machine that is all but the memory */
    if (!known)
        machine_keep(c, type, m);
    return FLUX1_OK;
}

void machine_kept_name(const flux1_context *c, machine_dtype type, char *out, size_t room)
{
    machine m = {0};
    describe(c, type, &m);
    name_entry(&m, out, room);
}
