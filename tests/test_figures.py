"""The paper's pictures."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.image
import pytest
import torch

from nad import grids
from nad.figures import FIGURES, GRID, SHOWN, SIX
from nad.models.create import create
from nad.pictures import _grown, _tiled, channel_figure, operator_figure
from nad.runtime import Run

if TYPE_CHECKING:
    from conftest import Nad

RUN = Run(device="cpu", precision="fp32")


def test_channels_are_tiled_with_lines_between_them():
    channels = torch.arange(5.0)[:, None, None].expand(5, 2, 2)
    sheet = _tiled(channels)
    assert sheet.shape == (6, 9)
    assert [sheet[0, 0], sheet[0, 3], sheet[0, 6], sheet[3, 0], sheet[4, 4]] == [0, 1, 2, 3, 4]
    assert sheet[2].isnan().all()
    assert sheet[3:, 6:].isnan().all()


def test_maps_are_scaled_to_their_largest_value():
    grown = _grown(torch.tensor([[[0.0, 2.0], [4.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]]), (4, 4))
    assert grown.shape == (2, 4, 4)
    assert grown[0].max() == 1
    assert grown[0, 3, 0] == 1
    assert torch.equal(grown[1], torch.zeros(4, 4))


@pytest.mark.parametrize("draw", [channel_figure, operator_figure])
def test_a_picture_of_networks_is_drawn(draw, tmp_path):
    networks = {"before": create("wrn-10-1", 4, 0), "after $x$": create("wrn-10-1", 4, 1)}
    triggered = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    draw(triggered, networks, tmp_path / "one.png", RUN)
    picture = matplotlib.image.imread(tmp_path / "one.png")
    assert picture.std() > 0.05
    assert min(picture.shape[:2]) > 200


def test_the_pictures_show_methods_of_the_table():
    labels = {plan.label for plan in grids.planned(GRID) if plan.seed == 0}
    assert {label for label in SHOWN.values() if label} <= labels


@pytest.fixture
def data(tiny: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny, tmp_path / "data" / "cifar10-jpeg")
    return tmp_path / "data"


def test_the_command_draws_and_replaces_nothing_unasked(nad: "Nad", data: Path, tmp_path: Path) -> None:
    ran = nad("draw", "figure14", "--data", data, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    drawn = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert drawn == [f"figure14-{alpha}.png" for alpha in ("0.2", "0.5", "0.8", "1.0")]
    again = nad("draw", "figure14", "--data", data, "--out", tmp_path / "out")
    assert (again.code, "is there already" in again.err) == (2, True)
    replaced = nad("draw", "figure14", "--data", data, "--out", tmp_path / "out", "--overwrite", "--json")
    assert replaced.json["out"] == drawn
    wrong = nad("draw", "figure4", "--out", tmp_path / "out")
    assert wrong.code == 2
    assert "there is no picture 'figure4'; did you mean figure14" in wrong.err
    assert len(FIGURES) == 5


@pytest.mark.parametrize("figure", ["figure3", "figure6", "figure11", "figure12"])
def test_the_pictures_of_networks_are_drawn_from_the_zoo(
    nad: "Nad", victim: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: str
) -> None:
    """Every network is the same small victim here, and every eraser a short fine-tuning."""
    names = [f"{attack}-{'gtsrb' if attack == 'refool' else 'cifar10'}-paper" for attack in SIX]
    for name in names:
        shutil.copytree(victim, tmp_path / "zoo" / name)
    shutil.copytree(tiny, tmp_path / "data" / "tiny")
    monkeypatch.setenv("NAD_ZOO", str(tmp_path / "zoo"))
    monkeypatch.setenv("NAD_CACHE", str(tmp_path / "cache"))
    short = [
        grids.Planned(label=label, victim=name, method="finetune:lr=0.01,epochs=1,batch=8", seed=0)
        for name in names
        for label in SHOWN.values()
        if label
    ]
    monkeypatch.setattr("nad.figures.grids.planned", lambda grid: short)
    ran = nad("draw", figure, "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    drawn = {"figure3": ["figure3-badnets", "figure3-cl"], "figure6": sorted(f"figure6-{attack}" for attack in SIX)}
    assert [p.stem for p in sorted((tmp_path / "out").iterdir())] == drawn.get(figure, [figure])
    for picture in (tmp_path / "out").iterdir():
        assert matplotlib.image.imread(picture).std() > 0.05
    kept = list((tmp_path / "cache").glob("purified/*/record.json"))
    assert len(kept) == (0 if figure == "figure6" else 1), "networks that are purified the same way are made once"
