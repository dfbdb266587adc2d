"""Methods for fewer pictures than their batch."""

import pytest

from nad.defenses import Defense
from nad.defenses.batched import batched


@pytest.mark.parametrize(
    ("count", "student", "teacher"),
    [
        (128, (128, 20), (64, 10)),  # one batch is enough
        (127, (127, 40), (64, 10)),
        (63, (63, 40), (63, 20)),
        (8, (8, 40), (8, 20)),
        (7, (128, 20), (64, 10)),  # too few for any: the method says so
    ],
)
def test_images_that_do_not_fill_a_batch_are_one_and_take_twice_the_epochs(count, student, teacher):
    made = batched(Defense.parse("nad-sau"), count)
    for method, expected in ((made, student), (made.teacher, teacher)):
        assert (method.how().batch, method.how().epochs) == expected
    assert batched(made, count) == made, "once is enough"


def test_where_a_method_ends_early_moves_along():
    assert batched(Defense.parse("finetune:epochs=10,until=4"), 20).until == 8


def test_every_method_in_a_chain_is_fitted():
    made = batched(Defense.parse("chain:first=(finetune:batch=100),then=(anp)"), 60)
    assert made.first.batch == 60
    assert made.then == Defense.parse("anp"), "it draws batches without end"
    assert batched(Defense.parse("finetune"), 64) == Defense.parse("finetune")
