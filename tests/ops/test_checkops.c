/* ops/cpu against ops/ref (checkops.h): each instruction set that this machine has, float32 and bf16, 1, 2 and 3
 * threads. `--only TEXT`: of the entries, those whose names contain it; `--isa TEXT`: of the sets. `--bench` instead
 * times the entries at true sizes. CHECKOPS_SIMDE: AVX-512 over SIMDe instead (simde/). CHECKOPS_SHORT: for an
 * emulator. */
#include "ops/checkops_cases.h"
#include "ops/checkops_rules.h"
#include "ops/ref/ref.h"

#if defined(CHECKOPS_SIMDE)
static const char *const isas[] = {"avx512 over SIMDe", "avx512bf16 over SIMDe", "avx512amx over SIMDe"};
#else
static const char *const isas[] = {"portable",   "avx2",      "avxvnni", "avx512",  "avx512vnni",
                                   "avx512bf16", "avx512amx", "neon",    "neondot", "neonbf16"};
#endif
enum { ISAS = sizeof isas / sizeof *isas };

static bool machine_has(const char *isa)
{
    const cpu_instruction_set *set;
    setenv("FLUX1_CPU_ISA", isa, 1);
    return cpu_instruction_set_choose(&set, NULL) == FLUX1_OK && !strcmp(set->name, isa);
}

static const char *only_isa = ""; /* sets whose names contain this */
static int8_kind in_int8;         /* what follows */
static bool in_quads;             /* and how ref quantises the input */
static const char *kind_name(void) { return in_int8 == INT8_ROTATED ? ", rotated" : ""; }

/* Whether this machine has the instruction set, and none of the list before it has the same kernels. */
static bool to_compare(int isa, bool bf16)
{
    const cpu_instruction_set *set, *other;
    if (!strstr(isas[isa], only_isa) || !machine_has(isas[isa]) || cpu_instruction_set_choose(&set, NULL) != FLUX1_OK)
        return false;
    for (int i = 0; i < isa; i++)
        if (strstr(isas[i], only_isa) && machine_has(isas[i]) && cpu_instruction_set_choose(&other, NULL) == FLUX1_OK &&
            (bf16 ? other->bf16 == set->bf16 : other->f32 == set->f32) && (!in_int8 || other->int8 == set->int8))
            return false;
    return machine_has(isas[isa]); /* chosen again */
}

/* Attention is in floats where AMX multiplies: nearer than the definition, not near to it. */
static bool computes(const check *c)
{
    const cpu_instruction_set *set;
    return in_int8 != INT8_ROTATED || strncmp(c->name, "attention", 9) != 0 ||
           (cpu_instruction_set_choose(&set, NULL) == FLUX1_OK && set->int8->attention);
}

static const cpu_int8_kernels *emulated; /* in place of the machine's own */

static arena *memory_of(const run *r) { return r->ref ? &((ref_ops *)r->o)->memory : &((cpu_ops *)r->o)->memory; }

/* What lies between activations is the test's alone. */
static void hide_host_gap(const run *r, act gap, bool hidden)
{
    const arena *memory = memory_of(r);
    const unsigned char *data =
        r->ref ? (unsigned char *)((ref_buffer *)gap.buffer)->data : ((cpu_buffer *)gap.buffer)->data;
    const size_t cell = r->ref || !((cpu_buffer *)gap.buffer)->bf16 ? sizeof(float) : sizeof(uint16_t),
                 from = (size_t)(data - memory->base);
    (hidden ? arena_hide : arena_show)(memory, from, from + GAP * cell);
}

static void open_run(run *r, const char *backend, dtype arithmetic, int threads, bool rounded, uint64_t seed)
{
    ops_config c = {.arithmetic = arithmetic, .threads = threads, .int8 = in_int8, .int8_quads = in_quads};
    bool ref = !strcmp(backend, "ref"), dry = !strcmp(backend, "dry");
    if (!ref && !dry)
        setenv("FLUX1_CPU_ISA", backend, 1);
    start_run(r, dry ? NULL : ref ? ops_ref_create : ops_cpu_create, &ops_cpu_sizing, &c, rounded, seed);
    if (!dry)
        arena_guard(memory_of(r));
    if (emulated && !ref && !dry)
        ((cpu_ops *)r->o)->int8 = emulated, r->o->attends = in_int8;
}

/* Instrumented, where what may break is memory, or with instructions that are emulated, three threads stand for two as
 * well, and each third of an entry's many variants for all (of int8's each seventh). Under an emulator of the
 * machine a few have to do. */
#if defined(__SANITIZE_ADDRESS__) || defined(CHECKOPS_SIMDE) || defined(CHECKOPS_SHORT)
enum { FEWEST_THREADS = 3 };
#else
enum { FEWEST_THREADS = 2 };
#endif
static int variants_apart(const check *c)
{
#if defined(CHECKOPS_SHORT)
    return c->variants > 8 ? c->variants / 4 | 1 : c->variants;
#elif defined(__SANITIZE_ADDRESS__) || defined(CHECKOPS_SIMDE)
    return c->variants > 8 ? in_int8 ? 7 : 3 : 1; /* both kinds of int8 share what one would take */
#else
    return (void)c, 1;
#endif
}

