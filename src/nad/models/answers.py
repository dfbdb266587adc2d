"""Networks that answer with more than one tensor, of which one is the logits."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nad.errors import NadError, printable


class Answer(nn.Module):
    """A network of which one output counts.

    Args:
        model: its own keys are what a checkpoint holds (see `normalize.unwrap`).
        output: a name or an index of `parts`. What is one tensor already stays as it is, because networks with
            auxiliary heads give several in training only.
    """

    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (N, 3, H, W)."""
        given = self.model(x)
        if isinstance(given, Tensor):
            return given
        found = parts(given)
        if self.output in found:
            return found[self.output]
        if self.output.isascii() and self.output.isdigit() and int(self.output) < len(found):
            return list(found.values())[int(self.output)]
        raise NadError(f"the network has no output {printable(self.output, 40)!r}; {_listed(found)}")

    def extra_repr(self) -> str:
        return f"output={self.output!r}"


def parts(given: Any) -> dict[str, Tensor]:
    """The tensors of what a network gave, by name, or by index where they have none."""
    if isinstance(given, Mapping):
        named = {str(key): value for key, value in given.items()}
    elif hasattr(given, "_fields"):
        named = dict(zip(given._fields, given))
    elif isinstance(given, list | tuple):
        named = {str(index): value for index, value in enumerate(given)}
    else:
        named = vars(given) if hasattr(given, "__dict__") else {}
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def only(given: Any, images: int, classes: int) -> str:
    """The name of the one output that can be the logits.

    Raises:
        NadError: several of shape (images, classes), or none.
    """
    found = parts(given)
    if not found:
        raise NadError(f"expected a network that gives tensors, got a {type(given).__name__}; wrap it so that it does")
    fitting = [name for name, value in found.items() if tuple(value.shape) == (images, classes)]
    if len(fitting) == 1:
        return fitting[0]
    what = f"{len(fitting) or 'no'} outputs of {classes} classes"
    raise NadError(f"the network gives {what}; {_listed(found)}.\nPass --output NAME or INDEX")


def _listed(found: Mapping[str, Tensor]) -> str:
    shown = [f"{printable(name, 40)} {list(value.shape)}" for name, value in list(found.items())[:8]]
    return f"its outputs are {', '.join(shown) or 'no tensors'}{', …' if len(found) > 8 else ''}"
