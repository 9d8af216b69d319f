"""Two students of the trained flow; the text encoders are frozen and shared by both.

schnell: knows sigma = 1, 3/4, 1/2, 1/4 only, and steps from each to the next as the guided teacher would in several substeps.
dev: takes the guidance as an input: its velocity is u + g (v - u), g from 1 to 7, with u the teacher's for the empty caption. The new embedding starts at nothing."""
import torch
import torch.nn.functional as F

import flow
from common import fit, generator, load, load_average, normal
from models import encode_text, transformer, velocity

STEPS, TEACHER_GUIDANCE, SUBSTEPS = 4, 2.0, 3
LARGEST_GUIDANCE = 7.0


def student(teacher, guidance):
    s = transformer(guidance)
    s.load_state_dict(teacher.state_dict(), strict=False)   # all but the guidance embedder
    if guidance:
        last = s.time_text_embed.guidance_embedder.linear_2
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
    return s


def train(ctx, kind, model):
    """kind: "schnell" or "dev"; model: of flow.train. The student transformer."""
    b = ctx.budget[kind]
    if ctx.path(kind + ".pt").exists():
        return load_average(transformer(kind == "dev"), load(ctx.path(kind + ".pt"))).eval()
    teacher, text = model["dit"].requires_grad_(False), model["text"].requires_grad_(False)
    dit, latents = student(teacher, kind == "dev").to(ctx.device), flow.Latents(ctx)

    def guided(x, t, cond, uncond, h, w, g):
        """Both velocities in one pass."""
        two = velocity(teacher, torch.cat([x, x]), torch.cat([t, t]), torch.cat([cond[0], uncond[0]]), torch.cat([cond[1], uncond[1]]), h, w).float()
        v, u = two.chunk(2)
        return u + g * (v - u)

    def loss_at(step):
        rng = generator(4 if kind == "dev" else 5, step)
        h, w, z, clip, t5, *_ = latents.batch(rng, b["batch"], 0.02)
        n = len(z)
        with torch.no_grad(), ctx.autocast():
            cond = encode_text(text, clip, t5)
            empty = F.pad(latents.empty[1], (0, t5.size(1) - latents.empty[1].size(1)))
            uncond = [e.expand(n, *e.shape[1:]) for e in encode_text(text, latents.empty[0], empty)]
            noise = normal(z, rng)
            if kind == "dev":
                t = torch.sigmoid(torch.randn(n, 1, 1, generator=rng) * 1.2 + 0.3).to(z.device)
                g = (1 + (LARGEST_GUIDANCE - 1) * torch.rand(n, generator=rng) ** 1.5).to(z.device)
                x = (1 - t) * z + t * noise
                target = guided(x, t, cond, uncond, h, w, g[:, None, None])
            else:
                t = (torch.randint(1, STEPS + 1, (n, 1, 1), generator=rng) / STEPS).to(z.device)
                x = (1 - t) * z + t * noise
                y, s, g = x, t, None
                for _ in range(SUBSTEPS):
                    y = y - guided(y, s, cond, uncond, h, w, TEACHER_GUIDANCE) / (STEPS * SUBSTEPS)
                    s = s - 1 / (STEPS * SUBSTEPS)
                target = (x - y) * STEPS
        with ctx.autocast():
            v = velocity(dit, x, t, *cond, h, w, g)
        return ((v.float() - target) ** 2).mean()

    return load_average(dit, fit(ctx, kind, dit, loss_at, b["steps"], 0.005, 5e-4, flow.is_matrix, ema=0.99, warmup=20)).eval()
