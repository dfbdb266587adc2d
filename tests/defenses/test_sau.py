"""SAU: its divergence and its unlearning against NumPy, and what a shared perturbation is."""

import numpy as np
import pytest
import torch
from torch import nn

from nad.data.images import ImageSet
from nad.defenses import SAU
from nad.defenses.sau import divergence, unlearning
from nad.models.create import create
from nad.runtime import Run

RUN = Run(seed=1, device="cpu", precision="fp32")


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_divergence_against_numpy():
    one, two = (torch.randn(6, 5, generator=torch.Generator().manual_seed(s)) * 3 for s in (0, 1))
    p, q = softmax(one.numpy()), softmax(two.numpy())
    m = (p + q) / 2
    expected = ((p * np.log(p / m)).sum(1) + (q * np.log(q / m)).sum(1)) / 2
    assert np.allclose(divergence(one, two).numpy(), expected, atol=1e-6)
    assert torch.allclose(divergence(one, one), torch.zeros(6), atol=1e-6)
    far = torch.tensor([[50.0, -50.0]])
    assert divergence(far, -far).item() == pytest.approx(np.log(2), rel=1e-5)


def test_unlearning_is_of_the_images_that_were_fooled():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]]))
    wrong, labels = torch.tensor([0, 1, 2]), torch.tensor([1, 1, 0])  # the second was not fooled
    expected = -(np.log(1 - 0.7) + np.log(1 - 0.5)) / 3
    assert unlearning(logits, wrong, labels).item() == pytest.approx(expected, rel=1e-5)
    assert unlearning(logits, labels, labels).item() == 0
    assert torch.isfinite(unlearning(torch.tensor([[1e4, 0.0, 0.0]]), torch.tensor([0]), torch.tensor([1])))


def test_a_shared_perturbation_stays_in_its_ball_and_makes_the_networks_agree():
    net, given = create("wrn-10-1", 4, seed=0).train(), create("wrn-10-1", 4, seed=1).eval()
    x, y = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(2)), torch.arange(16) % 4
    before = {k: v.clone() for k, v in net.state_dict().items()}
    method = SAU(eps=0.1, steps=5, stride=0.05)
    near = method.shared(net, given, x, y)
    assert (near - x).abs().max() <= 0.1 + 1e-6
    assert near.min() >= 0
    assert near.max() <= 1
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in (*net.parameters(), *given.parameters()))
    net.eval()
    with torch.no_grad():
        assert divergence(net(near), given(near)).mean() < divergence(net(x), given(x)).mean()


def test_clean_and_perturbed_images_are_one_batch(monkeypatch):
    images = ImageSet(torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8), torch.arange(32) % 4, tuple("abcd"))
    seen = {}

    def caught(net: nn.Module, im, how, run, step, *rest):
        seen["how"] = how
        x, y = im.pixels.float() / 255, im.labels
        net.train()
        net.bn1.register_forward_pre_hook(lambda module, given: seen.setdefault("sizes", []).append(len(given[0])))
        step(net, x, y)
        seen["batches"] = int(net.bn1.num_batches_tracked)
        return []

    monkeypatch.setattr("nad.defenses.sau.fit", caught)
    SAU(batch=16, optimizer="adam", lr=1e-4)(create("wrn-10-1", 4), images, RUN)
    assert seen["how"].optimizer == "adam"
    assert seen["how"].lr == 1e-4
    assert seen["batches"] == 1, "the inner problem is solved in eval mode"
    assert seen["sizes"][-1] == 64, "both halves share BatchNorm's statistics"
