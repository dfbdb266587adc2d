"""Names of classes from files, and labels in a network's order."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nad.data.classes import matched, ordered, read_names
from nad.data.images import ImageSet
from nad.data.sources import Dataset
from nad.errors import NadError


def made(*classes: str, labels: tuple[int, ...] = (0, 1, 2, 2)) -> Dataset:
    """A data set whose pixels are their class, with a test split the other way round."""
    of = torch.tensor(labels)
    pixels = of.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    train = ImageSet(pixels, of, classes, "some")
    return Dataset("some", train, train.subset(torch.arange(len(labels)).flip(0)))


@pytest.mark.parametrize(
    "text",
    [
        "stop\nyield\ngo\n",
        "\ufeffstop \r\n yield\r\ngo\r\n\r\n",
        '["stop", "yield", "go"]',
        '{"0": "stop", "2": "go", "1": "yield"}',
        '{"go": 2, "stop": 0, "yield": 1}',
        json.dumps({"model_type": "vit", "id2label": {"0": "stop", "1": "yield", "2": "go"}}),
    ],
)
def test_names_are_read_in_any_usual_form(tmp_path: Path, text: str) -> None:
    (tmp_path / "names").write_text(text, encoding="utf-8")
    assert read_names(tmp_path / "names") == ("stop", "yield", "go")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"stop\ngo\nstop\n", r"names names 2 classes 'stop'; expected a name of its own for each"),
        (b"stop\n\ngo\n", "names has a class without a name"),
        (b'["a", 1]', "expected names of classes, one a line, or JSON: .*a name is not a text"),
        (b'{"0": "a", "2": "b"}', "its indices are not 0 to 1"),
        (b'{"a": 1, "b": 2}', "its indices are not 0 to 1"),
        (b'{"a": "b"}', "expected names of classes"),
        (b'{"0": ["n01", "tench"]}', "a name is not a text"),
        (b'{"0": "a"', "expected names of classes"),
        (b"[" * 100_000, "expected names of classes"),
        (b"\xff\xfe\x00", "expected names of classes"),
        (b" " * (17 << 20), "has more than 16,777,216 bytes"),
        (None, r"cannot read --classes .*names: No such file"),
    ],
)
def test_a_file_without_names(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "names").write_bytes(content)
    with pytest.raises(NadError, match=message) as caught:
        read_names(tmp_path / "names")
    assert len(str(caught.value).splitlines()) == 1


def test_names_are_made_printable(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("a\x1b[31m\nb\n")
    assert read_names(tmp_path / "names") == ("a?[31m", "b")


def test_a_name_is_found_in_another_spelling() -> None:
    decomposed = "cafe\u0301"
    assert matched([decomposed, "Tea "], ["caf\u00e9", "tea"]) == {decomposed: 0, "Tea ": 1}
    assert matched(["00", "07", "11"], ["0", "7", "11"]) == {"00": 0, "07": 1, "11": 2}
    assert matched(["7"], ["07", "007"]) == {"7": None}, "which of them is not known"


def test_labels_follow_the_names() -> None:
    came = made("go", "stop", "yield")
    went = ordered(came, ("yield", "other", "go", "stop"))
    assert went.classes == ("yield", "other", "go", "stop")
    assert went.test is not None
    assert went.test.classes == went.classes
    for before, after in ((came.train, went.train), (came.test, went.test)):
        assert before is not None
        assert [before.classes[i] for i in before.labels] == [after.classes[i] for i in after.labels]
        assert after.pixels is before.pixels
    assert went.train.counts() == [2, 0, 1, 1]


def test_labels_before_an_attack_follow_too() -> None:
    came = made("a", "b", "c")
    poisoned = replace(came.train, original_labels=torch.tensor([2, 1, 0, 0]))
    went = ordered(replace(came, train=poisoned, test=None), ("c", "b", "a")).train
    assert went.labels.tolist() == [2, 1, 0, 0]
    assert went.original_labels is not None
    assert went.original_labels.tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (("STOP", " go", "Straße"), ("go", "stop", "STRASSE ")),
        (("Stop", "stop", "x"), ("x", "stop", "Stop")),
        (("Stop", "x", "y"), ("y", "stop", "x", "Stop")),
    ],
)
def test_case_and_spaces_may_differ_where_that_is_clear(classes: tuple[str, ...], names: tuple[str, ...]) -> None:
    went = ordered(made(*classes), names).train
    found = [went.classes[i].strip().casefold() for i in went.labels]
    assert found == [classes[i].strip().casefold() for i in (0, 1, 2, 2)]
    for label, index in zip(went.labels.tolist(), (0, 1, 2, 2)):
        assert classes[index] not in names or names[label] == classes[index]


@pytest.mark.parametrize(
    ("classes", "names", "message"),
    [
        (
            ("go", "stop", "yeild"),
            ("go", "stop", "yield"),
            "some: 'yeild' is no class of the network; did you mean yield",
        ),
        (("go", "stop", "\x1b"), ("go", "stop", "a"), r"some: '\?' is no class of the network; expected one of a, go"),
        (
            ("Stop", "go", "stop"),
            ("go", "stop", "x"),
            "some: 'Stop', 'stop' are all the network's class 'stop'; join them",
        ),
        (("go", "crane", "x"), ("go", "crane", "x", "crane"), "'crane' is the name of several classes of the network"),
        (("STOP", "go", "x"), ("go", "stop", "x", "Stop"), "'STOP' is the name of several classes of the network"),
    ],
)
def test_a_class_that_is_none(classes: tuple[str, ...], names: tuple[str, ...], message: str) -> None:
    with pytest.raises(NadError, match=message):
        ordered(made(*classes), names)


def test_many_names_make_no_long_error() -> None:
    with pytest.raises(NadError, match="is no class of the network") as caught:
        ordered(made("a", "b", "zzzzzzzz"), tuple("ab") + tuple(f"class {i}" for i in range(1000)))
    assert len(str(caught.value)) < 300
