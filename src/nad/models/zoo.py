"""Networks that come with the project, by name: `zoo:NAME` stands wherever a checkpoint does."""

import os
from pathlib import Path

from nad.errors import NadError, printable
from nad.models.card import Card
from nad.registry import close

PREFIX = "zoo:"


def found() -> Path | None:
    """The folder of the zoo: $NAD_ZOO, ./zoo, or that of the checkout that this code runs from."""
    asked = os.environ.get("NAD_ZOO")
    places = [Path(asked)] if asked else [Path("zoo"), Path(__file__).parents[3] / "zoo"]
    return next((place for place in places if _networks(place)), None)


def home() -> Path:
    """The folder of the zoo.

    Raises:
        NadError: there is none; says where to get it.
    """
    place, asked = found(), os.environ.get("NAD_ZOO")
    if place:
        return place
    raise NadError(
        f"there is no zoo in {printable(asked) if asked else './zoo'}; set NAD_ZOO to the zoo folder of a checkout of "
        "the project (an installed package does not hold it), or train it: nad bench zoo"
    )


def members() -> list[str]:
    """The names of the networks, sorted."""
    return _networks(home())


def _networks(place: Path) -> list[str]:
    # a name with a dot is the unfinished work of whoever is writing
    return sorted(p.parent.name for p in place.glob("*/model.json") if not p.parent.name.startswith("."))


def locate(name: str) -> Path:
    """The folder of the network called `zoo:NAME`."""
    wanted = name.removeprefix(PREFIX)
    known = members()
    if wanted not in known:
        raise NadError(f"the zoo has no network {printable(wanted)!r}{close(wanted, known)}")
    return home() / wanted


def about() -> dict[str, str]:
    """What the card of each network says: its attack, accuracy and attack success."""
    return {name: _about(home() / name / "model.json") for name in members()}


def _about(path: Path) -> str:
    try:
        card = Card.from_json(path.read_bytes())
    except (NadError, OSError) as error:
        return f"cannot be read: {printable(error, 90)}"
    after = card.metrics.get("after")
    measured = after if isinstance(after, dict) else card.metrics
    rates = {"accuracy": measured.get("acc"), "ASR": measured.get("asr")}
    shown = [f"{key} {100 * rate:.2f} %" for key, rate in rates.items() if isinstance(rate, float)]
    attack = (card.attack or "clean").split(":")[0]
    return ", ".join([f"{card.architecture}, {attack}", *shown])
