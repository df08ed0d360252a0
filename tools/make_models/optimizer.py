"""Muon for the matrices inside the layers, AdamW for the rest.

Muon (Keller Jordan, 2024) orthogonalises each matrix's momentum; small models reach the same loss
in well under the steps that AdamW needs, which is what counts on two cores. Matrices of equal
shape are stacked, so that a step is a handful of batched products.
"""

import torch


def _orthogonalise(stack: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrices. [N, R, C] -> same."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = stack.transpose(1, 2) if stack.shape[1] > stack.shape[2] else stack
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + torch.baddbmm(b * gram, gram, gram, alpha=c) @ x
    return x.transpose(1, 2) if stack.shape[1] > stack.shape[2] else x


class Muon:
    """Momentum, then orthogonalised updates, with decoupled weight decay."""

    def __init__(self, parameters, momentum: float = 0.95, weight_decay: float = 0.1):
        self.momentum = momentum
        self.weight_decay = weight_decay
        by_shape: dict[tuple, list] = {}
        for parameter in parameters:
            by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
        self.groups = [(group, torch.zeros(len(group), *shape, device=group[0].device))
                       for shape, group in by_shape.items()]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        for parameters, velocity in self.groups:
            gradient = torch.stack([p.grad for p in parameters])
            velocity.lerp_(gradient, 1 - self.momentum)
            update = _orthogonalise(gradient.lerp_(velocity, self.momentum))
            rows, columns = update.shape[1:]
            scale = learning_rate * max(1.0, rows / columns) ** 0.5
            for parameter, change in zip(parameters, update.unbind(0)):
                parameter.mul_(1 - learning_rate * self.weight_decay)
                parameter.add_(change, alpha=-scale)


class ModelOptimizer:
    """Steps a Llama: `fraction` scales all learning rates."""

    MATRIX_RATE, EMBEDDING_RATE, GAIN_RATE, FINAL_GAIN_RATE = 0.02, 0.03, 0.004, 0.0006

    def __init__(self, model):
        matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
        gains = [p for p in model.model.layers.parameters() if p.ndim == 1]
        self.muon = Muon(matrices)
        groups = ((list(model.model.embed_tokens.parameters()), self.EMBEDDING_RATE),
                  (gains, self.GAIN_RATE),
                  (list(model.model.norm.parameters()), self.FINAL_GAIN_RATE))
        self.adam = torch.optim.AdamW([{"params": parameters, "full_rate": rate} for parameters, rate in groups],
                                      betas=(0.9, 0.98), weight_decay=0.0)

    def step(self, fraction: float) -> None:
        self.muon.step(self.MATRIX_RATE * fraction)
        for group in self.adam.param_groups:
            group["lr"] = group["full_rate"] * fraction
        self.adam.step()

    def zero_grad(self) -> None:
        for parameters, _ in self.muon.groups:
            for parameter in parameters:
                parameter.grad = None
        self.adam.zero_grad(set_to_none=True)
