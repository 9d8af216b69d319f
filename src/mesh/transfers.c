#include "mesh/transfers.h"

#include <stdio.h>
#include <stdlib.h>

enum { STAY_MAX = 256 }; /* more only while they are under way */

/* Takes the last idle one out. */
static bool drop_oldest(transfers *t)
{
    transfer **last = NULL;
    for (transfer **k = &t->first; *k; k = &(*k)->next)
        if (!(*k)->active)
            last = k;
    if (!last)
        return false;
    transfer *k = *last;
    *last = k->next;
    t->wire->destroy(k->request);
    free(k);
    t->count--;
    return true;
}

static bool is_of(const transfer_key *a, const transfer_key *b)
{
    return a->at == b->at && a->bytes == b->bytes && a->peer == b->peer && a->tag == b->tag && a->send == b->send;
}

/* The idle one of this key, which becomes the first; NULL if there is none. */
static transfer *find(transfers *t, const transfer_key *key)
{
    for (transfer **at = &t->first; *at; at = &(*at)->next) {
        transfer *k = *at;
        if (k->active || !is_of(&k->key, key))
            continue;
        *at = k->next;
        k->next = t->first;
        return t->first = k;
    }
    return NULL;
}

static bool make(transfers *t, const transfer_key *key, transfer **out, char *why)
{
    while (t->count >= STAY_MAX && drop_oldest(t))
        ;
    transfer *k = calloc(1, sizeof *k);
    if (!k) {
        snprintf(why, WIRE_WHY, "out of memory for a transfer");
        return false;
    }
    *k = (transfer){.next = t->first, .key = *key};
    if (!t->wire->create(key->send, key->peer, key->tag, key->at, key->bytes, &k->request, why)) {
        free(k);
        return false;
    }
    t->first = k;
    t->count++;
    *out = k;
    return true;
}

bool transfers_start(transfers *t, const transfer_key *key, transfer **out, char *why)
{
    transfer *k = find(t, key);
    if (!k && !make(t, key, &k, why))
        return false;
    if (!t->wire->start(k->request, why))
        return false;
    k->active = true;
    *out = k;
    return true;
}

void transfers_trim(transfers *t)
{
    while (t->count > STAY_MAX && drop_oldest(t))
        ;
}

void transfers_end(transfers *t)
{
    while (drop_oldest(t))
        ;
}

void transfers_forget(transfers *t)
{
    while (t->first) {
        transfer *k = t->first;
        t->first = k->next;
        free(k);
    }
}
