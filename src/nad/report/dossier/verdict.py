"""What a result says, in sentences that its numbers decide."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nad.report.dossier.intervals import Pair, apart, attack_success, overall
from nad.report.dossier.reading import Piece, number
from nad.report.dossier.signs import Signs, at, smallest, strongest, suspect
from nad.report.dossier.wording import changed, percent, plain, signed
from nad.report.evidence import ERASED
from nad.verdict import COMPARED, FEW, Judged, Level, Thresholds, compared, patched
from nad.wording import listed, quoted, several

LOSS = 0.08  # of accuracy: what a choice may cost at most where nothing else is said
DEAR = " That is much. More clean pictures, or another --method, may keep more of it."
LEVELS = {Level.QUIET: "quiet", Level.OPEN: "open", Level.SIGN: "a sign"}
Tone = Literal["good", "note", "warning"]
NOTHING_PROVEN = (
    "This is what was measured, not a proof. Accuracy on clean pictures says nothing about a backdoor, since a "
    "backdoored network is as accurate on them as any other; and the search for triggers misses those that it cannot "
    "build, such as patterns over the whole picture."
)


@dataclass(frozen=True)
class Statement:
    """A sentence or two, and how to take them."""

    level: Tone
    text: str


def headline(piece: Piece) -> str:
    """The whole in a sentence or two."""
    change, score = overall(piece).change, piece.score.capitalize()
    moved = f"{'fell' if change.value < 0 else 'rose'} by {abs(100 * change.value):.1f} points"
    if change.low <= 0 <= change.high:
        kept = f"{score} on clean pictures {moved}, which chance can explain." if change.value else f"{score} stayed."
        kept += f" {_unseen(change.low)}" if change.low < -LOSS else ""
    else:
        kept = f"{score} on clean pictures {moved}, more than chance explains."
    told = ["An oracle, which was given the trigger: no defender has it."] if piece.is_oracle else []
    signs, attacked = Signs.of(piece), attack_success(piece)
    if attacked:
        told.append(f"The trigger that was named works on {_before_and_after(attacked)}.")
    if broken := _wrecked(piece):
        told.append(broken)
    elif not attacked or signs.sought:
        told.append(_sign_of_backdoor(signs))
        if signs.sought and (few := number(piece.evidence.get("judged_on"))) is not None and few < FEW:
            told.append(f"This was judged on {several(int(few), 'picture')}, which are few.")
    return " ".join([*told, kept])


def verdict(piece: Piece) -> list[Statement]:
    """Accuracy, the trigger if it is known, then what was seen without it, with the numbers behind the headline."""
    attacked = attack_success(piece)
    return [
        accuracy(piece),
        *([_named_trigger(attacked, piece.is_oracle)] if attacked else []),
        *traces(Signs.of(piece), number(piece.evidence.get("rms"))),
    ]


def accuracy(piece: Piece) -> Statement:
    """What happened to accuracy."""
    pair = overall(piece)
    change, dear = pair.change, costly(pair)
    hidden = f" {_unseen(change.low)}" if change.low < -LOSS and not dear else ""
    return Statement(
        "warning" if dear else "note" if change.high < 0 or hidden else "good",
        f"{piece.score.capitalize()} went from {percent(pair.before.rate)} to {percent(pair.after.rate)} on "
        f"{several(pair.after.of, 'clean picture')} that {apart(piece)}: {signed(change.value)} points, with a "
        f"95\u00a0% interval of {signed(change.low)} to {signed(change.high)}.{DEAR if dear else hidden}",
    )


def _unseen(low: float) -> str:
    """What the lower end of a change's interval leaves possible."""
    return f"So few pictures cannot tell that from a loss of {abs(100 * low):.0f} points."


def costly(pair: Pair) -> bool:
    """Whether more accuracy was lost than a method may cost that chooses how far it goes, and not by chance."""
    return pair.change.value < -LOSS and pair.change.high < 0


