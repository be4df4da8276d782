"""Shared by the benchmark scripts: data, scores, machine, a plain training loop."""

import argparse
import os
import platform
import time
import warnings
from importlib.metadata import version

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

from sklearn_autorec.datasets import fetch_frappe
from sklearn_autorec.exceptions import UnknownCategoryWarning


def parser(description):
    """Command-line options that every script has."""
    p = argparse.ArgumentParser(description=description)
    p.add_argument(
        "--data-home", default=None, help="folder with frappe_x1/ (default: SKLEARN_AUTOREC_DATA)"
    )
    p.add_argument("--threads", type=int, default=2)
    return p


def frappe(data_home):
    """Train, valid and test as (DataFrame, labels)."""
    return {
        s: fetch_frappe(subset=s, data_home=data_home, return_X_y=True)
        for s in ("train", "valid", "test")
    }


def scores(y, p):
    """AUC and log loss."""
    return roc_auc_score(y, p), log_loss(y, np.clip(p, 1e-7, 1 - 1e-7))


def print_machine():
    """One line that says where and with what the figures were measured."""
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "scikit-learn", "skorch", "numpy", "pandas")
    )
    print(
        f"# {time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {versions}, "
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    )


def tables_of(args, load):
    """The tables that ``args.data`` asks for, one after the other, and their sizes as a line.

    Yields (name, rows to train and validate, labels, rows to test, labels, numeric columns);
    ``load(name, data_home)`` gives all but the name. A model that has not converged is an error."""
    print_machine()
    warnings.simplefilter("ignore", UnknownCategoryWarning)
    warnings.simplefilter("error", ConvergenceWarning)
    for name in args.data:
        X, y, X_test, y_test, numeric = load(name, args.data_home)
        print(f"\n{name}: {len(X):,} rows to train and validate, {len(X_test):,} to test")
        yield name, X, y, X_test, y_test, numeric


def tenth_held_out(X, y, seed):
    """Rows to train, rows to stop by, and the labels of both, as many of each class."""
    return train_test_split(X, y, test_size=0.1, stratify=y, random_state=seed)


class PoolDropout(torch.nn.Module):
    """Dropout from a fixed pool of mask values at a random offset: the fastest known on a CPU."""

    def __init__(self, p, size=2**23):
        super().__init__()
        self.register_buffer("pool", (torch.rand(size) > p).float() / (1 - p), persistent=False)

    def forward(self, x):
        if not self.training:
            return x
        offset = int(torch.randint(0, self.pool.numel() - x.numel(), ()))
        return x * self.pool[offset : offset + x.numel()].view(x.shape)


class BareFM(torch.nn.Module):
    """FM over one fused table, as one would write it by hand."""

    def __init__(self, sizes, dim):
        super().__init__()
        self.register_buffer(
            "offsets", torch.tensor([0, *np.cumsum(sizes)[:-1]], dtype=torch.int64)
        )
        self.emb = torch.nn.Embedding(sum(sizes), dim)
        self.lin = torch.nn.Embedding(sum(sizes), 1)
        for table in (self.emb, self.lin):
            torch.nn.init.normal_(table.weight, std=1e-4)
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def embed(self, ids):
        """Embeddings (B, F, d) and the FM logit (B,)."""
        e = self.emb(ids)
        total = e.sum(1)
        pairs = 0.5 * (total * total - (e * e).sum(1)).sum(1)
        return e, self.bias + self.lin(ids).squeeze(-1).sum(1) + pairs

    def forward(self, ids):
        return self.embed(ids)[1]


class BareDeepFM(BareFM):
    """DeepFM with batch norm; ``dropout`` is a module class or None."""

    def __init__(self, sizes, dim, hidden, dropout, p=0.2):
        super().__init__(sizes, dim)
        layers, n = [], len(sizes) * dim
        for h in hidden:
            layers += [torch.nn.Linear(n, h), torch.nn.BatchNorm1d(h), torch.nn.ReLU()]
            layers += [dropout(p)] if dropout else []
            n = h
        self.mlp = torch.nn.Sequential(*layers, torch.nn.Linear(n, 1))

    def forward(self, ids):
        e, fm = self.embed(ids)
        return fm + self.mlp(e.flatten(1)).squeeze(-1)


class BareLoop:
    """A training loop without any framework: tensors on the device, one index_select per batch,
    fused Adam.
    """

    def __init__(self, model, ids, y, batch_size, l2=0.05, lr=1e-3):
        self.model, self.ids, self.y, self.batch_size = model, ids, y, batch_size
        tables = [p for n, p in model.named_parameters() if n.startswith(("emb", "lin"))]
        others = [p for n, p in model.named_parameters() if not n.startswith(("emb", "lin"))]
        groups = [{"params": tables, "weight_decay": l2}, {"params": others}]
        self.optimizer = torch.optim.Adam([g for g in groups if g["params"]], lr=lr, fused=True)

    def epoch(self):
        """Train one epoch."""
        self.model.train()
        order = torch.randperm(len(self.ids), device=self.ids.device)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            self.optimizer.zero_grad(set_to_none=True)
            logits = self.model(self.ids.index_select(0, rows))
            torch.nn.functional.binary_cross_entropy_with_logits(
                logits, self.y.index_select(0, rows)
            ).backward()
            self.optimizer.step()


def timed(work):
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def ratio_of(own, base):
    """Seconds over those of the same rounds of something else: median [least, most]."""
    ratio = np.array(own) / np.array(base)
    return f"{np.median(ratio):.2f} [{ratio.min():.2f}, {ratio.max():.2f}]"


def rounds_of(lines, rounds):
    """Seconds that callables give by name, in turns behind a round that warms up."""
    times = {name: [] for name in lines}
    for seconds in lines.values():
        seconds()
    for _ in range(rounds):
        for name, seconds in lines.items():
            times[name].append(seconds())
    return times


class EpochClock:
    """A scikit-learn callback that notes when each epoch ends, by a clock in seconds."""

    def __init__(self, clock=time.perf_counter):
        self.clock, self.ends = clock, []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.ends.append(self.clock())
