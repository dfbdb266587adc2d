"""Masks of ANP and RNP, and pruning by them (G15)."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nad.data.images import ImageSet
from nad.defenses import DEFENSES
from nad.defenses.anp import ANP
from nad.defenses.masking import prune, scaled, scales
from nad.errors import NadError
from nad.models.create import create
from nad.runtime import Run
from nad.training import fit

RUN = Run(seed=2, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    pixels = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, torch.arange(64) % 4, tuple("abcd"))


def test_every_scale_is_found_and_a_network_without_batchnorm_is_refused():
    model = create("wrn-10-1", 4)
    shapes = {n: p.shape for n, p in model.named_parameters()}
    assert sum(shapes[n].numel() for n in scales(model, "anp")) == sum(
        m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d)
    )
    assert scales(nn.BatchNorm2d(3), "anp") == ["weight"]
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(NadError, match="rnp masks BatchNorm channels and the network has no BatchNorm"):
        scales(plain, "rnp")


@pytest.mark.parametrize("name", ["anp", "rnp"])
def test_a_network_without_batchnorm_is_refused(name, images):
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(NadError, match=f"{name} masks BatchNorm channels"):
        DEFENSES.create(name)(plain, images, RUN)


def test_scaling_is_multiplying_the_parameters_and_remembers_no_statistics():
    model = create("wrn-10-1", 4).train()
    x = torch.rand(8, 3, 16, 16)
    name = scales(model, "anp")[0]
    factor = torch.rand(dict(model.named_parameters())[name].shape)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    answer = scaled(model, {name: factor}, x)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    other = copy.deepcopy(model)
    with torch.no_grad():
        dict(other.named_parameters())[name].mul_(factor)
    assert torch.allclose(answer, other(x), atol=1e-6)


def test_full_masks_and_no_change_leave_the_network_as_it_is(images):
    model = create("wrn-10-1", 4).eval()
    x, parameters = images.pixels[:8].float() / 255, dict(model.named_parameters())
    ones = {n: torch.ones_like(parameters[n]) for n in scales(model, "anp")}
    with torch.no_grad():
        assert torch.equal(scaled(model, ones, x), model(x))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    prune(model, ones, 0)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_anp_weighs_the_clean_loss_against_the_changed_one(images):
    """With eps=0 both losses are the clean one, so that alpha makes no difference; with eps it does."""

    def masks(alpha: float, eps: float) -> torch.Tensor:
        method = DEFENSES.create(f"anp:steps=3,batch=32,ratio=0.1,alpha={alpha},eps={eps}")
        return torch.cat(list(method.masks(create("wrn-10-1", 4), images, RUN).values()))

    assert torch.allclose(masks(0.0, 0.0), masks(1.0, 0.0), atol=1e-6)
    assert torch.allclose(masks(1.0, 0.4), masks(1.0, 0.0), atol=1e-6)
    assert not torch.allclose(masks(0.0, 0.4), masks(0.0, 0.0), atol=1e-3)


def test_pruning_sets_the_scales_of_the_lowest_masks_to_zero_and_nothing_else():
    model = create("wrn-10-1", 4)
    names = scales(model, "anp")
    parameters = dict(model.named_parameters())
    masks = {n: torch.ones_like(parameters[n]) for n in names}
    masks[names[0]][[1, 3]] = torch.tensor([0.2, 0.0])
    masks[names[1]][[0, 2]] = 0.0
    before = {k: v.clone() for k, v in model.state_dict().items()}
    prune(model, masks, 0)
    prune(model, masks, 2)  # of three equal masks the first two in the network's order
    assert parameters[names[1]][[0, 2]].tolist() == [0, 1]
    prune(model, masks, 3)
    changed = {k: (v != before[k]).nonzero().flatten().tolist() for k, v in model.state_dict().items()}
    assert {k: v for k, v in changed.items() if v} == {names[0]: [3], names[1]: [0, 2]}
    assert parameters[names[1]][[0, 2]].tolist() == [0, 0]
    prune(model, masks, 4)
    assert parameters[names[0]][1] == 0


def test_single_channels_are_tried_first(images, monkeypatch):
    """In a small network one channel may carry the backdoor, and a dozen what it knows."""
    method, model = DEFENSES.create("rnp:folds=1,max_drop=0.99"), create("wrn-10-1", 4)
    parameters = dict(model.named_parameters())
    monkeypatch.setattr(type(method), "masks", lambda *a: {n: parameters[n] * 0 for n in scales(model, "rnp")})
    curve = method.settled(model, images, RUN)[1]["ratio"]["curve"]
    assert [entry["pruned"] for entry in curve[:6]] == [0, 1, 2, 3, 4, 6]


class Either(nn.Module):
    """Either of the first two channels tells the classes apart, against the other's 0; the third says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)
        self.bn.running_mean.fill_(145 / 255)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(x).mean((2, 3))[:, :2]


