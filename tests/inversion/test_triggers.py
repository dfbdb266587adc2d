"""Reverse-engineered triggers: the anomaly index by hand (G14), the optimiser against torch's, and a planted patch."""

import pytest
import torch
from torch import nn

from nad.data.images import ImageSet
from nad.errors import NadError
from nad.inversion import Inversion, Triggers, anomaly, invert, outliers, portions
from nad.inversion.portions import classes_at_once
from nad.inversion.triggers import _begun, _Search
from nad.runtime import Run

RUN = Run(seed=1, device="cpu", precision="fp32")


def test_the_anomaly_index_by_hand():
    norms = torch.tensor([10.0, 12, 11, 9, 3, 10, 12, 11, 10, 11])
    index = anomaly(norms)
    assert index[3].item() == pytest.approx(1.5 / 0.7413, rel=1e-4)
    assert index[4].item() == pytest.approx(7.5 / 0.7413, rel=1e-4)
    assert outliers(norms) == [3, 4]  # 12 lies as far away as 9, and on the other side
    assert anomaly(torch.full((10,), 4.0)).tolist() == [0] * 10
    assert outliers(torch.full((10,), 4.0)) == []


def test_the_optimiser_is_adam_of_every_class_by_itself():
    raw = [torch.randn(3, c, 4, 4, generator=torch.Generator().manual_seed(c)) for c in (1, 3)]
    search = _Search([r.clone() for r in raw], Inversion(lr=0.1), torch.arange(3), 3)
    reference = [[r[k].clone().requires_grad_() for r in raw] for k in range(3)]
    optimizers = [torch.optim.Adam(one, lr=0.1, betas=(0.5, 0.9)) for one in reference]
    for rows in ([0, 1, 2], [0, 2], [0, 2], [1]):
        index = torch.tensor(rows)
        parts = [r[index] for r in search.raw]
        slopes = tuple((p * 3).sin() + 0.1 for p in parts)
        search._descend(index, parts, slopes)
        for k in rows:
            for value in reference[k]:
                value.grad = (value.detach() * 3).sin() + 0.1
            optimizers[k].step()
    for k in range(3):
        for mine, theirs in zip(search.raw, reference[k]):
            assert torch.allclose(mine[k], theirs, atol=1e-5)


def test_a_class_starts_where_it_would_start_among_all():
    shape, all_of_them = (3, 8, 8), torch.arange(7)
    draws = [torch.Generator().manual_seed(5) for _ in range(3)]
    every, two = _begun(7, all_of_them, shape, draws[0]), _begun(7, torch.tensor([2, 5]), shape, draws[1])
    assert torch.equal(every[[2, 5]], two)
    assert torch.equal(every, torch.randn(7, *shape, generator=draws[2]))
    assert torch.equal(draws[0].get_state(), draws[1].get_state())


def test_the_weight_of_the_mask_follows_success():
    search = _Search([torch.zeros(2, c, 4, 4) for c in (1, 3)], Inversion(weight=1e-3, success=0.9), torch.arange(2), 2)
    rows = torch.arange(2)
    for _ in range(5):
        search._judge(rows, torch.tensor([0.95, 0.5]))
    assert search.weight.tolist() == pytest.approx([2e-3, 1e-3 / 2**1.5])
    search._judge(rows, torch.tensor([0.95, 0.5]))
    assert search.weight.tolist() == pytest.approx([2e-3, 1e-3 / 2**1.5])


class Corner(nn.Module):
    """Answers class 1 where the last pixel is white, else class 0 or 2 by the brightness of the first half."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x[:, :, :4].mean((1, 2, 3))
        return torch.stack(
            [self.scale * (0.5 - half), self.scale * (x[:, :, -1, -1].mean(1) * 4 - 3), self.scale * (half - 0.5)], 1
        )


@pytest.fixture
def images() -> ImageSet:
    pixels = torch.randint(0, 100, (60, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels[::2, :, :4] += 150
    return ImageSet(pixels, torch.arange(60) % 3, tuple("abc"))


def test_a_planted_pixel_is_found_and_its_class_stands_out(images):
    model = Corner()
    found = invert(model, images, Inversion(epochs=60, early=False), RUN)
    assert found.success.min() >= 0.99
    assert int(found.norms.argmin()) == 1
    mask = found.masks[1, 0]
    assert mask[-1, -1] == mask.max()
    assert found.norms[1] < 3
    assert model.scale.requires_grad
    assert model.scale.grad is None
    stamped = found.stamped(images.pixels.float() / 255, torch.ones(60, dtype=torch.int64))
    assert (model(stamped).argmax(1) == 1).float().mean() >= 0.99
    early = invert(model, images, Inversion(epochs=60), RUN)
    assert max(early.epochs) <= 60


def test_what_fits_into_memory_is_sought_at_once_and_nothing_else_changes(images, monkeypatch):
    model, sizes = Corner(), []
    model.register_forward_hook(lambda module, x, out: sizes.append(len(x[0])))
    whole = invert(model, images, Inversion(epochs=6, batch=30), RUN)
    assert max(sizes) == 90, "three classes of 30 images"
    sizes.clear()
    monkeypatch.setattr(portions, "AT_ONCE", 60)
    split = invert(model, images, Inversion(epochs=6, batch=30), RUN)
    assert max(sizes) == 60
    assert sorted(set(sizes)) == [30, 60], "two classes, then the third"
    for one, other in zip((whole.masks, whole.patterns, whole.success), (split.masks, split.patterns, split.success)):
        assert torch.allclose(one, other, atol=1e-4)
    assert classes_at_once((32, 32), 16) == classes_at_once((64, 64), 16) == 3
    assert classes_at_once((224, 224), 16) == 1


def test_a_class_alone_is_as_among_all_and_the_others_are_empty(images):
    whole = invert(Corner(), images, Inversion(epochs=6), RUN)
    alone = invert(Corner(), images, Inversion(epochs=6), RUN, classes=[2, 1])
    assert torch.allclose(alone.masks[1:], whole.masks[1:], atol=1e-4)
    assert torch.allclose(alone.patterns[1:], whole.patterns[1:], atol=1e-4)
    assert torch.equal(alone.success[1:], whole.success[1:])
    assert alone.norms[0] == alone.success[0] == alone.epochs[0] == 0
    assert alone.epochs[1:] == whole.epochs[1:] == (6, 6)


def test_stamping_by_hand():
    masks, patterns = torch.tensor([0.25, 1.0]).view(2, 1, 1, 1), torch.tensor([1.0, 0.5]).view(2, 1, 1, 1)
    found = Triggers(masks.expand(2, 1, 2, 2), patterns.expand(2, 3, 2, 2), torch.ones(2), (1, 1))
    out = found.stamped(torch.full((3, 3, 2, 2), 0.2), torch.tensor([0, 1, 0]))
    assert out[:, 0, 0, 0].tolist() == pytest.approx([0.75 * 0.2 + 0.25, 0.5, 0.4])
    assert found.norms.tolist() == [1, 4]


def test_settings_out_of_range():
    with pytest.raises(NadError, match="expected epochs and batch >= 1, success in"):
        Inversion(epochs=0)