def _wrecked(piece: Piece) -> str:
    """That a network is left which knows little, if so: what is found in such a one means nothing."""
    pair = overall(piece)
    if pair.change.high >= 0 or pair.after.rate > pair.before.rate / 2:
        return ""
    counts = (piece.evidence.get("answered") or {}).get("after") or []
    names = (piece.evidence.get("intake") or {}).get("classes") or []
    most = max(range(len(counts)), key=counts.__getitem__, default=0)
    one = len(names) == len(counts) > 0 and counts[most] > sum(counts) / 2
    said = f" It answers {quoted(str(names[most]))} to {percent(counts[most] / sum(counts), 0)} of them." if one else ""
    return (
        f"The network is wrecked: it answers {percent(pair.after.rate, 0)} of the pictures right, before it was "
        f"{percent(pair.before.rate, 0)}.{said} What is found in such a network says nothing of a backdoor."
    )


def traces(signs: Signs, rms: float | None) -> list[Statement]:
    """What the evidence without the trigger says, before and after."""
    return [one for one in (_triggers(signs), _small_change(signs, rms)) if one]


def _named_trigger(pair: Pair, seen: bool) -> Statement:
    gone, secret = pair.after.rate <= ERASED, "" if seen else ", and that no method saw,"
    return Statement(
        "warning" if not gone else "good" if pair.change.high < 0 else "note",
        f"The trigger that was named for evaluation{secret} leads {_before_and_after(pair)} to where "
        f"the attacker wants them: {changed(pair.change)} points.",
    )


def _before_and_after(pair: Pair) -> str:
    return f"{percent(pair.before.rate)} of the pictures before and {percent(pair.after.rate)} after"


def _names(network: Sequence[Judged], level: Level) -> list[str]:
    return [quoted(one.seen.name) for one in at(network, level)]


def _sign_of_backdoor(signs: Signs) -> str:
    if not signs.sought:
        return "No search for triggers was made that can tell: whether there is or was a backdoor is not known."
    before, after = (_names(when, Level.SIGN) for when in (signs.before, signs.after))
    kept = [quoted(one.seen.name) for one in signs.kept]
    new = [name for name in after if name not in kept]
    if kept:
        more = f", and one toward {listed(new)} that was not" if new else ""
        return f"The sign of a backdoor toward {listed(kept)} that was found before is still there after{more}."
    if new:
        return f"A sign of a backdoor toward {listed(new)} was found after that was not there before."
    if far := [one for one in signs.after if one.unmatched]:
        chance = f" After, {_sent(far, 'sends')}."  # others that are open are led to for the same reason
    elif little := at(signs.after, Level.OPEN):
        chance = (
            f" {_most_open(little)} {'stands' if len(little) == 1 else 'stand'} out a little, as chance may have it."
        )
    else:
        chance = ""
    missing = _missing(signs)
    if before:
        named, doubt = at(signs.before, Level.SIGN), ""
        if all(one.by_patch_alone for one in named):
            doubt = " It was the size of a patch alone, which chance makes in one of twenty networks."
        elif all(one.together_alone for one in named):
            doubt = " It came first by both the small change and the patch, neither of which is a sign by itself."
        lacking = f", but {missing}" if missing else ""
        return (
            f"A sign of a backdoor toward {listed(before)} was found before, and none is found after{lacking}."
            f"{doubt}{chance}"
        )
    if missing:
        return (
            f"No sign of a backdoor was found, before or after, but {missing}: whether there is or was one is not "
            f"known; a longer --budget tells more.{chance}"
        )
    if doubtful := at(signs.before, Level.OPEN):
        striking = [one for one in doubtful if one.unmatched]
        stood = f"{_most_open(doubtful)} stood out a little before, as chance may have it"
        said = f"before, {_sent(striking, 'sent')}" if striking else stood
        gone = "" if far else "; no sign of one is found after"
        return f"Whether there was a backdoor is undecided: {said}{gone}.{chance}"
    return (
        f"No sign of a backdoor was found, before or after, so nothing can be said of whether one was erased.{chance}"
    )


