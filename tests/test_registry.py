"""The grammar: what it reads, what it writes back, and what it says about mistakes."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from nad.errors import NadError, printable
from nad.registry import Method, Registry, option, options, parse

THINGS: "Registry[Thing]" = Registry("thing")


@dataclass(frozen=True, kw_only=True)
class Thing(Method):
    registry: ClassVar = THINGS


@THINGS.register("plain")
@dataclass(frozen=True, kw_only=True)
class Plain(Thing):
    count: int = option(3, "a count")
    on: bool = option(False, "a switch")
    rate: float | Literal["auto"] | None = option(None, "a rate")
    sizes: tuple[int, ...] = option((), "sizes")
    file: str = option("", "a file", local=True)


@THINGS.register("nest")
@dataclass(frozen=True, kw_only=True)
class Nest(Thing):
    inner: Thing = option(Plain(), "another thing")
    text: str = option("x", "a text")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", Plain()),
        ("plain:count=5,on=true", Plain(count=5, on=True)),
        ("plain:on=0", Plain()),
        ("plain:rate=auto", Plain(rate="auto")),
        ("plain:rate=1e-3", Plain(rate=0.001)),
        ("plain:rate=none", Plain()),
        ("plain:sizes=1/2/3", Plain(sizes=(1, 2, 3))),
        ("plain:sizes=none", Plain()),
        ("nest:inner=(plain:count=7,rate=0.5),text=y", Nest(inner=Plain(count=7, rate=0.5), text="y")),
        ("nest:inner=plain:count=7", Nest(inner=Plain(count=7))),
        ("nest:inner=(nest:inner=(plain:on=1))", Nest(inner=Nest(inner=Plain(on=True)))),
        (" nest : inner = plain , text = y ", Nest(text="y")),
    ],
)
def test_reads_and_writes_back(text, expected):
    made = THINGS.create(text)
    assert made == expected
    assert THINGS.create(str(made)) == made
    assert THINGS.create(made.explicit()) == made


@pytest.mark.parametrize("file", ["a/b.pt", "a,b(c.pt"])
def test_a_file_reads_and_writes_back_but_no_card_names_it(file):
    made = THINGS.create(f'plain:file="{file}"')
    assert made == Plain(file=file)
    assert THINGS.create(str(made)) == made
    assert THINGS.create(made.explicit(), trusted=False) == Plain()


def test_what_is_recorded_names_files_without_their_folder():
    made = THINGS.create("nest:inner=(plain:file=/home/me/b.pt)")
    assert str(made) == "nest:inner=(plain:file=/home/me/b.pt)"
    assert made.recorded() == "nest:inner=(plain:file=b.pt)"
    assert made.configuration()["inner"]["file"] == "b.pt"
    assert "/home" not in made.explicit()


def test_writes_only_what_differs_unless_asked_for_all():
    assert str(Plain(count=5)) == "plain:count=5"
    assert str(Nest(inner=Plain(on=True))) == "nest:inner=(plain:on=true)"
    assert Plain().explicit() == "plain:count=3,on=false,sizes=none"


def test_a_configuration_has_every_field_and_the_version():
    configuration = Nest(inner=Plain(sizes=(1, 2))).configuration()
    assert configuration["inner"] == {
        "name": "plain",
        "version": 1,
        "count": 3,
        "on": False,
        "rate": None,
        "sizes": (1, 2),
        "file": "",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plian", "unknown thing 'plian'; did you mean plain"),
        ("zzz", "unknown thing 'zzz'; expected one of nest, plain"),
        ("plain:cuont=1", "plain has no option 'cuont'; did you mean count"),
        ("plain:count=many", "plain:count expects a whole number, got 'many'"),
        ("plain:count=1.5", "plain:count expects a whole number, got '1.5'"),
        ("plain:on=maybe", "plain:on expects true|false, got 'maybe'"),
        ("plain:rate=fast", "plain:rate expects a number or auto, got 'fast'"),
        ("plain:sizes=1/x", "plain:sizes expects a list a whole number/..., got '1/x'"),
        ("plain:count=1,count=2", "count is given twice"),
        ("plain:count", "expected key=value, got 'count'"),
        ("plain:", "expected key=value"),
        ("plain:count=", "expected key=value"),
        ("count=3", "expected name or name:key=value"),
        ("", "expected name or name:key=value"),
        ("nest:inner=(plain:count=1", "unbalanced parentheses"),
        ("nest:inner=plain)", "unbalanced parentheses"),
        ('nest:text="y', "unbalanced quotes"),
        ("nest:inner=(plain:cuont=1)", "plain has no option 'cuont'"),
        ("plain\x1b[31m:count=1", r"unknown thing 'plain\?\[31m'"),
    ],
)
def test_mistakes_say_what_was_expected(text, message):
    with pytest.raises(NadError, match=message if "\\" in message else message.replace("|", r"\|").replace("(", r"\(")):
        THINGS.create(text)


def test_numbers_that_are_no_numbers_are_refused():
    for text in ("nan", "inf", "-inf"):
        with pytest.raises(NadError, match="plain:rate expects a number"):
            THINGS.create(f"plain:rate={text}")


def test_a_value_that_names_a_file_is_refused_in_text_from_a_file():
    with pytest.raises(NadError, match="plain: file is refused in a specification that comes from a file"):
        THINGS.create("plain:file=x.pt", trusted=False)
    with pytest.raises(NadError, match="file is refused"):
        THINGS.create("nest:inner=(plain:file=x.pt)", trusted=False)
    assert THINGS.create("plain:count=4", trusted=False) == Plain(count=4)


def test_names_are_registered_once_and_instances_pass_through():
    with pytest.raises(ValueError, match="registered twice"):
        THINGS.register("plain")(Plain)
    thing = Plain(count=9)
    assert Thing.parse(thing) is thing
    assert Thing.parse("plain:count=9") == thing


def test_options_come_from_the_dataclass():
    first, *_, last = options(Plain)
    assert (first.name, first.kind, first.default, first.help) == ("count", "a whole number", "3", "a count")
    assert last.name == "file"


def test_parsing_knows_no_types():
    assert parse("a:b=(c:d=1,e=2),f=3").values == {"b": "(c:d=1,e=2)", "f": "3"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a?[2Jb"),
        ("a\nb\r\t", "a?b??"),
        ("a\u202eb\u2028c", "a?b?c"),
        ("é ü 漢", "é ü 漢"),
        ("x" * 300, "x" * 199 + "…"),
    ],
)
def test_untrusted_text_cannot_move_the_cursor(text, shown):
    assert printable(text) == shown
