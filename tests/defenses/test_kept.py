"""Purified networks that are made once and used again."""

import os
import pydoc
import threading
from dataclasses import replace

import pytest
import torch

from nad.data.images import ImageSet
from nad.defenses import DEFENSES
from nad.defenses.finetune import Finetune
from nad.keeping import Piece, made_once
from nad.models.create import create
from nad.runtime import Run

SHORT = "epochs=1,batch=16"
TEACHER = f"finetune:lr=0.1,folds=1,{SHORT}"


@pytest.fixture(scope="module")
def images() -> ImageSet:
    pixels = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, torch.arange(64) % 4, tuple("abcd"))


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(seed=1, device="cpu", precision="fp32", keep=tmp_path / "kept")


@pytest.fixture
def erased(monkeypatch) -> list[str]:
    """What is fine-tuned from now on."""
    seen: list[str] = []
    original = Finetune.erase
    monkeypatch.setattr(Finetune, "erase", lambda self, *given: seen.append(str(self)) or original(self, *given))
    return seen


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    return all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())


def test_a_teacher_that_was_made_alone_is_used_again(run, images, erased):
    model = create("wrn-10-1", 4)
    alone = DEFENSES.create(TEACHER)(model, images, run)
    assert len(erased) == 1
    spec = f"nad:teacher=({TEACHER}),lr=0.01,beta=5,{SHORT}"
    student = DEFENSES.create(spec)(model, images, run)
    again = DEFENSES.create(TEACHER)(model, images, run)
    assert len(erased) == 1
    assert same(alone.model, again.model)
    assert again.method == alone.method
    assert again.history == alone.history
    assert not any(m.training for m in again.model.modules())
    assert len(run.spared) == 2
    assert same(student.model, DEFENSES.create(spec)(model, images, replace(run, keep=None)).model)


def test_choices_are_kept_with_their_curves(run, images, erased):
    model = create("wrn-10-1", 4)
    one, two = (DEFENSES.create(f"finetune:lr=auto,folds=1,{SHORT}")(model, images, run) for _ in range(2))
    assert len(erased) == 1
    assert two.method == one.method
    assert two.method.lr != "auto"
    assert two.notes["lr"]["chosen"] == one.notes["lr"]["chosen"]


def test_what_means_nothing_is_recorded_as_it_is_asked_now(run, images, erased):
    model = create("wrn-10-1", 4)
    one, two = (DEFENSES.create(f"{TEACHER},max_drop={drop}")(model, images, run) for drop in (0.3, 0.02))
    assert len(erased) == 1, "nothing is chosen, so that the drop makes no other network"
    assert (one.method.max_drop, two.method.max_drop) == (0.3, 0.02)


@pytest.mark.parametrize("what", ["seed", "method", "network", "images", "precision"])
def test_anything_else_is_made_anew(what, run, images, erased):
    model = create("wrn-10-1", 4)
    DEFENSES.create(TEACHER)(model, images, run)
    method = TEACHER.replace("0.1", "0.05") if what == "method" else TEACHER
    if what == "network":
        with torch.no_grad():
            model.fc.bias[0] += 1e-3
    if what == "images":
        images = images.subset(torch.arange(60))
    run = replace(run, seed=2 if what == "seed" else 1, precision="bf16" if what == "precision" else "fp32")
    DEFENSES.create(method)(model, images, run)
    assert len(erased) == 2


def test_training_from_scratch_is_kept_for_all_networks_of_a_kind(run, images):
    method, models = DEFENSES.create(f"scratch:{SHORT}"), [create("wrn-10-1", 4, seed=seed) for seed in (0, 1)]
    one, two = (method(model, images, run) for model in models)
    assert len(run.spared) == 1
    assert same(one.model, two.model)
    assert same(two.model, method(models[1], images, replace(run, keep=None)).model)
    half = method(models[1].half(), images, run)
    assert next(half.model.parameters()).dtype == torch.half
    method(create("wrn-10-2", 4), images, run)
    assert len(run.spared) == 1, "of another type or kind there is none yet"


@pytest.mark.parametrize("file", ["tensors.safetensors", "record.json"])
def test_what_is_damaged_is_made_again(file, run, images, erased):
    model = create("wrn-10-1", 4)
    first = DEFENSES.create(TEACHER)(model, images, run)
    (path,) = run.keep.glob(f"purified/*/{file}")
    path.write_bytes(path.read_bytes()[:-20])
    assert same(DEFENSES.create(TEACHER)(model, images, run).model, first.model)
    assert len(erased) == 2
    DEFENSES.create(TEACHER)(model, images, run)
    assert len(erased) == 2


