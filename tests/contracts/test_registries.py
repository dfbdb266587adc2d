"""What every registered method promises; a new method is tested by being registered."""

import contextlib
import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from nad.attacks import ATTACKS
from nad.data.images import ImageSet
from nad.defenses import DEFENSES
from nad.errors import NadError
from nad.models.create import create
from nad.registry import Registry, options
from nad.runtime import Run

QUICK = {"epochs": "1", "batch": "16", "lr": "0.05", "beta": "2", "steps": "2", "restarts": "2", "network": "wrn-10-1"}
REGISTRIES = {"attack": ATTACKS, "defense": DEFENSES}
METHODS = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry]


def quick(name: str, registry: Registry = DEFENSES, picture: Path | None = None) -> str:
    """A cheap specification of a method, from whichever of the QUICK options it has; a picture where it needs one."""
    has = {o.name for o in options(registry[name])}
    values = {k: v for k, v in QUICK.items() if k in has}
    if "teacher" in has:
        values["teacher"] = "(finetune:lr=0.1,epochs=1)"
    if picture and "image" in has and "pattern" not in has:
        values["image"] = f'"{picture}"'
    return name + ":" * bool(values) + ",".join(f"{k}={v}" for k, v in values.items())


@pytest.fixture(scope="module")
def images() -> ImageSet:
    pixels = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, torch.arange(64) % 4, tuple("abcd"))


@pytest.fixture
def model() -> nn.Module:
    given = create("wrn-10-1", 4)
    given.train()
    given.bn1.eval()
    given.conv1.weight.requires_grad_(False)
    return given


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_is_a_frozen_keyword_only_dataclass_with_documented_options(kind, name):
    method = REGISTRIES[kind][name]
    assert dataclasses.is_dataclass(method)
    assert method.__dataclass_params__.frozen
    assert all(f.kw_only for f in dataclasses.fields(method))
    assert all(o.help for o in options(method)), "every option says what it means"
    assert (method.__doc__ and "Source:" in method.__doc__) or name == "scratch", "the paper is cited"


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_specification_round_trips(kind, name):
    registry = REGISTRIES[kind]
    default = registry.create(name)
    assert registry.create(str(default)) == default
    assert registry.create(default.explicit()) == default
    for o in options(registry[name]):
        if o.default is not None:
            again = registry.create(f"{name}:{o.name}={o.default}")
            assert again == default, f"{o.name} does not read its own default"


@pytest.mark.parametrize("name", list(ATTACKS))
@pytest.mark.parametrize("size", [32, 96])
def test_attack_is_pure_and_deterministic(name, size, images, tmp_path, monkeypatch):
    monkeypatch.setenv("NAD_CACHE", str(tmp_path))
    picture = tmp_path / "picture.png"
    Image.fromarray(images.pixels[0].permute(1, 2, 0).numpy()).save(picture)
    attack = ATTACKS.create(quick(name, ATTACKS, picture)).fit(images, Run())
    assert bool(attack.tensors) == attack.fits
    before = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    kept, indices = before.clone(), torch.tensor([3, 11, 2, 7])
    after = attack.apply(before, indices, "train")
    assert after.dtype == torch.uint8
    assert after.shape == before.shape
    assert torch.equal(before, kept)
    assert not torch.equal(after, before)
    assert torch.equal(attack.apply(before, indices, "train"), after)
    assert torch.equal(attack.apply(before[2:3], indices[2:3], "train"), after[2:3])


@pytest.mark.parametrize("name", list(DEFENSES))
def test_defense_leaves_what_it_was_given_bit_identical(name, model, images):
    before, modes = state(model), [m.training for m in model.modules()]
    wanted = [p.requires_grad for p in model.parameters()]
    pixels, random = images.pixels.clone(), torch.get_rng_state()
    outcome = DEFENSES.create(quick(name))(model, images, Run(seed=1))
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(images.pixels, pixels)
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert outcome.model is not model


@pytest.mark.parametrize("name", list(DEFENSES))
def test_defense_gives_a_plain_network_of_the_same_kind(name, model, images):
    purified = DEFENSES.create(quick(name))(model, images, Run(seed=1)).model
    assert type(purified) is type(model)
    assert not any(m.training for m in purified.modules())
    assert not any(m._forward_hooks for m in purified.modules())
    fresh = copy.deepcopy(model)
    fresh.load_state_dict(purified.state_dict(), strict=True)
    same = [torch.equal(v, model.state_dict()[k]) for k, v in purified.state_dict().items()]
    assert not all(same), "it did something"


@pytest.mark.parametrize("name", list(DEFENSES))
def test_half_precision_comes_back_in_half_precision(name, images):
    given = create("wrn-10-1", 4).half()
    purified = DEFENSES.create(quick(name))(given, images, Run(seed=1)).model
    assert {k: v.dtype for k, v in purified.state_dict().items()} == {k: v.dtype for k, v in given.state_dict().items()}


@pytest.mark.parametrize("name", list(DEFENSES))
def test_the_same_seed_gives_the_same_weights(name, model, images):
    one, two, other = (DEFENSES.create(quick(name))(model, images, Run(seed=s)).model.state_dict() for s in (5, 5, 6))
    assert all(torch.equal(v, two[k]) for k, v in one.items())
    assert not all(torch.equal(v, other[k]) for k, v in one.items())


@pytest.mark.parametrize("name", list(DEFENSES))
def test_defense_refuses_poison_and_never_sees_the_mask(name, model, images, monkeypatch):
    poisoned = ATTACKS.create("badnets").poison(images, Run())
    with pytest.raises(NadError, match="takes clean images only, got 6 poisoned ones"):
        DEFENSES.create(quick(name))(model, poisoned)
    marked = dataclasses.replace(images, poisoned=torch.zeros(64, dtype=torch.bool), original_labels=images.labels)
    seen = []
    method = type(DEFENSES.create(quick(name)))
    original = method.erase
    monkeypatch.setattr(method, "erase", lambda self, m, i, r: seen.append(i) or original(self, m, i, r))
    DEFENSES.create(quick(name))(model, marked)
    assert seen
    assert all(i.poisoned is None and i.original_labels is None for i in seen)


@pytest.mark.parametrize("name", list(DEFENSES))
def test_defense_refuses_images_it_cannot_work_with(name, model, images):
    defense = DEFENSES.create(quick(name))
    with pytest.raises(NadError, match="one class only: c"):
        defense(model, images.subset((images.labels == 2).nonzero().flatten()))
    with pytest.raises(NadError, match="got none of b"):
        defense(model, images.subset((images.labels != 1).nonzero().flatten()))
    with pytest.raises(NadError, match="the network has 7 classes and the images have 4"):
        defense(create("wrn-10-1", 7), images)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_no_text_breaks_the_grammar_in_any_other_way_than_an_error(text):
    for registry in REGISTRIES.values():
        with contextlib.suppress(NadError):
            registry.create(text)
