"""Methods for fewer pictures than their batch."""

import pytest

from nad.defenses import Defense
from nad.defenses.batched import batched


@pytest.mark.parametrize(
    ("count", "batch", "teacher"),
    [
        (128, 128, 64),  # one batch is enough
        (127, 63, 64),
        (50, 25, 25),
        (16, 8, 8),
        (15, 128, 64),  # too few for any: the method says so
    ],
)
def test_a_batch_is_half_of_the_images_that_do_not_fill_it(count, batch, teacher):
    made = batched(Defense.parse("nad-sau"), count)
    assert (made.how().batch, made.teacher.how().batch) == (batch, teacher)


def test_every_method_in_a_chain_is_fitted():
    made = batched(Defense.parse("chain:first=(finetune:batch=100),then=(anp)"), 60)
    assert made.first.batch == 30
    assert made.then == Defense.parse("anp"), "it draws batches without end"
    assert batched(Defense.parse("finetune"), 64) == Defense.parse("finetune")
