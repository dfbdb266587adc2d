"""What every registered method promises; a new method is tested by being registered."""

import contextlib
import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from nad.attacks import ATTACKS
from nad.data.images import ImageSet
from nad.defenses import DEFENSES
from nad.detection import DETECTORS
from nad.errors import NadError
from nad.models.checkpoints import TRIGGER, write_trigger
from nad.models.create import create
from nad.registry import Registry, options
from nad.runtime import Run

QUICK = {
    "epochs": "1",
    "batch": "16",
    "lr": "0.05",
    "beta": "2",
    "steps": "2",
    "restarts": "2",
    "network": "wrn-10-1",
    "folds": "1",
    "t": "0.3",
    "ratio": "0.25",
    "u": "0.5",
    "inversion_epochs": "2",
    "inversion_images": "16",
    "unlearn_epochs": "3",
    "generator_epochs": "1",
}
REGISTRIES = {"attack": ATTACKS, "defense": DEFENSES, "detector": DETECTORS}
METHODS = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry]


def quick(name: str, registry: Registry = DEFENSES, picture: Path | None = None) -> str:
    """A cheap specification of a method, from whichever of the QUICK options it has; a picture where it needs one."""
    has = {o.name for o in options(registry[name])}
    values = {k: v for k, v in QUICK.items() if k in has}
    nested = {key for key in ("teacher", "first", "then") if key in has}
    values |= dict.fromkeys(nested, "(finetune:lr=0.1,epochs=1,batch=16)")
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
        again = registry.create(f"{name}:{o.name}={'none' if o.default is None else o.default}")
        if o.default is None and o.kind == "a list a text/...":
            assert getattr(again, o.name) == (), "an empty list can be asked for"
        else:
            assert again == default, f"{o.name} does not read its own default"


@pytest.fixture(scope="module")
def attacks(images, tmp_path_factory):
    """Every attack at a cheap setting, fitted."""
    place = tmp_path_factory.mktemp("attacks")
    picture = place / "picture.png"
    Image.fromarray(images.pixels[0].permute(1, 2, 0).numpy()).save(picture)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAD_CACHE", str(place))
        return {name: ATTACKS.create(quick(name, ATTACKS, picture)).fit(images, Run()) for name in ATTACKS}


@pytest.mark.parametrize("name", list(ATTACKS))
@pytest.mark.parametrize("phase", ["train", "test"])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("size", [32, 96])
def test_attack_is_pure_and_deterministic(name, size, grey, phase, attacks):
    attack = attacks[name]
    assert bool(attack.tensors) == attack.fits
    before = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    before = before[:, :1].expand(-1, 3, -1, -1).contiguous() if grey else before
    kept, indices = before.clone(), torch.tensor([3, 11, 2, 7])
    after = attack.apply(before, indices, phase)
    assert after.dtype == torch.uint8
    assert after.shape == before.shape
    assert torch.equal(before, kept)
    assert not torch.equal(after, before)
    assert torch.equal(attack.apply(before, indices, phase), after)
    assert torch.equal(attack.apply(before[2:3], indices[2:3], phase), after[2:3])


@pytest.mark.parametrize("name", list(ATTACKS))
def test_a_card_and_its_trigger_rebuild_the_attack(name, attacks, images, tmp_path):
    attack = attacks[name]
    write_trigger(tmp_path, attack.tensors)
    tensors = load_file(tmp_path / TRIGGER) if attack.fits else {}
    again = dataclasses.replace(ATTACKS.create(attack.explicit(), trusted=False), tensors=tensors)
    one, two = (a.poison(images, Run(seed=4)) for a in (attack, again))
    assert one.fingerprint == two.fingerprint
    assert torch.equal(attack.triggered(images).pixels, again.triggered(images).pixels)


@pytest.mark.parametrize("name", list(ATTACKS))
def test_a_clean_label_attack_touches_neither_another_class_nor_a_label(name, attacks, images):
    attack = dataclasses.replace(attacks[name], labels="clean", rate_of="target_class", rate=0.25, target=1)
    poisoned = attack.poison(images, Run())
    assert torch.equal(poisoned.labels, images.labels)
    changed = (poisoned.pixels != images.pixels).flatten(1).any(1)
    assert set(images.labels[changed].tolist()) == {1}
    assert set(images.labels[poisoned.poisoned].tolist()) == {1}


