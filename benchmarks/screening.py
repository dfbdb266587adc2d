"""Scan networks of which the truth is known, one small file each in results/scans; a rerun continues.

    nad bench scans --data DIR                    # trains the networks that the zoo lacks, into runs/scans
    python benchmarks/screening.py --data DIR     # a folder with cifar10-jpeg and gtsrb32

The tables in docs/practitioner.md are drawn from the files, and `MEASURED` in src/nad/verdict.py has to say the same.
"""

import argparse
from fnmatch import fnmatchcase
from pathlib import Path

from evidence import CLEAN, TRAINED, known

from nad.data import sources
from nad.models.checkpoints import load
from nad.pipeline import suspect_checkpoint
from nad.results import write_json
from nad.runtime import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trained", type=Path, default=TRAINED, help="of nad bench scans")
    parser.add_argument("--out", type=Path, default=Path("results/scans"))
    parser.add_argument("--only", default="*", help="names of networks, with * for anything; several with commas")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    sets: dict[str, sources.Dataset] = {}
    for name, place in known(asked.trained).items():
        wanted = any(fnmatchcase(name, part) for part in asked.only.split(","))
        if not wanted or (asked.out / f"{name}.json").exists():
            continue
        loaded = load(place)
        assert loaded.card is not None
        data = loaded.card.dataset
        if data not in sets:
            sets[data] = sources.held(data, asked.data)
        found = suspect_checkpoint(loaded, sets[data], Run(), CLEAN[data])
        # The verdict is drawn anew from the classes, under whatever thresholds there are by then.
        kept = {key: value for key, value in found.result.items() if key not in ("verdict", "intake")}
        planted = {"attack": loaded.card.attack, "asr": loaded.card.metrics.get("asr")}
        write_json(asked.out / f"{name}.json", kept | planted, indent=None)
        print(f"{name} ({found.result['seconds']:.0f} s): {found.verdict.kind} {found.verdict.why}", flush=True)


if __name__ == "__main__":
    main()
