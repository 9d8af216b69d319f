"""Regenerates tests/data/pipelines and tests/data/goldens.

usage: make_goldens.py [NAME …] [--mini-trial DIR]       names of pipelines, `cfg`, `batch`, `scheduler`, `mini-trial`; without any: all
"""
import environment
import argparse
import os

import numpy as np
import catalog
import record
import tiny
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps

PIPELINES, GOLDENS = os.path.join(environment.TEST_DATA, "pipelines"), os.path.join(environment.TEST_DATA, "goldens")


def golden_path(*names):
    return os.path.join(GOLDENS, *names) + ".safetensors"


def kept(case, out):
    """What of a case goes into its file: the large tensors only where asked for."""
    dropped = [name for name, keep in (("prompt_embeds", case.embeds), ("negative_prompt_embeds", case.embeds), ("decoded", case.decoded)) if not keep]
    return {k: v for k, v in out.items() if k not in dropped}


def make_case(pipe, half, name, case):
    out = record.run(pipe, case)
    tensors = kept(case, out)
    if case.hidden:
        tensors.update(record.encoder_hidden(pipe, out))
    if case.bf16:
        tensors.update(record.bf16_errors(half, case, out))
    record.save(golden_path(name, case.name), tensors, case)
    low, high = out["decoded"].min().item(), out["decoded"].max().item()
    saturated = (out["decoded"].abs() > 1).float().mean().item()
    print(f"{name}/{case.name}: decoded {low:.2f}..{high:.2f}, {saturated:.1%} saturated, last latents {out[f'latents.{case.steps}'].std():.2f}")


def make_stages(pipe, half, spec, wanted):
    """A small picture of its own."""
    scale = 2 ** len(spec.vae["block_out_channels"])
    height, width = (scale * n for n in wanted["grid"])
    case = record.Case("stages", catalog.CAR, width, height, 1, seed=100, guidance=2.0, length=13)
    out = record.run(pipe, case)
    vae = record.vae_stages(pipe, half, case, out, wanted["image_size"])
    if not wanted.get("vae_levels"):
        vae = {name: vae[name] for name in record.VAE_ENDS}
    record.save(golden_path(spec.name, "stages"), {**record.dit_stages(pipe, half, case, out), **vae}, case)


def make_pipeline(spec, cases, stages):
    folder = os.path.join(PIPELINES, spec.name)
    tiny.build(spec, folder)
    pipe = record.load(folder)
    half = record.in_bf16(pipe)
    for case in cases:
        make_case(pipe, half, spec.name, case)
    make_stages(pipe, half, spec, stages)


def make_more(kind, cases):
    """<pipeline>/<kind>/<case> for the cases of pipelines that are there."""
    for name in cases:
        pipe = record.load(os.path.join(PIPELINES, name))
        half = record.in_bf16(pipe)
        for case in cases[name]:
            make_case(pipe, half, os.path.join(name, kind), case)


def schedule(config, tokens, steps):
    """Sigmas as FluxPipeline asks its scheduler for them."""
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    c = scheduler.config
    mu = calculate_shift(tokens, c.base_image_seq_len, c.max_image_seq_len, c.base_shift, c.max_shift)
    retrieve_timesteps(scheduler, steps, "cpu", sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    return scheduler


def make_scheduler():
    """scheduler.safetensors: <config>.tokens<L>.steps<n>.sigmas [n+1] and .timesteps [n]; static configs do not look at the tokens."""
    tensors = {}
    for name, config in catalog.SCHEDULES.items():
        for tokens in catalog.SCHEDULE_TOKENS if config.get("use_dynamic_shifting") else (0,):
            for steps in catalog.SCHEDULE_STEPS:
                s = schedule(config, tokens, steps)
                key = f"{name}.tokens{tokens}.steps{steps}"
                tensors[key + ".sigmas"], tensors[key + ".timesteps"] = s.sigmas, s.timesteps
    record.save(golden_path("scheduler"), tensors)


def make_mini_trial(folder):
    """Pictures and last latents of the trained pipeline, which is not committed."""
    pipe = record.load(folder)
    for case in catalog.MINI_TRIAL:
        out = record.run(pipe, case)
        names = ("clip.input_ids", "t5.input_ids", "pooled_prompt_embeds", f"latents.{case.steps}", "image")
        record.save(golden_path("mini-trial", case.name), {k: out[k] for k in names}, case)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--mini-trial", default=os.path.join(environment.TEST_DATA, "../../../shared/data/mini-trial"))
    options = parser.parse_args()
    wanted = lambda name: not options.names or name in options.names
    for spec, cases, stages in catalog.pipelines():
        if wanted(spec.name):
            make_pipeline(spec, cases, stages)
    for kind, cases in (("cfg", catalog.CFG), ("batch", catalog.BATCHES)):
        if wanted(kind):
            make_more(kind, cases)
    if wanted("scheduler"):
        make_scheduler()
    if wanted("mini-trial") and os.path.isdir(options.mini_trial):
        make_mini_trial(options.mini_trial)


if __name__ == "__main__":
    main()
