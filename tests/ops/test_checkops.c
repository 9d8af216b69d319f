/* ops/cpu against ops/ref (checkops.h): each instruction set that this machine has, float32 and bf16, 1, 2 and 3
 * threads. `--bench` instead times the entries at true sizes. */
#include "ops/checkops.h"
#include "ops/ref/ref.h"

static const char *const isas[] = {"portable", "avx2", "avx512", "avx512bf16"};
enum { ISAS = 4 };

static bool machine_has(const char *isa)
{
    setenv("FLUX1_CPU_ISA", isa, 1);
    return !strcmp(ops_cpu_isa(), isa);
}

static void open_run(run *r, const char *backend, dtype arithmetic, int threads, bool rounded, uint64_t seed)
{
    ops_config c = {.arithmetic = arithmetic, .threads = threads};
    bool ref = !strcmp(backend, "ref"), dry = !strcmp(backend, "dry");
    if (!ref && !dry)
        setenv("FLUX1_CPU_ISA", backend, 1);
    start_run(r, dry ? NULL : ref ? ops_ref_create : ops_cpu_create, &ops_cpu_sizing, &c, rounded, seed);
}

/* The case on ref, on cpu with 1 thread, and with 2 and 3, which must agree to the bit; the arena's peak is what the
 * dry run counts. Returns the error. */
static double compare(const check *c, const char *isa, dtype arithmetic, int variant)
{
    bool rounded = arithmetic == DTYPE_BF16;
    run ref, one, more, dry, dry_ref;
    open_run(&ref, "ref", DTYPE_F32, 1, rounded, (uint64_t)variant);
    c->body(&ref);
    start_run(&dry_ref, NULL, &ops_ref_sizing, &(ops_config){.arithmetic = DTYPE_F32, .threads = 1}, rounded,
              (uint64_t)variant);
    dry_ref.ref = true;
    c->body(&dry_ref);
    assert_int_equal(ops_dry_count(dry_ref.o)->arena_peak, ((ref_ops *)ref.o)->memory.peak);
    close_run(&dry_ref);
    open_run(&one, isa, arithmetic, 1, rounded, (uint64_t)variant);
    c->body(&one);
    open_run(&dry, "dry", arithmetic, 1, rounded, (uint64_t)variant);
    c->body(&dry);
    assert_int_equal(ops_dry_count(dry.o)->arena_peak, ((cpu_ops *)one.o)->memory.peak);
    for (int threads = 2; threads <= 3; threads++) {
        open_run(&more, isa, arithmetic, threads, rounded, (uint64_t)variant);
        c->body(&more);
        assert_int_equal(one.count, more.count);
        assert_memory_equal(one.out, more.out, one.count * sizeof(float));
        close_run(&more);
    }
    double error = distance(&ref, &one);
    close_run(&ref);
    close_run(&one);
    close_run(&dry);
    return error;
}

static void every_entry_of_cpu_is_what_ref_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        for (int isa = 0; isa < ISAS; isa++)
            for (int bf16 = 0; bf16 < 2; bf16++) {
                if (!machine_has(isas[isa]))
                    continue;
                const check *c = &checks[i];
                double worst = 0;
                for (int v = 1; v <= c->variants; v++) {
                    double error = compare(c, isas[isa], bf16 ? DTYPE_BF16 : DTYPE_F32, v);
                    if (error > (bf16 ? c->bf16 : c->f32))
                        fail_msg("%s on %s %s, variant %d: error %g", c->name, isas[isa], bf16 ? "bf16" : "f32", v,
                                 error);
                    worst = error > worst ? error : worst;
                }
                print_message("%-38s %-10s %-4s worst error %.1e\n", c->name, isas[isa], bf16 ? "bf16" : "f32", worst);
            }
    unsetenv("FLUX1_CPU_ISA");
}

/* ---- rules that are not arithmetic ---- */

