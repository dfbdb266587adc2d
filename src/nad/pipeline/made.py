"""A network that was made here, and its folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nad.models.card import Card
from nad.models.checkpoints import Entry, Loaded, save
from nad.models.files import Format
from nad.results import Result, write_history, write_json


@dataclass(frozen=True)
class Made:
    """A network that was made here, with all that belongs in its folder."""

    model: nn.Module
    card: Card
    result: Result
    history: list[dict[str, Any]]
    indices: dict[str, Tensor]
    trigger: Mapping[str, Tensor] = field(default_factory=dict)  # what the card's attack was fitted to
    pictures: Mapping[str, bytes] = field(default_factory=dict)  # PNG files by name

    def write(self, folder: Path, format: Format = "safetensors", like: Loaded | None = None) -> dict[str, Any]:
        """Into an existing folder: weights, card, result, history, pictures, and which images were used.

        Returns:
            The result as written, with the hashes of the files that the network came from and went to.
        """
        card = save(folder, self.model, self.card, format, like, self.trigger)
        files = {"out": {"name": f"model.{format}", "sha256": card.sha256}}
        result = self.result.to_json()
        if self.result.evidence:
            source = {"in": dict(like.source)} if like and like.source else {}
            result["evidence"] = self.result.evidence | {"files": source | files}
        write_json(folder / "result.json", result)
        write_history(folder / "history.csv", self.history)
        for name, content in self.pictures.items():
            (folder / name).write_bytes(content)
        if self.indices:
            write_json(folder / "indices.json", {k: v.tolist() for k, v in self.indices.items()})
        return result


def loaded_from(made: Made) -> Loaded:
    """A network made here, as if it had been read from its folder."""
    layout = {key: Entry(key, tensor.dtype) for key, tensor in made.model.state_dict().items()}
    return Loaded(made.model, made.card.architecture, len(made.card.classes), made.card, layout)
