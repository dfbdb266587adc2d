"""Generative models of triggers: for each class, a distribution of small patches that lead to it (MESA)."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from nad.data.augment import Augmentation
from nad.data.batches import endless
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.models.forward import evaluating
from nad.runtime import Run

NOISE, PARTS, HIDDEN = 64, 4, 512
BLUR = 0.1  # deviation of the noise that a generated patch has to survive


@dataclass(frozen=True, kw_only=True)
class Staircase:
    """How the generators are trained.

    Args:
        size: side of the patch in pixels.
        levels: for each generator of a class, the probability beyond which more is no better.
        entropy: weight of the mutual information between noise and patch, which stands for the patches' entropy.
        epochs, batch: passes over the images, and images a step, each of them once for every class.
        lr: of Adam, with betas 0.5 and 0.999.
    """

    size: int = 3
    levels: tuple[float, ...] = (0.9, 0.8, 0.5)
    entropy: float = 0.1
    epochs: int = 10
    batch: int = 128
    lr: float = 2e-4

    def __post_init__(self) -> None:
        if min(self.size, self.epochs, self.batch) < 1 or not self.levels or not all(0 < b <= 1 for b in self.levels):
            raise NadError(
                f"expected size, epochs and batch >= 1 and levels in (0, 1], got {self.size}, {self.epochs}, "
                f"{self.batch} and {'/'.join(map(str, self.levels)) or 'none'}"
            )


class Stacked(nn.Module):
    """`count` linear layers that work side by side: (count, B, inputs) to (count, B, outputs)."""

    def __init__(self, count: int, inputs: int, outputs: int, draws: torch.Generator) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter((torch.rand(count, inputs, outputs, generator=draws) * 2 - 1) * bound)
        self.bias = nn.Parameter((torch.rand(count, 1, outputs, generator=draws) * 2 - 1) * bound)

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class Generators(nn.Module):
    """One generator a class: noise (K, B, 64) to patches (K, B, 3 * size * size) in [0, 1].

    The noise enters in four parts, one at every layer; batches are normalised by their own statistics.
    """

    def __init__(self, count: int, size: int, draws: torch.Generator) -> None:
        super().__init__()
        part = NOISE // PARTS
        widths = [0] + [HIDDEN] * (PARTS - 1)
        outputs = [HIDDEN] * (PARTS - 1) + [3 * size * size]
        self.layers = nn.ModuleList(Stacked(count, w + part, o, draws) for w, o in zip(widths, outputs))
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(count, 1, HIDDEN)) for _ in range(PARTS - 1))
        self.shifts = nn.ParameterList(nn.Parameter(torch.zeros(count, 1, HIDDEN)) for _ in range(PARTS - 1))

    def forward(self, noise: Tensor) -> Tensor:
        parts = noise.chunk(PARTS, 2)
        x = parts[0]
        for layer, scale, shift, more in zip(self.layers, self.scales, self.shifts, parts[1:]):
            x = layer(x)
            x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
            x = torch.cat([nn.functional.leaky_relu(x * scale + shift, 0.2), more], 2)
        return torch.sigmoid(self.layers[-1](x))


class Statistics(nn.Module):
    """One network a class that bounds the mutual information of noise and patch from below (Belghazi et al., 2018)."""

    def __init__(self, count: int, size: int, draws: torch.Generator) -> None:
        super().__init__()
        widths = [NOISE + 3 * size * size, HIDDEN, HIDDEN, 1]
        self.layers = nn.ModuleList(Stacked(count, a, b, draws) for a, b in pairwise(widths))

    def forward(self, noise: Tensor, patches: Tensor) -> Tensor:
        """The bound in nats, (K,)."""
        joint = self._value(noise, patches)
        marginal = self._value(noise, patches.roll(1, 1))
        return joint.mean(1) - (marginal.logsumexp(1) - torch.log(torch.tensor(float(marginal.shape[1]))))

    def _value(self, noise: Tensor, patches: Tensor) -> Tensor:
        x = torch.cat([noise, patches], 2)
        for layer in self.layers[:-1]:
            x = nn.functional.leaky_relu(layer(x), 0.2)
        return self.layers[-1](x).squeeze(2)


def model_triggers(model: nn.Module, images: ImageSet, how: Staircase, run: Run) -> list[Generators]:
    """For each level, the generators of all classes.

    Source: Qiao et al., "Defending Neural Backdoors via Generative Distribution Modeling", NeurIPS 2019, Section 3. A
    generator's loss is -E[min(p_class, level)] - entropy * information; patches are pasted at random places.
    """
    if how.size > min(images.size):
        raise NadError(f"the patch is {how.size} pixels and the images are {images.size[0]}x{images.size[1]}")
    device, count, made = run.torch_device, len(images.classes), []
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    wanted = [p.requires_grad for p in model.parameters()]
    model.requires_grad_(False)
    steps = how.epochs * max(1, round(len(images) / how.batch))
    try:
        with evaluating(model):
            for number, level in enumerate(how.levels):
                draws = run.generator(f"mesa/{number}")
                makers = Generators(count, how.size, draws).to(device)
                judges = Statistics(count, how.size, draws).to(device)
                optimizer = torch.optim.Adam([*makers.parameters(), *judges.parameters()], how.lr, betas=(0.5, 0.999))
                fed = endless(images, Augmentation(), how.batch, draws, device)
                for step, (x, _) in zip(range(steps), fed):
                    noise = torch.rand(count, len(x), NOISE, generator=draws).to(device)
                    patches = makers(noise)
                    blurred = patches + BLUR * torch.randn(patches.shape, generator=draws).to(device)
                    shown = torch.cat([pasted(x, blurred[k], draws) for k in range(count)])
                    with run.fabric.autocast():
                        answers = model(shown.contiguous(memory_format=torch.channels_last))
                    hit = answers.float().softmax(1).view(count, len(x), count).diagonal(dim1=0, dim2=2).T
                    loss = -hit.clamp(max=level).mean(1) - how.entropy * judges(noise, patches)
                    optimizer.zero_grad()
                    loss.sum().backward()
                    optimizer.step()
                    if step % 10 == 0:
                        run.progress(f"generators {number + 1}/{len(how.levels)}", step, steps, "")
                run.progress(f"generators {number + 1}/{len(how.levels)}", steps, steps, "")
                made.append(makers.requires_grad_(False))
    finally:
        for parameter, want in zip(model.parameters(), wanted):
            parameter.requires_grad_(want)
    return made


def pasted(x: Tensor, patches: Tensor, draws: torch.Generator) -> Tensor:
    """Images (B, 3, H, W) with patches (B, 3 * s * s), or what they need of them, each at a random place."""
    side = round((patches.shape[1] / 3) ** 0.5)
    count, _, high, wide = x.shape
    top, left = (torch.randint(n - side + 1, (count,), generator=draws).to(x.device) for n in (high, wide))
    row, column = torch.arange(high, device=x.device), torch.arange(wide, device=x.device)
    down, right = row - top[:, None], column - left[:, None]
    inside = ((down >= 0) & (down < side))[:, :, None] & ((right >= 0) & (right < side))[:, None]
    cell = down.clamp(0, side - 1)[:, :, None] * side + right.clamp(0, side - 1)[:, None]
    spread = patches.view(count, 3, -1).gather(2, cell.flatten(1)[:, None].expand(-1, 3, -1)).view_as(x)
    return torch.where(inside[:, None], spread, x)