/* How a case is cut among threads is the same code for each instruction set: with those that are emulated, every other
 * variant is cut. */
static int most_threads(int variant)
{
#if defined(CHECKOPS_SIMDE)
    return variant % 2 ? 3 : 1;
#else
    return (void)variant, 3;
#endif
}

/* The case on cpu with 1 thread, and with 2 and 3, which must agree to the bit; the arena's peak is `peak`. Returns the
 * error. */
static double compare(const check *c, const run *ref, const char *isa, dtype arithmetic, int variant, size_t peak)
{
    bool rounded = arithmetic == DTYPE_BF16;
    run one, more;
    open_run(&one, isa, arithmetic, 1, rounded, (uint64_t)variant);
    c->body(&one);
    const arena *memory = &((cpu_ops *)one.o)->memory;
    assert_int_equal(peak, memory->peak + memory->end);
    for (int threads = FEWEST_THREADS; threads <= most_threads(variant); threads++) {
        open_run(&more, isa, arithmetic, threads, rounded, (uint64_t)variant);
        c->body(&more);
        assert_int_equal(one.count, more.count);
        assert_memory_equal(one.out, more.out, one.count * sizeof(float));
        close_run(&more);
    }
    double error = distance(ref, &one);
    if (written_gap(&one) >= 0)
        fail_msg("%s%s, variant %d: something was written beside activation %d", c->name, kind_name(), variant,
                 written_gap(&one));
    close_run(&one);
    return error;
}

/* The arena's peak as the dry run counts it. */
static size_t dry_peak(const check *c, const ops_sizing *sizing, dtype arithmetic, bool rounded, bool ref, int variant)
{
    run dry;
    start_run(&dry, NULL, sizing, &(ops_config){.arithmetic = arithmetic, .threads = 1, .int8 = in_int8}, rounded,
              (uint64_t)variant);
    dry.ref = ref;
    c->body(&dry);
    size_t peak = ops_dry_count(dry.o)->arena_peak;
    close_run(&dry);
    return peak;
}

/* Of the set at hand, which may be one over SIMDe. */
static bool set_wants_quads(void)
{
    const cpu_instruction_set *set;
    return in_int8 == INT8_ROTATED && cpu_instruction_set_choose(&set, NULL) == FLUX1_OK && set->int8->rotated.quads;
}

static void run_ref(const check *c, bool rounded, int variant, run *ref)
{
    open_run(ref, "ref", DTYPE_F32, 1, rounded, (uint64_t)variant);
    c->body(ref);
    assert_int_equal(dry_peak(c, &ops_ref_sizing, DTYPE_F32, rounded, true, variant), ((ref_ops *)ref->o)->memory.peak);
}

/* Each instruction set beside ref; worst[isa]: the largest error so far. */
static void compare_all(const check *c, dtype arithmetic, int variant, double worst[ISAS])
{
    bool bf16 = arithmetic == DTYPE_BF16;
    run ref;
    in_quads = false;
    run_ref(c, bf16, variant, &ref);
    for (int isa = 0; isa < ISAS; isa++) {
        if (!to_compare(isa, bf16) || !computes(c))
            continue;
        if (set_wants_quads() != in_quads) { /* another definition */
            close_run(&ref);
            in_quads = !in_quads;
            run_ref(c, bf16, variant, &ref);
        }
        size_t peak = dry_peak(c, &ops_cpu_sizing, arithmetic, bf16, false, variant);
        double error = compare(c, &ref, isas[isa], arithmetic, variant, peak);
        if (error > (bf16 ? c->bf16 : c->f32))
            fail_msg("%s%s on %s %s, variant %d: error %g", c->name, kind_name(), isas[isa], bf16 ? "bf16" : "f32",
                     variant, error);
        worst[isa] = error > worst[isa] ? error : worst[isa];
    }
    close_run(&ref);
}

static const char *only = ""; /* entries whose names contain this */

static void compare_list(const check *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (int bf16 = 0; bf16 < 2 && strstr(list[i].name, only); bf16++) {
            double worst[ISAS] = {0};
            for (int v = 1; v <= list[i].variants; v += variants_apart(&list[i]))
                compare_all(&list[i], bf16 ? DTYPE_BF16 : DTYPE_F32, v, worst);
            for (int isa = 0; isa < ISAS; isa++)
                if (to_compare(isa, bf16) && computes(&list[i]))
                    print_message("%-42s%-9s %-21s %-4s worst error %.1e\n", list[i].name, kind_name(), isas[isa],
                                  bf16 ? "bf16" : "f32", worst[isa]);
        }
    unsetenv("FLUX1_CPU_ISA");
}

static void every_entry_of_cpu_is_what_ref_says(void **state)
{
    (void)state;
    compare_list(checks, sizeof checks / sizeof *checks);
}

