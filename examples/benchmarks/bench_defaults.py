"""Defaults chosen by experiment: configurations drawn at random, over all tables of the suite.

    python examples/benchmarks/bench_defaults.py --data-home DIR --configurations 40
    python examples/benchmarks/bench_defaults.py --data-home DIR --parts whole --only 0 3 17
    python examples/benchmarks/bench_defaults.py --report

Configuration 0 is the default as it is; number i is drawn by seed i: each parameter keeps its
default with probability one half and else takes another value of SPACE. Number 1000 + i makes the
i-th single change (``--single max_epochs patience`` runs those of two parameters). Each
(configuration, table, rows, seed) is a record of a JSON-lines file; what is there is not run again.
The network runs alone (``--parts alone``) or with the parts beside it (``--parts whole``).

The regret of a configuration on a table is (log loss - least) / (median - least) over all
configurations, at most 3. ``--report`` picks, for each table, the configuration of the least mean
regret on the validation rows of all *other* tables, and prints what it has on the test rows of that
one; then what each value of each parameter has as mean regret over the configurations that hold it.
"""

import argparse
import json
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from _suite import available, load
from _suite_records import append
from sklearn.metrics import log_loss, roc_auc_score
from threadpoolctl import threadpool_limits

from sklearn_autorec import CTRClassifier
from sklearn_autorec.networks import DefaultNetwork

RESULTS = Path("build") / "defaults" / "results.jsonl"
CAP = 3.0

# The first value of each is the default.
SPACE = {
    "hidden_units": [(128, 64), (64,), (256, 128), (400, 400)],
    "dropout": [0.3, 0.0, 0.1, 0.5],
    "n_cross_layers": [0, 1, 2],
    "embedding_dim": [8, 4, 16],
    "lr": [4e-3, 1e-3, 2e-3, 8e-3],
    "embedding_l2": [0.3, 0.03, 0.1, 1.0],
    "weight_decay": [1e-5, 0.0, 1e-6, 1e-4],
    "embedding_init": [0.01, 0.001, 0.1],
    "averaging": [0.99, 0.0, 0.999],
    "lr_schedule": ["cosine", "constant"],
    "patience": [4, 2, 3],
    "max_epochs": [20, 8, 12],
    "numeric_embedding": ["piecewise", "periodic", "linear"],
}
OF_NETWORK = ("hidden_units", "dropout", "n_cross_layers")


SINGLE = 1000  # numbers from here on change one parameter alone
CHANGES = [(name, value) for name, choices in SPACE.items() for value in choices[1:]]


def draw(number):
    """Values of all parameters of a configuration."""
    if number >= SINGLE:
        name, value = CHANGES[number - SINGLE]
        return {**draw(0), name: value}
    rng = np.random.default_rng(number)
    values = {}
    for name, choices in SPACE.items():
        keep = number == 0 or rng.random() < 0.5
        values[name] = choices[0] if keep else choices[1 + rng.integers(len(choices) - 1)]
    return values


def estimator(values, parts, seed):
    """The classifier of a configuration, unfitted."""
    own = {name: value for name, value in values.items() if name in OF_NETWORK}
    others = {name: value for name, value in values.items() if name not in OF_NETWORK}
    beside = {"wide": None, "target_statistics": False} if parts == "alone" else {}
    return CTRClassifier(network=DefaultNetwork(**own), random_state=seed, **others, **beside)


def measure(values, parts, table, seed):
    """Losses on validation and test rows, AUC, processor seconds and epochs, as a dict."""
    model = estimator(values, parts, seed)
    start = time.process_time()
    model.fit(table.X_train, table.y_train, X_val=table.X_valid, y_val=table.y_valid)
    seconds = time.process_time() - start
    probability = {
        part: model.predict_proba(getattr(table, f"X_{part}"))[:, 1] for part in ("valid", "test")
    }
    return {
        "valid_log_loss": float(log_loss(table.y_valid, probability["valid"])),
        "test_log_loss": float(log_loss(table.y_test, probability["test"])),
        "test_auc": float(roc_auc_score(table.y_test, probability["test"])),
        "seconds": round(seconds, 3),
        "epochs": len(model.history_),
    }


def read(path, parts, rows):
    """Records by (configuration, table), means over seeds."""
    by_key = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        record = json.loads(line)
        if record["parts"] == parts and record["rows"] == rows:
            if record["values"] != json.loads(json.dumps(draw(record["configuration"]))):
                continue  # of another space
            by_key.setdefault((record["configuration"], record["table"]), {})[record["seed"]] = (
                record
            )
    return by_key


