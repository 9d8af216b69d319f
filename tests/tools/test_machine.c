/* Machine files: what is read, what is refused and how it is said; all built-in ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tools/machine.h"
#include "tools/machine_cpu.h"

#include <stdlib.h>
#include <string.h>

#define PAIR                                                                          \
    "\"exchange\": {\"all_gather\": {\"seconds\": 1e-6, \"bytes_per_second\": 1e9}, " \
    "\"reduce_scatter\": {\"bytes_per_second\": 2e9}, \"shift\": {\"hop_seconds\": 1e-3, \"bytes_per_second\": 3e9}}"
#define CHIP "\"memory_bytes\": 1e9, \"memory_bytes_per_second\": 1e10, \"peak_flops_per_second\": {\"bf16\": 1e12}"

static flux1_status read_text(const char *text, machine *m, flux1_error *err)
{
    json_value *root;
    error_clear(err);
    TRY(json_parse(text, strlen(text), "m.json", &root, err));
    flux1_status st = machine_read(root, "m.json", m, err);
    json_free(root);
    return st;
}

static void a_file_is_read(void **state)
{
    (void)state;
    machine m;
    flux1_error err = {0};
    assert_int_equal(
        read_text("{\"name\": \"two\", \"mesh\": [1, 2], \"links\": [1, 3], \"layout\": \"tiles\", \"rates\": "
                  "[{\"operation\": \"conv\", \"flops_per_second\": {\"bf16\": 5e11}}], " CHIP ", " PAIR "}",
                  &m, &err),
        FLUX1_OK);
    assert_string_equal(m.name, "two");
    assert_true(m.mesh[0] == 1 && m.mesh[1] == 2 && m.links[1] == 3 && m.tiles && m.packs && !m.this_cpu);
    assert_true(m.memory == 1e9 && m.memory_rate == 1e10 && m.peak[1] == 1e12 && m.peak[0] == 0 && m.dtype == 1);
    assert_true(m.rates == 1 && m.rate[0].flops[1] == 5e11 && strcmp(m.rate[0].operation, "conv") == 0);
    assert_true(m.exchange[EXCHANGE_GATHER].seconds == 1e-6 && m.exchange[EXCHANGE_SCATTER].rate == 2e9);
    assert_true(m.exchange[EXCHANGE_SHIFT].hop == 1e-3 && m.products == 1 && m.overlap == 1);
}

static void faults_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"[1]", "m.json: a machine should be a JSON object"},
        {"{" CHIP "}", "\"mesh\" is missing"},
        {"{\"mesh\": [1, 2]}", "\"memory_bytes\" is missing"},
        {"{\"mesh\": [1], " CHIP "}", "\"mesh\" has 1 numbers, it should have two"},
        {"{\"mesh\": [0, 2], " CHIP "}", "\"mesh[0]\""},
        {"{\"mesh\": [64, 64], " CHIP ", " PAIR "}", "4096 devices: at most 1024"},
        {"{\"mesh\": [1, 1], \"memory\": 5, " CHIP "}", "unknown key \"memory\"; allowed: name, about, mesh"},
        {"{\"mesh\": [1, 1], \"layout\": \"brick\", " CHIP "}",
         "\"layout\" is \"brick\", it should be \"rows\" or \"tiles\""},
        {"{\"mesh\": [1, 1], \"overlap\": 2, " CHIP "}", "\"overlap\" is 2, it should be from 0 to 1"},
        {"{\"mesh\": [1, 1], \"launch_seconds\": -1, " CHIP "}", "\"launch_seconds\" is -1"},
        {"{\"mesh\": [1, 1], \"wide_cell_bytes\": 2.5, " CHIP "}", "\"wide_cell_bytes\""},
        {"{\"mesh\": [1, 1], \"chip\": \"this-cpu\", \"layout\": \"tiles\"}",
         "\"layout\" is \"tiles\", which the memory of \"this-cpu\" does not have"},
        {"{\"mesh\": [1, 2], \"exchange\": {\"all_gather\": {\"bytes_per_second\": 1e9}}, " CHIP "}",
         "\"exchange\" should have all_gather, reduce_scatter and shift"},
        {"{\"mesh\": [1, 1], \"dtype\": \"f32\", " CHIP "}", "\"peak_flops_per_second\" has no f32"},
        {"{\"mesh\": [1, 1], \"rates\": [3], " CHIP "}", "\"rates\" should be a list of objects"},
        {"{\"mesh\": [1, 1], \"rates\": [{\"bytes_per_second\": 3}], " CHIP "}", "\"operation\" is missing"},
        {"{\"mesh\": [1, 1], \"rates\": [{\"operation\": \"linear\", \"bytes_per_second\": 3}], " CHIP "}",
         "\"operation\" is \"linear\", it should be \"product\", "},
        {"{\"mesh\": [1, 1], \"rates\": [{\"operation\": null, \"bytes_per_second\": 3}], " CHIP "}", "\"operation\""},
        {"{\"mesh\": [1, 1], \"rates\": [{\"operation\": \"add\", \"bytes_per_second\": 3}, {\"operation\": "
         "\"add\"}], " CHIP "}",
         "\"rates\" has two for the operation \"add\""},
        {"{\"mesh\": [1, 1], \"efficiency\": 1, " CHIP "}", "\"efficiency\" should be an object"},
        {"{\"mesh\": [1, 2], " CHIP "}", "\"exchange\" should have all_gather, reduce_scatter and shift"},
        {"{\"mesh\": [1, 2], \"exchange\": {\"all_gather\": {\"seconds\": 1}}, " CHIP "}",
         "\"bytes_per_second\" is missing"},
        {"{\"mesh\": [1, 1], \"peak_flops_per_second\": {\"bf16\": 0}, \"memory_bytes\": 1, "
         "\"memory_bytes_per_second\": 1}",
         "\"bf16\" is 0, it should be from 1 to"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        machine m;
        flux1_error err = {0};
        assert_int_equal(read_text(bad[i].text, &m, &err), FLUX1_ERR_FORMAT);
        if (strncmp(err.message, "m.json: ", 8) != 0 || !strstr(err.message, bad[i].says))
            fail_msg("%s: \"%s\", it should say \"%s\"", bad[i].text, err.message, bad[i].says);
    }
}

static void same_machine(const machine *a, const machine *b)
{
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->about, b->about);
    assert_memory_equal(a->mesh, b->mesh, sizeof a->mesh);
    assert_memory_equal(a->links, b->links, sizeof a->links);
    assert_memory_equal(a->grid, b->grid, sizeof a->grid);
    assert_memory_equal(a->peak, b->peak, sizeof a->peak);
    assert_memory_equal(a->exchange, b->exchange, sizeof a->exchange);
    assert_memory_equal(a->rate, b->rate, sizeof a->rate);
    assert_true(a->chips == b->chips && a->this_cpu == b->this_cpu && a->tiles == b->tiles && a->packs == b->packs &&
                a->dtype == b->dtype && a->weight_cell == b->weight_cell && a->wide_cell == b->wide_cell &&
                a->memory == b->memory && a->memory_rate == b->memory_rate && a->launch == b->launch &&
                a->products == b->products && a->collectives == b->collectives && a->overlap == b->overlap);
}

/* Each is read, and what is written of it is the same machine. */
static void built_in_machines_are_machines(void **state)
{
    (void)state;
    int count = 0;
    for (; machine_builtin_name(count); count++) {
        machine m, again;
        flux1_error err = {0};
        json_writer w = {.style = JSON_COMPACT};
        char *text;
        if (machine_find(machine_builtin_name(count), &m, &err) != FLUX1_OK)
            fail_msg("%s", err.message);
        machine_write(&w, &m);
        assert_int_equal(json_take(&w, "a machine", &text, &err), FLUX1_OK);
        if (read_text(text, &again, &err) != FLUX1_OK)
            fail_msg("%s", err.message);
        same_machine(&m, &again);
        free(text);
    }
    assert_true(count >= 16);
}

