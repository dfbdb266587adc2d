"""The table of imperfect clean sets."""

from pathlib import Path
from typing import Any

from nad.report.imperfect import imperfect, self_labelled
from nad.results import write_json


def cell(folder: Path, condition: str, method: str, seed: int, **more: Any) -> None:
    (folder / "v").mkdir(exist_ok=True)
    about = {"victim": "v", "condition": condition, "asked": method, "seed": seed}
    write_json(folder / "v" / f"{condition}-{method}-{seed}.json", about | more)


def test_conditions_are_rows_and_methods_are_columns(tmp_path):
    before = {"acc": 0.9, "asr": 1.0}
    for seed, acc in enumerate((0.8, 0.82)):
        cell(tmp_path, "jpeg-10", "nad-sau", seed, before=before, after={"acc": acc, "asr": 0.1})
    cell(tmp_path, "jpeg-9", "nad-sau", 0, refused="too few")
    cell(tmp_path, "clean", "finetune", 0, before=before, after={"acc": 0.851, "asr": 0.25})
    assert imperfect(tmp_path).splitlines()[2:] == [
        "| as given | 90.0 / 100.0 | 90.0 / 100.0 |",
        "| clean |  | 85.1 / 25.0 |",
        "| jpeg-9 | refused |  |",
        "| jpeg-10 | 81.0 ± 1.4 / 10.0 ± 0.0 |  |",
    ]
    assert imperfect(tmp_path).startswith("| clean pictures | v, nad-sau | v, finetune |")


def test_labels_of_the_network_itself(tmp_path):
    kinds = {"clean": {"given": 200, "kept": 150, "right": 147}, "triggered": {"given": 80, "kept": 40, "right": 1}}
    write_json(tmp_path / "labelling.json", {"v": kinds})
    assert self_labelled(tmp_path / "labelling.json").splitlines()[2:] == ["| v | 75.0 | 98.0 | 50.0 | 2.5 |"]
