"""Descriptions of Tenstorrent machines that are not here, for the vendor's mock mode.

usage: clusters.py wh-n300|wh-t3k > FILE; then TT_METAL_MOCK_CLUSTER_DESC_PATH=FILE

An n300 has two Wormholes, the first on the PCI bus, with Ethernet channels 8 and 9 to channels 0 and 1 of the second. A T3K has four n300: a mesh of four by two
chips, two links to each neighbour. Of each chip two rows of cores are switched off, which leaves 8x8."""
import sys

N300_BOARD = 0x14 << 36  # board identifiers have the product in these bits
INSIDE = (8, 9), (0, 1)  # of an n300
CABLES = [  # chip, channels, chip, channels
    (0, (6, 7), 2, (6, 7)), (1, (0, 1), 3, (0, 1)), (0, (14, 15), 1, (14, 15)), (2, (14, 15), 3, (14, 15)),
    (4, (6, 7), 5, (6, 7)), (6, (6, 7), 7, (6, 7)),
]
PLACES = {0: (1, 0), 1: (1, 1), 2: (2, 0), 3: (2, 1), 4: (0, 0), 5: (0, 1), 6: (3, 0), 7: (3, 1)}
MACHINES = {"wh-n300": ([(0, 1)], [], {0: (0, 0), 1: (1, 0)}), "wh-t3k": ([(i, i + 4) for i in range(4)], CABLES, PLACES)}


def describe(boards, cables, places):
    links = [(a, INSIDE[0], b, INSIDE[1]) for a, b in boards] + list(cables)
    ends = [((a, c), (b, d)) for a, first, b, second in links for c, d in zip(first, second)]
    lines = ["arch: {%s}" % ", ".join(f"{chip}: wormhole_b0" for chip in places), "chips: {%s}" % ", ".join(f"{chip}: [{x}, {y}, 0, 0]" for chip, (x, y) in places.items()), "ethernet_connections:"]
    lines += [f"  - [{{chip: {a}, chan: {c}}}, {{chip: {b}, chan: {d}}}]" for (a, c), (b, d) in ends]
    lines += ["chips_with_mmio: [%s]" % ", ".join(f"{a}: {i}" for i, (a, _) in enumerate(boards)), "harvesting:"]
    lines += [f"  {chip}: {{noc_translation: true, harvest_mask: 513, dram_harvesting_mask: 0, eth_harvesting_mask: 0, pcie_harvesting_mask: 0}}" for chip in places]
    lines += ["boards:"] + [f"  - [{{board_id: {N300_BOARD + i}}}, {{board_type: n300}}, {{chips: [{a}, {b}]}}]" for i, (a, b) in enumerate(boards)]
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in MACHINES:
        sys.exit(__doc__)
    print(describe(*MACHINES[sys.argv[1]]))
