"""Every method beside what people use, over the real tables: AUC, log loss (RMSE), seconds, bytes,
one-row latency.

    # All models, 20,000 training rows, three seeds.
    python examples/benchmarks/bench_suite.py --data-home DIR
    python examples/benchmarks/bench_suite.py --models "CTRClassifier()" --tables adult bank \\
        --rows 1000 20000 full --seeds 0
    python examples/benchmarks/bench_suite.py --models ours --task ratings
    # Tables, ranks and the picture of what is there.
    python examples/benchmarks/bench_suite.py --report

Each (table, rows, model, seed) is one record, appended to ``--results``; what is finished is
skipped, so that a run can be stopped at any time. A record whose parameters have changed runs
again; ``--rerun`` also runs again what rests on other code of the package, ``--retry`` what
failed. A seed draws the training rows (where not all are used) and goes to the model. Seconds are
processor seconds of the whole ``fit`` on one thread, tuning included; latency is the median over
200 raw rows, each a DataFrame. Install the rivals with ``pip install "sklearn-autorec[bench]"``.
Models stand in ``_suite_models.py``, tables in ``_suite.py``.
"""

import argparse
import functools
import pickle
import sys
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch
from _suite import available, load, tables
from _suite_models import chosen, takes_validation_rows
from _suite_records import (
    append,
    digest_of_code,
    digest_of_parameters,
    finished,
    read,
    rests_on_the_package,
    versions,
)
from _suite_report import report
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from threadpoolctl import threadpool_limits

RESULTS = Path("build") / "suite" / "results.jsonl"
PICTURE = Path(__file__).parents[2] / "doc" / "images" / "suite_ranks.png"
ONE_ROW_CALLS = 200


def predictions(model, X, task):
    """Probabilities of class 1, or ratings."""
    return model.predict_proba(X)[:, 1] if task == "clicks" else model.predict(X)


def latency(model, X, task, calls=ONE_ROW_CALLS):
    """Milliseconds of a prediction of one raw row: median and 95th percentile."""
    rows = [X.iloc[i % len(X) : i % len(X) + 1] for i in range(calls + 10)]
    seconds = []
    for row in rows:
        start = time.perf_counter()
        predictions(model, row, task)
        seconds.append(time.perf_counter() - start)
    p50, p95 = np.percentile(seconds[10:], [50, 95]) * 1e3  # the first calls fill caches
    return {"ms_p50": round(float(p50), 4), "ms_p95": round(float(p95), 4)}


def quality(task, y, predicted, y_train):
    """Scores on the test rows, and those of a constant from the training rows."""
    if not np.isfinite(predicted).all():
        raise ValueError("predictions are not finite")
    if task == "clicks":
        rate = float(np.mean(y_train))
        return {
            "auc": float(roc_auc_score(y, predicted)),
            "log_loss": float(log_loss(y, np.clip(predicted, 1e-7, 1 - 1e-7))),
            "base_log_loss": float(
                log_loss(y, np.full(len(y), np.clip(rate, 1e-7, 1 - 1e-7)), labels=[0, 1])
            ),
        }
    constant = np.full(len(y), np.mean(y_train))
    return {
        "rmse": float(root_mean_squared_error(y, predicted)),
        "base_rmse": float(root_mean_squared_error(y, constant)),
    }


def evaluate(table, task, estimator):
    """Fit, predict and measure; a dict of figures."""
    kind = "y" if task == "clicks" else "rating"
    y_train, y_valid, y_test = (
        getattr(table, f"{kind}_{part}") for part in ("train", "valid", "test")
    )
    options = {"X_val": table.X_valid, "y_val": y_valid} if takes_validation_rows(estimator) else {}
    wall, cpu = time.perf_counter(), time.process_time()
    model = estimator.fit(table.X_train, y_train, **options)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    start = time.process_time()
    predicted = predictions(model, table.X_test, task)
    predict_cpu = time.process_time() - start
    figures = quality(task, y_test, predicted, y_train)
    figures |= {
        "fit_cpu_s": round(cpu, 3),
        "fit_wall_s": round(wall, 3),
        "predict_cpu_s": round(predict_cpu, 3),
    }
    figures["bytes"] = len(pickle.dumps(model))
    figures |= latency(model, table.X_test, task)
    for name in ("n_trees_", "n_epochs_", "gave_up_"):
        if hasattr(model, name):
            value = getattr(model, name)
            figures[name] = bool(value) if isinstance(value, bool) else int(value)
    return figures


