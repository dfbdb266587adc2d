"""The walk of benchmarks/strangers.py, with a network that is trained in seconds."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from nad.report.strangers import strangers
from nad.results import Count, read_json, write_json
from nad.verdict import Seen

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "strangers.py"


@pytest.fixture
def script(monkeypatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("strangers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "strangers", script)  # its dataclass looks itself up there
    spec.loader.exec_module(script)
    return script


def test_the_network_of_an_own_file_is_found_from_any_folder(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    victim = script.VICTIMS["vit-gtsrb-clean"]
    assert script.create(victim.network, 43, 0)(torch.zeros(2, 3, victim.size, victim.size)).shape == (2, 43)
    assert victim.model == "strangers.py:small_vit", "what a result names has no folder of this machine"


def test_a_victim_is_scanned_purified_and_measured_from_its_checkpoint_alone(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "PICTURES", 240)
    monkeypatch.setattr(script, "VICTIMS", {"tiny": script.Victim("wrn-10-1", 16, "signs", "badnets:rate=0.3", 3)})
    monkeypatch.setattr(sys, "argv", ["strangers", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    script.main()
    found = read_json(tmp_path / "out" / "tiny.json")
    assert len(list((tmp_path / "runs" / "tiny" / "clean").glob("*/*.png"))) == 240
    assert found["given"]["asr"] > 0.8, "a victim has a backdoor"
    assert found["target"] == "stop"
    for kind in ("default", "finetune"):
        assert found[kind]["after"]["counts"]["acc"][1] == 1200, "judged on test images"
        assert found[kind]["seconds"] > 1
        assert found[kind]["mebibytes"] > 100
    assert len(found["scan"]["classes"]) == 12
    assert (found["budget"], found["threads"]) == (10, torch.get_num_threads())
    assert found["scan"]["verdict"]["verdict"] in ("likely", "undecided", "nothing")
    assert not (tmp_path / "runs" / "tiny" / "model.json").exists(), "the checkpoint says nothing of itself"
    row = strangers(tmp_path / "out").splitlines()[2]
    assert row.startswith("| tiny | wrn-10-1 (0.1 M), 16 px | badnets (stop) | ")
    before = (tmp_path / "out" / "tiny.json").stat().st_mtime_ns
    script.main()
    assert (tmp_path / "out" / "tiny.json").stat().st_mtime_ns == before, "a rerun continues"
    (tmp_path / "out" / "tiny.json").unlink()
    monkeypatch.setattr(script, "measured", None)
    script.main()
    assert read_json(tmp_path / "out" / "tiny.json") == found, "finished pieces of a walk are used again"
    (tmp_path / "runs" / "tiny" / "default.json").unlink()
    (tmp_path / "out" / "tiny.json").unlink()
    with pytest.raises(TypeError):
        script.main()  # which makes the missing one
    write_json(tmp_path / "runs" / "tiny" / "default.json", found["default"])
    (tmp_path / "runs" / "tiny" / "model.pt").touch()
    with pytest.raises(TypeError):
        script.main()  # which trusts no piece of an earlier network
    easy = [Seen(str(label), Count(10 if label else 190, 200)).to_json() for label in range(12)]
    write_json(tmp_path / "out" / "tiny.json", found | {"scan": found["scan"] | {"classes": easy}})
    assert "| likely 0 |" in strangers(tmp_path / "out"), "by the thresholds of today, whatever was said then"
