"""What a pickle would do if it were loaded, found by reading its instructions; none is ever followed."""

import io
import pickletools
import re
import sys
from dataclasses import dataclass, field
from typing import IO, Any

from nad.errors import printable

BYTES = 1 << 24  # that are read of a pickle; those of networks with their optimizers have about 1 MB
INSTRUCTIONS = 1_000_000
NODES = 1_000_000  # of a tuple written out in full: hashing walks all of them, and each may stand in it twice
DEPTH = 100  # of a tuple in tuples: hashing them takes the machine's own stack
LONGS = 10_000  # integers of any length, which can be chosen to collide in a dictionary

DAMAGED = "is truncated, damaged or no PyTorch checkpoint"

_MAGIC = 0x1950A86A20F9469CFC6C  # what torch.save wrote first before it wrote zip archives
_LEGACY = 5  # pickles that such a file starts with
_MADE = r"torch\._utils\._rebuild_(tensor\w*|parameter\w*|qtensor|sparse\w*|meta\w*)"
_CALLED = re.compile(
    rf"{_MADE}|torch\._tensor\._rebuild_from_type_v2|torch\.(nn\.parameter\.Parameter|Size|device)"
    r"|torch\.serialization\._get_layout|collections\.(OrderedDict|Counter)|builtins\.(set|complex)|_codecs\.encode"
)
_USUAL = re.compile(
    rf"{_CALLED.pattern}|torch\.(_tensor\.|cuda\.)?\w*(Tensor|Storage)|torch\.storage\.\w*Storage"
    r"|torch\.(b?float|complex|q?u?int|bits|bool|per_)\w*"
)
_OWN = ("torch", "torchvision", "timm", "numpy", "collections")  # places where a class of a network may well lie
_CALLS = ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ")
_KEPT = ("SETITEM", "SETITEMS", "APPEND", "APPENDS", "ADDITEMS", "BUILD")


@dataclass
class Scan:
    """What was found.

    Args:
        imports: every `module.name` that it asks for, in the order of the first time; the values say nothing.
        fault: what else keeps it from being loaded, as the end of a sentence that starts with the name of its file.
        protocol: of the pickle.
        instructions: how many there are.
        longs: how many of them give an integer of any length.
    """

    imports: dict[str, None] = field(default_factory=dict)
    fault: str = ""
    protocol: int = 0
    instructions: int = 0
    longs: int = 0

    @property
    def blocked(self) -> list[str]:
        """The imports that tensors do without; first those that can do harm."""
        return sorted((name for name in self.imports if not _USUAL.fullmatch(name)), key=_harmlessness)


@dataclass(frozen=True)
class _Value:
    """What stands on the unpickler's stack, as far as it can be told without making it."""

    known: Any = None  # the value of a text or number, the values in a tuple
    imported: str = ""
    nodes: int = 1
    depth: int = 0


class _RefusedError(Exception):
    """Reading on could take too long; says why."""


def scan(content: bytes) -> Scan:
    """Read a pickle, or the pickles that an old PyTorch checkpoint starts with."""
    found, stream = Scan(), io.BytesIO(content)
    try:
        for number in range(_LEGACY):
            if _follow(stream, found).known != _MAGIC and number == 0:
                break
    except _RefusedError as reason:
        found.fault = f"is refused: its pickle {reason}"
    except Exception:  # the instructions are wrong in whatever way the bytes of the file choose
        cut = len(content) >= BYTES and found.instructions
        found.fault = f"is refused: its pickle has more than {BYTES:,} bytes" if cut else DAMAGED
    return found


def _harmlessness(name: str) -> int:
    package = name.split(".")[0]
    return 2 if package in _OWN else 0 if package in sys.stdlib_module_names else 1


def _follow(stream: IO[bytes], found: Scan) -> _Value:
    """One pickle's value, as far as it can be told; the stream then stands behind it."""
    stack: list[_Value] = []
    marks: list[int] = []
    memo: dict[Any, _Value] = {}
    for code, argument, _ in pickletools.genops(stream):
        _count(code.name, argument, found)
        if code.name.endswith("PUT"):
            memo[argument] = stack[-1]
        elif code.name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif code.name.endswith("GET"):
            stack.append(memo[argument])
        elif code.name == "DUP":
            stack.append(stack[-1])
        elif code.name == "MARK":
            marks.append(len(stack))
        else:
            taken = _take(stack, marks, code.stack_before)
            if code.name == "STOP":
                return taken[0]
            if code.stack_after:
                stack.append(_made(code.name, argument, taken, found))
    raise EOFError


def _count(name: str, argument: Any, found: Scan) -> None:
    found.instructions += 1
    found.longs += name in ("LONG", "LONG1", "LONG4")
    if name == "PROTO":
        found.protocol = max(found.protocol, argument)
    if found.instructions > INSTRUCTIONS or found.longs > LONGS:
        raise _RefusedError("has more instructions than that of any network")


def _take(stack: list[_Value], marks: list[int], before: list[Any]) -> list[_Value]:
    """What an instruction takes from the stack: a fixed number, or besides everything above the last mark."""
    fixed = len(before)
    above: list[_Value] = []
    if pickletools.markobject in before:
        fixed = before.index(pickletools.markobject)
        mark = marks.pop()
        above = stack[mark:]
        del stack[mark:]
    if fixed > len(stack):
        raise IndexError
    taken = stack[len(stack) - fixed :] + above
    del stack[len(stack) - fixed :]
    return taken


def _made(name: str, argument: Any, taken: list[_Value], found: Scan) -> _Value:
    """What an instruction leaves on the stack."""
    if name in ("GLOBAL", "STACK_GLOBAL", "INST") or name.startswith("EXT"):
        imported = _imported(name, argument, taken)
        found.imports[imported] = None
        return _Value(imported=imported)
    if name in _CALLS:
        found.fault = found.fault or _unneeded(taken)
        return _Value()
    if name in _KEPT:
        return taken[0]
    if "TUPLE" in name:
        nodes = 1 + sum(value.nodes for value in taken)
        depth = 1 + max((value.depth for value in taken), default=0)
        if nodes > NODES or depth > DEPTH:
            raise _RefusedError("nests tuples without measure")
        return _Value(known=tuple(taken), nodes=nodes, depth=depth)
    return _Value(known=argument)


def _imported(name: str, argument: Any, taken: list[_Value]) -> str:
    if name == "STACK_GLOBAL":
        names = [value.known if isinstance(value.known, str) else "?" for value in taken]
    else:
        names = str(argument).split(" ", 1) if isinstance(argument, str) else ["copyreg", f"extension {argument}"]
    return re.sub(r"^__builtin__\.", "builtins.", ".".join(names))


def _unneeded(taken: list[_Value]) -> str:
    """What is wrong with a call of the first value, if no tensor needs it; it could ask for all the memory."""
    function, given = taken[0].imported, taken[1].known if len(taken) > 1 else None
    first, last = (given[0], given[-1]) if isinstance(given, tuple) and given else (_Value(), _Value())
    what = ""
    if not _CALLED.fullmatch(function):
        what = function or "what it did not import"
    elif function == "_codecs.encode" and not (isinstance(last.known, str) and last.known == "latin1"):
        what = "_codecs.encode for more than bytes"
    elif function.endswith("_from_type_v2") and not re.fullmatch(_MADE, first.imported):
        what = f"{function} for more than tensors"
    return f"is refused: its pickle calls {printable(what, 90)}, which tensors do without" if what else ""
