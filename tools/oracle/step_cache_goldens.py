"""Pictures with diffusers' first-block cache: tests/data/goldens/<pipeline>/step_cache/<case>.safetensors.

usage: step_cache_goldens.py

Beside what every golden has: `step_cache` (the threshold), `computed` [passes, steps] (1: all blocks ran; the positive pass first) and `distance` [passes, steps] (what was compared
with the threshold; -1: nothing to compare with). A case whose distance comes within MARGIN of its threshold is refused: rounding would decide it.
"""
import environment
import dataclasses
import os

import catalog
import record
import torch
from diffusers.hooks import FirstBlockCacheConfig
from diffusers.hooks.first_block_cache import FBCHeadBlockHook

MARGIN = 0.02
CASES = {
    "dev": [
        (0.7, record.Case("some", catalog.CAR, 48, 32, 8, seed=5, guidance=3.0, length=13)),
        (0.58, record.Case("few", catalog.CAR, 32, 32, 8, seed=9, guidance=3.0, length=9)),
        (0.9, record.Case("cfg", catalog.CAR, 32, 48, 6, seed=3, guidance=2.0, length=12, negative="a red house", scale=2.5)),
    ],
    "schnell": [(0.65, record.Case("some", catalog.CAR, 32, 48, 8, seed=7, length=17))],
    "double": [(0.73, record.Case("some", catalog.CAR, 64, 64, 6, seed=2, length=11))],
}


@dataclasses.dataclass
class Watch:
    """The decisions of one run, in the order in which they were made."""
    distances: list
    computed: list

    def install(self):
        original = FBCHeadBlockHook._should_compute_remaining_blocks

        def watched(hook, residual):
            before = hook.state_manager.get_state().head_block_residual
            distance = -1.0 if before is None else ((residual - before).abs().mean() / before.abs().mean()).item()
            decision = original(hook, residual)
            self.distances.append(distance)
            self.computed.append(int(decision))
            return decision

        FBCHeadBlockHook._should_compute_remaining_blocks = watched
        return original


def by_pass(values, passes):
    """Of alternating passes: [passes, steps]."""
    return torch.tensor(values).reshape(-1, passes).T.contiguous()


def run(pipe, threshold, case):
    watch = Watch([], [])
    original = watch.install()
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    try:
        out = record.run(pipe, case)
    finally:
        pipe.transformer.disable_cache()
        FBCHeadBlockHook._should_compute_remaining_blocks = original
    return out, watch


def main():
    for name, cases in CASES.items():
        pipe = record.load(os.path.join(environment.TEST_DATA, "pipelines", name))
        for threshold, case in cases:
            out, watch = run(pipe, threshold, case)
            passes = 1 if case.scale is None else 2
            nearest = min(abs(d / threshold - 1) for d in watch.distances if d >= 0)
            print(f"{name}/{case.name}: computed {by_pass(watch.computed, passes).tolist()}, nearest {nearest:.2f}, distances", [round(d, 3) for d in watch.distances])
            assert nearest > MARGIN, "too near the threshold"
            kept = {k: v for k, v in out.items() if k not in ("prompt_embeds", "negative_prompt_embeds", "decoded")}
            more = {"step_cache": torch.tensor(threshold), "computed": by_pass(watch.computed, passes), "distance": by_pass(watch.distances, passes)}
            folder = os.path.join(environment.TEST_DATA, "goldens", name, "step_cache")
            os.makedirs(folder, exist_ok=True)
            record.save(os.path.join(folder, case.name + ".safetensors"), {**kept, **more}, case)


if __name__ == "__main__":
    main()
