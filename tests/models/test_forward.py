"""One forward pass of any network."""

import pytest
import torch
from torch import nn

from nad.errors import NadError
from nad.models import create
from nad.models.forward import Fixed, evaluating, outputs, statistics_kept


def pixels(size: int) -> torch.Tensor:
    return torch.zeros(2, 3, size, size, dtype=torch.uint8)


def test_counts_the_classes_and_leaves_modes_and_statistics():
    model = create.create("wrn-10-1", 7)
    model.get_submodule("block1").eval()
    before = {name: m.training for name, m in model.named_modules()}
    state = {k: v.clone() for k, v in model.state_dict().items()}
    assert outputs(model, pixels(16)) == 7
    assert {name: m.training for name, m in model.named_modules()} == before
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_a_network_in_half_precision_gets_what_it_takes():
    assert outputs(create.create("wrn-10-1", 3).bfloat16(), pixels(16)) == 3


def test_a_size_that_the_network_cannot_take_is_named():
    model = create.create("torchvision:alexnet", 3)
    with pytest.raises(NadError, match=r"own cannot take images of 16x16 pixels .*pass --size"):
        outputs(model, pixels(16), "own")


def test_a_network_of_grey_pictures_is_told_what_it_gets():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(NadError, match=r"own takes pictures of 1 channel, and they come in RGB, of 3\.\nPass --model"):
        outputs(model, pixels(16), "own")


@pytest.mark.parametrize("answer", [lambda x: {"logits": x}, lambda x: x])
def test_anything_but_logits_is_refused(answer):
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> object:
            return answer(x)

    with pytest.raises(NadError, match=r"one \(N, classes\) tensor of logits"):
        outputs(Odd(), pixels(8))


def test_modes_come_back_after_an_error():
    model = create.create("wrn-10-1", 3)
    with pytest.raises(ZeroDivisionError), evaluating(model):
        _ = 1 / int(model.training)  # in eval mode
    assert model.training


def test_a_fixed_network_stays_in_eval_mode_while_it_is_trained():
    model = create.create("wrn-10-1", 4)
    fixed = Fixed(model)
    fixed.train()
    assert fixed.training
    assert not any(m.training for m in model.modules())
    before = model.bn1.running_mean.clone()
    fixed(torch.rand(4, 3, 16, 16)).sum().backward()
    assert torch.equal(model.bn1.running_mean, before)
    assert model.fc.weight.grad is not None


def test_statistics_that_are_kept_are_used_all_the_same():
    model = create.create("wrn-10-1", 4).train()
    x = torch.rand(8, 3, 16, 16)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with statistics_kept(model):
        kept = model(x)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(model(x), kept)
    assert not torch.equal(model.bn1.running_mean, before["bn1.running_mean"])
    model.eval()
    with statistics_kept(model):
        assert torch.equal(model(x), model(x))
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm2d))
