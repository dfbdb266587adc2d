"""One eraser after another."""

import pytest
import torch
from torch import nn

from nad.data.images import ImageSet
from nad.defenses import DEFENSES
from nad.models.create import create
from nad.runtime import Run

RUN = Run(device="cpu", precision="fp32")
FIRST, THEN = "finetune:lr=auto,epochs=1,batch=16,folds=1", "ft-sam:epochs=1,batch=16"


def test_a_chain_is_its_parts_one_after_the_other():
    pixels = torch.randint(0, 256, (96, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images, model = ImageSet(pixels, torch.arange(96) % 4, tuple("abcd")), create("wrn-10-1", 4)
    whole = DEFENSES.create(f"chain:first=({FIRST}),then=({THEN})")(model, images, RUN)
    first = DEFENSES.create(FIRST)(model, images, RUN)
    then = DEFENSES.create(THEN)(first.model, images, RUN.child("then"))
    for key, value in then.model.state_dict().items():
        assert torch.equal(whole.model.state_dict()[key], value)
    assert not torch.equal(first.model.fc.weight, then.model.fc.weight)
    assert whole.notes == {"first": first.notes}
    assert str(whole.method) == f"chain:first=({first.method}),then=({then.method})"
    assert len(whole.history) == 2


@pytest.mark.parametrize(
    "then",
    [
        "finetune:lr=0.1",
        "ft-sam",
        "fst",
        "i-bau",
        "sau",
        "kd:lr=0.1,teacher=(finetune:lr=0.1)",
        "nad:lr=0.1,beta=1,teacher=(finetune:lr=0.1)",
        "nad-sau:lr=0.1,teacher=(sau:lr=0.1)",
        "mcr:t=0.5,lr=0.01",
    ],
)
@pytest.mark.parametrize("first", ["anp:steps=1,ratio=0.2,batch=32,eps=0", "fine-pruning:tune=false,ratio=0.2"])
def test_what_the_first_prunes_stays_pruned_and_the_rest_is_trained(first, then):
    pixels = torch.randint(0, 256, (96, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images, model = ImageSet(pixels, torch.arange(96) % 4, tuple("abcd")), create("wrn-10-1", 4)
    with torch.no_grad():
        for layer in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
            layer.bias.fill_(0.5)  # else a rectifier holds what is pruned
    pruned = weights(DEFENSES.create(first)(model, images, RUN).model)
    joint = "," if ":" in then else ":"
    outcome = DEFENSES.create(f"chain:first=({first}),then=({then}{joint}epochs=1,batch=16)")(model, images, RUN)
    after = weights(outcome.model)
    assert (pruned == 0).sum() > 10
    assert torch.equal(after == 0, pruned == 0)
    assert not torch.equal(after, pruned)
    assert not any(p._backward_hooks for p in outcome.model.parameters()), "it is a plain network again"


def test_a_layer_that_starts_at_zero_is_trained():
    images = ImageSet(torch.full((64, 3, 8, 8), 99, dtype=torch.uint8), torch.arange(64) % 4, tuple("abcd"))
    model = create("wrn-10-1", 4)
    nn.init.zeros_(model.fc.weight)
    outcome = DEFENSES.create("finetune:lr=0.1,epochs=1,batch=16")(model, images, RUN)
    assert (outcome.model.fc.weight != 0).any()


def weights(model: nn.Module) -> torch.Tensor:
    """Of all BatchNorm scales and of the classifier, where channels are pruned."""
    scales = [m.weight.detach() for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    return torch.cat([*scales, model.fc.weight.detach().flatten()])
