"""Purified networks kept on disk, so that a teacher which is a method of its own is made once for all that use it."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from nad.data.images import ImageSet
from nad.defenses.outcome import Outcome
from nad.keeping import Piece, made_once
from nad.runtime import Run

if TYPE_CHECKING:
    from nad.defenses.base import Defense

FORMAT = 1  # raised when what is kept, or what it depends on, is another


def purified_once(
    method: "Defense", model: nn.Module, images: ImageSet, run: Run, make: Callable[[], Outcome]
) -> Outcome:
    """What `make` gives, or gave before; nothing is kept where a method names a file or a callable."""

    def pack(outcome: Outcome) -> Piece | None:
        state, shapes = outcome.model.state_dict(), {key: value.shape for key, value in model.state_dict().items()}
        if {key: value.shape for key, value in state.items()} != shapes:
            return None  # another architecture, which the given network cannot stand in for
        if not outcome.method.speaks_for_itself:
            return None
        record = {"method": outcome.method.explicit(), "history": outcome.history, "notes": outcome.notes}
        return Piece(state, record)

    def unpack(piece: Piece) -> Outcome:
        network = copy.deepcopy(model).eval()
        network.load_state_dict(dict(piece.tensors))
        found = type(method).parse(piece.record["method"], trusted=False)
        if found.configuration() == method.configuration():
            found = method  # as it was asked for now: what means nothing here may have been said otherwise then
        return Outcome(network, found, piece.record["history"], piece.record["notes"])

    if run.keep is None or not method.speaks_for_itself:
        return make()
    asked = {"format": FORMAT, "method": method.configuration()}
    return made_once("purified", method.origin(model, images, run), images, run, asked, make, pack, unpack)
