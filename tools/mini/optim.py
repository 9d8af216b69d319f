"""Muon for matrices and convolution kernels, Adam for the rest (Jordan et al., https://kellerjordan.github.io/posts/muon)."""
import torch


def orthogonalise(g, steps=4):
    """[n, rows, columns] -> nearest semi-orthogonal matrices, about, by Newton-Schulz in bf16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    for _ in range(steps):
        s = x @ x.mT
        x = a * x + (b * s + c * (s @ s)) @ x
    return (x.mT if tall else x).float()


class MuonAdam(torch.optim.Optimizer):
    """Groups with muon=True hold tensors of two or more dimensions (flattened after the first); the others are Adam's."""

    def __init__(self, groups):
        super().__init__(groups, dict(lr=1e-3, muon=False, weight_decay=0.0))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            (self._muon if group["muon"] else self._adam)(params, group["lr"], group["weight_decay"])

    def _muon(self, params, lr, decay, momentum=0.95):
        shapes = {}
        for p in params:
            m = self.state[p].setdefault("m", torch.zeros_like(p))
            m.lerp_(p.grad, 1 - momentum)
            u = p.grad.lerp(m, momentum).reshape(p.size(0), -1)
            shapes.setdefault(tuple(u.shape), []).append((p, u))
        for (rows, columns), list_ in shapes.items():
            scale = max(1, rows / columns) ** 0.5
            for (p, _), u in zip(list_, orthogonalise(torch.stack([u for _, u in list_]))):
                p.mul_(1 - lr * decay).add_(u.reshape(p.shape), alpha=-lr * scale)

    def _adam(self, params, lr, decay, b1=0.9, b2=0.98):
        if not params:
            return
        for p in params:
            if not self.state[p]:
                self.state[p].update(m=torch.zeros_like(p), v=torch.zeros_like(p), t=0)
        states = [self.state[p] for p in params]
        for s in states:
            s["t"] += 1
        t, grads = states[0]["t"], [p.grad for p in params]
        m, v = [s["m"] for s in states], [s["v"] for s in states]
        torch._foreach_lerp_(m, grads, 1 - b1)
        torch._foreach_mul_(v, b2)
        torch._foreach_addcmul_(v, grads, grads, 1 - b2)
        d = torch._foreach_div(v, 1 - b2**t)
        torch._foreach_sqrt_(d)
        torch._foreach_add_(d, 1e-8)
        torch._foreach_mul_(params, 1 - lr * decay)
        torch._foreach_addcdiv_(params, m, d, -lr / (1 - b1**t))
