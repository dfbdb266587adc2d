"""What a result says, in sentences that its numbers decide."""

from dataclasses import dataclass
from typing import Literal

from nad.report.dossier.intervals import Pair, overall
from nad.report.dossier.reading import Piece, number
from nad.report.dossier.signs import REACHED, SIGN, SUSPICIOUS, Sign, Signs, smallest, strongest, suspect
from nad.report.dossier.wording import listed, percent, plain, quoted, several, signed

Level = Literal["good", "note", "warning"]
NOTHING_PROVEN = (
    "This is what was measured, not a proof. Accuracy on clean pictures says nothing about a backdoor, since a "
    "backdoored network is as accurate on them as any other; and the search for triggers misses those that it cannot "
    "build, such as patterns over the whole picture."
)


@dataclass(frozen=True)
class Statement:
    """A sentence or two, and how to take them."""

    level: Level
    text: str


def headline(piece: Piece) -> str:
    """The whole in a sentence or two."""
    change, score = overall(piece).change, piece.score.capitalize()
    moved = f"{'fell' if change.value < 0 else 'rose'} by {abs(100 * change.value):.1f} points"
    if change.low <= 0 <= change.high:
        kept = f"{score} on clean pictures {moved}, which chance can explain." if change.value else f"{score} stayed."
    else:
        kept = f"{score} on clean pictures {moved}, more than chance explains."
    told = "An oracle, which was given the trigger: no defender has it. " if piece.is_oracle else ""
    return f"{told}{_sign_of_backdoor(Signs.of(piece))} {kept}"


def verdict(piece: Piece) -> list[Statement]:
    """Accuracy, then what was seen without the trigger, with the numbers behind the headline."""
    return [accuracy(overall(piece), piece.score), *traces(Signs.of(piece), number(piece.evidence.get("rms")))]


def accuracy(pair: Pair, score: str) -> Statement:
    """What happened to accuracy; `score` is what it is called."""
    change = pair.change
    return Statement(
        "note" if change.high < 0 else "good",
        f"{score.capitalize()} went from {percent(pair.before.rate)} to {percent(pair.after.rate)} on "
        f"{several(pair.after.of, 'clean picture')} that nothing was chosen on: {signed(change.value)} points, with a "
        f"95\u00a0% interval of {signed(change.low)} to {signed(change.high)}.",
    )


def traces(signs: Signs, rms: float | None) -> list[Statement]:
    """What the evidence without the trigger says, before and after."""
    return [one for one in (_triggers(signs), _small_change(signs, rms)) if one]


def _flagged(signs: Signs) -> tuple[list[str], list[str]]:
    before, after = ([quoted(sign.name) for sign in when if sign.flagged] for when in (signs.before, signs.after))
    return before, after


def _sign_of_backdoor(signs: Signs) -> str:
    if not any(sign.anomaly is not None or sign.universal is not None for sign in (*signs.before, *signs.after)):
        return "No search for triggers was made that can tell: whether there is or was a backdoor is not known."
    before, after = _flagged(signs)
    kept = [quoted(sign.name) for sign, given in zip(signs.after, signs.before) if sign.kept(given)]
    new = [name for name in after if name not in kept]
    if kept:
        more = f", and one toward {listed(new)} that was not" if new else ""
        return f"The sign of a backdoor toward {listed(kept)} that was found before is still there after{more}."
    if new:
        return f"A sign of a backdoor toward {listed(new)} was found after that was not there before."
    out = [quoted(sign.name) for sign in signs.after if sign.outlying]
    chance = f" The patch toward {listed(out)} stands out a little, as chance alone may make one." if out else ""
    if before:
        return f"A sign of a backdoor toward {listed(before)} was found before, and none is found after.{chance}"
    return (
        f"No sign of a backdoor was found, before or after, so nothing can be said of whether one was erased.{chance}"
    )


def _triggers(signs: Signs) -> Statement | None:
    first, second = (suspect(when) or smallest(when) for when in (signs.before, signs.after))
    if first is None or second is None:
        return None
    before, after = _flagged(signs)
    level: Level = "warning" if after else "good" if before else "note"
    again = _trigger(second, named=first.name != second.name)
    rule = f" An index below {SUSPICIOUS:g} is quiet, from {SIGN:g} on a sign." if first.anomaly is not None else ""
    return Statement(level, f"Before, {_trigger(first)}. After, {again}.{rule}")


def _trigger(sign: Sign, named: bool = True) -> str:
    toward = f"toward {quoted(sign.name)}" if named else "toward it"
    words = f"the trigger found {toward} covers {_share(sign.mask)} of the picture"
    if sign.success is not None:
        words += f" and works on {percent(sign.success, 0)} of the pictures"
    if sign.anomaly is not None:
        words += f" (anomaly index {plain(sign.anomaly, 2)})"
    return words


def _share(mask: float | None) -> str:
    return "an unknown part" if mask is None else percent(mask)


def _small_change(signs: Signs, rms: float | None) -> Statement | None:
    before, after = strongest(signs.before), strongest(signs.after)
    if not before or not after or before.universal is None or after.universal is None:
        return None
    size = f" by {percent(rms)} of the full brightness (root mean square)" if rms is not None else ""
    return Statement(
        "warning" if after.universal >= REACHED else "note",
        f"One change{size}, the same for all pictures, led at most {percent(before.universal, 0)} of them to one class "
        f"({quoted(before.name)}) before, and {percent(after.universal, 0)} ({quoted(after.name)}) after. "
        f"From {percent(REACHED, 0)} on it is a sign of a backdoor. Less says little: fine-tuning lowers it without "
        "erasing.",
    )