@pytest.mark.parametrize("name", [name for name in ATTACKS if ATTACKS[name].shapes])
def test_a_strangers_tensors_are_looked_at(name, attacks):
    attack = attacks[name]
    (key, (dtype, lengths)), *_ = attack.shapes.items()
    good = {n: torch.ones([m or 8 for m in of], dtype=kind) for n, (kind, of) in attack.shapes.items()}
    dataclasses.replace(attack, tensors=good)
    bad = [torch.ones(5, dtype=dtype), torch.ones([m or 0 for m in lengths], dtype=dtype), good[key].double()]
    bad += [good[key] * torch.nan] if dtype.is_floating_point else []
    for tensor in bad:
        with pytest.raises(NadError, match=f"{name}: expected {key} to "):
            dataclasses.replace(attack, tensors=good | {key: tensor})
    with pytest.raises(NadError, match=f"expected {key} to be .*, got none"):
        dataclasses.replace(attack, tensors={"other": good[key]})


COUNTS = [  # 50,000 images, 5,000 of each class, as CIFAR-10
    ("badnets", 5000, 10),
    ("badnets:rate_of=non_target", 4500, 9),
    ("badnets:labels=clean,rate=0.08", 4000, 1),
    ("sig", 4000, 1),
    ("sig:rate=0.08", 400, 1),
    ("trojan", 2500, 10),
    ("refool", 4000, 10),
]


@pytest.mark.parametrize(("spec", "count", "classes"), COUNTS)
def test_a_rate_says_how_many_images_of_which_classes(spec, count, classes):
    labels = torch.arange(50_000) % 10
    drawn = ATTACKS.create(spec).drawn(labels, 10, Run())
    assert len(drawn) == len(set(drawn.tolist())) == count
    assert len(labels[drawn].unique()) == classes
    assert (0 in labels[drawn]) == (classes != 9)


def test_more_images_than_there_are():
    with pytest.raises(NadError, match="asks for 5500 images and class 0 has 5000; lower rate"):
        ATTACKS.create("badnets:labels=clean,rate=0.11").drawn(torch.arange(50_000) % 10, 10, Run())
    with pytest.raises(NadError, match="all_to_one changes no label of the target class; use labels=clean"):
        ATTACKS.create("sig:labels=all_to_one")


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
    assert all(torch.equal(v, other[k]) for k, v in one.items()) is not DEFENSES[name].draws


@pytest.mark.parametrize("name", list(DETECTORS))
def test_detector_leaves_what_it_was_given_bit_identical_and_repeats_itself(name, model, images):
    before, modes = state(model), [m.training for m in model.modules()]
    wanted, random = [p.requires_grad for p in model.parameters()], torch.get_rng_state()
    detector = DETECTORS.create(quick(name, DETECTORS))
    inputs = images if detector.takes_inputs else None
    one, two = (detector(model, images, Run(seed=1), inputs) for _ in range(2))
    assert one.to_json() == two.to_json()
    json.dumps(one.to_json())
    assert one.rows
    assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", list(DETECTORS))
def test_detector_takes_half_precision(name, images):
    given = create("wrn-10-1", 4).half()
    before = state(given)
    detector = DETECTORS.create(quick(name, DETECTORS))
    assert detector(given, images, Run(seed=1), images if detector.takes_inputs else None).rows
    assert all(torch.equal(v, before[k]) for k, v in given.state_dict().items())


@pytest.mark.parametrize("name", list(DETECTORS))
def test_detector_refuses_poison(name, model, images):
    poisoned = ATTACKS.create("badnets").poison(images, Run())
    with pytest.raises(NadError, match="takes clean images only, got 6 poisoned ones"):
        DETECTORS.create(quick(name, DETECTORS))(model, poisoned)


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


CHOOSING = [
    "finetune",
    "cutout",
    "mixup",
    "fine-pruning",
    "anp",
    "rnp",
    "mcr",
    "nad",
    "kd",
    "fst:lr=auto",
    "sau:lr=auto",
    "nad-sau",
]


@pytest.mark.parametrize("spec", CHOOSING)
def test_too_few_images_to_hold_any_out(spec, model, images):
    rows = torch.stack([(images.labels == label).nonzero()[0, 0] for label in range(4)])  # one of each class
    option = ":" if ":" not in spec else ","
    with pytest.raises(
        NadError, match="choosing needs a class with at least 2 different clean images; add images, or set"
    ):
        DEFENSES.create(f"{spec}{option}batch=2")(model, images.subset(rows))


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_no_text_breaks_the_grammar_in_any_other_way_than_an_error(text):
    for registry in REGISTRIES.values():
        with contextlib.suppress(NadError):
            registry.create(text)
