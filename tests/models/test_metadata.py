"""What is said of the pixels that a network expects."""

from typing import Any

import pytest

from nad.errors import NadError
from nad.models.create import pixels_of
from nad.models.metadata import of_preprocessor

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("name", "normalisation", "size"),
    [
        ("torchvision:resnet18", IMAGENET, (224, 224)),
        ("torchvision:inception_v3", IMAGENET, (299, 299)),
        ("torchvision:swin_v2_t", IMAGENET, (256, 256)),
        ("timm:resnet18", IMAGENET, (224, 224)),
        ("timm:vit_tiny_patch16_224", HALF, (224, 224)),
        ("timm:resnet10t", IMAGENET, (176, 176)),
    ],
)
def test_libraries_say_what_their_own_weights_expect(name: str, normalisation: Any, size: Any) -> None:
    pixels = pixels_of(name)
    assert pixels is not None
    assert (pixels.normalisation, pixels.size) == (normalisation, size)
    assert f"{name.split(':')[0]}'s {name.split(':')[1]} says; --normalise" in pixels.told()


@pytest.mark.parametrize("name", ["wrn-16-1", "preactresnet18", "own.py:network"])
def test_nobody_says_it_of_other_networks(name: str) -> None:
    assert pixels_of(name) is None


MEAN_AND_DEVIATION = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
BYTES = {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51.0] * 3}


@pytest.mark.parametrize(
    ("values", "normalisation", "size"),
    [
        ({}, None, None),
        (MEAN_AND_DEVIATION, ((0.5,) * 3, (0.25,) * 3), None),
        ({"image_mean": 0.5, "image_std": 0.25, "size": 32}, ((0.5,) * 3, (0.25,) * 3), (32, 32)),
        (MEAN_AND_DEVIATION | {"do_normalize": False, "size": {"height": 32, "width": 48}}, None, (32, 48)),
        (MEAN_AND_DEVIATION | {"rescale_factor": 1 / 510}, ((1.0,) * 3, (0.5,) * 3), None),
        (BYTES, ((0.5,) * 3, (0.2,) * 3), None),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True}, HALF, None),
        ({"size": {"shortest_edge": 256}}, None, (256, 256)),
        ({"size": 256, "crop_size": {"height": 224, "width": 224}}, None, (256, 256)),
        ({"size": 256, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True}, None, (224, 224)),
        ({"size": [24, 32], "do_center_crop": True}, None, (24, 32)),
    ],
)
def test_an_image_processor_says_it(values: dict[str, Any], normalisation: Any, size: Any) -> None:
    pixels = of_preprocessor("p.json", values)
    assert pixels.size == size
    if normalisation is None:
        assert pixels.normalisation is None
    else:
        assert pixels.normalisation is not None
        for found, wanted in zip(pixels.normalisation, normalisation):
            assert found == pytest.approx(wanted)


@pytest.mark.parametrize(
    "values",
    [
        {"image_mean": [0.5] * 3},
        {"image_mean": [0.5] * 4, "image_std": [0.5] * 4},
        {"image_mean": [0.5] * 3, "image_std": [0.0] * 3},
        {"image_mean": "0.5", "image_std": ["a"]},
        {"rescale_factor": 0},
        {"rescale_factor": "much"},
        {"size": {"height": 32}},
        {"size": "big"},
        {"size": 0},
        {"size": [1, 2, 3]},
    ],
)
def test_settings_that_are_none(values: dict[str, Any]) -> None:
    with pytest.raises(NadError, match=r"^p\?\.json: expected the settings of an image processor \("):
        of_preprocessor("p\x1b.json", values)