def rows_of(text):
    """A number of rows, or None for "full"."""
    return None if text == "full" else int(text)


def jobs(args):
    """(task, table, rows, model name, seed, maker), model by model, so that cheap models finish
    first.
    """
    for task in args.task:
        names = [name for name in tables(ratings=task == "ratings") if name in args.tables]
        for model, make in chosen(task, args.models).items():
            for rows in args.rows:
                for name in names:
                    for seed in args.seeds:
                        yield task, name, rows, model, seed, make


def run(args, read_table=load, out=sys.stdout):
    """Do all that is asked for and not finished; the number of new records."""
    package_code, installed, done = digest_of_code(), versions(), 0
    for task, name, rows, model, seed, make in jobs(args):
        try:
            estimator = make(seed)
        except ImportError as error:
            print(f"{model} is left out: {error}", file=out, flush=True)
            continue
        code = package_code if rests_on_the_package(estimator) else None
        params = digest_of_parameters(estimator)
        key = (task, name, rows, model, seed)
        # Read again each time: another process may write to the same file.
        records = read(args.results)
        if args.rerun:
            records = [record for record in records if record["code"] == code]
        if finished(records, key, params, args.retry):
            continue
        table = read_table(name, rows, seed)
        record = dict(zip(("task", "table", "rows", "model", "seed"), key, strict=True))
        record |= {
            "params": params,
            "code": code,
            "versions": installed,
            "when": time.strftime("%Y-%m-%dT%H:%M:%S"),
        }
        record |= {
            "n_train": len(table.y_train),
            "n_valid": len(table.y_valid),
            "n_test": len(table.y_test),
        }
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                record |= {"status": "ok", **evaluate(table, task, estimator)}
        except ImportError as error:
            print(f"{model} is left out: {error}", file=out, flush=True)
            continue
        except Exception as error:
            record |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
            traceback.print_exc(file=sys.stderr)
        append(args.results, record)
        done += 1
        print(line_of(record), file=out, flush=True)
    return done


def line_of(record):
    """One line for a person."""
    head = (
        f"{record['table']:<18}{record['rows'] or 'full'!s:>7}  {record['model']:<24} seed "
        f"{record['seed']}  "
    )
    if record["status"] != "ok":
        return head + record["error"]
    scores = (
        f"AUC {record['auc']:.4f}  log loss {record['log_loss']:.4f}"
        if "auc" in record
        else f"RMSE {record['rmse']:.4f}"
    )
    gave_up = "  gave up" if record.get("gave_up_") else ""
    return (
        f"{head}{scores}  {record['fit_cpu_s']:.1f} s  {record['bytes'] / 1e6:.2f} MB  "
        f"{record['ms_p50']:.2f} ms{gave_up}"
    )


def arguments(argv):
    """Command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--data-home", default=None, help="folder of the tables (default: SKLEARN_AUTOREC_DATA)"
    )
    p.add_argument("--results", type=Path, default=RESULTS, help="JSON-lines file")
    p.add_argument(
        "--task", nargs="*", choices=["clicks", "ratings"], default=["clicks", "ratings"]
    )
    p.add_argument("--tables", nargs="*", default=None, choices=tables())
    p.add_argument(
        "--models", nargs="*", default=None, help='names, or the groups "rivals" and "ours"'
    )
    p.add_argument(
        "--rows", nargs="*", type=rows_of, default=[20_000], help='training rows at most, or "full"'
    )
    p.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    p.add_argument("--retry", action="store_true", help="run failed ones again")
    p.add_argument(
        "--rerun",
        action="store_true",
        help="run the package's own again where its code has changed",
    )
    p.add_argument(
        "--report", action="store_true", help="only print what the records say, and draw the ranks"
    )
    p.add_argument("--picture", type=Path, default=PICTURE, help="where --report draws the ranks")
    return p.parse_args(argv)


def main(argv=None):
    """Run, or report."""
    args = arguments(argv)
    if args.report:
        print(
            report(
                read(args.results), picture=args.picture, code=digest_of_code(), models=args.models
            )
        )
        return
    torch.set_num_threads(1)
    there = available(args.data_home)
    if missing := sorted(set(args.tables or []) - set(there)):
        raise SystemExit(
            f"There is no folder of {', '.join(missing)}; set --data-home or SKLEARN_AUTOREC_DATA."
        )
    args.tables = args.tables or there
    read_table = functools.lru_cache(maxsize=4)(functools.partial(load, data_home=args.data_home))
    with threadpool_limits(1):
        run(args, read_table)


if __name__ == "__main__":
    main()