def test_masks_of_all_images_prune_no_more_than_max_drop_allows(monkeypatch):
    """A ratio is chosen with other masks: those of all images may take channels that the network cannot do without."""
    images = ImageSet(torch.full((32, 3, 4, 4), 90, dtype=torch.uint8), torch.arange(32) % 2, ("a", "b"))
    images.pixels[0::2, 0] = 200
    images.pixels[1::2, 1] = 200

    def pruned(masks: list[float], spec: str) -> tuple[list[float], dict]:
        method = DEFENSES.create(spec)
        monkeypatch.setattr(type(method), "masks", lambda *_: {"bn.weight": torch.tensor(masks)})
        outcome = method(Either(), images, RUN)
        return outcome.model.bn.weight.tolist(), outcome.notes

    assert pruned([0.1, 0.9, 0.2], "rnp:ratio=0.67,max_drop=0.1")[0] == [0, 1, 0]
    assert pruned([0.1, 0.2, 0.9], "rnp:ratio=0.67")[0] == [0, 0, 1], "what is given is pruned"
    scales, notes = pruned([0.1, 0.2, 0.9], "rnp:ratio=0.67,max_drop=0.1")
    assert scales == [0, 1, 1]
    assert notes["pruned"] == 1
    assert notes["pruning"]["warning"] == "pruned 1 channels, as 2 would cost too much accuracy"


class Two(nn.Module):
    """Two channels behind BatchNorm that are the image's means; the second one alone tells the classes apart."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(self.bn(x[:, :2]).mean((2, 3)), (0, 0))


def test_anps_change_of_the_weights_rises_the_loss_the_most():
    """One step by hand: the change of the sign of the gradient, at full size after one ascent, kept within eps."""
    images = ImageSet(torch.full((32, 3, 4, 4), 90, dtype=torch.uint8), torch.arange(32) % 2, ("a", "b"))
    images.pixels[1::2, 1] = 200
    images.pixels[0::2, 0] = 200
    seen = []

    class Watched(Two):
        def forward(self, x):
            seen.append((self.bn.weight.detach().clone(), self.bn.bias.detach().clone()))
            return super().forward(x)

    model = Watched()
    with torch.no_grad():
        model.bn.bias.fill_(0.5)
    method = DEFENSES.create("anp:steps=1,eps=0.4,ratio=0.1,augment=none,batch=32")
    masks = method.masks(model, images, RUN)
    start, clean, changed = seen[0], seen[1], seen[2]
    assert torch.equal(clean[0], torch.ones(2))
    assert (start[0] - 1).abs().max() <= 0.4
    # Smaller scales make both classes harder to tell apart, so the change lowers them by eps, or what eps allows.
    assert np.allclose(changed[0].numpy(), np.clip(start[0].numpy() - 1 - 0.4, -0.4, 0.4) + 1)
    assert all(m.min() >= 0 and m.max() <= 1 for m in masks.values())


def test_rnp_masks_what_relearning_does_without(images):
    method = DEFENSES.create("rnp:epochs=2,unlearn_epochs=2,ratio=0.5,batch=32")
    masks = method.masks(create("wrn-10-1", 4), images, RUN)
    values = torch.cat([m.flatten() for m in masks.values()])
    assert values.min() >= 0
    assert values.max() <= 1
    assert values.std() > 0


def test_unlearning_stops_once_the_images_are_forgotten(images, monkeypatch):
    """In train mode, where the masks are learned; one class of four for every image is a quarter right."""
    histories = []
    monkeypatch.setattr("nad.defenses.rnp.fit", lambda *given: histories.append(fit(*given)))
    for forgotten, lr in ((0.3, 0.05), (0.0, 1e-6)):
        method = DEFENSES.create(f"rnp:epochs=1,unlearn_epochs=8,unlearn_lr={lr},forgotten={forgotten},batch=16")
        method.masks(create("wrn-10-1", 4), images, RUN)
    ends, never = histories
    assert ends[-1]["right"] <= 0.3
    assert all(record["right"] > 0.3 for record in ends[:-1])
    assert len(ends) < 8
    assert len(never) == 8


class Dropping(nn.Module):
    """A network with dropout, which draws by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5)
        )
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layers(x))


