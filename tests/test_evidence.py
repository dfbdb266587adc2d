"""Evidence without the trigger, by hand on networks small enough for it."""

import copy

import pytest
import torch
from torch import nn

from nad import evidence
from nad.data.images import ImageSet
from nad.inversion import Ground, Look, Triggers
from nad.models.create import create
from nad.models.stages import find_stages
from nad.runtime import Run

RUN = Run(seed=1, device="cpu", precision="fp32")


def noise(count: int, classes: int = 4, side: int = 8) -> ImageSet:
    draws = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (count, 3, side, side), generator=draws, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % classes, tuple(map(str, range(classes))))


class Quarters(nn.Module):
    """Answers with the quarter of the picture that is brightest."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * nn.functional.adaptive_avg_pool2d(x.mean(1, keepdim=True), 2).flatten(1)


def test_sizes_by_hand():
    masks = torch.zeros(6, 1, 4, 4)
    for label, norm in enumerate((1.0, 8, 9, 10, 12, 2)):
        masks[label] = norm / 16
    found = Triggers(masks, torch.zeros(6, 3, 4, 4), torch.tensor([0.99, 1, 1, 1, 1, 0.25]), (1,) * 6)
    rows = evidence.sizes(found, [5, 0, 1, 2, 3, 4])
    assert rows[0]["mask"] == pytest.approx(1 / 16)
    assert rows[5] == {"mask": pytest.approx(2 / 16), "success": 0.25}, "a patch that does not work has no index"
    assert rows[0]["anomaly"] == pytest.approx(8 / 1.4826)  # of five the median is 9, its deviation 1
    assert rows[4]["anomaly"] == pytest.approx(-3 / 1.4826)
    assert "anomaly" not in evidence.sizes(found, [0, 1, 2, 3, 5])[0], "an index of four says nothing"


def test_how_many_classes_there_is_time_for():
    look = Look({}, 0.01, seconds=1e-3)
    each = 1e-3 * evidence.SHOWN * evidence.EPOCHS * 2
    assert evidence.affordable(look, 20, 3.5 * each, networks=2) == 3
    assert evidence.affordable(look, 20, 0, networks=2) == 0
    assert evidence.affordable(look, 20, float("inf"), networks=2) == evidence.DEEPEST
    # 25.6 s to screen 20 classes and 51.2 s for five patches, in four fifths of the time
    assert evidence.sufficient(look, 20, networks=1) == 2
    assert evidence.sufficient(look, 20, networks=1, before=30) == 3, "what is gone is needed again"


def test_the_smallest_patches_are_drawn_and_those_that_failed_last():
    def found(*norms: float, failed: int | None = None) -> Triggers:
        masks = torch.tensor(norms).view(-1, 1, 1, 1)
        success = torch.tensor([torch.nan if label == failed else 1.0 for label in range(len(norms))])
        return Triggers(masks, masks.expand(-1, 3, 1, 1), success, (1,) * len(norms))

    assert evidence.smallest([0, 1, 2], found(0.3, 0.1, 0.2, failed=1)) == [2, 0, 1]
    assert evidence.smallest([2, 1, 0], found(0.3, 0.1, 0.2, failed=1), found(0.05, 0.9, 0.9)) == [0, 2, 1]


def test_few_pictures_make_a_patch_as_small_as_many_do():
    sizes = {}
    for count in (24, 400):
        ground = Ground.of(noise(count), RUN)
        sizes[count] = evidence.sizes(evidence.inverted(Quarters(), ground, [0], RUN), [0])[0]["mask"]
    assert sizes[24] < 1.5 * sizes[400]


def test_copies_are_not_on_both_sides():
    images = noise(60)
    twice = images.subset(torch.arange(60).repeat(2))
    ground = Ground.of(twice, RUN)
    assert len(ground.sought) == len(ground.judged) == 30
    assert not set(ground.sought.digests()) & set(ground.judged.digests())


def test_only_the_asked_classes_are_inverted():
    ground = Ground.of(noise(40), RUN)
    found = evidence.inverted(Quarters(), ground, [2, 0], RUN)
    assert [lasted > 0 for lasted in found.epochs] == [True, False, True, False]
    assert evidence.sizes(found, [2, 0])[2]["success"] >= 0.99


def test_a_patch_works_as_often_as_it_does_on_the_pictures_to_judge_by(monkeypatch):
    dark = noise(64)
    pixels = dark.pixels.clone()
    pixels[::2, :, :4, :4] = 255  # every second one has a white quarter, which takes more to outshine
    pixels[::2, :, :, 4:] = 0
    bright = ImageSet(pixels, dark.labels.flip(0), dark.classes)
    near, far = (evidence.inverted(Quarters(), Ground(dark, judged), [1], RUN) for judged in (dark, bright))
    assert torch.equal(near.masks, far.masks), "both are sought on the same pictures"
    others = bright.pixels[bright.labels != 1].float() / 255
    hits = (Quarters()(far.stamped(others, torch.full((48,), 1))).argmax(1) == 1).float().mean()
    assert far.success[1] == hits
    assert near.success[1] > 0.9 > far.success[1]
    alone = Ground(dark, bright.subset((bright.labels == 1).nonzero().flatten()))
    unknown = evidence.inverted(Quarters(), alone, [1], RUN)
    assert "success" not in evidence.sizes(unknown, [1])[1], "no picture to judge by"
    monkeypatch.setattr("nad.evidence.EPOCHS", 1)
    early = evidence.inverted(Quarters(), Ground(dark, dark), [1], RUN)
    assert early.success[1].isnan(), "a search that failed says nothing, however well its patch does"


def test_weights_by_hand():
    before = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        before[0].weight.copy_(torch.tensor([[3.0, 0.0]]))
        before[1].weight.fill_(4.0)
    after = copy.deepcopy(before)
    with torch.no_grad():
        after[0].weight[0, 1] = 1.5
    moved = evidence.weights_moved(before, after)
    assert moved["relative"] == pytest.approx(1.5 / 5)
    assert {row["layer"]: row["relative"] for row in moved["layers"]} == {"0": pytest.approx(0.5), "1": 0.0}


def test_attention_has_not_moved_where_nothing_has():
    model = create("wrn-10-1", 4)
    other = create("wrn-10-1", 4, seed=9)
    images = noise(6, side=16)
    stages = find_stages(model, images.pixels[:1].float() / 255)
    same = evidence.attention_moved(model, model, stages, images, RUN)
    moved = evidence.attention_moved(model, other, stages, images, RUN)
    assert [row["attention"] for row in same] == [0.0] * len(stages)
    assert all(0.01 < row["attention"] < 2**0.5 for row in moved)
    assert [row["stage"] for row in moved] == [stage.name for stage in stages]
