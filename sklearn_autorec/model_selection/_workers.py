"""Which GPU a worker process uses."""

import multiprocessing
import os
import re
import shutil
import subprocess
import sys


def use_gpu_of_worker(gpus=None, *, index=None, dask_worker=None):
    """Make one of this machine's GPUs the only one that the calling process sees.

    To be called in a worker before it touches a GPU: workers number 0, 1, ... get the first, the
    second GPU and so on, beginning again when there are more workers than GPUs.

    Parameters
    ----------
    gpus : list of (int or str) or None, default=None
        Names as in the environment variable CUDA_VISIBLE_DEVICES. None takes those which that
        variable names, or all that ``nvidia-smi`` lists.
    index : int or None, default=None
        Number of the worker on this machine, from 0. None reads it from the name of the dask worker
        (``LocalCluster`` calls them 0, 1, ...; ``dask worker --name box --nworkers 4`` box-0,
        box-1, ...) or of the process (joblib's are LokyProcess-1, LokyProcess-2, ...). A process
        that is no worker has number 0.
    dask_worker : distributed.Worker or None, default=None
        Filled in by dask.

    Returns
    -------
    str or None
        The name of the GPU, as it now stands in CUDA_VISIBLE_DEVICES; None, and nothing changed,
        where there is none.

    Raises
    ------
    ValueError
        The name of the dask worker has no number.
    RuntimeError
        This process has used a GPU already, which cannot be undone.

    Examples
    --------
    Every worker of a dask cluster, those that start later too:

    >>> from sklearn_autorec.model_selection import use_gpu_of_worker
    >>> client.register_worker_callbacks(use_gpu_of_worker)  # doctest: +SKIP

    joblib's own workers:

    >>> from joblib import parallel_config
    >>> with parallel_config(backend="loky", initializer=use_gpu_of_worker):  # doctest: +SKIP
    ...     search.fit(X, y)
    """
    if gpus is None:
        gpus = _gpus()
    if not gpus:
        return None
    torch = sys.modules.get("torch")  # CUDA reads the variable once
    chosen = str(gpus[(_number(dask_worker) if index is None else index) % len(gpus)])
    if (
        torch is not None
        and torch.cuda.is_initialized()
        and os.environ.get("CUDA_VISIBLE_DEVICES") != chosen
    ):
        raise RuntimeError(f"this process has used a GPU already; it is too late for GPU {chosen}.")
    os.environ["CUDA_VISIBLE_DEVICES"] = chosen
    return chosen


def _gpus():
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    listed = subprocess.run(
        [command, "-L"], capture_output=True, text=True, timeout=60, check=False
    )
    return [
        line.split()[1].rstrip(":")
        for line in listed.stdout.splitlines()
        if line.startswith("GPU ")
    ]


def _number(dask_worker):
    if dask_worker is None:
        found = re.search(r"-(\d+)$", multiprocessing.current_process().name)
        return int(found[1]) - 1 if found else 0
    name = str(dask_worker.name)
    found = re.search(r"(?:^|-)(\d+)$", name)
    if found is None:
        raise ValueError(
            f"the dask worker {name!r} has no number; start workers with --name NAME --nworkers "
            f"N, or give index."
        )
    return int(found[1])
