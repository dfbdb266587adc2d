"""How a reflection in a window pane looks: pure functions on linear light, and the rules for a good one.

Images are float (3, H, W) in [0, 1]; `linear` is light, `encoded` is what a picture stores.
"""

from dataclasses import dataclass
from math import ceil, exp

import torch
from torch import Tensor
from torch.nn import functional as F

GAMMA = 2.2
WINDOW = 7  # side of the windows of the structural similarity
SIMILAR = (0.7, 0.85)  # the similarity to the background that a good reflection leaves


@dataclass(frozen=True)
class Draw:
    """The random choices for one image.

    Args:
        reflection: which one.
        alpha: share of the background's light.
        ghost: two shifted copies in focus; else one copy out of focus.
        shift: (y, x) between the copies, in pixels. share: light of the first copy.
        sigma: of the blur, in pixels. dimming: how strongly a reflection that is too bright is held back.
        place: (y, x) in [0, 1) of the image in the window that darkens towards its edge.
    """

    reflection: int
    alpha: float
    ghost: bool
    shift: tuple[int, int]
    share: float
    sigma: float
    dimming: float
    place: tuple[float, float]

    @classmethod
    def of(cls, generator: torch.Generator, count: int, alpha: float | None) -> "Draw":
        """Draw among `count` reflections; `alpha` None draws it too."""

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))

        def whole(low: int, high: int) -> int:
            return int(torch.randint(low, high + 1, (), generator=generator))

        drawn_alpha = 1 - uniform(0.05, 0.45)
        return cls(
            reflection=whole(0, count - 1),
            alpha=drawn_alpha if alpha is None else alpha,
            ghost=uniform(0, 1) < 0.49,
            shift=(whole(3, 8), whole(3, 8)),
            share=abs(whole(0, 1) - uniform(0.15, 0.5)),
            sigma=uniform(1, 5),
            dimming=uniform(1.08, 1.18),
            place=(uniform(0, 1), uniform(0, 1)),
        )


def linear(pixels: Tensor) -> Tensor:
    """The light of pixels in 0..255."""
    return (pixels.float() / 255).pow(GAMMA)


def encoded(light: Tensor) -> Tensor:
    """Light as a picture stores it."""
    return light.clamp(0, 1).pow(1 / GAMMA)


def added(background: Tensor, reflection: Tensor, draw: Draw) -> Tensor:
    """The light that the reflection adds to `draw.alpha` of the background; both linear and of one size."""
    if draw.ghost:
        return (1 - draw.alpha) * ghost(reflection, draw.shift, draw.share)
    blurred = dimmed(background, blur(reflection, draw.sigma), draw.dimming)
    # half of it stays where alpha is 1: so the authors' code
    return vignette(reflection.shape[1:], draw.place) * (1 - draw.alpha / 2) * blurred


def ghost(reflection: Tensor, shift: tuple[int, int], share: float) -> Tensor:
    """Two copies `shift` apart, of which only where they overlap is kept and resized back."""
    (down, right), (high, wide) = shift, reflection.shape[1:]
    both = share * reflection[:, down:, right:] + (1 - share) * reflection[:, : high - down, : wide - right]
    return sized(both, (high, wide))


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with a kernel of 2 ceil(2 sigma) + 1, reflected at the border."""
    reach = ceil(2 * sigma)
    weights = torch.tensor([exp(-(d * d) / (2 * sigma * sigma)) for d in range(-reach, reach + 1)]).to(image)
    weights = weights / weights.sum()
    padded = F.pad(image[:, None], (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(F.conv2d(padded, weights[None, None, None]), weights[None, None, :, None])[:, 0]


def dimmed(background: Tensor, reflection: Tensor, dimming: float) -> Tensor:
    """Hold a reflection back in the channels where it and the background together are brighter than white."""
    sums = background + reflection
    bright = sums > 1
    mean = (sums * bright).sum((1, 2)) / bright.sum((1, 2)).clamp(min=1)
    excess = (mean.clamp(min=1) - 1) * dimming
    return (reflection - excess[:, None, None]).clamp(0, 1)


def vignette(size: tuple[int, ...], place: tuple[float, float]) -> Tensor:
    """A Gaussian of peak 1 over three deviations each way, cropped from a square to `size` at `place`: (H, W)."""
    side = max(size)
    profile = torch.exp(-torch.linspace(-3, 3, side).square() / 2)
    profile = profile / profile.max()
    cut = []
    for length, at in zip(size, place):
        start = int(at * (side - length + 1))
        cut.append(profile[start : start + length])
    return cut[0][:, None] * cut[1]


def sized(image: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bilinear, antialiased where it gets smaller."""
    if tuple(image.shape[1:]) == tuple(size):
        return image
    return F.interpolate(image[None], size=tuple(size), mode="bilinear", antialias=True)[0]


def compose(background: Tensor, reflection: Tensor, draw: Draw, side: int) -> tuple[Tensor, Tensor]:
    """A background behind a pane: its share of the light and what the pane reflects, both linear.

    Args:
        background: uint8 (3, H, W). reflection: uint8 (3, h, w).
        side: the longer side at which the reflection is made, at least the background's.
    """
    size = tuple(background.shape[1:])
    factor = max(side, *size) / max(size)
    large = tuple(max(16, round(length * factor)) for length in size)
    light = linear(background)
    layer = added(sized(light, large), linear(sized(reflection.float(), large)), draw)
    return draw.alpha * light, sized(layer, size)


def acceptable(behind: Tensor, layer: Tensor) -> tuple[bool, float]:
    """Whether a reflection is neither too strong nor too dark, and the similarity it leaves to the background."""
    out, reflected = encoded(behind + layer), encoded(layer)
    weak = bool(reflected.mean() <= 0.8 * (out - reflected).mean())
    return weak and bool(out.max() >= 0.1), similarity(out, encoded(behind))


def similarity(a: Tensor, b: Tensor) -> float:
    """Mean structural similarity (SSIM) over uniform 7x7 windows inside the image and over channels, data range 1."""
    side = min(WINDOW, *a.shape[1:])
    pairs = side * side
    unbiased = pairs / (pairs - 1) if pairs > 1 else 1.0

    def mean(image: Tensor) -> Tensor:
        return F.avg_pool2d(image[None], side, stride=1)[0]

    a, b = a.double(), b.double()
    at, bt = mean(a), mean(b)
    covariance = unbiased * (mean(a * b) - at * bt)
    variances = unbiased * (mean(a * a) - at * at + mean(b * b) - bt * bt)
    luminance = (2 * at * bt + 0.01**2) / (at * at + bt * bt + 0.01**2)
    return float((luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)).mean())
