"""Every search method of the package on real tables, beside no search: quality, cost, bytes.

    # All methods on Frappe, ML-1M, Avazu and Criteo samples, FM and DeepFM, 20,000 training rows.
    python examples/benchmarks/bench_methods.py --data-home DIR --threads 1
    python examples/benchmarks/bench_methods.py --tables frappe_x1 --seeds 0 1 2 --slots interaction
    # Embedding searches at shares of the dense bytes, beside the baselines.
    python examples/benchmarks/bench_methods.py --slots embedding --budgets 0.5 0.2 0.1 0.05
    # Tables of what is there.
    python examples/benchmarks/bench_methods.py --report

All fits have one recipe, `RECIPE`, which one look at Frappe decided, and early stopping by the
published validation rows. These also choose the L2 of embeddings among ``--decays``, for each
method, table and seed anew: what holds back a network with all its products keeps one with few of
them from learning at all. Test rows choose nothing. Interaction methods are also set beside random
pairs and pairs by information gain of the number each of them kept. Seconds are processor seconds
of one whole ``fit``; a ratio is to the fit of the same network without a search. Bytes are those of
the model file and, of tables, ``nbytes_``. Records are appended to ``--results``, and what is there
is not run again, so that a run can be stopped at any time.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import pandas as pd
import torch
from _common import print_machine, scores
from _suite import load
from threadpoolctl import threadpool_limits

from sklearn_autorec import CTRClassifier, embedding, feature_selection, interaction, losses
from sklearn_autorec.base import networks_with_slot
from sklearn_autorec.serving import save

RESULTS = Path("build") / "methods" / "results.jsonl"
TABLES = ("frappe_x1", "ml-1m", "avazu_sample", "criteo_sample")
NETWORKS = ("fm", "deepfm")
RECIPE = {
    "embedding_dim": 8,
    "embedding_init": 0.1,
    "lr": 0.01,
    "weight_decay": 1e-5,
    "averaging": 0.99,
    "lr_schedule": "cosine",
    "max_epochs": 20,
    "search_epochs": 12,
    "patience": 3,
}
DECAYS = (0.0, 0.003, 0.01, 0.03)
KEY = ("table", "rows", "network", "method", "budget", "seed", "decay")
# What is compared at equal size has no place of its own.
AT_EQUAL_SIZE = ("RandomInteractions", "InteractionGain")
MODULES = {
    "embedding": embedding,
    "gate": feature_selection,
    "interaction": interaction,
    "loss": losses,
}


def methods_of(slot):
    """Search methods of a slot by name, with the parameters at their defaults."""
    found = {}
    for name in MODULES[slot].__all__:
        cls = getattr(MODULES[slot], name)
        if hasattr(cls, "slots") and hasattr(cls, "search") and name not in AT_EQUAL_SIZE:
            found[name] = cls
    return found


def jobs(args):
    """(table, network, seed, method name, budget, method), the networks without a search first."""
    for seed in args.seeds:
        for table in args.tables:
            for network in args.networks:
                yield table, network, seed, "none", None, None
                for slot in args.slots:
                    for name, cls in methods_of(slot).items():
                        if args.methods and name not in args.methods:
                            continue
                        takes_budget = "budget" in cls._parameter_constraints
                        for budget in args.budgets if takes_budget else [None]:
                            method = cls() if budget is None else cls(budget=budget)
                            if network in networks_with_slot(*method.slots):
                                yield table, network, seed, name, budget, method
                            elif set(method.slots) == {"body"} and network == args.networks[0]:
                                yield table, "body", seed, name, budget, method


def fitted(table, network, seed, method, decay):
    """The fitted estimator and the processor seconds of its fit."""
    model = CTRClassifier(
        network="auto" if network == "body" else network,
        search=method,
        wide=None,
        target_statistics=False,
        random_state=seed,
        **RECIPE | {"embedding_l2": decay},
    )
    start = time.process_time()
    model.fit(table.X_train, table.y_train, X_val=table.X_valid, y_val=table.y_valid)
    return model, time.process_time() - start


def figures_of(model, table):
    """What one fitted model reaches and keeps."""
    valid_loss = scores(table.y_valid, model.predict_proba(table.X_valid)[:, 1])[1]
    auc, loss = scores(table.y_test, model.predict_proba(table.X_test)[:, 1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        save(model, path)
        size = path.stat().st_size
    kept = {}
    if getattr(model, "interactions_", None) is not None:
        kept["interactions"] = len(model.interactions_)
    if getattr(model, "selected_fields_", None) is not None:
        kept["fields"] = len(model.selected_fields_)
    return {
        "auc": auc,
        "log_loss": loss,
        "valid_log_loss": valid_loss,
        "file_bytes": size,
        "table_bytes": int(model.nbytes_["embedding"]) if "embedding" in model.nbytes_ else None,
        "total_bytes": int(model.nbytes_["total"]),
        "epochs": int(model.n_iter_),
        **kept,
    }


def read(path):
    """Records by key; the last one of a key counts."""
    if not path.exists():
        return {}
    records = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {tuple(record[name] for name in KEY): record for record in records}


def best_of(args, done, case, method, read_table):
    """The record of the decay with the least loss of the validation rows; None if all failed."""
    records = [run_one(args, done, (*case, decay), method, read_table) for decay in args.decays]
    return best([record for record in records if record["status"] == "ok"])


def best(records):
    """The record with the least loss of the validation rows, None of none."""
    return min(records, key=lambda record: record["valid_log_loss"], default=None)


def run_one(args, done, key, method, read_table):
    """Fit, measure and note down, unless that is done; the record."""
    if key in done:
        return done[key]
    table_name, rows, network, _, _, seed, decay = key
    table = read_table(table_name, rows, seed)
    record = dict(zip(KEY, key, strict=True))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, seconds = fitted(table, network, seed, method, decay)
            record |= {"status": "ok", "cpu_s": round(seconds, 2), **figures_of(model, table)}
    except Exception as error:  # a method that fails is a record, the others go on
        traceback.print_exc(file=sys.stderr)
        record |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    args.results.parent.mkdir(parents=True, exist_ok=True)
    with args.results.open("a") as file:
        file.write(json.dumps(record) + "\n")
    done[key] = record
    shown = {k: v for k, v in record.items() if k not in KEY}
    print(*key, shown if record["status"] != "ok" else line_of(record), flush=True)
    return record


def line_of(record):
    """One line for a person."""
    kept = "".join(f" {k} {record[k]}" for k in ("interactions", "fields") if k in record)
    return (
        f"{record['auc']:.4f} / {record['log_loss']:.4f} {record['cpu_s']:.1f} s "
        f"{record['file_bytes']:,} bytes{kept}"
    )


def run(args):
    """All jobs, and the baselines of equal size behind each interaction method."""
    tables = {}

    def read_table(name, rows, seed):
        key = name, rows, seed
        if key not in tables:
            tables.clear()
            tables[key] = load(name, rows, seed, data_home=args.data_home)
        return tables[key]

    done = read(args.results)
    for table, network, seed, name, budget, method in jobs(args):
        case = (table, args.rows, network, name, budget, seed)
        record = best_of(args, done, case, method, read_table)
        kept = record.get("interactions") if record is not None else None
        if name in methods_of("interaction") and network != "body" and kept:
            for baseline in AT_EQUAL_SIZE:
                case = (table, args.rows, network, f"{baseline}({kept})", None, seed)
                equal = getattr(interaction, baseline)(n_interactions=kept)
                best_of(args, done, case, equal, read_table)


def report(path):
    """Means over seeds, a table for each (table, network), as restructured text."""
    cases = {}
    for key, record in read(path).items():
        if record["status"] == "ok":
            cases.setdefault(key[:-1], []).append(record)
    frame = pd.DataFrame([best(records) for records in cases.values()])
    for (table, network), rows in frame.groupby(["table", "network"], sort=False):
        plain = frame[
            (frame["table"] == table)
            & (frame["network"] == ("fm" if network == "body" else network))
            & (frame["method"] == "none")
        ]
        print(f"\n{table}, {network}")
        for (name, budget), one in rows.groupby(["method", "budget"], sort=False, dropna=False):
            base = plain.set_index("seed")["cpu_s"].reindex(one["seed"]).mean()
            spread = one["auc"].std() if len(one) > 1 else float("nan")
            kept = [
                f"{one[k].mean():.1f} {k}"
                for k in ("interactions", "fields")
                if k in one and one[k].notna().all()
            ]
            size = f"{one['table_bytes'].mean():,.0f}" if one["table_bytes"].notna().all() else ""
            label = name if pd.isna(budget) else f"{name}, {budget:.0%}"
            print(
                f"{label:<28}{one['auc'].mean():.4f} +- {spread:.4f} / "
                f"{one['log_loss'].mean():.4f}  {one['cpu_s'].mean() / base:5.2f}  "
                f"{one['file_bytes'].mean():>12,.0f}  {size:>12}  {len(one)} seeds  "
                f"{', '.join(kept)}"
            )


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data-home", default=None)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--tables", nargs="*", default=list(TABLES))
    p.add_argument("--networks", nargs="*", default=list(NETWORKS))
    p.add_argument("--slots", nargs="*", choices=list(MODULES), default=list(MODULES))
    p.add_argument("--methods", nargs="*", default=None, help="names; all by default")
    p.add_argument("--budgets", nargs="*", type=float, default=[0.2])
    p.add_argument("--decays", nargs="*", type=float, default=list(DECAYS))
    p.add_argument("--rows", type=int, default=20_000)
    p.add_argument("--seeds", nargs="*", type=int, default=[0])
    p.add_argument("--results", type=Path, default=RESULTS)
    p.add_argument("--report", action="store_true", help="only print what the records say")
    args = p.parse_args()
    if args.report:
        report(args.results)
        return
    print_machine()
    torch.set_num_threads(args.threads)
    with threadpool_limits(args.threads):
        run(args)


if __name__ == "__main__":
    main()