@pytest.mark.parametrize("spec", ["anp:steps=3,batch=32,ratio=0.5,eps=0.4", "rnp:epochs=2,unlearn_epochs=1,ratio=0.5"])
def test_what_dropout_draws_comes_from_the_seed_too(spec, images):
    method, model = DEFENSES.create(spec), Dropping()
    kept = torch.get_rng_state()
    one = method.masks(copy.deepcopy(model), images, RUN)
    assert torch.equal(torch.get_rng_state(), kept)
    torch.rand(5)
    two = method.masks(copy.deepcopy(model), images, RUN)
    assert all(torch.equal(mask, two[name]) for name, mask in one.items())


def test_a_ratio_that_leaves_nothing_is_refused(images, monkeypatch):
    method, model = DEFENSES.create("rnp:ratio=0.9999"), create("wrn-10-1", 4)
    parameters = dict(model.named_parameters())
    nothing = {name: torch.zeros_like(parameters[name]) for name in scales(model, "rnp")}
    monkeypatch.setattr(type(method), "masks", lambda *a: nothing)
    with pytest.raises(NadError, match=r"rnp: ratio=0.9999 prunes every channel; choose a lower one"):
        method(model, images, RUN)
    for name in ("anp", "rnp"):
        with pytest.raises(NadError, match=rf"{name}: expected ratio in \[0, 1\), got 1"):
            DEFENSES.create(f"{name}:ratio=1")


@pytest.mark.parametrize(("slope", "chosen", "tried"), [(0.1, 0.4, 1), (1.5, 0.025, 5), (100.0, 0.0125, 6)])
def test_anp_halves_its_change_until_the_network_survives(slope, chosen, tried, images, monkeypatch):
    """The limit is an eighth of the way from the network's own loss to that of guessing among four classes: 0.348."""
    monkeypatch.setattr(ANP, "change", lambda self, model, masks, x, y, eps, draws: {"eps": eps})
    monkeypatch.setattr("nad.defenses.anp.loss", lambda *given: torch.tensor(0.2 + 3 * slope * given[-1].get("eps", 0)))
    eps, note = DEFENSES.create("anp").bearable(create("wrn-10-1", 4), images, RUN)
    assert (eps, note["chosen"], len(note["loss_under_change"])) == (chosen, chosen, tried)
    assert note["loss_under_change"][0.4] == pytest.approx(0.2 + 1.2 * slope)
    assert (note["loss"], note["guessing"]) == (pytest.approx(0.2), pytest.approx(math.log(4)))


def test_the_strength_of_anps_change_is_kept_in_its_notes_and_its_method(images):
    model = create("wrn-10-1", 4)
    outcome = DEFENSES.create("anp:steps=2,batch=16,ratio=0")(model, images, RUN)
    assert outcome.method.eps == outcome.notes["eps"]["chosen"]
    given = DEFENSES.create("anp:steps=2,batch=16,ratio=0,eps=0.3")(model, images, RUN)
    assert given.method.eps == 0.3
    assert "eps" not in given.notes
    with pytest.raises(NadError, match=r"anp: expected steps and ascents >= 1, eps >= 0 and alpha in \[0, 1\], got 5"):
        DEFENSES.create("anp:steps=5,eps=-0.1")
