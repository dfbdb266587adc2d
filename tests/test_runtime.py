"""What a run asks of the machine."""

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from nad.errors import NadError
from nad.runtime import Run, keep_memory


def test_keeping_memory_asks_the_c_library_and_lives_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=lambda *of: asked.append(of)))
    keep_memory()
    assert asked == [(-1, 1 << 30), (-3, 32 << 20)]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    keep_memory()  # musl, macOS and Windows have no mallopt


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"precision": "fp16"}, "expected precision to be one of auto, fp32, bf16, got 'fp16'"),
        ({"device": "gpu"}, "expected device to be one of auto, cpu, cuda, mps, got 'gpu'"),
    ],
)
def test_a_run_on_what_there_is_not_is_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(NadError, match=why):
        Run(**said)
