"""The networks that attacks are computed on: the user's own, or one trained on the images and kept in the cache."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from nad.attacks.base import Attack
from nad.data.downloads import cache_folder
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.inversion import Ascent, pgd
from nad.models.card import Card
from nad.models.checkpoints import load, save
from nad.models.create import create
from nad.models.forward import outputs
from nad.models.normalize import Normalized, normalisation, unwrap
from nad.registry import option
from nad.runtime import Run
from nad.seeding import derive
from nad.training import Recipe, Step, cross_entropy, fit

FORMAT = 1  # raised when the same fingerprint would give other weights


@dataclass(frozen=True, kw_only=True)
class Computed(Attack):
    """Base of the attacks whose trigger is computed on a network that the attacker has: the surrogate."""

    fits: ClassVar[bool] = True
    robust: ClassVar[float] = 0.0  # the eps that a surrogate made here is trained against; 0 for plain training

    surrogate: str | None = option(None, "checkpoint of the surrogate; none trains one", local=True)
    network: str = option("wrn-16-1", "architecture of the surrogate")
    epochs: int = option(10, "of the surrogate's training")
    seed: int = option(0, "of the trigger's random choices and of the surrogate")

    def network_for(self, images: ImageSet, run: Run) -> nn.Module:
        """The surrogate in eval mode on the run's device."""
        fresh = create(self.network, len(images.classes), derive(self.seed, "surrogate"), trusted=False)
        if self.surrogate is None:
            how = replace(run, seed=derive(self.seed, "surrogate"))
            return cached(fresh, self.network, images, recipe(self.epochs), how, self.robust)
        try:
            model = load(self.surrogate, self.network).model
        except NadError as error:
            raise NadError(
                f"{self.spec_name}: surrogate: {str(error).splitlines()[0]}\nSay its architecture with network="
            ) from error
        classes = outputs(model, images.pixels[torch.arange(1)], "the surrogate")
        if classes != len(images.classes):
            raise NadError(
                f"{self.spec_name}: expected a surrogate for the {len(images.classes)} classes of the images, "
                f"got a surrogate with other classes ({classes})"
            )
        return model.to(run.torch_device)


def recipe(epochs: int) -> Recipe:
    """How surrogates are trained: one cycle, without mirroring since signs are chiral."""
    return Recipe(epochs=epochs, lr=0.2, schedule="onecycle", batch=128, weight_decay=5e-4, augment=("crop",))


def adversarial(model: nn.Module, eps: float, run: Run) -> Step:
    """The step of fast adversarial training (Wong et al., ICLR 2020): one step of 1.25 eps from a random start.

    Deviation: the images are computed in eval mode, so that BatchNorm sees each batch once.
    """
    how, start = Ascent(eps=eps, step=1.25 * eps, steps=1), run.generator("adversarial")

    def step(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        with run.fabric.autocast():
            hard = pgd(model, x, y, how, start)
        return cross_entropy(net, hard, y)

    return step


def cached(fresh: nn.Module, name: str, images: ImageSet, how: Recipe, run: Run, eps: float = 0.0) -> nn.Module:
    """`fresh` trained on the images, or the weights that the same training gave before.

    Args:
        fresh: an untrained network. name: what `create` calls it.
        eps: what it is trained against (`adversarial`); 0 for plain training.

    Kept in the folder `surrogates` of the cache by a fingerprint of all that determines the weights. A file that is
    damaged is made again; a cache that cannot be written costs the time of training, no more.
    """
    made_of = {"format": FORMAT, "images": images.fingerprint, "classes": len(images.classes), "network": name}
    made_of |= {"recipe": how.to_json(), "eps": eps, "seed": run.seed, "precision": run.resolved_precision}
    fingerprint = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    folder = cache_folder() / "surrogates" / fingerprint[:32]
    with contextlib.suppress(NadError):  # load compares the weights with the SHA-256 in their card
        return load(folder).model.to(run.torch_device)
    step = adversarial(fresh, eps, run) if eps else cross_entropy
    history = fit(fresh, images, how, run, step, name="robust surrogate" if eps else "surrogate")
    card = Card(
        architecture=name,
        classes=tuple(map(str, range(len(images.classes)))),
        recipe=how.to_json(),
        seed=run.seed,
        extra={"eps": eps, "loss": history[-1]["loss"]},
    )
    with contextlib.suppress(NadError, OSError):
        folder.mkdir(parents=True, exist_ok=True)
        save(folder, fresh, card)
    return fresh


def packed(model: nn.Module, classes: int) -> dict[str, Tensor]:
    """A network as tensors for `unpacked`: its weights, the number of its classes and its normalisation."""
    weights = {f"weights/{key}": value.detach().cpu().contiguous() for key, value in unwrap(model).state_dict().items()}
    around = normalisation(model)
    return (
        weights
        | {"classes": torch.tensor([classes])}
        | ({"normalisation": torch.tensor(around, dtype=torch.float64)} if around else {})
    )


def unpacked(tensors: Mapping[str, Tensor], name: str) -> nn.Module:
    """The network of `packed` in eval mode; `name` is what `create` calls it."""
    weights = {key.removeprefix("weights/"): v for key, v in tensors.items() if key.startswith("weights/")}
    try:
        classes = int(tensors["classes"].item())
        with torch.device("meta"):  # the tensors may be a stranger's, so compare before taking memory
            shapes = {key: v.shape for key, v in create(name, classes, trusted=False).state_dict().items()}
        if shapes != {key: v.shape for key, v in weights.items()}:
            raise NadError("keys or shapes differ")
        model = create(name, classes, trusted=False)
        model.load_state_dict(weights)
        if "normalisation" in tensors:
            mean, std = tensors["normalisation"].tolist()
            model = Normalized(model, mean, std)
    except (KeyError, ValueError, RuntimeError) as error:  # NadError is a ValueError
        raise NadError(f"the trigger's tensors are no {name}: {error}; fit the attack again") from error
    return model.eval()
