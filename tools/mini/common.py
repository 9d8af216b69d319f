"""What every stage shares: where it works, on what, for how long, and one training loop that can be stopped and taken up again."""
import dataclasses
import os
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", DIFFUSERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import data
from optim import MuonAdam


class OutOfTime(Exception):
    """The run reached --stop-after; its state is saved."""


@dataclasses.dataclass
class Context:
    work: Path            # checkpoints and logs
    budget: dict          # of make.BUDGETS
    device: torch.device
    workers: int          # processes that paint pictures; 0: this one
    deadline: float = float("inf")

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16)

    def path(self, name):
        return self.work / name


def log(*words):
    print(time.strftime("%H:%M:%S"), *words, flush=True)


def save(value, path):
    """Whole or not at all."""
    tmp = path.with_suffix(".tmp")
    torch.save(value, tmp)
    tmp.replace(path)


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def generator(*numbers):
    """A generator of its own for every (stage, step): a resumed run draws what an unbroken one would have drawn."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1))


def normal(like, g):
    """Normal noise of a tensor's shape, drawn on its device: drawing a large batch on the CPU would hold up a GPU."""
    seed = int(torch.randint(2**62, (), generator=g))
    return torch.randn(like.shape, device=like.device, generator=torch.Generator(like.device).manual_seed(seed))


def steps_done(ctx, name):
    """Steps that an interrupted fit() has behind it, so that its pictures go on where they stopped."""
    part = ctx.path(name + ".part.pt")
    return load(part)["step"] if part.exists() else 0


def load_average(module, weights):
    """Loads a fit() result; only parameters that are tied to another may be missing."""
    answer = module.load_state_dict(weights, strict=False)
    named = dict(module.named_parameters())
    lost = [k for k in answer.missing_keys if k in named]
    if lost or answer.unexpected_keys:
        raise SystemExit(f"checkpoint does not fit the model: missing {lost[:3]}, unexpected {answer.unexpected_keys[:3]}. Was it made by another version? Delete the work folder.")
    return module


def fit(ctx, name, module, loss_at, steps, muon, adam, is_matrix, ema=0.997, warmup=60, clip=1.0, report=None):
    """Trains `module` for `steps` steps and returns the average (EMA) of its parameters, {name: tensor on the CPU}.

    loss_at(step) gives the loss of that step's batch. muon, adam: peak learning rates; warm-up, a flat quarter, then linear to zero. is_matrix(name, p) sends a
    parameter to Muon. A checkpoint every few minutes and at the end; report() is called then, on averaged weights. A finished run is read from its file."""
    final, part = ctx.path(name + ".pt"), ctx.path(name + ".part.pt")
    if final.exists():
        return load(final)
    named = {k: p for k, p in module.named_parameters() if p.requires_grad}
    groups = [dict(params=[p for k, p in named.items() if p.ndim >= 2 and is_matrix(k, p)], lr=muon, muon=True, weight_decay=0.01)]
    chosen = {id(p) for p in groups[0]["params"]}
    groups.append(dict(params=[p for p in named.values() if id(p) not in chosen], lr=adam, muon=False))
    opt, peaks = MuonAdam(groups), (muon, adam)
    average, step = {k: p.detach().clone() for k, p in named.items()}, 0
    if part.exists():
        state = torch.load(part, map_location=ctx.device, weights_only=True)
        step = state["step"]
        with torch.no_grad():
            for k, p in named.items():
                p.copy_(state["now"][k])
                average[k].copy_(state["average"][k])
        opt.load_state_dict(state["opt"])
        log(name, "resumes at step", step)

    def checkpoint():
        now = {k: p.detach() for k, p in named.items()}
        save(dict(step=step, now=now, average=average, opt=opt.state_dict()), part)
        if report:
            kept = {k: p.clone() for k, p in now.items()}
            with torch.no_grad():
                for k, p in named.items():
                    p.copy_(average[k])
                module.eval()
                log(name, "step", step, report())
                for k, p in named.items():
                    p.copy_(kept[k])
        module.train()

    module.train()
    began, first, total, saved, every = time.time(), step, 0.0, time.time(), max(1, min(100, steps // 4))
    while step < steps:
        rate = min(1, (step + 1) / warmup) * min(1, (1 - step / steps) / 0.75 + 0.01)
        for group, peak in zip(opt.param_groups, peaks):
            group["lr"] = peak * rate
        loss = loss_at(step)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(named.values()), clip)
        opt.step()
        step += 1
        decay = min(ema, step / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.values()), [p.detach() for p in named.values()], 1 - decay)
        total = total + loss.detach()  # stays on the device: reading it every step would stall a GPU
        if step % every == 0:
            mean = float(total) / every
            log(name, f"step {step}/{steps} loss {mean:.4g} {(step - first) / (time.time() - began):.2f} steps/s")
            if not mean == mean:
                raise SystemExit(f"{name}: the loss is not a number at step {step}. Delete {part} to start this stage again, with lower rates.")
            total = 0.0
            if time.time() > ctx.deadline:
                checkpoint()
                raise OutOfTime(name)
            if time.time() - saved > 180:
                checkpoint()
                saved = time.time()
    checkpoint()
    average = {k: p.cpu() for k, p in average.items()}
    save(average, final)
    part.unlink()
    return average


class Pictures(Dataset):
    """Pictures and labels by seed: [3, H, W] in [-1, 1] as uint8 bytes to be scaled on the device, int64 [6]."""

    def __init__(self, first, count, size=data.SIZE, allow_held=False):
        self.first, self.count, self.size, self.allow_held = first, count, size, allow_held

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        s, im = data.sample(self.first + i, self.size, self.allow_held)
        return torch.from_numpy(im).permute(2, 0, 1), torch.tensor(data.labels(s))


def batches(ctx, pictures, size):
    """An endless-enough iterator over batches, painted ahead by ctx.workers processes."""
    return iter(DataLoader(pictures, size, num_workers=ctx.workers, drop_last=True, prefetch_factor=8 if ctx.workers else None))


def to_float(ctx, x):
    return (x.to(ctx.device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
