/* The built-in machines, as JSON. Where the numbers come from: docs/planner.md. */
#include "tools/machine.h"

#include <string.h>

/* What is fitted: see docs/planner.md, "Two constants". tools/plan_fit.py prints these two lines. */
#define TT_PRODUCTS "0.182"
#define TT_COLLECTIVES "0.8"

/* The vendor's fits for lines of chips, and what two neighbours alone reach. */
#define TT_EXCHANGE                                                                                       \
    "\"exchange\": {"                                                                                     \
    "\"all_gather\": {\"seconds\": 4.47e-6, \"hop_seconds\": 1.91e-6, \"bytes_per_second\": 11.8e9, "     \
    "\"pair_bytes_per_second\": 6.4e9}, "                                                                 \
    "\"reduce_scatter\": {\"seconds\": 3.23e-6, \"hop_seconds\": 3.97e-6, \"bytes_per_second\": 11.1e9, " \
    "\"pair_bytes_per_second\": 8.9e9}, "                                                                 \
    "\"shift\": {\"seconds\": 4.47e-6, \"hop_seconds\": 1.91e-6, \"bytes_per_second\": 11.8e9, "          \
    "\"pair_bytes_per_second\": 6.4e9}}"

#define TT_CHIP                                                                                                        \
    "\"layout\": \"tiles\", \"packs\": false, \"dtype\": \"bf16\", \"wide_cell_bytes\": 2, \"launch_seconds\": 2e-6, " \
    "\"efficiency\": {\"products\": " TT_PRODUCTS ", \"collectives\": " TT_COLLECTIVES "}, "

/* 64 cores of 2.05 TFLOP/s in two phases. Attention: its products at that rate take 16 ms of a step, its exponentials
 * 20 in the vector unit, and a row of cores exchanges meanwhile. */
#define WH_CHIP                                                                                      \
    TT_CHIP "\"memory_bytes\": 12.83e9, \"memory_banks\": 12, \"memory_bytes_per_second\": 258e9, "  \
            "\"peak_flops_per_second\": {\"bf16\": 131e12}, "                                        \
            "\"rates\": [{\"operation\": \"attention\", \"flops_per_second\": {\"bf16\": 51e12}}], " \
            "\"grid\": [8, 8], " TT_EXCHANGE ", "

/* The same with 72 cores. */
#define GALAXY_CHIP                                                                                  \
    TT_CHIP "\"memory_bytes\": 12.83e9, \"memory_banks\": 12, \"memory_bytes_per_second\": 258e9, "  \
            "\"peak_flops_per_second\": {\"bf16\": 147e12}, "                                        \
            "\"rates\": [{\"operation\": \"attention\", \"flops_per_second\": {\"bf16\": 58e12}}], " \
            "\"grid\": [8, 9], " TT_EXCHANGE ", "

/* Blackhole: 13 × 10 cores at 1.35 GHz; its links carry 25 GB/s now, so that its fits are Wormhole's twice. */
#define BH_EXCHANGE                                                                                       \
    "\"exchange\": {"                                                                                     \
    "\"all_gather\": {\"seconds\": 4.47e-6, \"hop_seconds\": 1.91e-6, \"bytes_per_second\": 23.6e9, "     \
    "\"pair_bytes_per_second\": 12.8e9}, "                                                                \
    "\"reduce_scatter\": {\"seconds\": 3.23e-6, \"hop_seconds\": 3.97e-6, \"bytes_per_second\": 22.2e9, " \
    "\"pair_bytes_per_second\": 17.8e9}, "                                                                \
    "\"shift\": {\"seconds\": 4.47e-6, \"hop_seconds\": 1.91e-6, \"bytes_per_second\": 23.6e9, "          \
    "\"pair_bytes_per_second\": 12.8e9}}"

#define BH_CHIP                                                                                       \
    TT_CHIP "\"memory_bytes\": 34.17e9, \"memory_banks\": 8, \"memory_bytes_per_second\": 512e9, "    \
            "\"peak_flops_per_second\": {\"bf16\": 351e12}, "                                         \
            "\"rates\": [{\"operation\": \"attention\", \"flops_per_second\": {\"bf16\": 140e12}}], " \
            "\"grid\": [10, 13], " BH_EXCHANGE ", "

/* docs/planner.md: the published times that were not fitted to are missed by more than a quarter. */
#define TENSTORRENT(name, about, mesh, chip, links)                                                                  \
    "{\"name\": \"" name "\", \"about\": \"" about "; its memory is proven, its seconds are not\", \"mesh\": [" mesh \
    "], " chip "\"links\": [" links "]}"

#define GPU_CHIP(product, attention)                                                            \
    "\"layout\": \"rows\", \"packs\": true, \"dtype\": \"bf16\", \"launch_seconds\": 2e-6, "    \
    "\"rates\": [{\"operation\": \"product\", \"flops_per_second\": {\"bf16\": " product "}}, " \
    "{\"operation\": \"attention\", \"flops_per_second\": {\"bf16\": " attention "}}, "         \
    "{\"operation\": \"conv\", \"flops_per_second\": {\"bf16\": 525e12}}], "                    \
    "\"peak_flops_per_second\": {\"bf16\": 788e12, \"f32\": 60e12}, "

