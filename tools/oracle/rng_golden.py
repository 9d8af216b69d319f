"""Writes tests/base/rng_golden.h: torch's CPU normals, for base/rng. Usage: python rng_golden.py > tests/base/rng_golden.h"""
import struct
import torch

torch.set_num_threads(1)
SIZES = (1, 5, 15, 16, 17, 20, 100, 1000)
SEEDS = (0, 42, 2**32 + 5, 123456789012, 2**63 - 1)
CHAIN = (3, 5, 16, 1, 20, 2)  # calls of one generator: the spare of a pair survives


def bits(t):
    return struct.unpack(f'<{t.numel()}I', struct.pack(f'<{t.numel()}f', *t.float().tolist()))


def emit(name, values):
    print(f'static const uint32_t {name}[] = {{')
    for i in range(0, len(values), 12):
        print('    ' + ', '.join(f'0x{v:08x}' for v in values[i:i + 12]) + ',')
    print('};\n')


def generator(seed):
    return torch.Generator().manual_seed(seed)


print(f'/* torch {torch.__version__.split("+")[0]} randn on the CPU, as float bits. Made by tools/oracle/rng_golden.py. */')
print('#ifndef TESTS_RNG_GOLDEN_H\n#define TESTS_RNG_GOLDEN_H\n\n#include <stddef.h>\n#include <stdint.h>\n')
rows = []
for s, seed in enumerate(SEEDS):
    for n in SIZES:
        if n == 1000 and seed not in (0, SEEDS[-1]):
            continue
        name = f'golden_f32_{s}_{n}'
        emit(name, bits(torch.randn(n, generator=generator(seed))))
        rows.append(f'    {{{seed}u, {n}, {name}}},')
g = generator(7)
chain = sum((bits(torch.randn(n, generator=g)) for n in CHAIN), ())
emit('golden_chain', chain)
print('static const size_t golden_chain_sizes[] = {' + ', '.join(map(str, CHAIN)) + '};\n')
print('typedef struct rng_golden {\n    uint64_t seed;\n    size_t count;\n    const uint32_t *bits;\n} rng_golden;\n')
print('static const rng_golden rng_goldens[] = {\n' + '\n'.join(rows) + '\n};\n')
print('/* 16384 values: their sum, sum of squares, first and last. */')
print('typedef struct rng_long {\n    uint64_t seed;\n    double sum, squares;\n    float first, last;\n} rng_long;\n')
print('static const rng_long rng_longs[] = {')
for seed in SEEDS:
    x = torch.randn(16384, generator=generator(seed)).double()
    print(f'    {{{seed}u, {x.sum().item():.9f}, {(x * x).sum().item():.9f}, {x[0].item():.9f}f, {x[-1].item():.9f}f}},')
print('};\n\n#endif')
