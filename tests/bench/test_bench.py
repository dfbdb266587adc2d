"""Grids: what a cell is, and doing only what is missing."""

import shutil
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nad.attacks import BadNets
from nad.bench import Erasure, Job, Network, networks, read, run_grid
from nad.bench import runner as runner_module
from nad.bench.runner import in_processes, one_by_one
from nad.defenses import DEFENSES
from nad.errors import NadError
from nad.grids import names as grids
from nad.grids import planned
from nad.models.checkpoints import load
from nad.models.create import create
from nad.pipeline import Terms, attack_on, evaluate_checkpoint, purify_checkpoint
from nad.results import Metrics, read_json
from nad.runtime import Run
from nad.training import RECIPES

RUN = Run(device="cpu", precision="fp32")
D, E = (
    SimpleNamespace(train=SimpleNamespace(fingerprint=name), test=SimpleNamespace(fingerprint="t")) for name in "de"
)
CELL = Network(name="a", data="tiny", model="wrn-10-1", attack="badnets:target=1", regime="paper", epochs=2)


@pytest.fixture
def data(tiny: Path, tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    shutil.copytree(tiny, tmp_path / "data" / "tiny")
    return tmp_path / "data"


@pytest.mark.parametrize("grid", grids())
def test_every_cell_can_be_made(grid):
    cells = read(grid)
    assert not [name for name, times in Counter(cell.name for cell in cells).items() if times > 1]
    trained = networks(grid)
    assert not [cell.name for cell in trained if cell.planted() is None and not cell.name.startswith("clean")]
    for model in {cell.model for cell in trained}:
        with torch.device("meta"):
            create(model, 10)
    for cell in cells:
        if isinstance(cell, Erasure):
            cell.defense()
    sets = [cell.data for cell in cells]
    assert len([a for a, b in pairwise(sets) if a != b]) < len(set(sets)), "a set is decoded once"


def test_the_zoo_is_trained_in_its_regimes():
    cells = networks()
    for cell in cells:
        epochs = 120 if cell.name.endswith("-120") else {"paper": 24, "strong": 40}[cell.regime]
        assert cell.recipe.epochs == (30 if cell.data == "signs" else epochs)  # the embedded images are for development
        assert (cell.planted() is None) == cell.name.startswith("clean")
        assert ("paper" in cell.name) == (cell.regime == "paper")
        if cell.data == "gtsrb32" and cell.regime == "strong":
            assert cell.recipe.augment == ("crop",), "signs have a handedness"
    assert [cell.core for cell in cells[:23]] == [True] * 22 + [False]  # the least that the zoo holds comes first


def test_a_network_with_seeds_is_one_for_each(tmp_path):
    (tmp_path / "own.toml").write_text(
        '[[cell]]\nname = "a"\nmodel = "wrn-10-1"\ndata = "signs"\nseeds = [0, 3]\n'
        '[[cell]]\nname = "b"\nmodel = "wrn-10-1"\ndata = "signs"\nseed = 5\n'
    )
    assert [(c.name, c.seed) for c in read(str(tmp_path / "own.toml"))] == [("a-0", 0), ("a-3", 3), ("b", 5)]


def test_the_networks_that_a_verdict_is_measured_on():
    cells = networks("scans")
    kinds = Counter((cell.model.partition(":")[0], cell.attack is None) for cell in cells)
    assert kinds == {("preactresnet18", True): 20, ("preactresnet18", False): 20, ("wrn-16-1", True): 14}
    assert not {cell.name for cell in cells} & {cell.name for cell in networks()}


def test_an_unknown_grid_names_the_close_one():
    with pytest.raises(NadError, match="there is no grid 'zo'; did you mean zoo"):
        read("zo")


@pytest.mark.parametrize(
    "other",
    [
        replace(CELL, attack=None),
        replace(CELL, attack="badnets:target=2"),
        replace(CELL, model="wrn-16-1"),
        replace(CELL, epochs=3),
        replace(CELL, augment=("crop",)),
        replace(CELL, seed=1),
        replace(CELL, regime="strong"),
    ],
)
def test_a_fingerprint_covers_the_whole_configuration(other):
    assert CELL.fingerprint(D, RUN) == replace(CELL, name="b", core=True).fingerprint(D, RUN)
    assert CELL.fingerprint(D, RUN) != other.fingerprint(D, RUN)


def test_a_fingerprint_covers_the_data_and_the_version_of_the_attack(monkeypatch):
    first = CELL.fingerprint(D, RUN)
    assert first != CELL.fingerprint(E, RUN)
    monkeypatch.setattr(type(CELL.planted()), "version", 99)
    assert CELL.fingerprint(D, RUN) != first


def test_a_grid_names_no_file_of_this_machine():
    with pytest.raises(NadError, match="refused in a specification that comes from a file"):
        replace(CELL, attack="custom:image=/tmp/a.png").planted()


def test_a_rerun_does_only_what_is_missing(data, tmp_path, monkeypatch):
    cells, out = [CELL, replace(CELL, name="b", seed=1)], tmp_path / "out"
    assert [s.state for s in run_grid(cells, Job(out, data, RUN, dry=True))] == ["missing", "missing"]
    assert not out.exists()
    assert [s.state for s in run_grid(cells[:1], Job(out, data, RUN))] == ["made"]
    before = (out / "a" / "model.safetensors").stat().st_mtime_ns
    assert [s.state for s in run_grid(cells, Job(out, data, RUN))] == ["done", "made"]
    assert (out / "a" / "model.safetensors").stat().st_mtime_ns == before
    changed = replace(CELL, epochs=3)
    assert [s.state for s in run_grid([changed], Job(out, data, RUN))] == ["stale"], (
        "what is there is not replaced unasked"
    )
    assert read_json(out / "a" / "result.json")["configuration"]["recipe"]["epochs"] == 2
    assert [s.state for s in run_grid([changed], Job(out, data, RUN, overwrite=True))] == ["made"]
    assert read_json(out / "a" / "result.json")["configuration"]["recipe"]["epochs"] == 3


def test_a_cell_is_stored_in_half_precision_and_evaluates_as_its_card_says(data, tmp_path):
    (status,) = run_grid([CELL], Job(tmp_path / "out", data, RUN))
    loaded = load(tmp_path / "out" / "a")
    assert {e.dtype for e in loaded.layout.values()} == {torch.float16, torch.int64}
    assert next(loaded.model.parameters()).dtype == torch.float32
    again = evaluate_checkpoint(loaded, runner_module.decoded("tiny", data), attack_on(loaded, "card"), RUN).after
    assert loaded.card is not None
    assert again == Metrics.from_json(loaded.card.metrics)
    assert status.result is not None
    assert status.result["notes"]["before_rounding"]["acc"] == pytest.approx(again.acc.rate, abs=0.05)
    assert status.result["after"]["counts"] == again.to_json()["counts"]


def test_a_cell_for_a_gpu_waits_for_one(data, tmp_path):
    (status,) = run_grid([replace(CELL, gpu=True)], Job(tmp_path / "out", data, RUN))
    assert (status.state, status.error) == ("skipped", "needs a GPU")
    assert not (tmp_path / "out").exists()


def test_a_failing_cell_does_not_stop_the_others_and_leaves_nothing(data, tmp_path):
    cells = [replace(CELL, attack="badnets:size=99"), replace(CELL, name="b", data="nowhere"), replace(CELL, name="c")]
    heard = []
    statuses = run_grid(cells, Job(tmp_path / "out", data, RUN), heard=heard.append)
    assert heard == statuses
    assert [s.state for s in statuses] == ["failed", "failed", "made"]
    assert "99x99" in statuses[0].error
    assert "nowhere" in statuses[1].error
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["c"]


def test_an_interrupted_cell_is_made_again(data, tmp_path, monkeypatch):
    def interrupted(*given, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nad.bench.network.train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_grid([CELL], Job(tmp_path / "out", data, RUN))
    assert not list((tmp_path / "out").glob("*/*"))
    assert [s.state for s in run_grid([CELL], Job(tmp_path / "out", data, RUN))] == ["made"]


@pytest.fixture
def zoo(data, tmp_path, monkeypatch) -> Path:
    run_grid([CELL], Job(tmp_path / "zoo", data, RUN))
    monkeypatch.setenv("NAD_ZOO", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


ERASURE = Erasure(name="a/quick-0", victim="a", data="tiny", method="finetune:epochs=1,lr=0.05,batch=16", clean=0.5)


def test_an_eraser_is_a_cell_with_one_file(zoo, data, tmp_path):
    oracle = replace(ERASURE, name="a/oracle-0", method="oracle")
    out = tmp_path / "results"
    assert [s.state for s in run_grid([ERASURE, oracle], Job(out, data, RUN, dry=True))] == ["missing", "missing"]
    statuses = run_grid([ERASURE, oracle], Job(out, data, RUN))
    assert [s.state for s in statuses] == ["made", "made"]
    result = read_json(out / "a" / "quick-0.json")
    assert result == statuses[0].result
    assert result["method"] == ERASURE.method
    assert result["attack"].startswith("badnets:target=1")
    assert result["before"]["asr"] is not None
    assert read_json(out / "a" / "oracle-0.json")["method"].startswith("oracle:attack=(badnets")
    assert [s.state for s in run_grid([ERASURE, oracle], Job(out, data, RUN))] == ["done", "done"]
    assert [s.state for s in run_grid([replace(ERASURE, clean=0.6)], Job(out, data, RUN))] == ["stale"]


def test_the_floor_is_the_clean_network_and_the_backdoor_may_come_back(zoo, data, tmp_path):
    run_grid([replace(CELL, name="b", attack=None)], Job(zoo, data, RUN))
    floor = replace(ERASURE, name="a/clean-0", method="clean", twin="b", reactivate=True)
    (status,) = run_grid([floor], Job(tmp_path / "results", data, RUN))
    assert status.result is not None
    clean = load(zoo / "b")
    attack = attack_on(load(zoo / "a"), "card")
    direct = evaluate_checkpoint(clean, runner_module.decoded("tiny", data), attack, RUN).after
    assert Metrics.from_json(status.result["after"]) == direct
    assert Metrics.from_json(status.result["reactivated"]).asr is not None
    run_grid([replace(CELL, name="b", attack=None, seed=4)], Job(zoo, data, RUN, overwrite=True))
    assert [s.state for s in run_grid([floor], Job(tmp_path / "results", data, RUN, dry=True))] == ["stale"]
    (failed,) = run_grid([replace(floor, twin=None)], Job(tmp_path / "other", data, RUN))
    assert failed.error == "the zoo has no clean network that was trained as this victim was"


def test_the_teacher_may_be_the_network_that_was_never_backdoored(zoo, data, tmp_path):
    run_grid([replace(CELL, name="b", attack=None)], Job(zoo, data, RUN))
    method = "nad:epochs=1,lr=0.05,batch=16,beta=1000,loss=mse"
    taught = replace(ERASURE, name="a/taught-0", method=method, twin="b", clean_teacher=True)
    (status,) = run_grid([taught], Job(tmp_path / "results", data, RUN))
    assert status.result is not None
    dataset = runner_module.decoded("tiny", data)
    direct = DEFENSES.create(f"{method},teacher_checkpoint={zoo / 'b' / 'model.safetensors'},teacher_model=wrn-10-1")
    (made,) = purify_checkpoint(
        load(zoo / "a"), dataset, [direct], RUN, Terms(clean=0.5, attack=attack_on(load(zoo / "a"), "card"))
    )
    assert status.result["after"] == made.result.after.to_json()
    (own,) = run_grid([replace(taught, name="a/own-0", clean_teacher=False)], Job(tmp_path / "results", data, RUN))
    assert own.result is not None
    assert own.result["after"] != status.result["after"]
    (refused,) = run_grid([replace(taught, name="a/c-0", method="clp")], Job(tmp_path / "results", data, RUN))
    assert refused.error == "clean_teacher is for methods with a teacher, and clp has none"


def test_an_eraser_of_a_victim_trained_anew_is_stale(zoo, data, tmp_path):
    run_grid([ERASURE], Job(tmp_path / "results", data, RUN))
    run_grid([replace(CELL, seed=5)], Job(zoo, data, RUN, overwrite=True))
    assert [s.state for s in run_grid([ERASURE], Job(tmp_path / "results", data, RUN, dry=True))] == ["stale"]


def test_a_result_says_whether_its_cell_had_the_machine_to_itself(zoo, data, tmp_path):
    for pool, alone in ((one_by_one, True), (in_processes(1), False)):
        (status,) = run_grid([ERASURE], Job(tmp_path / str(alone), data, RUN), pool=pool)
        assert status.result["notes"]["alone"] is alone


def test_a_missing_victim_fails_its_cells_alone(zoo, data, tmp_path):
    cells = [replace(ERASURE, name="b/quick-0", victim="b"), ERASURE]
    statuses = run_grid(cells, Job(tmp_path / "results", data, RUN))
    assert [s.state for s in statuses] == ["failed", "made"]
    assert "the zoo has no network 'b'" in statuses[0].error


def test_a_grid_of_erasers_has_every_victim_and_seed():
    cells = [c for c in read("defenses") if isinstance(c, Erasure)]
    seeds = {(c.victim, c.method): [] for c in cells}
    for cell in cells:
        seeds[cell.victim, cell.method].append(cell.seed)
    once = ("clean", "ft-sam:epochs=100", "mcr:t=0.3,lr=0.01")
    assert all(len(s) >= 3 for (_, method), s in seeds.items() if method not in once)
    assert {c.defense().spec_name for c in cells} == {*DEFENSES, "oracle", "clean"}, "no eraser is left out"
    assert {c.twin for c in cells} == {"clean-cifar10", "clean-gtsrb"}


def test_grids_share_their_cells():
    meant = {}
    for cell in (cell for name in grids() for cell in read(name) if isinstance(cell, Erasure)):
        assert meant.setdefault(cell.name, cell) == cell


def test_an_erasure_in_another_precision_is_another(zoo):
    assert ERASURE.fingerprint(D, RUN) != ERASURE.fingerprint(D, replace(RUN, precision="bf16"))


def test_a_grid_like_another_has_its_methods_on_other_victims():
    strong, paper = ([c for c in read(name) if isinstance(c, Erasure)] for name in ("defenses", "defenses-paper"))
    assert [f"{c.victim}-paper" for c in strong] == [c.victim for c in paper]
    assert [(c.method, c.seed, c.clean, c.flips) for c in strong] == [
        (c.method, c.seed, c.clean, c.flips) for c in paper
    ]


def test_a_grid_with_two_methods_of_one_name_is_like_nothing(tmp_path):
    first = '[[method]]\nname = "a-{x}"\nmethod = "clp"\nvictims = ["badnets-cifar10"]\nseeds = [0]\nx = 1\n'
    (tmp_path / "base.toml").write_text(first + first.replace("x = 1", "x = 2"))
    assert len(planned(str(tmp_path / "base.toml"))) == 2
    (tmp_path / "more.toml").write_text(f'like = "{tmp_path / "base.toml"}"\n')
    with pytest.raises(NadError, match="two methods have one name; give each its own"):
        planned(str(tmp_path / "more.toml"))


def test_what_is_picked_may_be_changed(tmp_path):
    def planned_of(pick: str) -> dict[str, list[int]]:
        file = tmp_path / "grid.toml"
        file.write_text(f'like = "defenses"\npick = [{pick}]\n[defaults]\nvictims = ["badnets-cifar10"]\n')
        seeds: dict[str, list[int]] = {}
        for plan in planned(str(file)):
            seeds.setdefault(plan.label, []).append(plan.seed)
        return seeds

    found = planned_of('"clp", { name = "nad", seeds = [0, 1, 2, 3, 4] }')
    assert found == {"clp": [0, 1, 2], "nad": [0, 1, 2, 3, 4]}
    with pytest.raises(NadError, match="defenses has no 'nda'; did you mean nad"):
        planned_of('{ name = "nda" }')
    with pytest.raises(NadError, match=r"\[\[method\]\] has no entry 'seed'; did you mean seeds"):
        planned_of('{ name = "nad", seed = 5 }')


@pytest.mark.parametrize(
    ("method", "used"),
    [
        ("finetune", "finetune:augment=crop"),
        ("finetune:recipe=paper", "finetune:recipe=paper,augment=crop/cutout9"),
        ("anp", "anp:augment=crop"),
        ("cutout", "cutout"),
        ("finetune:augment=crop/flip", "finetune:augment=crop/flip"),
        ("i-bau", "i-bau"),
        ("clp", "clp"),
        ("mcr:end=(finetune:lr=0.1)", "mcr:augment=crop,end=(finetune:lr=0.1,augment=crop)"),
        ("chain:first=(sau),then=(clp)", "chain:first=(sau:augment=crop),then=clp"),
        (
            "nad:recipe=paper,teacher=(finetune:lr=0.1),start=(finetune:lr=0.1)",
            "nad:recipe=paper,augment=crop/cutout9,teacher=(finetune:lr=0.1),start=(finetune:lr=0.1,augment=crop)",
        ),
        (
            "nad:teacher=(chain:first=(finetune),then=(clp))",
            "nad:augment=crop,teacher=(chain:first=(finetune:augment=crop),then=(clp))",
        ),
    ],
)
def test_signs_are_not_flipped(method, used):
    defense = replace(ERASURE, method=method, flips=False).defense()
    assert defense == DEFENSES.create(used), str(defense)
    assert replace(ERASURE, method=method).defense() == DEFENSES.create(method)


def test_a_changed_recipe_or_trigger_makes_an_eraser_new(zoo, monkeypatch):
    first = ERASURE.fingerprint(D, RUN)
    with monkeypatch.context() as patch:
        patch.setitem(RECIPES, "recommended", replace(RECIPES["recommended"], weight_decay=0.5))
        assert ERASURE.fingerprint(D, RUN) != first
    changed = SimpleNamespace(train=D.train, test=SimpleNamespace(fingerprint="other"))
    assert ERASURE.fingerprint(changed, RUN) != first, "the images it is measured on"
    assert CELL.fingerprint(changed, RUN) == CELL.fingerprint(D, RUN)
    assert replace(ERASURE, subset=ERASURE.seed + 1).fingerprint(D, RUN) != first, "the images it is made with"
    again = replace(ERASURE, reactivate=True)
    kept = again.fingerprint(D, RUN)
    assert kept != first
    with monkeypatch.context() as patch:
        patch.setattr("nad.bench.erasure.POISONED", 6)
        assert again.fingerprint(D, RUN) != kept
        assert ERASURE.fingerprint(D, RUN) == first
    with monkeypatch.context() as patch:
        patch.setattr("nad.defenses.judged.MAX_DROP", 0.5)
        assert ERASURE.fingerprint(D, RUN) == first, "nothing is left to a choice"
    with monkeypatch.context() as patch:
        patch.setitem(RECIPES, "reference", replace(RECIPES["reference"], epochs=99))
        assert ERASURE.fingerprint(D, RUN) == first, "a recipe that is not used"
    card = zoo / "a" / "model.json"
    card.write_text(card.read_text().replace('"target=1', '"target=2').replace("badnets:target=1", "badnets:target=2"))
    assert ERASURE.fingerprint(D, RUN) != first


@pytest.mark.parametrize(
    ("method", "used"),
    [
        ("nad:teacher=anp", "nad:augment=crop,teacher=(anp:augment=crop)"),
        ("kd:teacher=i-bau", "kd:augment=crop,teacher=(i-bau:augment=none)"),
        (
            "nad:teacher=(finetune:recipe=paper)",
            "nad:augment=crop,teacher=(finetune:recipe=paper,augment=crop/cutout9)",
        ),
        ("nad:augment=flip", "nad:augment=flip"),
    ],
)
def test_a_teacher_is_what_it_was_but_for_the_flips(method, used):
    defense = replace(ERASURE, method=method, flips=False).defense()
    assert defense == DEFENSES.create(used), str(defense)


@pytest.mark.parametrize(
    ("method", "chooses"),
    [
        ("finetune:lr=0.1", False),
        ("finetune", True),
        ("finetune:lr=0.1,stop=early", True),
        ("scratch", False),
        ("fine-pruning:ratio=0.5,lr=0.1", False),
        ("fine-pruning:ratio=0.5,tune=false", False),
        ("fine-pruning:lr=0.1", True),
        ("fst", False),
        ("fst:alpha=auto", True),
        ("mcr:t=0.3", False),
        ("mcr", True),
        ("anp:ratio=0.1", False),
        ("anp:ratio=0.1,max_drop=0.02", True),
        ("rnp", True),
        ("nad:lr=0.02,strength=1,teacher=(finetune:lr=0.1)", False),
        ("nad:lr=0.02,strength=1,recipe=paper", False),
        ("nad:lr=0.02,beta=0", False),
        ("nad:lr=0.02,beta=auto,teacher=given", True),
        ("kd:lr=0.02,teacher=(finetune:lr=0.1)", False),
        ("kd", True),
        ("nad-sau", True),
        ("nad-sau:fallback=none", False),
        ("nad-sau:teacher=given,start=none", False),
    ],
)
def test_how_choices_are_judged_matters_where_one_is_made(method, chooses, zoo, monkeypatch):
    cell = replace(ERASURE, method=method)
    first = cell.fingerprint(D, RUN)
    held_out = method + (",hold_out=0.3" if ":" in method else ":hold_out=0.3")
    assert (replace(cell, method=held_out).fingerprint(D, RUN) != first) == chooses
    if "max_drop" not in method:
        monkeypatch.setattr("nad.defenses.judged.MAX_DROP", 0.5)
        assert (cell.fingerprint(D, RUN) != first) == chooses


def test_a_teacher_matters_where_there_is_one(zoo):
    def fingerprint(method):
        return replace(ERASURE, method=method).fingerprint(D, RUN)

    control = "nad:lr=0.02,beta=0,{}teacher=(finetune:lr={}),loss={}"
    assert fingerprint(control.format("", 0.1, "sq")) == fingerprint(control.format("", 0.2, "mse"))
    begun = "start=teacher,"
    assert fingerprint(control.format(begun, 0.1, "sq")) != fingerprint(control.format(begun, 0.2, "sq"))
    taught = control.replace("beta=0", "strength=1")
    assert fingerprint(taught.format("", 0.1, "sq")) != fingerprint(taught.format("", 0.1, "mse"))
    chosen = taught.format("", "auto", "sq")
    assert fingerprint(chosen) == fingerprint(f"{chosen},hold_out=0.3"), "the teacher has its own"
    assert fingerprint(chosen) != fingerprint(f"{chosen},max_drop=0.3"), "which it takes from its student"
    inherited = "nad:lr=0.02,strength=1,epochs={},teacher=(finetune:lr=0.1{})"
    assert fingerprint(inherited.format(5, "")) == fingerprint(inherited.format(5, ",epochs=5"))


def test_a_damaged_network_is_noticed_and_made_again(zoo, data):
    job = Job(zoo, data, RUN)
    weights = zoo / "a" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert [s.state for s in run_grid([CELL], replace(job, dry=True))] == ["missing"]
    assert [s.state for s in run_grid([CELL], job)] == ["made"]
    assert load(zoo / "a")


def test_an_eraser_uses_one_device(zoo, data, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "nad.bench.erasure.purify_checkpoint", lambda *given: seen.append(given[3].devices) or purify_checkpoint(*given)
    )
    (status,) = run_grid([ERASURE], Job(tmp_path / "results", data, replace(RUN, devices=2)))
    assert (status.state, seen) == ("made", [1]), status.error


def test_a_new_version_of_the_attack_makes_an_eraser_new(zoo, monkeypatch):
    first = ERASURE.fingerprint(D, RUN)
    monkeypatch.setattr(BadNets, "version", BadNets.version + 1)
    assert ERASURE.fingerprint(D, RUN) != first


METHOD = '[[method]]\nname = "a"\nmethod = "clp"\nvictims = ["badnets-cifar10"]\nseeds = [0, 1]\n'
NETWORK = '[[cell]]\nname = "a"\ndata = "signs"\nmodel = "wrn-10-1"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            METHOD.replace("[0, 1]", "3"),
            r"\[\[method\]\] 'a': expected seeds as a list of at least one, \[...\], got 3",
        ),
        (METHOD.replace("[0, 1]", "[]"), r"expected seeds as a list of at least one, \[...\], got \[\]"),
        (METHOD.replace("[0, 1]", "[0, -1]"), "expected seeds of at least 0, got -1"),
        (
            METHOD.replace("[0, 1]", "[0, 0]"),
            "plans badnets-cifar10/a-0 twice; give each method.*each seed and victim once",
        ),
        (METHOD.replace('"a"', '"../a"'), r"'../a': expected a name that a file can have \(no /"),
        (METHOD.replace('"a"', '""'), "expected a name that a file can have"),
        (METHOD.replace("[[method]]", "[[methods]]"), "grid grid.toml has no entry 'methods'; did you mean method?"),
        (METHOD + "subset = [0, 1]\n", "plans badnets-cifar10/a-0 twice; give each method"),
        (METHOD + 'subset = "0"\n', "expected subset to be a whole number, got '0'"),
        ("unflipped = 1\n" + METHOD, "grid grid.toml: expected unflipped to be text, got '1'"),
        (
            '[table]\nagainst = { a = ["b"] }\n' + METHOD,
            r"\[table\] against: the grid has no method 'b'; expected one of a",
        ),
        ('[table]\nagainst = { aa = "a" }\n' + METHOD, "against: the grid has no method 'aa'; did you mean a"),
        ("[table]\nlog = 1\n" + METHOD, r"\[table\]: expected log to be true or false, got '1'"),
        (
            '[defaults]\nvictims = ["badnets-cifar10"]\n',
            r"names victims, and there is no \[\[method\]\] to try on them",
        ),
        ('[table]\ntitle = "none"\n', r"expected \[\[method\]\] or \[\[cell\]\] tables, got none"),
        (NETWORK.replace('"a"', '".a"'), "expected a name that a file can have"),
        (NETWORK.replace("wrn-10-1", "wrn-11-1"), r"line 2: \[\[cell\]\]: expected a WRN depth of 6n\+4.*got 11"),
        (NETWORK.replace("wrn-10-1", "own.py:net"), "own.py:net' is refused: a file with code"),
        (METHOD.replace("[[method]]", "[method]"), r"expected tables, each under a line \[\[method\]\]"),
        (METHOD.replace('"a"', "5"), r"expected name to be text, got '5'"),
        (METHOD.replace('["badnets-cifar10"]', "[1]"), "expected victims to be text, got '1'"),
        (METHOD + 'clean = "0.05"\n', "expected clean to be a whole number or a number, got '0.05'"),
        (METHOD + "clean = 20\n", r"'a': expected clean in \(0, 1\], the fraction of the training images, got 20"),
        (METHOD + "x = [\n", r"grid grid.toml: expected a TOML file, got Invalid value"),
        (METHOD + 'vary = { lr = ["a"] }\n', "vary: expected lr to be a whole number or a number, got 'a'"),
        (METHOD + 'reactivate = "yes"\n', "expected reactivate to be true or false"),
        (METHOD.replace("clp", "clq"), r"grid.toml, line 3: unknown defense 'clq'"),
        ('like = "grid.toml"\n' + METHOD, "is like grid.toml, which is like it"),
        (NETWORK.replace('name = "a"\n', ""), r"\[\[cell\]\] lacks name"),
        (
            NETWORK + 'regime = "stong"\n',
            r"grid.toml, line 2: \[\[cell\]\]: there is no regime 'stong'; did you mean",
        ),
        (NETWORK + 'attack = "badnet"\n', r"line 2: \[\[cell\]\]: unknown attack 'badnet'; did you mean badnets"),
        (NETWORK + 'epochs = "2"\n', "expected epochs to be a whole number, got '2'"),
        (NETWORK * 2, "two networks are called a"),
    ],
)
def test_what_a_grid_cannot_say_is_said(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(NadError, match=said):
        read("grid.toml")


def test_a_grid_file_that_is_not_there_is_said_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NadError) as caught:
        read("nothing.toml")
    assert str(caught.value) == "grid nothing.toml cannot be read: No such file or directory"
