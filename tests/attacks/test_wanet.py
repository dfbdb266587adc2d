"""WaNet's warp against a NumPy oracle, and its noise images."""

import numpy as np
import pytest
import torch

from nad.attacks import WaNet
from nad.attacks.base import Planted
from nad.attacks.wanet import identity
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.runtime import Run


def smooth(n: int, high: int, wide: int) -> torch.Tensor:
    """Images in which neighbours are alike, as in photographs."""
    coarse = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 255
    return torch.nn.functional.interpolate(coarse, size=(high, wide), mode="bilinear").byte()


def bilinear(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Read (H, W) at fractional positions that lie inside."""
    high, wide = image.shape
    rows, columns = rows.clip(0, high - 1), columns.clip(0, wide - 1)
    top, left = np.floor(rows).astype(int).clip(0, high - 2), np.floor(columns).astype(int).clip(0, wide - 2)
    down, right = rows - top, columns - left
    upper = image[top, left] * (1 - right) + image[top, left + 1] * right
    lower = image[top + 1, left] * (1 - right) + image[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


@pytest.mark.parametrize(("high", "wide"), [(32, 32), (96, 96), (20, 44)])
def test_pixels_move_by_half_of_s_times_the_field(high, wide):
    pixels, attack = smooth(2, high, wide), WaNet(s=1.5)
    after = attack.apply(pixels, torch.arange(2), "test").numpy()
    field = attack.field(high, wide).double().numpy()
    y, x = np.meshgrid(np.arange(high), np.arange(wide), indexing="ij")
    rows = y + 1.5 * field[..., 1] / high * (high - 1) / 2
    columns = x + 1.5 * field[..., 0] / wide * (wide - 1) / 2
    expected = bilinear(pixels[1, 2].numpy().astype(np.float64), rows, columns)
    assert np.abs(after[1, 2] - expected).max() <= 0.51


def test_the_control_field_has_mean_size_one_and_is_kept_at_the_nodes():
    attack = WaNet(k=4, seed=3)
    field = attack.field(31, 31)
    nodes = field[::10, ::10]
    assert nodes.shape == (4, 4, 2)
    assert float(nodes.min()) < 0 < float(nodes.max())
    assert abs(float(nodes.mean())) < 0.5
    assert float(nodes.abs().mean()) == pytest.approx(1, abs=1e-5)
    assert not torch.equal(field, WaNet(k=4, seed=4).field(31, 31))


def test_the_identity_reads_the_image_as_it_is():
    pixels = smooth(1, 20, 44).float()
    same = torch.nn.functional.grid_sample(pixels, identity(20, 44)[None], align_corners=True)
    assert float((same - pixels).abs().max()) < 1e-2


def test_the_warp_is_slight_and_scale_keeps_it_so_in_larger_images():
    def moved(size: int, scale: bool) -> float:
        pixels = smooth(4, size, size)
        after = WaNet(scale=scale).apply(pixels, torch.arange(4), "test")
        return float((after.float() - pixels.float()).abs().mean())

    assert 0.2 < moved(32, False) < 8
    assert moved(96, True) == pytest.approx(moved(32, False), rel=0.3)
    assert moved(96, False) < moved(96, True) / 2


def test_noise_belongs_to_the_index_and_one_image_is_as_a_batch():
    pixels, indices = smooth(3, 32, 32), torch.tensor([4, 8, 1])
    for attack in (WaNet(), WaNet(noisy=True)):
        after = attack.apply(pixels, indices, "train")
        for i in range(3):
            assert torch.equal(attack.apply(pixels[i : i + 1], indices[i : i + 1], "train")[0], after[i])
    twice = WaNet(noisy=True).apply(pixels[:1].expand(2, -1, -1, -1), indices[:2], "train")
    assert not torch.equal(twice[0], twice[1])


@pytest.mark.parametrize("lazy", [False, True])
def test_noise_images_keep_their_label_and_are_marked(lazy):
    pixels = smooth(100, 16, 16)
    source = Planted(pixels, WaNet(), torch.zeros(100, dtype=torch.bool), "train") if lazy else pixels
    images = ImageSet(source, torch.arange(100) % 4, tuple("abcd"))
    run = Run(seed=2)
    poisoned, backdoor = WaNet(target=1).poison(images, run), WaNet(target=1, noise_rate=0.0).poison(images, run)
    assert int(backdoor.poisoned.sum()) == 10
    noise = poisoned.poisoned & ~backdoor.poisoned
    assert int(noise.sum()) == 20
    assert torch.equal(poisoned.labels, backdoor.labels)
    assert torch.equal(poisoned.labels[noise], images.labels[noise])
    everything = torch.arange(100)
    shown, triggered = poisoned.pixels[everything], backdoor.pixels[everything]
    assert torch.equal(shown[~noise], triggered[~noise])
    warped = WaNet().apply(pixels, everything, "train")
    assert bool((shown[noise] != pixels[noise]).flatten(1).any(1).all())
    assert bool((shown[noise] != warped[noise]).flatten(1).any(1).all())
    assert int(WaNet(noise_rate=0.05).poison(images, run).poisoned.sum()) == 15


def test_refusals():
    images = ImageSet(smooth(10, 16, 16), torch.arange(10) % 2, ("a", "b"))
    with pytest.raises(NadError, match="10 noise images asked for and 5 are left; lower rate or noise_rate"):
        WaNet(rate=0.5).poison(images, Run())
    with pytest.raises(NadError, match=r"expected k in 2\.\.256"):
        WaNet(k=1)
    with pytest.raises(NadError, match=r"expected noise_rate in \[0, 1\], got 1.2"):
        WaNet(noise_rate=1.2)
