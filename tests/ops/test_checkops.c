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
        cmocka_unit_test(an_unknown_instruction_set_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
