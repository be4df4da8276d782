"""Fits of several processes, and fits that a dead process does not lose."""

import dataclasses

import numpy as np

from ..engine._processes import processes_of
from ..engine._serving_form import resolve_device
from ..engine._training_state import TrainingCheckpoint
from ..utils._identity import identity

__all__ = [
    "check_distribution",
    "check_in_memory",
    "check_same_rows",
    "checkpoint_of",
    "device_of_process",
    "joined",
]

# Parameters that do not change what a fit finds, and random_state, whose seeds count.
BESIDE = ("checkpoint", "device", "distributed", "random_state", "verbose", "warm_start")


def joined(estimator):
    """The processes that the parameter ``distributed`` asks for, as `processes_of`."""
    return processes_of(estimator.distributed)


def check_distribution(estimator, methods):
    """Refuse searches that several processes cannot do together, and checkpoints of fits that would
    not be the same another time.

    Raises
    ------
    ValueError
    """
    if estimator.distributed:
        alone = [method for method in methods if not method.distributes]
        if alone:
            raise ValueError(
                f"distributed=True: search={alone[0]!r} cannot search in several processes. Search "
                f"with distributed=False, and train what it has found by from_architecture(..., "
                f"distributed=True)."
            )
    if estimator.checkpoint is None:
        return
    if estimator.max_time is not None:
        raise ValueError(
            f"checkpoint cannot go with max_time={estimator.max_time}: what has been found when a "
            f"time is over is another thing each time, and nothing that a later fit could go on "
            f"from; set max_time=None and end the process, or checkpoint=None."
        )
    if estimator.warm_start:
        raise ValueError(
            "checkpoint needs warm_start=False: a training that goes on from an earlier one is "
            "another one each time."
        )
    if not isinstance(estimator.random_state, int | np.integer):
        raise ValueError(
            f"checkpoint needs a random_state that is an int, got {estimator.random_state!r}: the "
            f"fit that goes on must be the same as the one that died."
        )


def check_in_memory(estimator):
    """Refuse, of rows that come in blocks, what needs all of them in memory.

    Raises
    ------
    ValueError
    """
    if estimator.checkpoint is not None:
        raise ValueError(
            f"checkpoint={str(estimator.checkpoint)!r} needs rows in memory, and the data set has "
            f"more than buffer_rows; raise buffer_rows, or leave checkpoint out."
        )


def device_of_process(device, processes):
    """The device that the parameter asks for, in this one of several processes."""
    return resolve_device(device if processes is None else processes.device(device))


def _parameters(estimator):
    own = estimator.get_params(deep=False)
    return identity({name: value for name, value in own.items() if name not in BESIDE})


def _table(rows):
    """Hash of encoded rows with what their values stand for."""
    table, encoder = rows.table, getattr(rows.encoder, "estimator", rows.encoder)
    known = [getattr(encoder, name, None) for name in ("categories_", "sequence_categories_")]
    values = [[np.asarray(v).astype(str) for v in of_columns or []] for of_columns in known]
    return identity([*(getattr(table, f.name) for f in dataclasses.fields(table)), values])


def _of_rows(rows, suffix=""):
    """Hashes of rows by the names of the arguments of ``fit``."""
    names = ("X", "y", "sample_weight", "groups")
    if rows is None:
        return {f"{name}{suffix}": "none" for name in names}
    values = (
        identity([_table(rows), rows.times]),
        identity(rows.y),
        identity(rows.weight),
        identity(rows.groups),
    )
    return {f"{name}{suffix}": value for name, value in zip(names, values, strict=True)}


def check_same_rows(estimator, processes, rows, fitted=None, suffix=""):
    """Refuse processes with other rows, parameters or epochs before than the first.

    Raises
    ------
    ValueError
        In each of them, naming what differs.
    """
    if processes is not None:
        before = {"n_iter_": str(None if fitted is None else fitted.n_iter_)}
        own = {"parameters": _parameters(estimator), **before, **_of_rows(rows, suffix)}
        processes.check_same(own)


def checkpoint_of(estimator, rows, validation, seeds, processes):
    """The folder that the parameter ``checkpoint`` names, as `TrainingCheckpoint`, or None."""
    if estimator.checkpoint is None:
        return None
    known = {
        "parameters": _parameters(estimator),
        "random_state": identity([seeds.initial, seeds.order, seeds.split, seeds.companions]),
        **_of_rows(rows),
        **_of_rows(validation, "_val"),
    }
    return TrainingCheckpoint(estimator.checkpoint, known, processes)