def run(args):
    """Measure what is asked for and not there yet, table by table within a configuration."""
    numbers = args.only if args.only is not None else list(range(args.configurations))
    if args.single is not None:
        numbers = [SINGLE + i for i, (name, _) in enumerate(CHANGES) if name in args.single]
    tables = {
        seed: {name: load(name, args.rows, seed, data_home=args.data_home) for name in args.tables}
        for seed in args.seeds
    }
    for number in numbers:
        for seed in args.seeds:
            for name in args.tables:
                if seed in read(args.results, args.parts, args.rows).get((number, name), {}):
                    continue
                values = draw(number)
                record = {"configuration": number, "table": name, "rows": args.rows, "seed": seed}
                record |= {"parts": args.parts, "values": values}
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    record |= measure(values, args.parts, tables[seed][name], seed)
                append(args.results, record)
                print(
                    f"{number:>4} {name:<18} seed {seed}  {record['test_log_loss']:.4f} "
                    f"{record['test_auc']:.4f} {record['seconds']:.1f} s",
                    flush=True,
                )


def regret(losses, drawn):
    """Normalised regret, (n_configurations, n_tables) from losses of the same shape.

    The median is that of the configurations ``drawn``, which single changes would pull to the
    default."""
    least, middle = losses.min(0), np.median(losses[drawn], 0)
    return np.minimum((losses - least) / np.maximum(middle - least, 1e-12), CAP)


def report(args, out=sys.stdout):
    """Picks with one table left out, and the mean regret of each value."""
    records = read(args.results, args.parts, args.rows)
    tables = sorted({table for _, table in records})
    numbers = sorted({number for number, _ in records})
    numbers = [n for n in numbers if all((n, table) in records for table in tables)]
    if len(numbers) < 2:
        raise SystemExit("There are fewer than two configurations that ran on all tables.")

    def array(name):
        cells = [[records[n, t].values() for t in tables] for n in numbers]
        return np.array([[np.mean([r[name] for r in cell]) for cell in row] for row in cells])

    valid, test = array("valid_log_loss"), array("test_log_loss")
    auc, seconds = array("test_auc"), array("seconds")
    drawn = [i for i, number in enumerate(numbers) if number < SINGLE]
    of_valid, of_test = regret(valid, drawn), regret(test, drawn)
    print(f"{len(numbers)} configurations, {len(drawn)} drawn, {len(tables)} tables\n", file=out)
    head = (
        f"{'table left out':<20}{'pick':>5}{'log loss':>10}{'default':>10}{'best':>10}"
        f"{'median':>10}"
    )
    print(head + f"{'AUC':>9}{'default':>9}", file=out)
    default = numbers.index(0) if 0 in numbers else None
    for k, name in enumerate(tables):
        pick = int(np.delete(of_valid, k, axis=1).mean(1).argmin())
        own = "" if default is None else f"{test[default, k]:>10.4f}"
        own_auc = "" if default is None else f"{auc[default, k]:>9.4f}"
        print(
            f"{name:<20}{numbers[pick]:>5}{test[pick, k]:>10.4f}{own}{test[:, k].min():>10.4f}"
            f"{np.median(test[drawn, k]):>10.4f}{auc[pick, k]:>9.4f}{own_auc}",
            file=out,
        )
    print("\nconfiguration  regret (validation, test)  seconds to those of the default", file=out)
    for i in np.argsort(of_valid.mean(1)):
        relative = np.nan if default is None else np.median(seconds[i] / seconds[default])
        values = draw(numbers[i])
        changed = ", ".join(f"{k}={v}" for k, v in values.items() if v != SPACE[k][0])
        print(
            f"{numbers[i]:>5}{of_valid[i].mean():>8.3f}{of_test[i].mean():>8.3f}{relative:>7.2f}  "
            f"{changed or 'the default'}",
            file=out,
        )
    print(
        "\nmean test regret of the drawn configurations that hold a value (number of them)",
        file=out,
    )
    for name, choices in SPACE.items():
        cells = []
        for value in choices:
            rows = [i for i in drawn if draw(numbers[i])[name] == value]
            if rows:
                cells.append(f"{value}: {of_test[rows].mean():.3f} ({len(rows)})")
        print(f"{name:<20}" + "  ".join(cells), file=out)


def main(argv=None):
    """Run, or report."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data-home", default=None, help="folder of the tables")
    p.add_argument("--results", type=Path, default=RESULTS, help="JSON-lines file")
    p.add_argument("--configurations", type=int, default=40, help="how many, from number 0")
    p.add_argument("--only", nargs="*", type=int, default=None, help="numbers of configurations")
    p.add_argument("--single", nargs="*", help="parameters that are changed alone")
    p.add_argument("--parts", choices=["alone", "whole"], default="alone")
    p.add_argument("--tables", nargs="*", default=None)
    p.add_argument("--rows", type=int, default=20_000)
    p.add_argument("--seeds", nargs="*", type=int, default=[0])
    p.add_argument("--report", action="store_true")
    args = p.parse_args(argv)
    if args.report:
        report(args)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    args.tables = args.tables or available(args.data_home)
    with threadpool_limits(1):
        run(args)


if __name__ == "__main__":
    main()
