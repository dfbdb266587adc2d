"""Mode connectivity repair: points of the curve by hand, and the statistics at a point (G13)."""

import copy

import pytest
import torch
from torch import nn

from nad.data.images import ImageSet
from nad.defenses import DEFENSES
from nad.defenses.mcr import Curve
from nad.errors import NadError
from nad.models.create import create
from nad.runtime import Run
from nad.training import re_estimated

RUN = Run(device="cpu", precision="fp32")
DRAWS = torch.Generator().manual_seed(0)


def line(*values: float) -> nn.Linear:
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([values], dtype=torch.float32)
    return layer


def curve(kind: str = "bezier", end: tuple[float, float] = (1, 2)) -> Curve:
    made = Curve(line(1, 2), line(*end), kind, torch.Generator().manual_seed(0))
    made.middle[0].data = torch.tensor([[3.0, -1.0]])
    return made


@pytest.mark.parametrize(
    ("t", "point"), [(0, (1, 2)), (1, (1, 2)), (0.3, (1.84, 0.74)), (0.7, (1.84, 0.74)), (0.5, (2, 0.5))]
)
def test_the_bezier_curve_by_hand(t, point):
    assert curve().weights(t)[0][0].tolist() == pytest.approx(point)
    assert curve().at(t).weight[0].tolist() == pytest.approx(point)


@pytest.mark.parametrize(("t", "point"), [(0, (1, 2)), (0.25, (2, 0.5)), (0.5, (3, -1)), (0.75, (4, 1)), (1, (5, 3))])
def test_the_chain_by_hand(t, point):
    assert curve("chain", (5, 3)).weights(t)[0][0].tolist() == pytest.approx(point)


@pytest.mark.parametrize("kind", ["bezier", "chain"])
def test_it_starts_as_a_curve_that_stays_where_it_is(kind):
    made = Curve(line(1, 2), line(1, 2), kind, DRAWS)
    for t in (0, 0.2, 0.5, 1):
        assert made.weights(t)[0][0].tolist() == pytest.approx((1, 2))


def test_statistics_of_images_stored_by_class_are_those_of_all_of_them():
    labels = torch.arange(1000).div(500, rounding_mode="floor")  # a batch of each class, black and white
    pixels = (labels * 255).to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
    model = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    re_estimated(model, ImageSet(pixels, labels, ("a", "b")), RUN)
    assert model[0].running_mean.tolist() == pytest.approx([0.5] * 3, abs=1e-4)
    assert model[0].running_var.tolist() == pytest.approx([0.25] * 3, abs=0.01)


def test_only_the_middle_is_trained_and_t_is_drawn_for_every_pass():
    made = curve().train()
    x, points = torch.tensor([[1.0, 0.0]]), []
    for _ in range(50):
        out = made(x)
        assert out.item() == pytest.approx(made.weights(made.t)[0][0, 0].item())
        points.append(made.t)
    assert min(points) < 0.2
    assert max(points) > 0.8
    out.backward()
    assert made.middle[0].grad is not None
    assert [n for n, _ in made.named_parameters()] == ["middle.0"]
    assert made.squared_norm().item() == pytest.approx(made.weights(made.t)[0].square().sum().item())


@pytest.mark.parametrize("batch", [7, 16, 40])
def test_statistics_are_those_of_all_images_however_they_are_cut(batch, monkeypatch):
    images = ImageSet(
        torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)),
        torch.arange(40) % 4,
        tuple("abcd"),
    )
    model = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3), nn.Flatten(), nn.Linear(192, 4))
    monkeypatch.setattr("nad.training.AT_ONCE", batch)
    found = re_estimated(model, images, RUN)[0]
    pixels = images.pixels.float() / 255
    assert torch.allclose(found.running_mean, pixels.mean((0, 2, 3)), atol=1e-5)
    parts = pixels[torch.randperm(40, generator=RUN.generator("statistics"))].split(batch)
    variance = sum(len(p) * p.transpose(0, 1).flatten(1).var(1) for p in parts) / 40
    assert torch.allclose(found.running_var, variance, atol=1e-5)
    assert found.momentum == 0.3
    assert not found.training


def test_statistics_of_crops_have_their_black_borders():
    """White images of 8 pixels move by -1, 0 or 1 either way: of each side an expected 2/3 of an eighth turns black."""
    images = ImageSet(torch.full((3000, 3, 8, 8), 255, dtype=torch.uint8), torch.arange(3000) % 2, ("a", "b"))
    model = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert re_estimated(model, images, RUN)[0].running_mean.tolist() == pytest.approx([1] * 3)
    cropped = re_estimated(model, images, RUN, ("crop",))[0].running_mean
    assert cropped.tolist() == pytest.approx([(1 - 2 / 3 / 8) ** 2] * 3, abs=0.005)


def test_the_curves_accuracy_is_kept_and_t_is_chosen(tmp_path):
    pixels = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImageSet(pixels, torch.arange(64) % 4, tuple("abcd"))
    model = create("wrn-10-1", 4)
    outcome = DEFENSES.create("mcr:epochs=1,batch=16,folds=1,max_drop=0.9")(model, images, RUN)
    assert list(outcome.notes["accuracy_along"]) == [i / 10 for i in range(11)]
    assert outcome.method.t == 0.5
    ended = DEFENSES.create("mcr:epochs=1,batch=16,t=1,end=(finetune:lr=0.1,epochs=1,batch=16)")
    tuned = DEFENSES.create("finetune:lr=0.1,epochs=1,batch=16")(model, images, RUN).model
    tuned = re_estimated(copy.deepcopy(tuned), images, RUN, ended.how().augment).state_dict()
    at_the_end = ended(model, images, RUN).model.state_dict()
    assert all(torch.allclose(v.float(), tuned[k].float(), atol=1e-5) for k, v in at_the_end.items())


def test_points_off_the_curve_are_refused():
    for t in (-0.1, 1.1):
        with pytest.raises(NadError, match=r"mcr: expected t in \[0, 1\], got"):
            DEFENSES.create(f"mcr:t={t}")
    with pytest.raises(NadError, match="mcr chooses t and not its learning rate"):
        DEFENSES.create("mcr:lr=auto")
