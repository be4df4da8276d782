"""Fits that several processes do together, and how such processes are started.

As a script: fits the cases in one of several processes, and leaves in a folder what it has found.
"""

import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import warnings
import weakref
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pandas as pd
import torch

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import ParquetDataset
from sklearn_autorec.engine import _processes, _time_limit
from sklearn_autorec.engine._distributed_net import DistributedNet
from sklearn_autorec.exceptions import ConvergenceWarning, ProcessLostError
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import DIN, FM, DCNv3, DeepFM, MLPNetwork
from sklearn_autorec.preprocessing import FieldEncoder

N_ROWS = 4 * 64 + 2  # the last batch has two rows: of three processes one has none


def table(n_values=7, seed=0):
    """Rows of which the product of two columns says the label, with weights."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, n_values, (N_ROWS, 3))
    X = pd.DataFrame(ids.astype(str), columns=["a", "b", "c"]).assign(
        number=rng.normal(size=N_ROWS)
    )
    y = (ids[:, 0] + ids[:, 1]) % 2 ^ (rng.random(N_ROWS) < 0.1)
    return X, y, rng.uniform(0.5, 1.5, N_ROWS)


def fit(estimator, distributed, n_values=7):
    X, y, weight = table(n_values)
    estimator.set_params(distributed=distributed)
    return estimator.fit(X, y, sample_weight=weight)


def case(estimator, n_values=7):
    return lambda distributed: fit(estimator(), distributed, n_values)


def in_two_fits(distributed):
    options = {"lr": 0.01, "batch_size": 8, "max_epochs": 1, "random_state": 0}
    model = CTRClassifier(network="fm", warm_start=True, embedding_l2=0.01, **options)
    return fit(fit(model, distributed, 200).set_params(max_epochs=3), distributed, 200)


def of_lists(distributed):
    """Three classes, and a column of lists, some of them empty."""
    X, y, _ = table()
    X["tags"] = [[*range(int(value))] for value in X["c"]]
    network = DeepFM((8,), dropout=0.0, batch_norm=False)
    model = CTRClassifier(network=network, distributed=distributed, **PLAIN)
    return model.fit(X.drop(columns="c"), y + (X["c"] == "3"))


def with_vectors(distributed):
    """A column whose vectors are given, of which some stay, and rows sampled by their label."""
    values = [str(value) for value in range(5)]
    vectors = pd.DataFrame(np.linspace(-0.5, 0.5, 20).reshape(5, 4), index=values)
    model = CTRClassifier(
        network="fm",
        embedding_dim=4,
        initial_embeddings={"a": vectors},
        frozen_embeddings=["a"],
        negative_sampling_rate=0.5,
        **PLAIN,
    )
    fit(model, distributed)
    kept = model.get_embeddings("a").loc[values].to_numpy()
    np.testing.assert_array_equal(kept, vectors.to_numpy(np.float32))
    return model


def with_histories(network):
    """Lists whose items are values of another column, read by what goes with each row's value."""

    def fit_histories(distributed):
        X, y, _ = table()
        histories = [[a, b][: int(c) % 3] for a, b, c in X[["a", "b", "c"]].to_numpy()]
        X = X[["a"]].assign(history=histories)
        encoder = FieldEncoder(shared_vocabularies={"history": "a"})
        model = CTRClassifier(network=network(), encoder=encoder, **PLAIN)
        return model.set_params(distributed=distributed).fit(X, y)

    return fit_histories


def of_blocks(distributed):
    """Rows in files, of which a buffer holds a part, with held-out rows and a search."""
    X, y, _ = table()
    with TemporaryDirectory() as folder:
        X.assign(y=y).to_parquet(Path(folder) / "rows.parquet", row_group_size=50)
        rows = ParquetDataset(folder, buffer_rows=100, sample_rows=40)
        model = CTRClassifier(
            network="fm", search=AutoFIS(), distributed=distributed, early_stopping=True, **PLAIN
        )
        return model.fit(rows, "y")


def out_of_time(distributed):
    """The clock of the first process ends search and training amid an epoch; those of others are
    fast.
    """
    step = 100 if distributed and os.environ["RANK"] != "0" else 1
    ticks = itertools.count(step=step)
    clock = mock.patch.object(_time_limit, "now", lambda: next(ticks))
    model = CTRClassifier(network="fm", search=AutoFIS(threshold=0.05), max_time=18, **PLAIN)
    with clock, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit(model, distributed)


def doubled_log_loss(logits, y):
    return 2 * torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none")


def mean_of_true_class(estimator, X, y, sample_weight=None):
    return np.average(estimator.predict_proba(X)[np.arange(len(y)), y], weights=sample_weight)


PLAIN = {"lr": 0.01, "batch_size": 64, "max_epochs": 3, "random_state": 0}
# What several processes find as one does.
CASES = {
    "fm": case(lambda: CTRClassifier(network=FM(), **PLAIN)),
    "deepfm": case(
        lambda: CTRClassifier(
            network=DeepFM((8,), dropout=0.0, batch_norm=False),
            early_stopping=True,
            averaging=0.9,
            monitor="auc",
            lr_schedule="plateau",
            **PLAIN,
        )
    ),
    "functions": case(
        lambda: CTRClassifier(
            network=FM(),
            loss=doubled_log_loss,
            monitor=mean_of_true_class,
            early_stopping=True,
            **PLAIN,
        )
    ),
    "frozen": with_vectors,
    "row-wise": in_two_fits,
    "lists": of_lists,
    "members": case(lambda: RatingRegressor(network="fm", members=2, **PLAIN)),
    "norms": case(lambda: CTRClassifier(network=DeepFM((8, 4), dropout=0.0), **PLAIN)),
    "dropout": case(lambda: CTRClassifier(network=DeepFM((8, 4)), members=2, **PLAIN)),
    "numbers": case(lambda: CTRClassifier(network=MLPNetwork((8,), dropout=0.0), **PLAIN)),
    "din": with_histories(lambda: DIN((4,), dropout=0.0)),
    "dcnv3": case(lambda: CTRClassifier(network=DCNv3(), **PLAIN)),
    "blocks": of_blocks,
    "time": out_of_time,
    "autofis": case(lambda: CTRClassifier(network="fm", search=AutoFIS(threshold=0.05), **PLAIN)),
}


