"""Augmentation against a slow loop, and cutout's exact size (G10)."""

import pytest
import torch

from nad.data.augment import Augmentation, Draws
from nad.errors import NadError


def slowly(image: torch.Tensor, draws: Draws, i: int, cutout: int) -> torch.Tensor:
    """One image, pixel by pixel: the crop, mirrored, then the hole."""
    _, high, wide = image.shape
    out = torch.zeros_like(image)
    for y in range(high):
        for x in range(wide):
            sy, sx = y, wide - 1 - x if draws.flip is not None and draws.flip[i] else x
            if draws.dy is not None:
                sy, sx = sy + int(draws.dy[i]), sx + int(draws.dx[i])
            if not (0 <= sy < high and 0 <= sx < wide):
                continue
            out[:, y, x] = image[:, sy, sx]
    if cutout:
        top, left = int(draws.hole_y[i]) - cutout // 2, int(draws.hole_x[i]) - cutout // 2
        out[:, max(top, 0) : max(top + cutout, 0), max(left, 0) : max(left + cutout, 0)] = 0
    return out


@pytest.mark.parametrize("names", [("crop",), ("flip",), ("cutout5",), ("crop", "flip", "cutout9"), ("crop", "flip")])
@pytest.mark.parametrize("shape", [(16, 16), (24, 10)])
def test_gather_agrees_with_a_slow_loop(names, shape):
    augmentation = Augmentation.parse(names)
    pixels = torch.randint(1, 256, (6, 3, *shape), dtype=torch.uint8)
    rows = torch.tensor([5, 0, 3, 3])
    draws = augmentation.draw(4, shape, torch.Generator().manual_seed(1))
    out = augmentation.gather(pixels, rows, draws)
    expected = torch.stack([slowly(pixels[r], draws, i, augmentation.cutout) for i, r in enumerate(rows)])
    assert torch.equal(out, expected)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_the_crop_is_mirrored():
    pixels = torch.arange(8, dtype=torch.uint8).expand(1, 3, 8, 8).contiguous()
    draws = Draws(torch.tensor([0]), torch.tensor([1]), torch.tensor([True]))
    row = Augmentation(crop=True, flip=True).gather(pixels, torch.tensor([0]), draws)[0, 0, 0]
    assert row.tolist() == [0, 7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(("centre", "black"), [((16, 16), 81), ((0, 0), 25), ((31, 16), 5 * 9)])
def test_cutout_nine_zeroes_a_nine_by_nine_square_clipped_at_the_border(centre, black):
    draws = Draws(hole_y=torch.tensor([centre[0]]), hole_x=torch.tensor([centre[1]]))
    out = Augmentation(cutout=9).gather(torch.full((1, 3, 32, 32), 7, dtype=torch.uint8), torch.tensor([0]), draws)
    assert int((out[0, 0] == 0).sum()) == black


@pytest.mark.parametrize(("released", "here"), [(9, 8), (3, 2)])
def test_an_even_cutout_is_what_the_released_code_cuts_for_the_odd_one_above(released, here):
    y, x = 16, 10
    expected = torch.full((32, 32), 7, dtype=torch.uint8)
    half = released // 2
    expected[y - half : y + half, x - half : x + half] = 0
    draws = Draws(hole_y=torch.tensor([y]), hole_x=torch.tensor([x]))
    out = Augmentation(cutout=here).gather(torch.full((1, 3, 32, 32), 7, dtype=torch.uint8), torch.tensor([0]), draws)
    assert torch.equal(out[0, 0], expected)
    assert int((out[0, 0] == 0).sum()) == here**2


def test_draws_cover_the_range_and_repeat():
    augmentation = Augmentation(crop=True, flip=True, cutout=3)
    one, two = (augmentation.draw(4000, (32, 32), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one.dx, two.dx)
    assert sorted(one.dy.unique().tolist()) == list(range(-4, 5))
    assert 0.45 < one.flip.float().mean() < 0.55
    assert sorted(one.hole_x.unique().tolist()) == list(range(32))


def test_no_augmentation_returns_the_images():
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(Augmentation().gather(pixels, torch.tensor([2, 1]), Draws()), pixels[[2, 1]])


def test_unknown_names_are_refused():
    with pytest.raises(NadError, match="unknown augmentation 'rotate'; expected crop, flip, cutoutN or none"):
        Augmentation.parse(("crop", "rotate"))
