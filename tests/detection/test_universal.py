"""The detector of small changes: the class of a backdoor is called suspicious, and a clean network has none."""

from pathlib import Path

import pytest

from nad.data.synthetic import signs
from nad.detection import Detector
from nad.errors import NadError
from nad.models.checkpoints import load
from nad.runtime import Run

ZOO = Path(__file__).parents[2] / "zoo"
RUN = Run(seed=1, device="cpu", precision="fp32")


@pytest.mark.parametrize(("name", "suspicious"), [("badnets-signs", ["stop"]), ("clean-signs", [])])
def test_the_class_of_a_backdoor_is_called_suspicious(name: str, suspicious: list[str]):
    found = Detector.parse("universal:steps=20,batch=8")(load(ZOO / name).model, signs("train", 240), RUN)
    assert found.summary["suspicious"] == suspicious
    rates = [row["reached"] for row in found.rows]
    assert rates == sorted(rates, reverse=True)
    assert found.summary["easiest"] == found.rows[0]["class"]
    assert found.summary["median"] == sum(sorted(rates)[5:7]) / 2


def test_settings_that_cannot_be():
    with pytest.raises(NadError, match=r"expected rms in \(0, 1\], steps and batch >= 1, got 0, 80 and 16"):
        Detector.parse("universal:rms=0")
    with pytest.raises(NadError, match=r"universal: expected reached in \(0, 1\], got 2"):
        Detector.parse("universal:reached=2")
