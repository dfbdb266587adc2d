"""The scripts of benchmarks/ start: they are run seldom, and the library moves under them."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent.parent / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_says_how_it_is_used(script):
    ran = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert f"usage: {script.name}" in ran.stdout
    assert ("--data" in ran.stdout) == (script.stem != "precision"), "all but this one read images"
