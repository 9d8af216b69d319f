"""Descriptions of Tenstorrent machines that are not here, for the vendor's mock mode.

usage: clusters.py MACHINE > FILE; then TT_METAL_MOCK_CLUSTER_DESC_PATH=FILE; MACHINE: wh-n300, wh-1x4, wh-t3k, wh-galaxy, bh-p300, bh-quietbox2, bh-loudbox, bh-galaxy

An n300 has two Wormholes, the first on the PCI bus, with Ethernet channels 8 and 9 to channels 0 and 1 of the second. A T3K has four n300: a mesh of four by two
chips, two links to each neighbour; wh-1x4 is a part of it. Of each chip two rows of cores are switched off, which leaves 8x8.

The others have all chips on the PCI bus: a P300 is a board of two Blackholes, a QuietBox 2 has two of them, a LoudBox eight P150, a Galaxy 32 chips on four trays of
eight. Their chips are rectangles with as many links to each neighbour as the vendor's descriptions of the meshes ask for. Which channel a cable is in makes no
difference here; ours are counted."""
import sys

N300_BOARD, P150_BOARD, P300_BOARD = 0x14 << 36, 0x41 << 36, 0x45 << 36  # board identifiers have the product in these bits
INSIDE = (8, 9), (0, 1)  # of an n300
CABLES = [  # chip, channels, chip, channels
    (0, (6, 7), 2, (6, 7)), (1, (0, 1), 3, (0, 1)), (0, (14, 15), 1, (14, 15)), (2, (14, 15), 3, (14, 15)),
    (4, (6, 7), 5, (6, 7)), (6, (6, 7), 7, (6, 7)),
]
PLACES = {0: (1, 0), 1: (1, 1), 2: (2, 0), 3: (2, 1), 4: (0, 0), 5: (0, 1), 6: (3, 0), 7: (3, 1)}
T3K = ([(i, i + 4) for i in range(4)], CABLES, PLACES)
MACHINES = {"wh-n300": ([(0, 1)], [], {0: (0, 0), 1: (1, 0)}), "wh-1x4": T3K, "wh-t3k": T3K}


def describe(boards, cables, places):
    links = [(a, INSIDE[0], b, INSIDE[1]) for a, b in boards] + list(cables)
    ends = [((a, c), (b, d)) for a, first, b, second in links for c, d in zip(first, second)]
    lines = ["arch: {%s}" % ", ".join(f"{chip}: wormhole_b0" for chip in places), "chips: {%s}" % ", ".join(f"{chip}: [{x}, {y}, 0, 0]" for chip, (x, y) in places.items()), "ethernet_connections:"]
    lines += [f"  - [{{chip: {a}, chan: {c}}}, {{chip: {b}, chan: {d}}}]" for (a, c), (b, d) in ends]
    lines += ["chips_with_mmio: [%s]" % ", ".join(f"{a}: {i}" for i, (a, _) in enumerate(boards)), "harvesting:"]
    lines += [f"  {chip}: {{noc_translation: true, harvest_mask: 513, dram_harvesting_mask: 0, eth_harvesting_mask: 0, pcie_harvesting_mask: 0}}" for chip in places]
    lines += ["boards:"] + [f"  - [{{board_id: {N300_BOARD + i}}}, {{board_type: n300}}, {{chips: [{a}, {b}]}}]" for i, (a, b) in enumerate(boards)]
    return "\n".join(lines)


GRIDS = {  # arch, rows, columns, links, board, its number, chips on it, columns or rows of cores that are off (bits)
    "wh-galaxy": ("wormhole_b0", 8, 4, 4, "ubb", 0x35 << 36, 32, 0b1),
    "bh-p300": ("blackhole", 1, 2, 2, "p300", P300_BOARD, 2, 0b11),
    "bh-quietbox2": ("blackhole", 2, 2, 2, "p300", P300_BOARD, 2, 0b11),
    "bh-loudbox": ("blackhole", 2, 4, 2, "p150", P150_BOARD, 1, 0b1),
    "bh-galaxy": ("blackhole", 8, 4, 2, "ubb_blackhole", 0x47 << 36, 32, 0b1),
}
TRAYS = {"wormhole_b0": (0xC0, 0x00, 0x40, 0x80), "blackhole": (0x00, 0x40, 0xC0, 0x80)}  # PCI buses of a Galaxy's trays: two above, two below
BLACKHOLE_ETHERNET_OFF = 0b100100000  # two of its fourteen
PCIE_OFF = {"p150": (2,), "p300": (2, 1), "ubb_blackhole": (1,)}  # of a Blackhole's two, by its place on the board


def describe_grid(arch, rows, cols, links, board, number, on_board, off):
    """Chip i is in row i // cols; a chip's channels are those to the right, to the left, down and up."""
    chips, channels = range(rows * cols), lambda way: range(way * links, (way + 1) * links)
    lines = ["arch: {%s}" % ", ".join(f"{chip}: {arch}" for chip in chips), "chips: {}", "chip_unique_ids: {%s}" % ", ".join(f"{chip}: {1000 + chip}" for chip in chips), "ethernet_connections:"]
    for chip in chips:
        for there, to, back in ((chip % cols + 1 < cols, 1, 0), (chip + cols < rows * cols, cols, 2)):
            lines += [f"  - [{{chip: {chip}, chan: {a}}}, {{chip: {chip + to}, chan: {b}}}]" for a, b in zip(channels(back), channels(back + 1)) if there]
    lines += ["chips_with_mmio: [%s]" % ", ".join(f"{chip}: {chip}" for chip in chips), "io_device_type: PCIe", "harvesting:"]
    ethernet = BLACKHOLE_ETHERNET_OFF if arch == "blackhole" else 0
    lines += [f"  {chip}: {{noc_translation: true, harvest_mask: {off}, dram_harvesting_mask: 0, eth_harvesting_mask: {ethernet}, pcie_harvesting_mask: {PCIE_OFF.get(board, (0,))[chip % on_board % 2 if board == 'p300' else 0]}, l2cpu_harvesting_mask: 0}}" for chip in chips]
    lines += ["chip_to_bus_id:"] + [f"  {chip}: \"{bus(arch, chip, cols, on_board):#06x}\"" for chip in chips]
    lines += ["boards:"] + [f"  - [{{board_id: {number + first}}}, {{board_type: {board}}}, {{chips: {list(chips[first : first + on_board])}}}]" for first in chips[::on_board]]
    lines += ["asic_locations: {%s}" % ", ".join(f"{chip}: {place(chip, cols)[1] if on_board == 32 else chip % on_board}" for chip in chips)] if arch == "blackhole" else []
    return "\n".join(lines)


def place(chip, cols):
    """Of a Galaxy's chip: its tray, of four rows and two columns, and its number there, counted from the Galaxy's corner: trays are mirrored."""
    row, col = divmod(chip, cols)
    mirrored = lambda at, size: at % size if at < size else size - 1 - at % size
    return row // 4 * 2 + col // 2, 1 + mirrored(col, 2) * 4 + mirrored(row, 4)


def bus(arch, chip, cols, on_board):
    tray, number = place(chip, cols)
    return TRAYS[arch][tray] + number if on_board == 32 else 0x20 * chip + 1


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in MACHINES | GRIDS:
        sys.exit(__doc__)
    print(describe(*MACHINES[sys.argv[1]]) if sys.argv[1] in MACHINES else describe_grid(*GRIDS[sys.argv[1]]))