static void finite_remembers_the_lowest_slot(void **state)
{
    (void)state;
    run r;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        open_run(&r, "portable", bf16 ? DTYPE_BF16 : DTYPE_F32, 2, false, 1);
        hold_finite(&r, OPS_SLOTS);
    }
}

static void a_nan_passes_through_attention_and_activations(void **state)
{
    (void)state;
    run r;
    for (int isa = 0; isa < ISAS; isa++)
        for (int bf16 = 0; bf16 < 2 && machine_has(isas[isa]); bf16++) {
            open_run(&r, isas[isa], bf16 ? DTYPE_BF16 : DTYPE_F32, 1, false, 3);
            hold_nan(&r);
        }
}

static void a_weight_outside_its_bracket_is_refused(void **state)
{
    (void)state;
    run r;
    open_run(&r, "portable", DTYPE_F32, 1, false, 1);
    hold_bracket(&r);
}

static void a_destroyed_block_takes_its_own_weights_only(void **state)
{
    (void)state;
    run r;
    for (int ref = 0; ref < 2; ref++) {
        open_run(&r, ref ? "ref" : "portable", DTYPE_F32, 1, false, 1);
        hold_block_destroy(&r);
    }
}

static void a_window_is_the_rows_and_columns_it_names(void **state)
{
    (void)state;
    run r;
    for (int ref = 0; ref < 2; ref++) {
        open_run(&r, ref ? "ref" : "portable", DTYPE_F32, 1, false, 1);
        hold_windows(&r);
    }
}

/* By the dry run, and before every backend where calls are checked, as they are here. */
static void a_call_outside_the_contract_is_refused(void **state)
{
    (void)state;
    static void (*const refusals[])(run *) = {refuse_products, refuse_rows, refuse_attention, refuse_planes,
                                              refuse_the_rest};
    run r;
    for (int dry = 0; dry < 2; dry++)
        for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
            open_run(&r, dry ? "dry" : "portable", DTYPE_F32, 1, false, 1);
            refusals[i](&r);
            close_run(&r);
        }
    open_run(&r, "dry", DTYPE_F32, 1, false, 1);
    act x = joint(&r, ACT_LINEAR, 1, 0, 5, 4, false), y = joint(&r, ACT_LINEAR, 1, 0, 4, 4, false);
    refused(&r, r.o->fn->cast(r.o, x, y), "cast", "in [1 x 5, 4]"); /* past the wrapper: the dry run's own */
    close_run(&r);
}

static void a_failed_step_is_unwound(void **state)
{
    (void)state;
    run r;
    for (int ref = 0; ref < 2; ref++) {
        open_run(&r, ref ? "ref" : "portable", DTYPE_F32, 1, false, 1);
        hold_unwind(&r);
    }
}

static void a_token_outside_the_table_is_an_argument_error(void **state)
{
    (void)state;
    run r;
    open_run(&r, "portable", DTYPE_F32, 1, false, 1);
    hold_tokens(&r);
}

static void a_cancel_stops_every_operation(void **state)
{
    (void)state;
    run r;
    atomic_int cancel = 0;
    open_run(&r, "portable", DTYPE_F32, 2, false, 1);
    r.o->cancel = &cancel;
    weight *w = linear_of(&r, 100, 40, false);
    act in = input(&r, ACT_LINEAR, 1, 40, 40), in2 = input(&r, ACT_LINEAR, 1, 40, 40),
        out = output(&r, ACT_LINEAR, 1, 40, 100);
    cancel = 1;
    assert_int_equal(ops_product(r.o, in, w, &(epilogue){0}, out), FLUX1_ERR_CANCELLED);
    assert_int_equal(ops_attention(r.o, in, in, in, &(attention_args){.heads = 1, .scale = 1}, in2),
                     FLUX1_ERR_CANCELLED);
    assert_int_equal(ops_activate(r.o, ACTIVATION_SILU, in, in), FLUX1_ERR_CANCELLED);
    close_run(&r);
}

/* ---- the dry run ---- */

