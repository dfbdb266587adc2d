"""Image classifiers of the transformers library, from the folder they were saved in: `config.json` and safetensors.

Nothing that the folder names is fetched or run: the class comes from the library's own list of image classifiers, and
what would make it import code or ask the network is refused or left out.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from nad.errors import NadError, printable
from nad.extras import require, torchvision
from nad.models.metadata import MOST_BYTES, Expected, of_preprocessor, size_of

PREFIX = "transformers:"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
OUTPUT = "logits"  # what every image classifier of the library calls them
_MOST = 1_000_000  # no number in a configuration of an image classifier is larger
_OUTSIDE = ("timm_wrapper",)  # their class fetches what the configuration names
# How an answer is given; other keys that begin with output_, such as output_stride, describe the network.
_ANSWERS = ("output_attentions", "output_hidden_states", "return_dict", "use_return_dict", "problem_type")
_REFUSED = {
    "auto_map": "it names code of its own (auto_map), which is never run",
    "custom_pipelines": "it names code of its own (custom_pipelines), which is never run",
    "quantization_config": "its weights are quantised; have it saved in float32",
}


@dataclass(frozen=True, eq=False)
class Saved:
    """What the files beside the weights say of the network.

    Args:
        place: the folder, for errors.
        values: the configuration, without what chooses how it is computed.
        files: the files as they came, by name; they belong beside weights that are saved again.
    """

    place: Path
    values: dict[str, Any]
    files: Mapping[str, bytes]

    @property
    def architecture(self) -> str:
        """The name in cards, such as `transformers:ViTForImageClassification`."""
        return PREFIX + self._class().__name__

    @property
    def classes(self) -> int:
        return int(self._config().num_labels)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes in the order of the outputs; none where the network was saved without them."""
        try:
            named = {int(index): printable(name) for index, name in self.values.get("id2label", {}).items()}
        except (AttributeError, ValueError) as error:
            raise NadError(f"{self._shown(CONFIG)}: expected id2label to number the classes") from error
        if sorted(named) != list(range(self.classes)):
            return ()
        names = tuple(named[index] for index in range(len(named)))
        return () if names == tuple(f"LABEL_{index}" for index in range(len(names))) else names

    @property
    def expected(self) -> Expected:
        """The pixels it was trained on."""
        if PREPROCESSOR in self.files:
            shown = self._shown(PREPROCESSOR)
            return of_preprocessor(shown, _object(shown, self.files[PREPROCESSOR]))
        try:
            return Expected(self._shown(CONFIG), None, size_of(self.values.get("image_size")))
        except (KeyError, TypeError, ValueError) as error:
            raise NadError(f"{self._shown(CONFIG)}: expected image_size to be a size") from error

    def skeleton(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        """The network without memory for its weights.

        Raises:
            NadError: a configuration that asks for far more than the file holds, or that the library cannot use.
        """
        held = sum(tensor.numel() for tensor in tensors.values())
        with self._using(), torch.device("meta"), _at_most(4 * len(tensors) + 100):
            network = self._class()(self._config())
        asked = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
        if asked > 2 * held + _MOST:
            raise NadError(f"{self._shown(CONFIG)} describes a network of {asked:,} numbers, the weights are {held:,}")
        return network

    def build(self) -> nn.Module:
        """The network, with weights that are to be replaced."""
        with self._using():
            network = self._class()(self._config())
        if self.expected.exchanged:
            network.register_forward_pre_hook(_blue_first)
        return network

    def keys(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, str], list[str]]:
        """The file's key of each weight of the network, which the library calls differently from version to version.

        Only its loader knows how, so it is given a file in which each tensor is filled with its own number.

        Args:
            tensors: by the file's keys; a `skeleton` must have been possible.

        Returns:
            The file's keys by the network's own; and those of tensors that the library computes by itself, such as
            indices that older versions saved. Keys that it does not know are in the first, under their own names.

        Raises:
            NadError: a weight that is made of several tensors.
        """
        numbered = {  # views of one number each; no weight is initialised to so large a one
            key: torch.tensor(_MOST + i, dtype=torch.float32 if t.is_floating_point() else torch.int64).expand(t.shape)
            for i, (key, t) in enumerate(tensors.items())
        }
        with self._using():
            network, told = self._class().from_pretrained(
                None,
                config=self._config(),
                state_dict=numbered,
                dtype=torch.float32,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        names, own = list(tensors), {}
        for key, value in network.state_dict().items():
            first, last = (float(end) - _MOST for end in value.aminmax()) if value.numel() else (-1.0, -1.0)
            if not 0 <= first <= last < len(names):
                continue  # the file does not have it
            if first != last or tensors[names[int(first)]].shape != value.shape:
                raise NadError(
                    f"{self._shown(CONFIG)}: transformers joins weights of this file, first {printable(key)}"
                )
            own[key] = names[int(first)]
        left = [key for key in names if key not in set(own.values())]
        if told["unexpected_keys"] or told["mismatched_keys"]:
            return own | {key: key for key in left}, []
        return own, left

    def _class(self) -> Any:
        library, kind, asked = _library(), self.values["model_type"], self.values.get("architectures")
        with self._using():
            configs, classifiers = library.CONFIG_MAPPING, library.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
            known: Any = classifiers.get(configs[kind], ()) if kind in configs and kind not in _OUTSIDE else ()
        for one in known if isinstance(known, tuple) else (known,):
            if asked == [one.__name__]:
                return one
        raise NadError(
            f"{self._shown(CONFIG)}: expected an image classifier of transformers {library.__version__}, "
            f"got {printable(asked, 90)} of type {printable(kind, 40)}"
        )

    def _config(self) -> Any:
        with self._using():
            return _library().CONFIG_MAPPING[self.values["model_type"]].from_dict(self.values)

    @contextmanager
    def _using(self) -> Iterator[None]:
        """The library offline, quiet and without a trace in the random state; its failures as one sentence."""
        log: Any = _library().logging
        hub: Any = require("huggingface_hub.constants", "transformers")
        offline, level, bars = hub.HF_HUB_OFFLINE, log.get_verbosity(), log.is_progress_bar_enabled()
        hub.HF_HUB_OFFLINE = True
        log.set_verbosity_error()
        log.disable_progress_bar()
        try:
            with torch.random.fork_rng(devices=[]):
                yield
        except NadError:
            raise
        except Exception as error:  # the values of the file decide what it is
            raise NadError(f"transformers cannot use {self._shown(CONFIG)}: {printable(error, 120)}") from error
        finally:
            hub.HF_HUB_OFFLINE = offline
            log.set_verbosity(level)
            if bars:
                log.enable_progress_bar()

    def _shown(self, name: str) -> str:
        return printable(self.place / name)


def beside(weights: Path, architecture: str | None) -> Saved | None:
    """What `config.json` beside the weights says, if it is one of transformers and the network is made from it.

    Args:
        architecture: what the network's card says it is; None where there is no card.

    Raises:
        NadError: a configuration that is missing or cannot be used, or not safely; weights in a pickle.
    """
    if architecture is not None and not architecture.startswith(PREFIX):
        return None
    saved = _read(weights.parent) if (weights.parent / CONFIG).is_file() else None
    if saved is None and architecture:
        raise NadError(f"{printable(weights)} needs the {CONFIG} of transformers beside it, which is missing")
    if saved and architecture is None and weights.suffix != ".safetensors":
        raise NadError(
            f"{printable(weights)} is refused: beside the {CONFIG} of transformers, weights are read from safetensors "
            "alone, not from a pickle.\nHave it saved with save_pretrained, or pass --model"
        )
    return saved


def _read(folder: Path) -> Saved | None:
    files = {name: _content(folder / name) for name in (CONFIG, PREPROCESSOR) if (folder / name).is_file()}
    shown = printable(folder / CONFIG)
    values = _object(shown, files[CONFIG])
    if isinstance(values.get("architecture"), str) and "pretrained_cfg" in values:
        raise NadError(f"{shown} is timm's; pass --model timm:{printable(values['architecture'], 60)}")
    if not isinstance(values.get("model_type"), str):
        return None
    for key, reason in _REFUSED.items():
        if values.get(key) is not None:
            raise NadError(f"{shown} is refused: {reason}")
    return Saved(folder, _described(shown, values), files)


def advice(folder: Path) -> str:
    """What to do where a folder holds no weights that are read, but those of transformers in another form."""
    if (folder / "pytorch_model.bin").is_file():
        return (
            ". Its pytorch_model.bin is a pickle, which may hold code: have it saved as safetensors (save_pretrained)"
        )
    if (folder / "model.safetensors.index.json").is_file():
        return ". Its weights are in several files: have them saved in one (save_pretrained with max_shard_size)"
    return ""


def _described(shown: str, value: Any) -> Any:
    """The configuration without the keys that choose how it is computed, which may name code on the hub."""
    if isinstance(value, dict):
        kept = {
            key: one
            for key, one in value.items()
            if not key.startswith(("_", "use_pretrained_"))
            and not key.endswith(("_implementation", "dtype"))
            and key not in (*_REFUSED, *_ANSWERS)
        }
        return {key: _described(shown, one) for key, one in kept.items()}
    if isinstance(value, list):
        return [_described(shown, one) for one in value]
    if isinstance(value, int) and abs(value) > _MOST:
        raise NadError(f"{shown}: no image classifier needs a number such as {printable(value, 20)}")
    return value


def _blue_first(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The pixels for a network that was trained on blue, green and red."""
    return (inputs[0].flip(1), *inputs[1:])


def _library() -> ModuleType:
    torchvision("models")  # transformers imports torchvision, which may need the hand that nad.extras gives it
    return require("transformers", "transformers")


def _content(path: Path) -> bytes:
    if path.stat().st_size > MOST_BYTES:
        raise NadError(f"{printable(path)} has more than {MOST_BYTES:,} bytes, which no configuration needs")
    return path.read_bytes()


def _object(shown: str, content: bytes) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise NadError(f"{shown}: expected JSON ({printable(error, 90)})") from error
    if not isinstance(values, dict):
        raise NadError(f"{shown}: expected a JSON object, got {type(values).__name__}")
    return values


@contextmanager
def _at_most(parameters: int) -> Iterator[None]:
    """Inside, making a network of more parameters than that fails early."""
    made = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal made
        made += 1
        if made > parameters:
            raise NadError("config.json describes a network of far more layers than the weights have")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
