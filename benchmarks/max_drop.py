"""What an allowed drop buys: NAD and fine-tuning with every choice left open, at several values of max_drop.

    python benchmarks/max_drop.py VICTIM --data PATH [--seed 100] [--out results/max-drop]

Development only: its victims (BadNets on CIFAR-10) and its seeds (100 and up) are the ones that a default may be
chosen on. Trainings that two settings share are done once; the result of each is what a run of its own would give.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nad.defenses.finetune as finetune_module
import nad.defenses.nad as nad_module
from nad.attacks import Attack
from nad.data.sources import load
from nad.defenses import Defense
from nad.models.checkpoints import load as load_checkpoint
from nad.models.checkpoints import weights_fingerprint
from nad.pipeline import purify_checkpoint
from nad.results import write_json
from nad.runtime import Run

DROPS = (0.01, 0.02, 0.03, 0.05, 0.08)
METHODS = ("finetune", "nad")


def shared(train: Callable[..., Any], networks: int, found: dict[Any, Any]) -> Callable[..., Any]:
    """`train`, whose first `networks` arguments are networks (the first is trained in place), done once per input."""

    def trained(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("after_epoch"):
            return train(*args, **kwargs)
        weights = tuple(weights_fingerprint(m) for m in args[:networks])
        rest = [a for a in args[networks:] if not callable(a)]
        key = (train.__name__, weights, *(getattr(a, "fingerprint", None) or _text(a) for a in rest))
        if key not in found:
            history = train(*args, **kwargs)
            found[key] = (history, {k: v.cpu().clone() for k, v in args[0].state_dict().items()})
        history, state = found[key]
        args[0].load_state_dict(state)
        args[0].eval()
        return history

    return trained


def _text(value: Any) -> str:
    return f"run {value.seed}" if isinstance(value, Run) else repr(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("victim", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("results/max-drop"))
    asked = parser.parse_args()
    loaded = load_checkpoint(asked.victim)
    assert loaded.card is not None
    assert loaded.card.attack is not None
    attack = Attack.parse(loaded.card.attack, trusted=False)
    dataset = load(asked.data)
    found: dict[Any, Any] = {}
    finetune_module.fit = shared(finetune_module.fit, 1, found)
    nad_module.fit = shared(nad_module.fit, 1, found)
    nad_module.distil = shared(nad_module.distil, 2, found)
    folder = asked.out / asked.victim.name
    folder.mkdir(parents=True, exist_ok=True)
    for method in METHODS:
        for drop in DROPS:
            path = folder / f"{method}-{100 * drop:g}-seed{asked.seed}.json"
            if path.exists():
                continue
            spec = f"{method}:max_drop={drop}"
            (made,) = purify_checkpoint(loaded, dataset, [Defense.parse(spec)], Run(asked.seed), 0.05, attack)
            write_json(path, made.result.to_json())
            after = made.result.after
            rates = " ".join(f"{n} {100 * getattr(after, n).rate:.2f}" for n in ("acc", "asr", "ra"))
            print(f"{spec}: {rates}  {made.result.notes['resolved']}", flush=True)


if __name__ == "__main__":
    main()
