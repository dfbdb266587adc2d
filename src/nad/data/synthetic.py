"""The embedded default: small rendered road signs, drawn from code, so that nothing has to be downloaded.

Each sign is drawn once, large, by Pillow. Every image then looks it up through its own perspective map, over a
background of its own, and gets its own light, blur and noise; this part is element-wise NumPy over many images
at once, which is quick and gives the same pixels on every machine.

No sign reaches a corner: a trigger planted there covers background, whose look says nothing about the class.
Two classes are mirror images of each other (turn left, turn right), so these images are never to be flipped.
"""

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nad.data.images import ImageSet
from nad.errors import NadError, printable
from nad.seeding import derive

CLASSES = (
    "stop",
    "no entry",
    "yield",
    "priority road",
    "danger",
    "speed limit 30",
    "speed limit 50",
    "speed limit 80",
    "end of limits",
    "turn left",
    "turn right",
    "parking",
)

Split = Literal["train", "test"]
Floats = NDArray[np.float32]

_RED, _BLUE, _YELLOW, _WHITE, _BLACK = "#c1121f", "#1d4fa3", "#f7b801", "#f4f4f0", "#1a1a1a"
_SIZES = (16, 128)
_CHUNK_PIXELS = 1 << 18  # what is worked on at once stays in the cache
_SURFACES = np.array(  # darkest and lightest red, green, blue of what stands behind a sign
    [
        [[90, 140, 190], [200, 225, 250]],  # clear sky
        [[150, 155, 165], [240, 240, 240]],  # clouds
        [[15, 40, 10], [120, 150, 70]],  # foliage
        [[80, 35, 25], [180, 100, 75]],  # brick
        [[80, 80, 80], [170, 165, 155]],  # concrete
        [[10, 15, 30], [90, 80, 100]],  # dusk
    ],
    dtype=np.float32,
)


