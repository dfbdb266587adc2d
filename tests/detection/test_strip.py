"""STRIP: entropy over classes in bits (G14), and inputs that a planted pixel decides."""

import pytest
import torch
from torch import nn

from nad.data.images import ImageSet
from nad.detection import DETECTORS, Strip
from nad.detection.strip import entropy
from nad.errors import NadError
from nad.runtime import Run

RUN = Run(seed=1, device="cpu", precision="fp32")


def test_entropy_is_in_bits_and_over_the_classes():
    assert entropy(torch.zeros(3, 10)).tolist() == pytest.approx([3.3219] * 3, abs=1e-4)
    assert entropy(torch.tensor([[100.0, 0, 0, 0]])).item() == pytest.approx(0, abs=1e-6)
    assert entropy(torch.zeros(7, 4)).shape == (7,)  # not of the images
    halves = torch.log(torch.tensor([[0.5, 0.5, 1e-30]]))
    assert entropy(halves).item() == pytest.approx(1, abs=1e-6)


def test_pixels_are_added_and_clipped_or_averaged():
    one, other = torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.5])
    assert Strip().mixed(one, other).tolist() == [0.75, 1.0]
    assert Strip(share=0.25).mixed(one, other).tolist() == [0.4375, 0.5625]


class Planted(nn.Module):
    """Class 1 where the last pixel is bright, even under an overlay; otherwise by the rest of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(40.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x[:, :, :, :4].mean((1, 2, 3)), x[:, :, :, 4:].mean((1, 2, 3))
        planted = (x[:, :, -1, -1].mean(1) > 0.45).float()
        return torch.stack([self.scale * (left - right), self.scale * (right - left) + 1000 * planted], 1)


def test_inputs_with_a_planted_pixel_are_flagged_and_others_are_not():
    pixels = torch.randint(0, 90, (200, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels[::2, :, :, :4] += 30
    pixels[1::2, :, :, 4:] += 30
    pixels[:, :, -1, -1] = 0
    images = ImageSet(pixels[:160], torch.arange(160) % 2, ("a", "b"))
    asked = pixels[160:].clone()
    asked[:20, :, -1, -1] = 255
    inputs = ImageSet(asked, torch.zeros(40, dtype=torch.int64), ("a", "b"))
    model = Planted()
    found = Strip(overlays=20, frr=0.05)(model, images, RUN, inputs)
    flagged = [row["flagged"] for row in found.rows]
    assert all(flagged[:20])
    assert sum(flagged[20:]) <= 4
    assert found.summary["flagged"] == sum(flagged)
    assert found.of == "input"
    again = Strip(overlays=20, frr=0.05)(model, images, RUN, inputs)
    assert again.to_json() == found.to_json()


def test_what_is_asked_of_the_inputs():
    images = ImageSet(torch.zeros(8, 3, 8, 8, dtype=torch.uint8), torch.arange(8) % 2, ("a", "b"))
    with pytest.raises(NadError, match="strip judges inputs; give some, --inputs FOLDER"):
        Strip()(Planted(), images, RUN)
    with pytest.raises(NadError, match="neural-cleanse judges the network and takes no --inputs"):
        DETECTORS.create("neural-cleanse")(Planted(), images, RUN, images)
    small = ImageSet(torch.zeros(8, 3, 4, 4, dtype=torch.uint8), torch.arange(8) % 2, ("a", "b"))
    with pytest.raises(NadError, match="the inputs are 4x4 pixels and the clean images 8x8"):
        Strip()(Planted(), images, RUN, small)
    with pytest.raises(NadError, match="strip: expected overlays >= 1 and frr in"):
        Strip(frr=0.0)
    with pytest.raises(NadError, match="strip: expected share in"):
        Strip(share=1.0)