def default():
    """The default estimator, with dropout, parts beside the network and no seed."""
    return CTRClassifier(max_epochs=2, batch_size=128)


def found(model):
    """What is compared."""
    X, _, _ = table(200 if model.warm_start else 7)
    X["tags"] = [[*range(int(value))] for value in X["c"]]
    X["history"] = [[a, b] for a, b in X[["a", "b"]].to_numpy()]
    X = X[list(model.feature_names_in_)]
    predict = model.predict_proba if hasattr(model, "predict_proba") else model.predict
    return {
        "predictions": predict(X),
        "history": model.history_,
        "search_history": model.search_history_,
        "architecture": model.architecture_,
        "stopped": model.stopped_,
        "weights": model.part_weights_,
    }


def numbers_and_texts(values):
    """What is in nested dicts and lists: numbers, and everything else."""
    if isinstance(values, dict):
        values = [*values, *values.values()]
    if isinstance(values, list | tuple | np.ndarray):
        parts = [numbers_and_texts(value) for value in values]
        return sum((p[0] for p in parts), []), sum((p[1] for p in parts), [])
    is_number = isinstance(values, float | np.floating)
    return ([values], []) if is_number else ([], [str(values)])


def assert_found_alike(one, other):
    """What `found` gives of two fits is the same, numbers to 0.00001."""
    for name in one:
        (numbers, texts), (others, other_texts) = (
            numbers_and_texts(each[name]) for each in (one, other)
        )
        np.testing.assert_allclose(numbers, others, atol=1e-5, rtol=1e-5, err_msg=name)
        assert texts == other_texts, name


def environment(rank, size, port):
    """What torchrun tells a process of one machine."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
    }


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def started(job, folder, size):
    """Processes at a job of this script, each with its number."""
    port = free_port()
    command = [sys.executable, "-W", "error::UserWarning", __file__, job, str(folder)]
    return [
        subprocess.Popen(command, env=environment(rank, size, port), stderr=subprocess.PIPE)
        for rank in range(size)
    ]


def train_together(folder, rank):
    """Fit all cases, and be refused once."""
    results = {name: found(fit_case(True)) for name, fit_case in CASES.items()}
    results["default"] = found(fit(default(), True))
    X, y, _ = table()
    y = y if rank != 1 else 1 - y
    try:
        CTRClassifier(network="fm", distributed=True, **PLAIN).fit(X, y)
    except ValueError as error:
        results["refused"] = str(error)
    group = weakref.ref(torch.distributed.group.WORLD)
    _processes._leave()
    results["group is left"] = group() is None
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(results))


def search_together(folder, rank):
    """Fit all cases of searches."""
    from search_cases import SEARCHES

    results = {name: found(fit_case(True)) for name, fit_case in SEARCHES.items()}
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(results))


def with_checkpoint(folder, **changes):
    """A fit that keeps its epochs."""
    options = {"max_epochs": 4, "early_stopping": True, "patience": 4}
    options["checkpoint"] = folder / "epochs"
    options["network"] = DeepFM((8,), dropout=0.0, batch_norm=False)
    return CTRClassifier(**{**PLAIN, **options, **changes})


def searched_with_checkpoint(folder, **changes):
    """A search, and a training that keeps its epochs."""
    return with_checkpoint(folder, network="fm", search=AutoFIS(threshold=0.05), **changes)


def lose_one(folder, rank, end, estimator=with_checkpoint, n_steps=10):
    """Begin a fit of which process 1 ends in a step, of which there are four an epoch."""
    step, steps = DistributedNet.train_step, []

    def last_step(net, batch, **params):
        steps.append(1)
        if rank == 1 and len(steps) == n_steps:
            end()
        return step(net, batch, **params)

    DistributedNet.train_step = last_step
    try:
        fit(estimator(folder), True)
    except ProcessLostError as error:
        (folder / "lost").write_text(str(error))


def die_together(folder, rank):
    """Process 1 is killed."""
    lose_one(folder, rank, lambda: os.kill(os.getpid(), signal.SIGKILL))


def die_after_search(folder, rank):
    """Process 1 is killed in the third epoch after a search of four."""

    def end():
        os.kill(os.getpid(), signal.SIGKILL)

    lose_one(folder, rank, end, searched_with_checkpoint, 16 + 10)


def hang_together(folder, rank):
    """Process 1 does not answer any more, in a group that waits for ten seconds."""
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=10))
    lose_one(folder, rank, lambda: time.sleep(600))


if __name__ == "__main__":
    jobs = {
        "train": train_together,
        "search": search_together,
        "die": die_together,
        "die-after-search": die_after_search,
        "hang": hang_together,
    }
    jobs[sys.argv[1]](Path(sys.argv[2]), int(os.environ["RANK"]))
