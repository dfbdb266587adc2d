"""A training spread over several devices of this machine; Fabric does the work."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from threading import Thread
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.multiprocessing import ProcessRaisedException
from torch.nn.modules.batchnorm import _BatchNorm

from nad.data.images import ImageSet
from nad.errors import NadError
from nad.runtime import Run, silent

if TYPE_CHECKING:
    from lightning_fabric import Fabric

History = list[dict[str, Any]]


def spread(train: Callable[..., History], model: nn.Module, images: ImageSet, run: Run, *given: Any) -> History:
    """`train(model, images, run, *given)` in one process a device, each with its share of every batch.

    Args:
        train: a function of a module, since other processes find it by its name; so are functions in `given`.
        model: trained in place, and on the CPU after. BatchNorm takes its statistics over all devices.
        run: with the number of devices.

    Raises:
        NadError: more devices than there are, BatchNorm on a CPU, whose processes cannot share its statistics, or what
            `train` raised in one of the processes.
    """
    there = torch.cuda.device_count() if run.torch_device.type == "cuda" else run.devices
    if run.devices > there:
        raise NadError(f"--devices {run.devices}: this machine has {there}")
    live = any(isinstance(m, _BatchNorm) for m in model.modules())
    if run.torch_device.type != "cuda" and live:
        raise NadError(
            f"--devices {run.devices}: on {run.torch_device.type} BatchNorm would see a part of each batch alone; "
            "use --devices 1"
        )
    mistakes: list[NadError] = []
    alone = replace(run, progress=silent)  # a bar of this process cannot be drawn from another
    from lightning_fabric import Fabric  # see nad.runtime

    fabric = Fabric(
        accelerator=run.torch_device.type, devices=run.devices, strategy="ddp_spawn", precision=run.fabric_precision
    )
    try:
        with _listening(run, mistakes) as heard:
            state, history = fabric.launch(_Work(heard, train, model.cpu(), images, alone, given))
    except ProcessRaisedException:
        if mistakes:
            raise mistakes[0] from None  # as one device would say it
        raise
    model.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return history


@contextmanager
def _listening(run: Run, mistakes: list[NadError]) -> Iterator[Any]:
    """A queue of what the processes say: progress, which `run` shows, and errors, which `mistakes` collects."""
    heard = get_context("spawn").SimpleQueue()

    def listen() -> None:
        while said := heard.get():
            if isinstance(said, NadError):
                mistakes.append(said)
            else:
                run.progress(*said)

    listener = Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield heard
    finally:
        heard.put(None)
        listener.join()


@dataclass(frozen=True)
class _Work:
    """What each process does; an object, since Fabric looks into arguments and refuses frozen dataclasses there."""

    heard: Any
    train: Callable[..., History]
    model: nn.Module
    images: ImageSet
    run: Run
    given: tuple[Any, ...]

    def __call__(self, fabric: "Fabric") -> tuple[dict[str, Any], History]:
        model = copy.deepcopy(self.model)  # what came lies in memory that all processes share
        if fabric.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # the same keys
        progress = (lambda *said: self.heard.put(said)) if fabric.global_rank == 0 else silent
        try:
            history = self.train(model, self.images, replace(self.run, within=fabric, progress=progress), *self.given)
        except NadError as error:
            self.heard.put(error)
            raise
        # As arrays: a tensor is handed over by a process that still runs, and this one ends.
        state = {key: value.cpu().numpy() for key, value in model.state_dict().items()}
        fabric.barrier()
        torch.distributed.destroy_process_group()  # a process that ends with its threads running may be aborted
        return state, history
