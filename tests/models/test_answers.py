"""Networks with several outputs."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nad.errors import NadError
from nad.models.answers import Answer, only, parts

LOGITS, AUXILIARY, FEATURES = torch.zeros(2, 4), torch.ones(2, 4), torch.ones(2, 7)
Named = namedtuple("Named", ["logits", "aux"])


@dataclass
class Answers:
    logits: Tensor
    hidden: Tensor | None = None


class Gives(nn.Module):
    def __init__(self, given: Any) -> None:
        super().__init__()
        self.given = given

    def forward(self, x: Tensor) -> Any:
        return self.given


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ((LOGITS, FEATURES), ["0", "1"]),
        ([FEATURES, [LOGITS], LOGITS], ["0", "2"]),
        ({"logits": LOGITS, "loss": 3.0, 5: FEATURES}, ["logits", "5"]),
        (OrderedDict(logits=LOGITS), ["logits"]),
        (Named(LOGITS, None), ["logits"]),
        (Answers(LOGITS), ["logits"]),
        (3.0, []),
        (None, []),
    ],
)
def test_outputs_have_names_or_numbers(given: Any, names: list[str]) -> None:
    assert list(parts(given)) == names


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ((FEATURES, LOGITS), "1"),
        ({"features": FEATURES, "main": LOGITS}, "main"),
        (Named(LOGITS, FEATURES), "logits"),
        (Answers(LOGITS, FEATURES), "logits"),
    ],
)
def test_the_only_output_that_can_be_the_answer_is_it(given: Any, name: str) -> None:
    assert only(given, 2, 4) == name
    assert Answer(Gives(given), name)(FEATURES) is LOGITS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((LOGITS, AUXILIARY), r"gives 2 outputs of 4 classes; its outputs are 0 \[2, 4\], 1 \[2, 4\].\nPass --output"),
        ({"a\x1b": FEATURES}, r"gives no outputs of 4 classes; its outputs are a\? \[2, 7\].\nPass --output"),
        ((torch.zeros(1, 4),), "gives no outputs of 4 classes"),
        (tuple(FEATURES for _ in range(20)), r"7 \[2, 7\], ….\nPass"),
        ("text", "expected a network that gives tensors, got a str"),
    ],
)
def test_an_answer_that_must_be_named(given: Any, message: str) -> None:
    with pytest.raises(NadError, match=message):
        only(given, 2, 4)


def test_an_output_is_found_by_index_too() -> None:
    assert Answer(Gives({"features": FEATURES, "main": LOGITS}), "1")(FEATURES) is LOGITS
    assert Answer(Gives({"1": LOGITS, "main": FEATURES}), "1")(FEATURES) is LOGITS
    for name in ("2", "-1", "²", "mian"):
        with pytest.raises(NadError, match=rf"has no output '{name}'; its outputs are features .*, main"):
            Answer(Gives({"features": FEATURES, "main": LOGITS}), name)(FEATURES)


def test_what_is_one_tensor_already_is_the_answer() -> None:
    assert Answer(Gives(LOGITS), "main")(FEATURES) is LOGITS