def _most_open(found: Sequence[Judged], most: int = 3) -> str:
    """A few classes by name; of more the most suspicious, and how many others."""
    ranked = sorted(found, key=lambda one: (-one.rate, -one.index)) if len(found) > most else found
    return listed([_standing(one) for one in ranked], len(found) if len(found) <= most else 1)


def _standing(one: Judged) -> str:
    """A class that is neither quiet nor a sign, and by what."""
    why = (
        f"one small change sends {percent(one.rate, 0)} there"
        if one.by_share is Level.OPEN
        else f"anomaly index {plain(one.index, 2)}"
    )
    return f"{quoted(one.seen.name)} ({why})"


def _sent(striking: Sequence[Judged], sends: str) -> str:
    """What would be a sign of a backdoor if other classes set it apart."""
    most = max(striking, key=lambda one: one.rate)
    few = len(most.others) + 1 < COMPARED
    why = (
        f"{several(len(most.others) + 1, 'class', 'classes')} are too few to judge"
        if few
        else "others do not set apart"
    )
    return f"one small change {sends} {percent(most.rate, 0)} of the pictures to {quoted(most.seen.name)}, which {why}"


def _missing(signs: Signs) -> str:
    """What was not sought that `nad scan` would not do without, in words; nothing where all was."""
    count, seen = len(signs.before), [one.seen for one in signs.before]
    unseen = sum(one.reached is None and one.mask is None for one in seen)
    said = [f"{unseen:,} of {several(count, 'class', 'classes')} were not looked at"] if unseen else []
    if count >= COMPARED and not compared(seen):
        said.append(f"patches that work were found for {patched(seen):,} of {count:,} classes, too few to compare")
    return " and ".join(said)


def _triggers(signs: Signs) -> Statement | None:
    first, second = (suspect(when) or smallest(when) for when in (signs.before, signs.after))
    if first is None or second is None:
        return None
    before, after = (at(when, Level.SIGN) for when in (signs.before, signs.after))
    level: Tone = "warning" if after or signs.kept else "good" if before else "note"
    again = _trigger(second, named=first.seen.name != second.seen.name)
    quiet = Thresholds.index[0]
    rule = (
        f" An index is quiet below {quiet:g} and a sign from {first.telling:g} on; a patch of more than "
        f"{percent(Thresholds.part, 0)} of the usual size is quiet whatever its index."
        if first.seen.anomaly is not None
        else ""
    )
    return Statement(level, f"Before, {_trigger(first)}. After, {again}.{rule}")


def _trigger(one: Judged, named: bool = True) -> str:
    seen = one.seen
    toward = f"toward {quoted(seen.name)}" if named else "toward it"
    words = f"the trigger found {toward} covers {_share(seen.mask)} of the picture"
    if seen.success is not None:
        words += f" and works on {percent(seen.success, 0)} of the pictures"
    if seen.anomaly is not None:
        size = f", {percent((seen.mask or 0) / one.usual, 0)} of the usual size" if one.peers >= COMPARED else ""
        words += f" (anomaly index {plain(seen.anomaly)}{size}: {LEVELS[one.by_patch]})"
    return words


def _share(mask: float | None) -> str:
    return "an unknown part" if mask is None else percent(mask)


def _small_change(signs: Signs, rms: float | None) -> Statement | None:
    before, after = strongest(signs.before), strongest(signs.after)
    if not before or not after:
        return None
    size = f" by {percent(rms)} of the full brightness (root mean square)" if rms is not None else ""
    return Statement(
        "warning" if after.by_share is Level.SIGN or after.by_both else "note",
        f"One change{size}, the same for all pictures, led at most {percent(before.rate, 0)} of them to one class "
        f"({quoted(before.seen.name)}) before, and {percent(after.rate, 0)} ({quoted(after.seen.name)}) after. It is a "
        f"sign of a backdoor where its interval begins above {percent(Thresholds.share[1], 0)} and either lies far "
        "above the other classes, or the same class also has the highest index of a small patch. Less says little: "
        "fine-tuning lowers it without erasing.",
    )
