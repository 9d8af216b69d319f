#include "tools/describe.h"

void describe_memory(json_writer *w, const stage_plan *p)
{
    json_put_unsigned(w, "activation_bytes", p->memory);
    json_put_unsigned(w, "picture_bytes", p->picture);
    json_put_unsigned(w, "scratch_bytes", p->count.own_bytes);
    json_put_unsigned(w, "weight_bytes", p->count.weight_bytes);
    json_put_unsigned(w, "held_weight_bytes", p->count.held_bytes);
    json_put_unsigned(w, "mapped_weight_bytes", p->count.block_bytes);
}