#define NVLINK                                                                           \
    "\"exchange\": {\"all_gather\": {\"seconds\": 12e-6, \"bytes_per_second\": 350e9}, " \
    "\"reduce_scatter\": {\"seconds\": 12e-6, \"bytes_per_second\": 350e9}, "            \
    "\"shift\": {\"seconds\": 12e-6, \"bytes_per_second\": 350e9}}"

/* A payload of 94 % of the line: TCP over frames of 1500 bytes. A shift is one message through the switch. */
#define ETHERNET(rate)                                                                                              \
    "\"exchange\": {\"all_gather\": {\"seconds\": 40e-6, \"hop_seconds\": 20e-6, \"bytes_per_second\": " rate "}, " \
    "\"reduce_scatter\": {\"seconds\": 40e-6, \"hop_seconds\": 20e-6, \"bytes_per_second\": " rate "}, "            \
    "\"shift\": {\"seconds\": 60e-6, \"bytes_per_second\": " rate "}}"

typedef struct builtin {
    const char *name;
    const char *json; /* NULL: the same machine as the row above */
} builtin;

static const builtin TABLE[] = {
    {"this-cpu", "{\"name\": \"this-cpu\", \"about\": \"this machine's CPU, measured; ranks are threads of one "
                 "process\", \"mesh\": [1, 2], \"chip\": \"this-cpu\", \"chips\": 1, \"overlap\": 0}"},
    {"wh-n300", TENSTORRENT("wh-n300", "Tenstorrent n300: one card, two Wormhole chips", "1, 2",
                            WH_CHIP "\"weight_cell_bytes\": 1.0625, ", "1, 1")},
    {"wh-1x4", TENSTORRENT("wh-1x4", "four Wormhole chips in a line", "1, 4", WH_CHIP, "1, 1")},
    {"wh-t3k",
     TENSTORRENT("wh-t3k", "Tenstorrent T3000 (QuietBox, LoudBox): eight Wormhole chips", "2, 4", WH_CHIP, "1, 1")},
    {"wh-quietbox", NULL},
    {"wh-loudbox", NULL},
    {"wh-galaxy", TENSTORRENT("wh-galaxy", "Tenstorrent Galaxy: 32 Wormhole chips", "4, 8", GALAXY_CHIP, "4, 4")},
    {"bh-p300", TENSTORRENT("bh-p300", "Tenstorrent P300: one card, two Blackhole chips", "1, 2", BH_CHIP, "2, 2")},
    {"bh-quietbox2",
     TENSTORRENT("bh-quietbox2", "Tenstorrent QuietBox 2: four Blackhole chips", "2, 2", BH_CHIP, "2, 2")},
    {"bh-loudbox", TENSTORRENT("bh-loudbox", "Tenstorrent LoudBox: eight Blackhole chips", "2, 4", BH_CHIP, "2, 2")},
    {"bh-galaxy", TENSTORRENT("bh-galaxy", "Tenstorrent Galaxy: 32 Blackhole chips", "4, 8", BH_CHIP, "2, 2")},
    {"h100", "{\"name\": \"h100\", \"about\": \"one NVIDIA H100 SXM\", \"mesh\": [1, 1], " GPU_CHIP(
                 "650e12", "590e12") "\"memory_bytes\": 80e9, \"memory_bytes_per_second\": 3.0e12}"},
    {"h200", "{\"name\": \"h200\", \"about\": \"one NVIDIA H200\", \"mesh\": [1, 1], " GPU_CHIP(
                 "700e12", "640e12") "\"memory_bytes\": 141e9, \"memory_bytes_per_second\": 4.3e12}"},
    {"8xh200",
     "{\"name\": \"8xh200\", \"about\": \"eight NVIDIA H200, all joined by NVLink\", \"mesh\": [2, 4], " GPU_CHIP(
         "700e12", "640e12") "\"memory_bytes\": 141e9, \"memory_bytes_per_second\": 4.3e12, " NVLINK "}"},
    {"cpu-cluster-25g", "{\"name\": \"cpu-cluster-25g\", \"about\": \"eight hosts like this one over 25 Gb/s "
                        "Ethernet\", \"mesh\": [2, 4], \"chip\": \"this-cpu\", " ETHERNET("2.94e9") "}"},
    {"cpu-cluster-100g", "{\"name\": \"cpu-cluster-100g\", \"about\": \"eight hosts like this one over 100 Gb/s "
                         "Ethernet\", \"mesh\": [2, 4], \"chip\": \"this-cpu\", " ETHERNET("11.75e9") "}"},
};

enum { ROWS = sizeof TABLE / sizeof *TABLE };

const char *machine_builtin_name(int index) { return index >= 0 && index < ROWS ? TABLE[index].name : NULL; }

const char *machine_builtin(const char *name)
{
    for (int i = 0; i < ROWS; i++) {
        if (strcmp(TABLE[i].name, name) != 0)
            continue;
        while (!TABLE[i].json)
            i--;
        return TABLE[i].json;
    }
    return NULL;
}

const char *machine_of_device(const char *device)
{
    static const struct {
        const char *begins, *machine;
    } known[] = {{"NVIDIA H100 80GB HBM3", "h100"}, {"NVIDIA H200", "h200"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(device, known[i].begins, strlen(known[i].begins)) == 0)
            return known[i].machine;
    return NULL;
}