static void names_have_the_meshes_of_their_machines(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int rows, cols;
    } want[] = {{"wh-n300", 1, 2},         {"wh-1x4", 1, 4},       {"wh-t3k", 2, 4},
                {"wh-quietbox", 2, 4},     {"wh-loudbox", 2, 4},   {"wh-galaxy", 4, 8},
                {"bh-p300", 1, 2},         {"bh-quietbox2", 2, 2}, {"bh-loudbox", 2, 4},
                {"bh-galaxy", 4, 8},       {"h100", 1, 1},         {"h200", 1, 1},
                {"8xh200", 2, 4},          {"this-cpu", 1, 2},     {"cpu-cluster-25g", 2, 4},
                {"cpu-cluster-100g", 2, 4}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        machine m;
        flux1_error err = {0};
        assert_int_equal(machine_find(want[i].name, &m, &err), FLUX1_OK);
        assert_true(m.mesh[0] == want[i].rows && m.mesh[1] == want[i].cols);
    }
}

/* Four threads on two processors take turns: each has them half of the time, and nobody else had any. */
static void a_share_is_of_the_processors_that_there_are(void **state)
{
    (void)state;
    assert_true(machine_processor_share(4, 2, 2, 2) == 1);
    assert_true(machine_processor_share(4, 2, 4, 2) == 1);
    assert_true(machine_processor_share(2, 2, 4, 2) == 0.5);
    assert_true(machine_processor_share(2, 2, 1, 8) == 1);
    assert_true(machine_processor_share(0, 0, 2, 2) == 1); /* too short for the clock */
}

static void an_unknown_name_lists_the_known_ones(void **state)
{
    (void)state;
    machine m;
    flux1_error err = {0};
    assert_int_equal(machine_find("wh-t4k", &m, &err), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "\"wh-t4k\""));
    assert_non_null(strstr(err.message, "wh-t3k, wh-quietbox"));
}

/* Rates are of one card: another one of the family is not known. */
static void devices_have_the_machines_of_their_names(void **state)
{
    (void)state;
    assert_string_equal(machine_of_device("NVIDIA H100 80GB HBM3"), "h100");
    assert_string_equal(machine_of_device("NVIDIA H200"), "h200");
    assert_null(machine_of_device("NVIDIA H100 PCIe"));
    assert_null(machine_of_device("avx2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read),
        cmocka_unit_test(faults_are_named),
        cmocka_unit_test(built_in_machines_are_machines),
        cmocka_unit_test(names_have_the_meshes_of_their_machines),
        cmocka_unit_test(devices_have_the_machines_of_their_names),
        cmocka_unit_test(a_share_is_of_the_processors_that_there_are),
        cmocka_unit_test(an_unknown_name_lists_the_known_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
