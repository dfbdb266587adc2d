"""Layers that a user named, in every method that compares layers."""

from nad.defenses import Defense
from nad.defenses.staged import staged


def test_named_layers_reach_every_method_that_names_none():
    method = Defense.parse("chain:first=(finetune),then=(nad:teacher=(nad-sau:stages=own))")
    made = staged(method, ("a", "b"))
    assert made.then.stages == ("a", "b")
    assert made.then.teacher.stages == ("own",)
    assert made.first == method.first
    assert method.then.stages is None