/* With more threads than any machine of tests has, a product ends, and with the bits of one thread. */
static void products_are_cut_for_any_number_of_threads(void **state)
{
    (void)state;
    static const int threads[] = {6, 12, 17, 43, 64};
    for (int v = 1; v <= 16; v++) {
        run one, more;
        open_run(&one, isas[0], DTYPE_F32, 1, false, (uint64_t)v);
        case_linear_thin(&one);
        for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
            open_run(&more, isas[0], DTYPE_F32, threads[t], false, (uint64_t)v);
            case_linear_thin(&more);
            assert_int_equal(one.count, more.count);
            assert_memory_equal(one.out, more.out, one.count * sizeof(float));
            close_run(&more);
        }
        close_run(&one);
    }
    unsetenv("FLUX1_CPU_ISA");
}

static void products_in_int8_are_what_ref_says(void **state)
{
    (void)state;
    for (in_int8 = INT8_FINE; in_int8 <= INT8_ROTATED; in_int8++)
        compare_list(int8_checks, sizeof int8_checks / sizeof *int8_checks);
    in_int8 = INT8_NONE;
}

#if defined(EMULATED_INT8)
extern const cpu_int8_kernels emulated_int8_avxvnni, emulated_int8_avx512vnni;

/* The rest of the backend is AVX2's. */
static void so_are_those_of_instructions_that_are_emulated(void **state)
{
    static const cpu_int8_kernels *const kernels[] = {&emulated_int8_avxvnni, &emulated_int8_avx512vnni};
    static const char *const names[] = {"avxvnni", "avx512vnni"};
    (void)state;
    if (!machine_has("avx2"))
        skip();
    for (int k = 0; k < 4; k++) {
        in_int8 = k < 2 ? INT8_FINE : INT8_ROTATED;
        in_quads = kernels[k % 2]->rotated.quads;
        for (size_t i = 0; i < sizeof int8_checks / sizeof *int8_checks; i++) {
            double worst = 0;
            if (!strstr(int8_checks[i].name, only))
                continue;
            for (int v = 1; v <= int8_checks[i].variants; v++) {
                run ref;
                emulated = NULL;
                open_run(&ref, "ref", DTYPE_F32, 1, false, (uint64_t)v);
                int8_checks[i].body(&ref);
                const size_t peak = dry_peak(&int8_checks[i], &ops_cpu_sizing, DTYPE_F32, false, false, v);
                emulated = kernels[k % 2];
                const double error = compare(&int8_checks[i], &ref, "avx2", DTYPE_F32, v, peak);
                if (error > int8_checks[i].f32)
                    fail_msg("%s%s on %s, variant %d: error %g", int8_checks[i].name, kind_name(), names[k % 2], v,
                             error);
                worst = error > worst ? error : worst;
                close_run(&ref);
            }
            print_message("%-42s%-9s %-11s f32  worst error %.1e\n", int8_checks[i].name, kind_name(), names[k % 2],
                          worst);
        }
    }
    emulated = NULL;
    in_int8 = INT8_NONE;
    unsetenv("FLUX1_CPU_ISA");
}
#endif

/* ---- rules that are not arithmetic ---- */