def signs(split: Split, count: int, size: int = 32, seed: int = 0) -> ImageSet:
    """Render `count` road signs; the same arguments give the same pixels.

    Args:
        split: "train" or "test"; the two come from different random streams.
        count: at least 1; spread evenly over the classes, in random order.
        size: height and width in pixels, 16 to 128.
        seed: another seed is another draw of the same kind of images.

    Raises:
        NadError: an unknown split, or a count or size out of range.
    """
    if split not in get_args(Split):
        raise NadError(f"signs: expected the split train or test, got {printable(split)!r}")
    if count < 1:
        raise NadError(f"signs: expected at least one image, got count {count}")
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise NadError(f"signs: expected a size of {_SIZES[0]} to {_SIZES[1]} pixels, got {size}")
    rng = np.random.default_rng(derive(seed, f"signs/{split}"))
    labels = rng.permutation(np.arange(count) % len(CLASSES))
    templates = np.stack([_template(name, 4 * size) for name in CLASSES])
    chunk = max(1, _CHUNK_PIXELS // size**2)
    pixels = [_Scene(rng, len(part), size).photograph(templates, part) for part in _parts(labels, chunk)]
    return ImageSet(torch.from_numpy(np.concatenate(pixels)), torch.from_numpy(labels), CLASSES, "signs")


def _parts(labels: NDArray[np.int64], chunk: int) -> list[NDArray[np.int64]]:
    return [labels[start : start + chunk] for start in range(0, len(labels), chunk)]


def _direction(angle: Floats) -> tuple[Floats, Floats]:
    """Cosine and sine; rounded from double, so that the processor's own single-precision versions play no part."""
    exact = angle.astype(np.float64)
    return np.cos(exact).astype(np.float32), np.sin(exact).astype(np.float32)


class _Pen:
    """Draws on a square transparent canvas; coordinates are -1..1, y down, and every sign fits the unit disc."""

    def __init__(self, side: int) -> None:
        self.image = Image.new("RGBA", (side, side))
        self.canvas = ImageDraw.Draw(self.image)
        self.half = side / 2

    def polygon(self, colour: str, *points: tuple[float, float]) -> None:
        self.canvas.polygon([self._at(x, y) for x, y in points], fill=colour)

    def regular(self, colour: str, radius: float, corners: int, turn: float) -> None:
        """A regular polygon whose first corner is `turn` degrees clockwise from the right."""
        angles = np.radians(turn + 360 / corners * np.arange(corners))
        self.polygon(colour, *((radius * float(np.cos(a)), radius * float(np.sin(a))) for a in angles))

    def disc(self, colour: str, radius: float, x: float = 0, y: float = 0) -> None:
        self.canvas.ellipse([self._at(x - radius, y - radius), self._at(x + radius, y + radius)], fill=colour)

    def bar(self, colour: str, left: float, top: float, right: float, bottom: float) -> None:
        self.canvas.rectangle([self._at(left, top), self._at(right, bottom)], fill=colour)

    def line(self, colour: str, width: float, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.canvas.line([self._at(*start), self._at(*end)], fill=colour, width=round(width * self.half))

    def arrow(self, colour: str, side: int) -> None:
        """An arrow from below that turns to the right (side 1) or to the left (side -1)."""
        shaft = ((-0.5, -0.13), (0.15, -0.13), (0.15, 0.13), (-0.24, 0.13), (-0.24, 0.6), (-0.5, 0.6))
        head = ((0.1, -0.46), (0.68, 0), (0.1, 0.46))
        for part in (shaft, head):
            self.polygon(colour, *((side * x, y) for x, y in part))

    def text(self, colour: str, text: str, height: float) -> None:
        font = ImageFont.load_default(size=height * self.half)
        stroke = round(0.02 * self.half)
        self.canvas.text(self._at(0, 0), text, fill=colour, font=font, anchor="mm", stroke_width=stroke)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        margin = 0.97 * self.half  # leaves a transparent rim, which is what lies outside the template
        return self.half + margin * x, self.half + margin * y


def _template(name: str, side: int) -> NDArray[np.uint32]:
    """The sign as (side, side) pixels, each four bytes: red, green, blue times alpha, and alpha."""
    pen = _Pen(2 * side)
    _draw(pen, name)
    rgba = np.asarray(pen.image, dtype=np.float32).reshape(side, 2, side, 2, 4)
    rgba[..., :3] *= rgba[..., 3:] / 255
    return (rgba.sum(axis=(1, 3)) / 4 + 0.5).astype(np.uint8).view(np.uint32)[..., 0]


def _draw(pen: _Pen, name: str) -> None:
    match name.split():
        case ["stop"]:
            pen.regular(_WHITE, 1, 8, 22.5)
            pen.regular(_RED, 0.92, 8, 22.5)
            pen.text(_WHITE, "STOP", 0.62)
        case ["no", "entry"]:
            pen.disc(_RED, 1)
            pen.bar(_WHITE, -0.7, -0.18, 0.7, 0.18)
        case ["yield"]:
            pen.regular(_RED, 1, 3, 90)
            pen.regular(_WHITE, 0.6, 3, 90)
        case ["priority", "road"]:
            pen.regular(_WHITE, 1, 4, 0)
            pen.regular(_YELLOW, 0.72, 4, 0)
        case ["danger"]:
            pen.regular(_RED, 1, 3, -90)
            pen.regular(_WHITE, 0.64, 3, -90)
            pen.polygon(_BLACK, (-0.09, -0.36), (0.09, -0.36), (0.05, 0.08), (-0.05, 0.08))
            pen.disc(_BLACK, 0.08, 0, 0.21)
        case ["speed", "limit", digits]:
            pen.disc(_RED, 1)
            pen.disc(_WHITE, 0.76)
            pen.text(_BLACK, digits, 0.94)
        case ["end", "of", "limits"]:
            pen.disc(_BLACK, 1)
            pen.disc(_WHITE, 0.94)
            for shift in (-0.16, 0, 0.16):
                pen.line(_BLACK, 0.13, (shift - 0.5, shift + 0.5), (shift + 0.5, shift - 0.5))
        case ["turn", side]:
            pen.disc(_WHITE, 1)
            pen.disc(_BLUE, 0.94)
            pen.arrow(_WHITE, -1 if side == "left" else 1)
        case ["parking"]:
            pen.regular(_WHITE, 1, 4, 45)
            pen.regular(_BLUE, 0.92, 4, 45)
            pen.text(_WHITE, "P", 1.3)


class _Scene:
    """`n` photographs at once: each step draws its own numbers for every image from the one generator."""

    def __init__(self, rng: np.random.Generator, n: int, size: int) -> None:
        self.rng, self.n, self.size = rng, n, size
        axis = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - 1
        self.x, self.y = axis[None, None, :], axis[None, :, None]  # pixel centres in -1..1

    def photograph(self, templates: NDArray[np.uint32], labels: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 (n, 3, size, size) of the signs `labels`."""
        scene = self._background()
        tilt, radius = self._uniform(-0.26, 0.26), self._uniform(0.42, 0.78)
        x, y = (self._uniform(-0.6, 0.6) * (1 - radius) for _ in range(2))
        pole = self._uniform(0.02, 0.07)
        self._paint(scene, (x - tilt, y + 1, pole, np.ones_like(pole), tilt), self._greys())
        self._hang(scene, templates, labels, (x, y, radius, tilt))
        self._occlude(scene, (x, y, radius))
        self._light(scene)
        scene = self._blur(scene)
        scene += self._each(self._uniform(2, 16)) * self.rng.standard_normal(scene.shape, dtype=np.float32)
        return np.clip(scene + 0.5, 0, 255).astype(np.uint8)

    def _uniform(self, low: float = 0, high: float = 1, *shape: int) -> Floats:
        return self.rng.uniform(low, high, (self.n, *shape)).astype(np.float32)

    @staticmethod
    def _each(values: Floats) -> Floats:
        """One number or one colour an image, shaped to meet pixels (n, 3, size, size)."""
        return values.reshape(len(values), -1, 1, 1)

    def _greys(self) -> Floats:
        return self._uniform(40, 200, 1) + self._uniform(-15, 15, 3)

    def _background(self) -> Floats:
        """A surface mottled at several scales, and some coloured boxes: walls, windows, cars, other poles."""
        dark, light = np.moveaxis(_SURFACES[self.rng.integers(len(_SURFACES), size=self.n)], 1, 0)
        shade = np.zeros((self.n, self.size, self.size), np.float32)
        for cells in (2, 4, 8, 16):
            shade += self._uniform(0, 0.6)[:, None, None] * self._mottle(cells)
        shade = np.clip(shade + 0.5, 0, 1)[:, None]
        scene = self._each(dark) + shade * self._each(light - dark)
        for _ in range(3):
            x, y, angle = self._uniform(-1, 1), self._uniform(-1, 1), self._uniform(-0.5, 0.5)
            wide, high = (self._uniform(0.02, 1) ** 2 for _ in range(2))
            colour = np.where(self._uniform(0, 1, 1) < 0.5, self._greys(), self._uniform(20, 230, 3))
            self._paint(scene, (x, y, wide, high, angle), colour)
        return scene

    def _mottle(self, cells: int) -> Floats:
        """(n, size, size) smooth noise in -0.5..0.5, with `cells` bumps along each side."""
        grid = self._uniform(-0.5, 0.5, cells + 1, cells + 1)
        place = np.arange(self.size, dtype=np.float32) * np.float32(cells / self.size)
        low = place.astype(np.int64)
        part = place - low
        rows = grid[:, low] * (1 - part)[:, None] + grid[:, low + 1] * part[:, None]
        return rows[..., low] * (1 - part) + rows[..., low + 1] * part

    def _paint(self, scene: Floats, box: tuple[Floats, Floats, Floats, Floats, Floats], colour: Floats) -> None:
        """Paint a box (centre x, centre y, half width, half height, angle) of one colour into each image."""
        x, y, wide, high, angle = (v[:, None, None] for v in box)
        cos, sin = _direction(angle)
        dx, dy = self.x - x, self.y - y
        outside = np.maximum(np.abs(cos * dx + sin * dy) - wide, np.abs(cos * dy - sin * dx) - high)
        cover = np.clip(0.5 - outside * np.float32(self.size / 2), 0, 1)[:, None]
        scene += cover * (self._each(colour) - scene)

    def _hang(
        self,
        scene: Floats,
        templates: NDArray[np.uint32],
        labels: NDArray[np.int64],
        pose: tuple[Floats, Floats, Floats, Floats],
    ) -> None:
        """Look each sign up through its own perspective map, at four points a pixel, and lay it over the scene."""
        x, y, radius, tilt = (v[:, None, None] for v in pose)
        side = templates.shape[1]
        squeeze, shear, lean, swing = (self._uniform(-0.12, 0.12)[:, None, None] for _ in range(4))
        cos, sin = (part / radius for part in _direction(tilt))
        flat, start = templates.reshape(-1), labels[:, None, None] * side**2
        total = np.zeros((self.n, self.size, self.size, 4), np.uint16)
        for step in ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)):
            dx, dy = (p + np.float32(s / self.size) - c for p, s, c in zip((self.x, self.y), step, (x, y)))
            u, v = cos * dx + sin * dy, cos * dy - sin * dx
            depth = 1 + lean * u + swing * v
            u, v = (u * (1 + squeeze) + shear * v) / depth, v / depth
            column, row = (np.clip((p + 1) * np.float32(side / 2), 0, side - 1).astype(np.int64) for p in (u, v))
            total += flat[start + row * side + column][..., None].view(np.uint8)
        sign = np.ascontiguousarray(np.moveaxis(total, 3, 1)).astype(np.float32) / 4
        scene *= 1 - sign[:, 3:] / 255
        scene += sign[:, :3]

    def _occlude(self, scene: Floats, pose: tuple[Floats, Floats, Floats]) -> None:
        """A branch or a post before a quarter of the signs."""
        x, y, radius = pose
        cos, sin = _direction(self._uniform(0, 2 * np.pi))
        wide = np.where(self._uniform() < 0.25, radius * self._uniform(0.1, 0.5), np.float32(-1))
        dark, light = _SURFACES[2]
        leaf = dark + self._uniform(0, 1, 1) * (light - dark)
        colour = np.where(self._uniform(0, 1, 1) < 0.5, leaf, self._greys())
        box = (x + radius * cos, y + radius * sin, wide, self._uniform(0.2, 0.8), self._uniform(0, np.pi))
        self._paint(scene, box, colour)

    def _light(self, scene: Floats) -> None:
        """Exposure, contrast, the colour of the light, and a soft shadow across part of the image."""
        cos, sin = (part[:, None, None] for part in _direction(self._uniform(0, 2 * np.pi)))
        edge, dark = (self._uniform(low, high)[:, None, None] for low, high in ((-1, 1), (-0.6, 0.5)))
        shadow = np.clip((cos * self.x + sin * self.y - edge) * 4, 0, 1) * np.maximum(dark, 0)
        scene *= 1 - shadow[:, None]
        gain = self._uniform(0.45, 1.15, 1) * self._uniform(0.88, 1.12, 3)
        scene *= self._each(gain)
        middle = self._each(self._uniform(70, 150))
        scene -= middle
        scene *= self._each(self._uniform(0.6, 1.1))
        scene += middle

    def _blur(self, scene: Floats) -> Floats:
        """Out of focus and moving: a Gaussian of its own widths and direction for each image."""
        unit = self.size / 32
        reach = round(2 * unit)
        near, far = self._uniform(0.3, 0.9) * unit, self._uniform(0.3, 1.6) * unit
        cos, sin = _direction(self._uniform(0, np.pi))
        padded = np.pad(scene, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
        dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1, 1)
        along, across = cos * dx + sin * dy, cos * dy - sin * dx
        weights = np.exp(-0.5 * ((along / far) ** 2 + (across / near) ** 2))
        weights = (weights / weights.sum(axis=0)).astype(np.float32)
        result = np.zeros_like(scene)
        for weight, x, y in zip(weights, dx[:, 0] + reach, dy[:, 0] + reach):
            result += self._each(weight) * padded[:, :, y : y + self.size, x : x + self.size]
        return result
