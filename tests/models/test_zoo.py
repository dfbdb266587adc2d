"""Networks by name."""

import json
import shutil
from pathlib import Path

import pytest

from nad.errors import NadError
from nad.models import zoo
from nad.models.checkpoints import load


@pytest.fixture
def home(victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(victim, tmp_path / "nets" / "badnets-tiny")
    monkeypatch.setenv("NAD_ZOO", str(tmp_path / "nets"))
    return tmp_path / "nets"


def test_a_network_is_loaded_by_name(home, victim):
    assert zoo.members() == ["badnets-tiny"]
    by_name, by_path = load("zoo:badnets-tiny"), load(victim)
    assert by_name.card == by_path.card
    assert load(Path("zoo:badnets-tiny")).card == by_path.card


def test_says_what_the_cards_say(home):
    card = json.loads((home / "badnets-tiny" / "model.json").read_text())
    (said,) = zoo.about().values()
    assert said.startswith("wrn-10-1, badnets, accuracy ")
    assert said.endswith(f"ASR {100 * card['metrics']['asr']:.2f} %")


def test_an_unknown_network_names_the_close_one(home):
    with pytest.raises(NadError, match=r"the zoo has no network 'badnet-tiny'; did you mean badnets-tiny\?"):
        load("zoo:badnet-tiny")


def test_no_name_leaves_the_zoo(home, victim):
    with pytest.raises(NadError, match="the zoo has no network"):
        load(f"zoo:../{victim.name}")


def test_without_a_zoo_the_error_says_where_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("NAD_ZOO", str(tmp_path / "none"))
    with pytest.raises(NadError, match=r"there is no zoo in .*none; set NAD_ZOO .* nad bench zoo"):
        load("zoo:badnets-tiny")
    assert zoo.found() is None


def test_looks_in_the_current_folder_before_the_checkout(monkeypatch, tmp_path, victim):
    monkeypatch.delenv("NAD_ZOO", raising=False)
    monkeypatch.chdir(tmp_path)
    assert zoo.home() != Path("zoo")
    shutil.copytree(victim, tmp_path / "zoo" / "mine")
    assert zoo.members() == ["mine"]


def test_what_is_unfinished_or_damaged_does_not_hide_the_others(home, victim):
    shutil.copytree(victim, home / ".badnets-tiny.xyz")
    shutil.copytree(victim, home / "damaged")
    (home / "damaged" / "model.json").write_text("{")
    about = zoo.about()
    assert not [name for name in about if name.startswith(".")]
    assert about["damaged"].startswith("cannot be read: ")
    assert sum("accuracy" in text for text in about.values()) == len(about) - 1 > 0


def test_a_folder_that_holds_no_network_is_no_zoo(monkeypatch, tmp_path, victim):
    (tmp_path / "zoo").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NAD_ZOO", raising=False)
    assert zoo.found() != Path("zoo")
    shutil.copytree(victim, tmp_path / "zoo" / "one")
    assert zoo.found() == Path("zoo")


def test_the_committed_zoo_stays_small():
    """Under 24 MiB, so that a checkout stays quick."""
    place = Path(__file__).parents[2] / "zoo"
    assert sum(p.stat().st_size for p in place.rglob("*") if p.is_file()) < 24 * 2**20