def test_a_folder_that_cannot_be_written_costs_no_more_than_the_time(run, images, tmp_path, erased):
    (tmp_path / "file").write_text("")
    run = replace(run, keep=tmp_path / "file" / "kept")
    model = create("wrn-10-1", 4)
    for _ in range(2):
        DEFENSES.create(TEACHER)(model, images, run)
    assert len(erased) == 2


def test_a_network_of_another_kind_and_a_method_with_a_file_are_not_kept(run, images, tmp_path):
    model = create("wrn-10-1", 4)
    DEFENSES.create(f"scratch:model=wrn-16-1,{SHORT}")(model, images, run)
    torch.save(model.state_dict(), tmp_path / "teacher.pt")
    file = os.fspath(tmp_path / "teacher.pt")
    DEFENSES.create(f'nad:teacher_checkpoint="{file}",teacher_model=wrn-10-1,lr=0.01,beta=5,{SHORT}')(
        model, images, run
    )
    assert not list(run.keep.rglob("record.json"))


def test_nothing_is_kept_where_nothing_is_said(images, tmp_path, monkeypatch, erased):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        DEFENSES.create(TEACHER)(create("wrn-10-1", 4), images, Run(seed=1, device="cpu", precision="fp32"))
    assert len(erased) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("work", "one", "other"),
    [
        (
            "nad.inversion.triggers.invert",
            "neural-cleanse:inversion_epochs=2",
            "neural-cleanse:mode=prune,inversion_epochs=2",
        ),
        ("nad.defenses.mcr.MCR.trained", f"mcr:t=0.5,{SHORT}", f"mcr:t=0.3,{SHORT}"),
        ("nad.defenses.mcr.MCR.trained", f"mcr:t=0.5,end=({TEACHER}),{SHORT}", f"mcr:t=0.3,end=({TEACHER}),{SHORT}"),
    ],
)
def test_what_two_methods_begin_with_is_made_once(work, one, other, run, images, monkeypatch):
    module, name = pydoc.locate(work.rsplit(".", 1)[0]), work.rsplit(".", 1)[1]
    seen, original = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given: seen.append(given) or original(*given))
    model = create("wrn-10-1", 4)
    DEFENSES.create(one)(model, images, run)
    shared = DEFENSES.create(other)(model, images, run)
    assert len(seen) == 1
    assert len(run.spared) >= 1
    alone = DEFENSES.create(other)(model, images, replace(run, keep=None))
    assert len(seen) == 2
    assert same(shared.model, alone.model)
    assert [e["loss"] for e in shared.history] == [e["loss"] for e in alone.history]
    assert shared.notes == alone.notes


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("triggers", "neural-cleanse:inversion_epochs=2", "neural-cleanse:inversion_epochs=3"),
        ("curves", f"mcr:t=0.5,{SHORT}", f"mcr:t=0.5,curve=chain,{SHORT}"),
        ("curves", f"mcr:t=0.5,{SHORT}", "mcr:t=0.5,epochs=2,batch=16"),
        ("curves", f"mcr:t=0.5,{SHORT}", f"mcr:t=0.5,end=({TEACHER}),{SHORT}"),
    ],
)
def test_methods_that_begin_differently_share_nothing(kind, one, other, run, images):
    for method in (one, other):
        DEFENSES.create(method)(create("wrn-10-1", 4), images, run)
    assert len(list((run.keep / kind).glob("*/"))) == 2


def test_what_another_is_making_is_waited_for(run, images):
    """Two that ask at once: it is made once."""
    model, made = create("wrn-10-1", 4), []
    entered, go_on = threading.Event(), threading.Event()

    def make() -> int:
        made.append(1)
        entered.set()
        assert go_on.wait(20)
        return 7

    def ask(found: list[int]) -> None:
        asked = {"what": "number"}
        found.append(made_once("numbers", model, images, run, asked, make, lambda n: Piece({}, n), lambda p: p.record))

    found: list[int] = []
    askers = [threading.Thread(target=ask, args=(found,)) for _ in range(2)]
    for asker in askers:
        asker.start()
    assert entered.wait(20)
    go_on.set()
    for asker in askers:
        asker.join(20)
    assert (found, len(made)) == ([7, 7], 1)


def test_a_ratio_with_a_limit_is_not_one_without(images):
    plain, limited = (DEFENSES.create(f"anp:ratio=0.1{more}") for more in ("", ",max_drop=0.08"))
    assert plain.configuration() != limited.configuration()
    assert DEFENSES.create("anp").configuration() == DEFENSES.create("anp:max_drop=0.08").configuration()