static void finite_remembers_the_lowest_slot(void **state)
{
    (void)state;
    run r;
    for (int isa = 0; isa < ISAS; isa++)
        for (int bf16 = 0; bf16 < 2 && machine_has(isas[isa]); bf16++) {
            open_run(&r, isas[isa], bf16 ? DTYPE_BF16 : DTYPE_F32, 2, false, 1);
            hold_finite(&r, OPS_SLOTS);
            open_run(&r, isas[isa], bf16 ? DTYPE_BF16 : DTYPE_F32, 2, false, 1);
            hold_finite_cell(&r);
            open_run(&r, isas[isa], bf16 ? DTYPE_BF16 : DTYPE_F32, 2, false, 1);
            hold_finite_norm(&r);
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

/* Rows and columns of a window are those that its numbers name, in every batch entry. */
static void hold_windows(run *r)
{
    enum { BATCH = 2, TEXT = 3, IMAGE = 5, COLS = 7 };
    float host[BATCH][TEXT + IMAGE][COLS], part[BATCH * 2 * 4];
    act a;
    for (int b = 0; b < BATCH; b++)
        for (int i = 0; i < TEXT + IMAGE; i++)
            for (int j = 0; j < COLS; j++)
                host[b][i][j] = (float)(100 * b + 10 * i + j);
    ok(r, ops_create(r->o, ACT_RESIDUAL, shape_rows(BATCH, TEXT, IMAGE, COLS), &a));
    tensor all = {.type = DTYPE_F32, .dims = 3, .shape = {BATCH, TEXT + IMAGE, COLS}, .data = host},
           some = {.type = DTYPE_F32, .dims = 3, .shape = {BATCH, 2, 4}, .data = part};
    ok(r, ops_upload(r->o, &all, a));
    for (act_part p = PART_WHOLE; p <= PART_IMAGE; p++)
        for (int row = 0; row < 2; row++) {
            act window = act_columns(act_slice(act_slice(act_of(a, p), 1, 2), row, 2 - row), 2, 4);
            some.shape[1] = 2 - row;
            ok(r, ops_download(r->o, window, &some));
            for (int b = 0; b < BATCH; b++)
                for (int i = 0; i < 2 - row; i++)
                    assert_memory_equal(part + (b * (2 - row) + i) * 4,
                                        &host[b][(p == PART_IMAGE ? TEXT : 0) + 1 + row + i][2], 4 * sizeof(float));
        }
    close_run(r);
}

/* What ops.h does not allow, entry by entry: a call refused, and what the sentence must hold. */
static void refused(run *r, flux1_status st, const char *entry, const char *operand)
{
    if (st != FLUX1_ERR_INTERNAL || strncmp(r->err.message, entry, strlen(entry)) != 0 ||
        r->err.message[strlen(entry)] != ':' || !strstr(r->err.message, operand))
        fail_msg("%s with a wrong %s: status %d, \"%s\"", entry, operand, st, st == FLUX1_OK ? "" : r->err.message);
    r->err.message[0] = 0;
}

static void refuse_products(run *r)
{
    weight *w = linear_of(r, 6, 4, true), *v = vector_weight(r, 4, false);
    act in = joint(r, ACT_LINEAR, 2, 3, 5, 4, false), out = joint(r, ACT_LINEAR, 2, 3, 5, 6, false),
        partial = joint(r, ACT_PARTIAL, 2, 3, 5, 6, false), one = joint(r, ACT_LINEAR, 1, 3, 5, 4, false), gate;
    epilogue none = {0};
    ok(r, ops_create(r->o, ACT_TABLE, shape_rows(1, 0, 6, 6), &gate)); /* steps 0 to 2 */
    refused(r, ops_product(r->o, act_columns(in, 0, 3), w, &none, out), "product", "w of block");
    refused(r, ops_product(r->o, in, w, &none, act_columns(out, 0, 5)), "product", "w of block");
    refused(r, ops_product(r->o, in, v, &none, out), "product", "vector");
    refused(r, ops_product(r->o, in, NULL, &none, out), "product", "w");
    refused(r, ops_product(r->o, act_of(in, PART_TEXT), w, &none, out), "product", "in [2 x 3, 4] and out [2 x 8, 6]");
    refused(r, ops_product(r->o, one, w, &none, out), "product", "in [1 x 8, 4] and out [2 x 8, 6]");
    refused(r, ops_product(r->o, act_slice(in, 1, 8), w, &none, out), "product", "in: rows 1 to 9");
    refused(r, ops_product(r->o, act_columns(in, 1, 4), w, &none, out), "product", "in: columns 1 to 5");
    refused(r, ops_product(r->o, (act){0}, w, &none, out), "product", "in is left out");
    refused(r, ops_product(r->o, act_columns(out, 1, 4), w, &none, out), "product", "overlap");
    refused(r, ops_product(r->o, in, w, &(epilogue){.addend = out}, out), "product", "addend");
    refused(r, ops_product(r->o, in, w, &(epilogue){.addend = act_columns(partial, 0, 5)}, out), "product", "addend");
    refused(r, ops_product(r->o, in, w, &(epilogue){.addend = partial}, partial), "product", "addend");
    refused(r, ops_product(r->o, in, w, &(epilogue){.mul = in}, out), "product", "mul");
    refused(r, ops_product(r->o, in, w, &(epilogue){.mul = out}, out), "product", "mul");
    refused(r, ops_product(r->o, in, w, &(epilogue){.residual = in}, out), "product", "residual");
    refused(r, ops_product(r->o, in, w, &(epilogue){.gate = out}, out), "product", "gate is LINEAR");
    refused(r, ops_product(r->o, in, w, &(epilogue){.gate = act_columns(gate, 0, 5)}, out), "product", "gate");
    refused(r, ops_product(r->o, in, w, &(epilogue){.gate = act_slice(gate, 0, 5)}, out), "product", "gate");
    refused(r, ops_product(r->o, in, w, &(epilogue){.gate = act_slice(gate, 0, 2)}, out), "product", "at step 1");
    ok(r, ops_product(r->o, in, w, &(epilogue){.gate = act_slice(gate, 2, 4)}, out));
    ok(r, ops_step_set(r->o, 3));
    refused(r, ops_product(r->o, in, w, &(epilogue){.gate = gate}, out), "product", "at step 3");
    ok(r, ops_step_set(r->o, 1));
    linear_weight plain = {.w = w}, up = {.w = linear_of(r, 6, 3, false)}, down = {.w = linear_of(r, 2, 4, false)},
                  narrow = {.w = linear_of(r, 4, 5, false)};
    adapter a = {.up = up.w, .down = down.w, .scale = 1};
    refused(r, ops_linear(r->o, in, &down, &none, out), "product", "w of block");
    refused(r, ops_linear(r->o, in, &(linear_weight){.w = w, .adapters = &a, .adapter_count = 1}, &none, out), "linear",
            "up of block");
    a.down = a.up;
    refused(r, ops_linear(r->o, in, &(linear_weight){.w = w, .adapters = &a, .adapter_count = 1}, &none, out), "linear",
            "of block");
    refused(r, ops_mlp(r->o, in, &plain, ACTIVATION_SILU, &narrow, &none, in), "mlp", "down of block");
    norm_behind norm = {.out = partial};
    act normed = joint(r, ACT_LINEAR, 2, 3, 5, 12, false);
    refused(r, ops_linear_norm(r->o, act_columns(out, 0, 4), &plain, &none, partial, &(norm_behind){.out = out}),
            "linear_norm", "in [2 x 8, 4] and norm [2 x 8, 6] overlap");
    refused(r,
            ops_linear_norm(r->o, in, &plain, &(epilogue){.residual = act_columns(normed, 0, 6)}, out,
                            &(norm_behind){.out = act_columns(normed, 3, 6)}),
            "linear_norm", "residual");
    refused(r, ops_linear_norm(r->o, in, &plain, &none, partial, &norm), "layer_norm", "overlap");
    norm.slot = -2;
    refused(r, ops_linear_norm(r->o, in, &plain, &none, out, &norm), "linear_norm", "slot -2");
    qkv_weights qkv = {.qkv = plain, .heads = 1};
    act rope;
    ok(r, ops_create(r->o, ACT_ROPE, shape_rows(1, 3, 5, 2), &rope));
    refused(r, ops_qkv_norm_rope(r->o, in, &qkv, rope, act_columns(out, 0, 4)), "qkv_norm_rope", "qkv [2 x 8, 4]");
    refused(r, ops_single_products(r->o, in, &qkv, act_slice(rope, 1, 7), out, &plain, out), "head_norm_rope",
            "rope [1 x 7, 2]");
    ok(r, ops_qkv_norm_rope(r->o, in, &qkv, rope, out));
}

static void refuse_rows(run *r)
{
    weight *v = vector_weight(r, 4, false), *w = linear_of(r, 4, 4, false);
    weight_recipe t = matrix_recipe(r, WEIGHT_TABLE, 9, 4);
    weight *entries = prepare(r, &t, false);
    act in = joint(r, ACT_RESIDUAL, 2, 3, 5, 4, false), out = joint(r, ACT_LINEAR, 2, 3, 5, 4, false), none = {0},
        wide = joint(r, ACT_LINEAR, 2, 3, 5, 8, false), rope = joint(r, ACT_ROPE, 2, 3, 5, 4, false), ids, steps;
    ok(r, ops_create(r->o, ACT_IDS, shape_rows(2, 3, 5, 2), &ids));
    ok(r, ops_create(r->o, ACT_TABLE, shape_rows(1, 0, 4, 4), &steps));
    refused(r, ops_layer_norm(r->o, in, NULL, none, none, 0, wide), "layer_norm", "in [2 x 8, 4] and out [2 x 8, 8]");
    refused(r, ops_layer_norm(r->o, in, w, none, none, 0, out), "layer_norm", "w is a linear weight");
    refused(r, ops_layer_norm(r->o, in, NULL, act_columns(steps, 0, 3), none, 0, out), "layer_norm", "shift");
    refused(r, ops_layer_norm(r->o, in, NULL, none, act_slice(steps, 0, 3), 0, out), "layer_norm", "scale");
    refused(r, ops_layer_norm(r->o, in, NULL, none, none, 0, in), "layer_norm", "overlap");
    refused(r, ops_rms_norm(r->o, in, NULL, 0, out), "rms_norm", "w");
    refused(r, ops_rms_norm(r->o, wide, v, 0, wide), "rms_norm", "overlap");
    refused(r, ops_head_norm_rope(r->o, in, 3, NULL, 0, none), "head_norm_rope", "3 heads");
    refused(r, ops_head_norm_rope(r->o, in, 2, v, 0, none), "head_norm_rope", "w of block");
    refused(r, ops_head_norm_rope(r->o, in, 1, v, 0, rope), "head_norm_rope", "rope [2 x 8, 4]");
    refused(r, ops_head_norm_rope(r->o, in, 1, v, 0, out), "head_norm_rope", "rope is LINEAR");
    refused(r, ops_embed(r->o, out, entries, NULL, 0, in), "embed", "ids is LINEAR");
    refused(r, ops_embed(r->o, ids, entries, NULL, 0, in), "embed", "ids [2 x 8, 2]");
    refused(r, ops_embed(r->o, act_columns(ids, 0, 1), v, NULL, 0, in), "embed", "table is a vector");
    refused(r, ops_embed(r->o, act_columns(ids, 0, 1), entries, entries, 2, in), "embed", "positions");
    refused(r, ops_activate(r->o, ACTIVATION_SILU, in, none, wide), "activate", "out [2 x 8, 8]");
    refused(r, ops_activate(r->o, ACTIVATION_SILU, act_columns(wide, 2, 4), none, act_columns(wide, 0, 4)), "activate",
            "overlap");
    refused(r, ops_activate(r->o, ACTIVATION_SILU, in, wide, out), "activate", "mul [2 x 8, 8]");
    refused(r, ops_activate(r->o, ACTIVATION_SILU, in, act_columns(wide, 2, 4), act_columns(wide, 0, 4)), "activate",
            "overlap");
    refused(r, ops_add(r->o, in, 1, none, wide, in), "add", "y [2 x 8, 8]");
    refused(r, ops_add(r->o, in, 1, none, act_of(out, PART_TEXT), in), "add", "y [2 x 3, 4]");
    refused(r, ops_add(r->o, in, 1, act_slice(steps, 0, 2), out, in), "add", "gate");
    refused(r, ops_euler(r->o, in, out, none), "euler", "dsigma");
    refused(r, ops_euler(r->o, in, out, steps), "euler", "dsigma");
    refused(r, ops_euler(r->o, in, in, act_columns(steps, 0, 1)), "euler", "overlap");
    refused(r, ops_cast(r->o, in, act_of(out, PART_TEXT)), "cast", "out [2 x 3, 4]");
    refused(r, ops_copy_rows(r->o, in, 6, act_of(out, PART_TEXT)), "copy_rows", "in [2 x 8, 4]");
    refused(r, ops_copy_rows(r->o, in, 0, wide), "copy_rows", "out [2 x 8, 8]");
    refused(r, ops_pack(r->o, in, 5, 4, NULL), "pack", "in [2 x 8, 4]");
    refused(r, ops_unpack(r->o, NULL, in, -1, 4), "unpack", "out [2 x 8, 4]");
    refused(r, ops_finite(r->o, in, -1), "finite", "slot");
    refused(r, ops_finite(r->o, act_columns(in, 3, 2), 0), "finite", "a: columns");
}

static void refuse_attention(run *r)
{
    act q = joint(r, ACT_HEADS, 1, 0, 5, 12, false), k = joint(r, ACT_HEADS, 1, 0, 7, 12, false),
        v = joint(r, ACT_HEADS, 1, 0, 7, 12, false), out = joint(r, ACT_HEADS, 1, 0, 5, 12, false),
        part = joint(r, ACT_PARTIAL, 1, 0, 5, 12, false), other = joint(r, ACT_PARTIAL, 1, 0, 5, 12, false),
        lse = joint(r, ACT_STATS, 1, 0, 5, 3, false), sum = joint(r, ACT_STATS, 1, 0, 5, 3, false);
    attention_args a = {.heads = 3, .scale = 1}, five = {.heads = 5, .scale = 1}, biased = a, masked = a;
    refused(r, ops_attention(r->o, q, k, v, &five, out), "attention", "5 heads");
    refused(r, ops_attention(r->o, q, k, act_slice(v, 0, 6), &a, out), "attention", "v [1 x 6, 12]");
    refused(r, ops_attention(r->o, q, k, v, &a, act_slice(out, 0, 4)), "attention", "out [1 x 4, 12]");
    refused(r, ops_attention(r->o, q, k, v, &a, q), "attention", "overlap");
    refused(r, ops_attention(r->o, q, act_columns(k, 0, 6), act_columns(v, 0, 6), &a, out), "attention",
            "k [1 x 7, 6]");
    ok(r, ops_create(r->o, ACT_TABLE, shape_rows(1, 0, 3, 13), &biased.bias));
    refused(r, ops_attention(r->o, q, k, v, &biased, out), "attention", "bias [1 x 3, 13]");
    masked.causal = masked.int8 = true;
    refused(r, ops_attention(r->o, q, k, v, &masked, out), "attention", "int8 cannot be combined with a causal mask");
    const act k5 = act_slice(k, 0, 5), v5 = act_slice(v, 0, 5);
    ok(r, ops_create(r->o, ACT_TABLE, shape_rows(1, 0, 3, 9), &biased.bias));
    ok(r, ops_attention(r->o, q, k5, v5, &biased, out)); /* in floats */
    biased.int8 = true;
    refused(r, ops_attention(r->o, q, k5, v5, &biased, out), "attention", "or a bias");
    masked.causal = false, masked.scale = -1;
    refused(r, ops_attention(r->o, q, k, v, &masked, out), "attention", "int8 takes a scale");
    masked.scale = NAN;
    refused(r, ops_attention(r->o, q, k, v, &masked, out), "attention", "int8 takes a scale");
    refused(r, ops_attention_part(r->o, q, k, v, &a, out, lse), "attention_part", "out is HEADS");
    refused(r, ops_attention_part(r->o, q, k, v, &a, part, act_columns(lse, 0, 2)), "attention_part", "lse [1 x 5, 2]");
    refused(r, ops_attention_part(r->o, q, k, v, &a, part, act_slice(lse, 0, 4)), "attention_part", "lse [1 x 4, 3]");
    refused(r, ops_attention_merge(r->o, 5, part, lse, other, sum), "attention_merge", "5 heads");
    refused(r, ops_attention_merge(r->o, 3, part, lse, part, sum), "attention_merge", "overlap");
    refused(r, ops_attention_merge(r->o, 3, part, lse, act_slice(other, 0, 4), sum), "attention_merge",
            "other [1 x 4, 12]");
    refused(r, ops_attention_merge(r->o, 3, part, lse, other, other), "attention_merge", "other_lse is PARTIAL");
}

static void refuse_planes(run *r)
{
    weight_recipe f = recipe_whole(WEIGHT_CONV, weight_tensor(r, DTYPE_F32, 4, (int64_t[]){6, 4, 3, 3})), g;
    f.kernel = 3;
    weight *w = prepare(r, &f, false), *v = vector_weight(r, 4, true);
    g = recipe_whole(WEIGHT_CONV, weight_tensor(r, DTYPE_F32, 4, (int64_t[]){6, 4, 1, 1}));
    g.kernel = 1;
    weight *point = prepare(r, &g, false);
    act in = plane(r, 1, 4, 6, 4, false), out = plane(r, 1, 4, 6, 6, false), small = plane(r, 1, 2, 3, 6, false),
        line = plane(r, 1, 1, 6, 4, false), none = {0}, flat = joint(r, ACT_LINEAR, 1, 0, 24, 4, false), stats,
        again = plane(r, 1, 4, 6, 4, false);
    ok(r, ops_create(r->o, ACT_STATS, shape_rows(1, 0, 2, 3), &stats));
    refused(r, ops_conv(r->o, flat, none, none, w, 1, none, out), "conv", "in is LINEAR");
    refused(r, ops_conv(r->o, in, none, none, v, 1, none, out), "conv", "w is a vector");
    refused(r, ops_conv(r->o, in, none, none, w, 1, none, small), "conv", "out [1 x 6, 6]");
    refused(r, ops_conv(r->o, in, none, none, w, 3, none, out), "conv", "stride 3");
    refused(r, ops_conv(r->o, in, none, none, point, 2, none, small), "conv", "stride 2");
    refused(r, ops_conv(r->o, in, in, none, w, 1, none, out), "conv", "top [1 x 24, 4]");
    refused(r, ops_conv(r->o, in, none, line, point, 1, none, out), "conv", "bottom [1 x 6, 4]");
    refused(r, ops_conv(r->o, in, line, none, w, 2, none, small), "conv", "top [1 x 6, 4]");
    refused(r, ops_conv(r->o, act_slice(in, 6, 18), none, none, w, 1, none, out), "conv", "in [1 x 18, 4]");
    refused(r, ops_conv(r->o, in, none, none, w, 1, small, out), "conv", "residual [1 x 6, 6]");
    refused(r, ops_group_stats(r->o, in, 3, stats), "group_stats", "in [1 x 24, 4]");
    refused(r, ops_group_stats(r->o, in, 4, stats), "group_stats", "stats [1 x 2, 3]");
    refused(r, ops_group_apply(r->o, in, act_slice(stats, 0, 1), 2, v, 0, false, again), "group_apply",
            "stats [1 x 1, 3]");
    refused(r, ops_group_apply(r->o, in, stats, 2, w, 0, false, again), "group_apply", "w is a convolution");
    refused(r, ops_group_apply(r->o, in, stats, 2, v, 0, false, out), "group_apply", "out [1 x 24, 6]");
    refused(r, ops_group_norm(r->o, in, 0, v, 0, false, again), "group_norm", "in [1 x 24, 4]");
    const norm_before n = {.stats = stats, .groups = 2, .w = v}, other = {.stats = stats, .groups = 4, .w = v},
                      wide = {.stats = stats, .groups = 2, .w = w};
    refused(r, ops_norm_conv(r->o, flat, none, none, &n, w, none, out), "norm_conv", "in is LINEAR");
    refused(r, ops_norm_conv(r->o, act_slice(in, 6, 12), none, none, &n, w, none, out), "norm_conv", "in [1 x 12, 4]");
    refused(r, ops_norm_conv(r->o, in, in, none, &n, w, none, out), "norm_conv", "top [1 x 24, 4]");
    refused(r, ops_norm_conv(r->o, in, none, act_slice(in, 0, 5), &n, w, none, out), "norm_conv", "bottom [1 x 5, 4]");
    refused(r, ops_norm_conv(r->o, in, none, none, &other, w, none, out), "norm_conv", "stats [1 x 2, 3]");
    refused(r, ops_norm_conv(r->o, in, none, none, &wide, w, none, out), "norm_conv", "w is a convolution");
    refused(r, ops_norm_conv(r->o, in, none, none, &n, point, none, out), "norm_conv", "[6, 4]");
    refused(r, ops_norm_conv(r->o, in, none, none, &n, w, small, out), "norm_conv", "residual [1 x 6, 6]");
    refused(r, ops_upsample(r->o, in, again), "upsample", "out [1 x 24, 4]");
}

static void refuse_the_rest(run *r)
{
    act a;
    block *b;
    float x[6] = {0};
    weight *out;
    refused(r, ops_create(r->o, ACT_LINEAR, shape_rows(1, -1, 0, 4), &a), "create", "below 0");
    refused(r, ops_create(r->o, ACT_PLANE, (act_shape){1, {0, 6}, 4, 2, 4}, &a), "create", "PLANE");
    refused(r, ops_create(r->o, ACT_HEADS, shape_plane(1, 2, 3, 4), &a), "create", "HEADS");
    ok(r, ops_create(r->o, ACT_LINEAR, shape_rows(1, 0, 2, 4), &a));
    tensor host = {.type = DTYPE_F32, .dims = 1, .shape = {6}, .data = x};
    if (!r->dry) {
        refused(r, ops_upload(r->o, &host, a), "upload", "[1 x 2, 4]");
        refused(r, ops_download(r->o, a, &host), "download", "[1 x 2, 4]");
    }
    refused(r, ops_upload(r->o, &host, act_slice(a, 1, 2)), "upload", "out: rows 1 to 3");
    refused(r, ops_download(r->o, act_slice(a, 1, 2), &host), "download", "in: rows 1 to 3");
    refused(r, ops_block_create(r->o, NULL, &b), "block_create", "name");
    ok(r, ops_block_create(r->o, "empty", &b));
    weight_recipe m = matrix_recipe(r, WEIGHT_LINEAR, 6, 4), wrong = m, bias = matrix_recipe(r, WEIGHT_LINEAR, 6, 1);
    wrong.rows = 7;
    refused(r, ops_prepare(r->o, b, &wrong, NULL, &out), "prepare", "w: pieces");
    wrong = m, wrong.piece[0].source_row = 1;
    refused(r, ops_prepare(r->o, b, &wrong, NULL, &out), "prepare", "\"w\"");
    wrong = m, wrong.role = WEIGHT_CONV, wrong.kernel = 3;
    refused(r, ops_prepare(r->o, b, &wrong, NULL, &out), "prepare", "kernel 3");
    wrong = m, wrong.role = WEIGHT_QKV, wrong.heads = 4;
    refused(r, ops_prepare(r->o, b, &wrong, NULL, &out), "prepare", "4 heads");
    refused(r, ops_prepare(r->o, b, &m, &bias, &out), "prepare", "bias [6, 1]");
    refused(r, ops_block_end(r->o, b), "block_end", "empty");
    ok(r, ops_block_begin(r->o, b));
    refused(r, ops_block_begin(r->o, b), "block_begin", "empty");
    refused(r, ops_prepare(r->o, b, &m, NULL, &out), "prepare", "empty");
    refused(r, ops_step_set(r->o, -1), "step_set", "-1");
    refused(r, ops_step_end(r->o, -1), "step_end", "-1");
    refused(r, ops_step_wait(r->o, -1, &(int){0}), "step_wait", "-1");
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
    assert_int_equal(ops_activate(r.o, ACTIVATION_SILU, in, (act){0}, in), FLUX1_ERR_CANCELLED);
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
        {.operation = "block_begin", .kind = EVENT_WEIGHTS, .block = "first", .bytes_out = 64, .bytes_weights = 6 * 4 * 2,
         .arena = acts},
        {.operation = "product", .kind = EVENT_COMPUTE, .block = "first", .batch = 2, .m = 8, .n = 6, .k = 4,
         .flops = 2.0 * 16 * 6 * 4, .bytes_in = 128 + 384 + 192 + 2 * 6 * 4, .bytes_out = 192,
         .bytes_weights = 6 * 4 * 2 + 6 * 4, .arena = acts}, /* few rows: nothing is laid */
        {.operation = "attention_part", .kind = EVENT_COMPUTE, .batch = 2, .m = 3, .n = 8, .k = 2, .heads = 3,
         .flops = 4.0 * 2 * 3 * 8 * 6, .bytes_in = 72 + 2 * 192, .bytes_out = 144 + 72,
         .arena = acts + 2 * cpu_attention_scratch(2, false)},
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
    assert_true(count->held_bytes == 64 && count->block_bytes == 72); /* with the bias, whose form is made of it */
    assert_int_equal(count->operations, 3);
    assert_int_equal(count->arena_peak, acts + 2 * cpu_attention_scratch(2, false));
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
    ok(&r, ops_activate(r.o, ACTIVATION_SILU, x, (act){0}, x));
    cancel = 1;
    assert_int_equal(ops_activate(r.o, ACTIVATION_SILU, x, (act){0}, x), FLUX1_ERR_CANCELLED);
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
    for (int i = 1; i + 1 < argc; i += 2) {
        only = !strcmp(argv[i], "--only") ? argv[i + 1] : only;
        only_isa = !strcmp(argv[i], "--isa") ? argv[i + 1] : only_isa;
    }
#if defined(CHECKOPS_SIMDE)
    if (!machine_has(isas[0])) {
        puts("skipped: this machine has no AVX2, which the variants over SIMDe are compiled for");
        return 0;
    }
#endif
    hide_gap = hide_host_gap;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_entry_of_cpu_is_what_ref_says),
        cmocka_unit_test(products_are_cut_for_any_number_of_threads),
        cmocka_unit_test(products_in_int8_are_what_ref_says),
#if defined(EMULATED_INT8)
        cmocka_unit_test(so_are_those_of_instructions_that_are_emulated),
#endif
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
