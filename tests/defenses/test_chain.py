"""One eraser after another."""

import torch

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