static void the_dry_run_packs_what_the_backend_packs(void **state)
{
    (void)state;
    const ops_sizing *sizing[] = {&ops_cpu_sizing, &ops_ref_sizing};
    flux1_status (*const create[])(const ops_config *, ops **) = {ops_cpu_create, ops_ref_create};
    for (int kind = 0; kind < 2; kind++)
        for (int bf16 = 0; bf16 < 2; bf16++)
            for (act_role role = 0; role < ACT_ROLES; role++) {
                const ops_config c = {.arithmetic = bf16 ? DTYPE_BF16 : DTYPE_F32, .threads = 1};
                run real, dry;
                start_run(&real, create[kind], NULL, &c, false, 1);
                start_run(&dry, NULL, sizing[kind], &c, false, 1);
                act a, b;
                ok(&real, ops_create(real.o, role, shape_rows(2, 5, 8, 6), &a));
                ok(&dry, ops_create(dry.o, role, shape_rows(2, 5, 8, 6), &b));
                bool halves = !kind && bf16 && (role == ACT_LINEAR || role == ACT_HEADS || role == ACT_PLANE);
                size_t bytes = ops_pack_bytes(real.o, act_columns(act_of(a, PART_TEXT), 1, 4), 3);
                assert_int_equal(bytes, (size_t)(2 * 3 * 4) * (halves ? 2 : 4));
                assert_int_equal(ops_pack_bytes(dry.o, act_columns(act_of(b, PART_TEXT), 1, 4), 3), bytes);
                close_run(&real);
                close_run(&dry);
            }
}

typedef struct heard {
    ops_event event[32];
    int count;
} heard;

static void hear(void *user, const ops_event *e)
{
    heard *h = user;
    assert_true(h->count < 32);
    h->event[h->count++] = *e;
}

