"""Runs defenses where nothing but a network and clean images exists: no attack and no evaluation can be imported.

Usage: clean_room.py CLEAN.npz MODEL.pt [LEAK]. Started by test_leakage in a process of its own.
"""

import sys
from importlib.abc import MetaPathFinder

FORBIDDEN = ("nad.attacks", "nad.evaluation", "nad.pipeline", "nad.demo", "nad.oracle", "nad.cli")


QUICK = {
    "epochs": 1,
    "batch": 16,
    "folds": 1,
    "steps": 2,
    "inversion_epochs": 1,
    "inversion_images": 16,
    "unlearn_epochs": 1,
    "generator_epochs": 1,
}


class Wall(MetaPathFinder):
    """Stops the import of anything that knows a trigger or the test set."""

    def find_spec(self, name, path=None, target=None):
        if name.startswith(FORBIDDEN):
            raise ImportError(f"a defense tried to import {name}")
        return None


def main(clean: str, weights: str, leak: str = "") -> None:
    sys.meta_path.insert(0, Wall())
    import numpy as np
    import torch

    from nad.data.images import ImageSet
    from nad.defenses import DEFENSES, Defense, Outcome
    from nad.detection import DETECTORS
    from nad.models.create import create
    from nad.registry import options
    from nad.runtime import Run

    with np.load(clean) as arrays:
        images = ImageSet(torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"]), tuple("abcd"))
    model = create("wrn-10-1", 4)
    model.load_state_dict(torch.load(weights, weights_only=True))

    if leak == "import":

        class Leaking(Defense):
            def erase(self, model, images, run):
                from nad.attacks import BadNets

                BadNets().poison(images, run)
                return Outcome(model, self)

        DEFENSES.register("leaking")(Leaking)
    if leak == "card":

        class Curious(Defense):
            def erase(self, model, images, run):
                return Outcome(model, self, notes={"attack": model.card.attack})

        DEFENSES.register("curious")(Curious)

    for name in DEFENSES:
        has = {o.name for o in options(DEFENSES[name])}
        quick = QUICK | {key: "(finetune:epochs=1)" for key in ("teacher", "first", "then") if key in has}
        text = ",".join(f"{k}={v}" for k, v in quick.items() if k in has)
        DEFENSES.create(f"{name}:{text}" if text else name)(model, images, Run(seed=0))
        print("ran", name)
    for name in DETECTORS:
        quick = {"epochs": 1, "images": 16, "overlays": 2, "steps": 2}
        has = {o.name for o in options(DETECTORS[name])}
        detector = DETECTORS.create(f"{name}:" + ",".join(f"{k}={v}" for k, v in quick.items() if k in has))
        detector(model, images, Run(seed=0), images if detector.takes_inputs else None)
        print("ran", name)


if __name__ == "__main__":
    main(*sys.argv[1:])
