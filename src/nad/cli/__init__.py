"""The commands. Options come from dataclasses; everything that computes is in `pipeline`."""

import os
import re
import signal
import sys

import cyclopts

from nad import console
from nad.cli import bench, catalogue, demo, erasing, report, scanning, victims  # noqa: F401  each adds its commands to the application
from nad.cli.app import app
from nad.errors import NadError
from nad.runtime import keep_memory


def main() -> None:
    """The `nad` command: exit code 2 and no traceback for a user's mistake."""
    keep_memory()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it leaves no unfinished folder either
    try:
        app([_at_home(word) for word in sys.argv[1:]], exit_on_error=False, print_error=False)
    except NadError as error:
        console.fail(str(error))
        sys.exit(2)
    except cyclopts.CycloptsError as error:
        command = " ".join(("nad", *(error.command_chain or ())))
        left_out = isinstance(error, cyclopts.MissingArgumentError) and not error.keyword and error.argument
        if left_out:
            named = left_out.name if left_out.index is None else left_out.name.removeprefix("--").upper()
        said = f"{named} is missing" if left_out else " ".join(str(error).split())
        console.fail(f"{said}\nTry: {command} --help")
        sys.exit(2)
    except KeyboardInterrupt:
        again = sys.argv[1:2] in (["purify"], ["bench"])
        on = "; the same command goes on from what was finished" if again else ""
        console.fail(f"stopped; nothing unfinished was written{on}")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        console.fail(
            f"cannot read or write {error.filename or 'a file'}: {error.strerror or error}; nothing was written"
        )
        sys.exit(2)


def _at_home(word: str) -> str:
    """`--out=~/x` with the home folder in its place, as shells do it only where the path is a word by itself."""
    return re.sub(r"^(--[a-z-]+=)?(~.*)", lambda found: (found[1] or "") + os.path.expanduser(found[2]), word)