/* One event a call, in order, with what it reads and writes; what was counted is their sum. */
static void every_call_of_a_dry_run_is_an_event(void **state)
{
    (void)state;
    heard h = {0};
    run r;
    const size_t head = (sizeof(cpu_buffer) + 63) / 64 * 64; /* the head of a buffer */
    start_run(&r, NULL, &ops_cpu_sizing,
              &(ops_config){.arithmetic = DTYPE_BF16, .threads = 2, .event = hear, .event_user = &h}, false, 1);
    act x, y, part, t, lse;
    void *bytes;
    ok(&r, ops_create(r.o, ACT_LINEAR, shape_rows(2, 3, 5, 4), &x));     /* 2·8·4 bf16: 128 bytes */
    ok(&r, ops_create(r.o, ACT_HEADS, shape_rows(2, 3, 5, 6), &y));      /* 192 */
    ok(&r, ops_create(r.o, ACT_TABLE, shape_rows(1, 0, 6, 6), &t));      /* 6·6 float32: 144, in the arena 192 */
    ok(&r, ops_create(r.o, ACT_PARTIAL, shape_rows(2, 3, 5, 6), &part)); /* 384 */
    ok(&r, ops_create(r.o, ACT_STATS, shape_rows(2, 3, 5, 3), &lse));    /* 192 */
    const size_t acts = 5 * head + 128 + 192 + 192 + 384 + 192;
    weight_recipe w = recipe_whole(WEIGHT_LINEAR, weight_tensor(&r, DTYPE_F16, 2, (int64_t[]){6, 4})),
                  b = recipe_whole(WEIGHT_VECTOR, weight_tensor(&r, DTYPE_F32, 1, (int64_t[]){6}));
    weight *p;
    ok(&r, ops_block_create(r.o, "first", &r.held));
    ok(&r, ops_prepare(r.o, r.held, &w, &b, &p));
    ok(&r, ops_block_begin(r.o, r.held));
    ok(&r, ops_product(r.o, x, p, &(epilogue){.addend = part, .gate = t, .residual = y}, y));
    ok(&r, ops_attention_part(r.o, act_of(y, PART_TEXT), y, y, &(attention_args){.heads = 3, .scale = 1},
                              act_of(part, PART_TEXT), act_of(lse, PART_TEXT)));
    ok(&r, ops_exchange(r.o, 100, &bytes));
    ok(&r, ops_pack(r.o, act_of(y, PART_IMAGE), 1, 4, (char *)bytes + 4));
    ok(&r, ops_finite(r.o, part, 3));
    ok(&r, ops_block_end(r.o, r.held));
    /* clang-format off */
    const ops_event want[] = {
        {.kind = EVENT_ORDER, .operation = "step_set"},
        {.operation = "create", .kind = EVENT_MEMORY, .batch = 2, .m = 8, .n = 4, .bytes_out = 128,
         .arena = head + 128},
        {.operation = "create", .kind = EVENT_MEMORY, .batch = 2, .m = 8, .n = 6, .bytes_out = 192,
         .arena = 2 * head + 320},
        {.operation = "create", .kind = EVENT_MEMORY, .batch = 1, .m = 6, .n = 6, .bytes_out = 144,
         .arena = 3 * head + 512},
        {.operation = "create", .kind = EVENT_MEMORY, .batch = 2, .m = 8, .n = 6, .bytes_out = 384,
         .arena = 4 * head + 896},
        {.operation = "create", .kind = EVENT_MEMORY, .batch = 2, .m = 8, .n = 3, .bytes_out = 192, .arena = acts},
        {.operation = "block_create", .kind = EVENT_WEIGHTS, .block = "first", .arena = acts},
        {.operation = "prepare", .kind = EVENT_WEIGHTS, .block = "first", .m = 6, .n = 4,
         .bytes_out = 64, .bytes_weights = 6 * 4 * 2 + 6 * 4, .arena = acts}, /* the bias as float32 */
        {.operation = "block_begin", .kind = EVENT_WEIGHTS, .block = "first", .bytes_weights = 6 * 4 * 2,
         .arena = acts},
        {.operation = "product", .kind = EVENT_COMPUTE, .block = "first", .batch = 2, .m = 8, .n = 6, .k = 4,
         .flops = 2.0 * 16 * 6 * 4, .bytes_in = 128 + 384 + 192 + 2 * 6 * 4, .bytes_out = 192,
         .bytes_weights = 6 * 4 * 2 + 6 * 4, .arena = acts},
        {.operation = "attention_part", .kind = EVENT_COMPUTE, .batch = 2, .m = 3, .n = 8, .k = 2, .heads = 3,
         .flops = 4.0 * 2 * 3 * 8 * 6, .bytes_in = 72 + 2 * 192, .bytes_out = 144 + 72,
         .arena = acts + 2 * cpu_attention_scratch(2)},
        {.operation = "exchange", .kind = EVENT_MEMORY, .bytes_out = 100, .arena = acts + 128},
        {.operation = "pack", .kind = EVENT_MEMORY, .batch = 2, .m = 4, .n = 6, .bytes_in = 96, .bytes_out = 96,
         .arena = acts + 128},
        {.operation = "finite", .kind = EVENT_COMPUTE, .batch = 2, .m = 8, .n = 6, .bytes_in = 384,
         .arena = acts + 128},
        {.operation = "block_end", .kind = EVENT_WEIGHTS, .block = "first", .arena = acts + 128},
    };
    /* clang-format on */
    double flops = 0;
    assert_int_equal(h.count, sizeof want / sizeof *want);
    for (int i = 0; i < h.count; i++) {
        const ops_event *e = &h.event[i], *f = &want[i];
        flops += e->flops;
        if (strcmp(e->operation, f->operation) != 0 ||
            strcmp(e->block ? e->block : "", f->block ? f->block : "") != 0 || e->kind != f->kind ||
            e->batch != f->batch || e->m != f->m || e->n != f->n || e->k != f->k || e->heads != f->heads ||
            e->flops != f->flops || e->bytes_in != f->bytes_in || e->bytes_out != f->bytes_out ||
            e->bytes_weights != f->bytes_weights || e->arena != f->arena)
            fail_msg("event %d, %s (%s): %g FLOPs, %zu + %zu bytes in, %zu out, arena %zu", i, e->operation,
                     f->operation, e->flops, e->bytes_in, e->bytes_weights, e->bytes_out, e->arena);
    }
    const ops_count *count = ops_dry_count(r.o);
    assert_true(count->flops == flops);
    assert_true(count->linear_flops == 768 && count->attention_flops == 1152 && count->conv_flops == 0);
    assert_int_equal(count->weight_bytes, 72);
    assert_true(count->held_bytes == 64 && count->block_bytes == 48);
    assert_int_equal(count->operations, 3);
    assert_int_equal(count->arena_peak, acts + 2 * cpu_attention_scratch(2));
    close_run(&r);
}

