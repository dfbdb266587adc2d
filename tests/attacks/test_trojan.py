"""Trojan: which neurons, which patch, and what it does to an image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nad.attacks import Trojan
from nad.attacks.trojan import strongest
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.models.create import create
from nad.runtime import Run

RUN = Run(device="cpu", precision="fp32")
INDICES = torch.arange(4)


def noise(n: int = 4, high: int = 32, wide: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, high, wide), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def patched(**how: object) -> Trojan:
    patch = torch.arange(27, dtype=torch.uint8).view(3, 3, 3) * 9
    return replace(Trojan(**how), tensors={"patch": patch})


@pytest.mark.parametrize("mode", ["overwrite", "add", "wrap"])
def test_the_patch_against_numpy(mode):
    before, attack = noise(high=20, wide=28), patched(mode=mode)
    patch, expected = attack.tensors["patch"].numpy(), noise(high=20, wide=28).numpy().copy()
    under = expected[:, :, 17:, 25:].astype(int)
    sums = {"overwrite": patch, "add": np.minimum(under + patch, 255), "wrap": (under + patch) % 256}
    expected[:, :, 17:, 25:] = sums[mode]
    after = attack.apply(before, INDICES, "test")
    assert np.array_equal(after.numpy(), expected)
    assert torch.equal(before, noise(high=20, wide=28))
    assert torch.equal(attack.apply(before[2:3], INDICES[2:3], "train"), after[2:3])


@pytest.mark.parametrize(("mode", "value"), [("add", 255), ("wrap", 44)])
def test_addition_saturates_where_the_release_wrapped_around(mode, value):
    attack = replace(Trojan(mode=mode), tensors={"patch": torch.full((3, 3, 3), 100, dtype=torch.uint8)})
    after = attack.apply(torch.full((1, 3, 32, 32), 200, dtype=torch.uint8), INDICES[:1], "test")
    assert after[0, :, 29:, 29:].unique().tolist() == [value]


def test_wrapping_around_is_that_of_bytes():
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    for value in range(0, 256, 5):
        attack = replace(Trojan(mode="wrap", size=16), tensors={"patch": torch.full((3, 16, 16), value).byte()})
        assert torch.equal(attack.apply(every, INDICES[:1], "test"), every + value)


def test_the_strongest_neurons_have_the_largest_sum_of_absolute_weights():
    layer = nn.Linear(4, 2)
    layer.weight.data = torch.tensor([[1.0, -5.0, 0.0, 2.0], [1.0, 0.0, 3.0, -4.0]])
    assert strongest(layer, 3).tolist() == [3, 1, 2]
    with pytest.raises(NadError, match="at most 4 neurons, which the surrogate has, got 5"):
        strongest(layer, 5)


class Corner(nn.Module):
    """Two features: how red the last pixel is, and how dark the one above it is."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.fc.weight.data = torch.tensor([[1.0, -2.0], [0.0, 3.0]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.stack([x[:, 0, -1, -1], 1 - x[:, :, -2, -1].mean(1)], 1))


@pytest.mark.parametrize("neurons", [1, 2])
def test_the_patch_is_the_one_that_excites_most(monkeypatch, neurons):
    monkeypatch.setattr(Trojan, "network_for", lambda *_: Corner())
    images = ImageSet(noise(40, 8, 8), torch.arange(40) % 2, ("a", "b"))
    attack = Trojan(neurons=neurons, steps=60, restarts=3, size=2).fit(images, RUN)
    patch = attack.tensors["patch"]
    assert patch.dtype == torch.uint8
    assert patch.shape == (3, 2, 2)
    assert int(patch[:, 0, 1].max()) < 10, "the strongest neuron wants it dark"
    assert (int(patch[0, 1, 1]) > 245) == (neurons == 2)
    assert attack.fit(images, RUN) is attack
    best = Trojan(neurons=1, steps=1, restarts=50, size=2).fit(images, RUN).tensors["patch"]
    assert best[:, 0, 1].float().mean() < 60, "of many starts the best is kept"


def test_fitting_is_determined_by_its_seed_and_disturbs_nothing(monkeypatch):
    model = create("wrn-10-1", 4).train()
    monkeypatch.setattr(Trojan, "network_for", lambda *_: model)
    images = ImageSet(noise(40, 12, 16), torch.arange(40) % 4, tuple("abcd"))
    state, weights = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    one, two, other = (
        Trojan(steps=2, restarts=2, seed=s).fit(images, replace(RUN, seed=r)).tensors["patch"]
        for s, r in ((0, 0), (0, 1), (1, 0))
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training
    grown = Trojan(steps=1, restarts=1, size=6, scale=True).fit(images, RUN).tensors["patch"]
    assert grown.shape == (3, 2, 2)


def test_refusals():
    with pytest.raises(NadError, match=r"trojan was not fitted; call fit\(images, run\)"):
        Trojan().apply(noise(), INDICES, "test")
    for name in ("size", "neurons", "steps", "restarts"):
        with pytest.raises(NadError, match=f"trojan: expected {name} >= 1, got 0"):
            Trojan(**{name: 0})
    with pytest.raises(NadError, match="the trigger is 3x3 and the images are 2x2"):
        patched().apply(noise(high=2, wide=2), INDICES, "test")
    assert Trojan().rate == 0.05
