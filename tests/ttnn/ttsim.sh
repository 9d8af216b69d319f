#!/bin/sh
# What one Wormhole computes, on the vendor's functional simulator (ttsim.py says what). By hand, never in CI: nothing of the simulator is here.
# usage: FLUX1_TTNN_PYTHON=PYTHON FLUX1_TTSIM=…/libttsim.so [FLUX1_SFPI=FOLDER] ttsim.sh FLUX1
#        PYTHON has ttnn, and stays as it is; FOLDER is the vendor's compiler. Without one sim-g++ stands in for it, which needs Debian 12's
#        gcc-riscv64-unknown-elf, picolibc-riscv64-unknown-elf and g++
set -eu
here=$(cd "$(dirname "$0")" && pwd)
flux1=$(realpath "$1")
[ -n "${FLUX1_TTNN_PYTHON:-}" ] || { echo "skipped: FLUX1_TTNN_PYTHON names no Python with ttnn"; exit 77; }
[ -f "${FLUX1_TTSIM:-}" ] || { echo "skipped: FLUX1_TTSIM names no libttsim.so"; exit 77; }
wheel=$("$FLUX1_TTNN_PYTHON" -c 'import importlib.util, os; print(os.path.dirname(importlib.util.find_spec("ttnn").origin))')
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/root/runtime" "$dir/tmp"
ln -s "$wheel/tt_metal" "$wheel/ttnn" "$dir/root/"
ln -s "$wheel/runtime/hw" "$dir/root/runtime/"
cp "$FLUX1_TTSIM" "$dir/libttsim.so"
cp "$wheel/tt_metal/soc_descriptors/wormhole_b0_80_arch.yaml" "$dir/soc_descriptor.yaml"

stand_in() {
    bin=$dir/root/runtime/sfpi/compiler/bin hw=$dir/root/tt_metal/hw
    mkdir -p "$bin/include/bits"
    cp "$here/sim-g++" "$bin/riscv-tt-elf-g++"
    chmod +x "$bin/riscv-tt-elf-g++"
    for tool in ld nm objcopy objdump size; do ln -s "$(command -v riscv64-unknown-elf-$tool)" "$bin/riscv-tt-elf-$tool"; done
    # the host's C++ headers without threads, and of the vendor's compiler's headers what programs without vectors use
    : >"$bin/include/bits/os_defines.h"
    echo '#include <bits/gthr-single.h>' >"$bin/include/bits/gthr-default.h"
    printf '%s\n' '#include_next <bits/c++config.h>' '#undef _GLIBCXX_HAS_GTHREADS' '#undef _GLIBCXX_HAVE_LINUX_FUTEX' >"$bin/include/bits/c++config.h"
    printf '%s\n' '#pragma once' 'namespace sfpi {}' >"$bin/include/sfpi.h"
    cat >"$bin/include/lltt.h" <<'H'
#pragma once
extern volatile unsigned long __instrn_buffer[];
namespace lltt { // instruction REPLAY, as ckernel_ops.h has it
enum ExecBool : bool { NoExec, Exec };
constexpr unsigned long replay_insn(unsigned start, unsigned count, bool exec = false, bool record = false) {
    return 0x04000000 | start << 14 | count << 4 | exec << 1 | record;
}
__attribute__((always_inline)) inline void replay(unsigned start, unsigned count) { __instrn_buffer[0] = replay_insn(start, count); }
template <ExecBool exec = NoExec>
__attribute__((always_inline)) inline void record(unsigned start, unsigned count) { __instrn_buffer[0] = replay_insn(start, count, exec, true); }
}
H
    inc=$hw/inc/internal/tt-1xx
    for source in toolchain/substitutes.cpp firmware/src/tt-1xx/tdma_xmov.c firmware/src/tt-1xx/wormhole/noc.c; do
        name=${source##*/}
        "$bin/riscv-tt-elf-g++" -Os -fno-exceptions -fno-rtti -fno-tree-loop-distribute-patterns -DARCH_WORMHOLE -DTENSIX_FIRMWARE -DFW_BUILD -DCOMPILE_FOR_BRISC \
            -DLOCAL_MEM_EN=0 -I"$hw/inc" -I"$inc" -I"$inc/wormhole" -I"$inc/wormhole/wormhole_b0_defines" -I"$inc/wormhole/noc" \
            -I"$dir/root" -I"$dir/root/tt_metal/hostdevcommon/api" -I"$dir/root/tt_metal/api" -x c++ -c "$hw/$source" -o "$bin/${name%.*}.o"
    done
}

if [ -n "${FLUX1_SFPI:-}" ]; then ln -s "$FLUX1_SFPI" "$dir/root/runtime/sfpi"; else stand_in; fi
export TT_METAL_RUNTIME_ROOT="$dir/root" TT_METAL_CACHE="$dir/cache" TT_METAL_SIMULATOR="$dir/libttsim.so" TT_METAL_SLOW_DISPATCH_MODE=1 TT_LOGGER_LEVEL=fatal TMPDIR="$dir/tmp"
failed=0
shown() { # of a group's output, which has much of the library's
    grep -a -E 'exact|relative L2|FAILED|ERROR|error:' "$dir/out" || true
    if [ "$1" = 0 ]; then return 0; fi
    tail -n 5 "$dir/out"
    echo "FAILED: $2"
    failed=1
}
for group in tensors moves add matmul; do
    rc=0
    "$FLUX1_TTNN_PYTHON" -B "$here/ttsim.py" $group >"$dir/out" 2>&1 || rc=$?
    shown $rc $group
done
cat >"$dir/python" <<P
#!/bin/sh
if [ "\$1" = -B ] && [ "\$3" = serve ]; then exec "$FLUX1_TTNN_PYTHON" -B "$here/ttsim.py" weights "$here/../data/pipelines/patchwork" "\$4"; fi
exec "$FLUX1_TTNN_PYTHON" "\$@"
P
chmod +x "$dir/python"
for machine in wh-t3k wh-n300; do # in bf16, in bfp8
    FLUX1_TTNN_PYTHON=$dir/python "$flux1" generate --model "$here/../data/pipelines/patchwork" --prompt "a red fox" --width 128 --height 128 --max-sequence-length 64 \
        --steps 1 --device ttnn:$machine --mesh 1x1 --output "$dir/out.png" >"$dir/out" 2>&1 || true # it is refused when the weights were compared
    rc=0
    grep -q "exact; the picture is not made" "$dir/out" || rc=1
    shown $rc "flux1's weights ($machine)"
done
exit $failed
