"""What a run asks of the machine."""

import ctypes
from types import SimpleNamespace

import pytest

from nad.runtime import keep_memory


def test_keeping_memory_asks_the_c_library_and_lives_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=lambda *of: asked.append(of)))
    keep_memory()
    assert asked == [(-1, 1 << 30), (-3, 32 << 20)]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    keep_memory()  # musl, macOS and Windows have no mallopt