static void a_dry_run_can_be_cancelled(void **state)
{
    (void)state;
    atomic_int cancel = 0;
    run r;
    start_run(&r, NULL, &ops_cpu_sizing, &(ops_config){.arithmetic = DTYPE_F32, .threads = 1, .cancel = &cancel}, false,
              1);
    act x = joint(&r, ACT_LINEAR, 1, 3, 5, 4, false);
    ok(&r, ops_activate(r.o, ACTIVATION_SILU, x, x));
    cancel = 1;
    assert_int_equal(ops_activate(r.o, ACTIVATION_SILU, x, x), FLUX1_ERR_CANCELLED);
    close_run(&r);
}

static void an_unknown_instruction_set_is_refused(void **state)
{
    (void)state;
    flux1_error err;
    ops *o;
    setenv("FLUX1_CPU_ISA", "sse9", 1);
    assert_int_equal(ops_cpu_create(&(ops_config){.arithmetic = DTYPE_F32, .threads = 1, .err = &err}, &o),
                     FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "sse9"));
    unsetenv("FLUX1_CPU_ISA");
}

static bool stored_bf16(act a) { return ((const cpu_buffer *)a.buffer)->bf16; }

#include "ops/checkops_bench.h"

static void time_entries(dtype arithmetic, int threads)
{
    unsetenv("FLUX1_CPU_ISA");
    for (size_t i = 0; i < TIMINGS; i++) {
        run r;
        double work;
        open_run(&r, ops_cpu_isa(), arithmetic, threads, false, 1);
        double best = time_entry(&r, i, 1, &work);
        printf("%-36s %-4s %d threads %9.3f ms %8.1f %s\n", timings[i].name, arithmetic == DTYPE_F32 ? "f32" : "bf16",
               threads, best * 1e3, work / best * 1e-9, timings[i].flops ? "GFLOP/s" : "GB/s");
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--bench")) {
        time_entries(DTYPE_F32, cpu_physical_cores());
        time_entries(DTYPE_BF16, cpu_physical_cores());
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_entry_of_cpu_is_what_ref_says),
        cmocka_unit_test(finite_remembers_the_lowest_slot),
        cmocka_unit_test(a_nan_passes_through_attention_and_activations),
        cmocka_unit_test(a_weight_outside_its_bracket_is_refused),
        cmocka_unit_test(a_destroyed_block_takes_its_own_weights_only),
        cmocka_unit_test(a_window_is_the_rows_and_columns_it_names),
        cmocka_unit_test(a_call_outside_the_contract_is_refused),
        cmocka_unit_test(a_failed_step_is_unwound),
        cmocka_unit_test(a_token_outside_the_table_is_an_argument_error),
        cmocka_unit_test(a_cancel_stops_every_operation),
        cmocka_unit_test(the_dry_run_packs_what_the_backend_packs),
        cmocka_unit_test(every_call_of_a_dry_run_is_an_event),
        cmocka_unit_test(a_dry_run_can_be_cancelled),
        cmocka_unit_test(an_unknown_instruction_set_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
