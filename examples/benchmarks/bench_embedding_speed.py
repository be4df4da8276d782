"""What vocabularies, searches for embedding sizes and packed tables cost in time.

    python examples/benchmarks/bench_embedding_speed.py --threads 1

Three tables. (a) An epoch of a factorization machine with embeddings of 16 by the number of values,
at equal rows and steps; ids are drawn, not encoded, so that training alone is timed: all values
equally often, which no cache can help, or value v with a chance in proportion to 1 / v. (b) An
epoch of the training in each gradient search of ``embedding/`` over an epoch without a search, in
two networks. Searches train on four fifths of the rows where they hold some out. (c) One row
predicted by a fitted estimator, from a dict, and one call of the table alone, by the form in which
the table is stored. Processor time of this process; all lines take turns, round by round, and a
ratio is to the first line in the same round: median [min, max].
"""

import argparse
import copy
import time
import warnings

import numpy as np
import pandas as pd
import torch
from _common import print_machine, ratio_of, rounds_of

from sklearn_autorec import CTRClassifier, embedding
from sklearn_autorec.engine import EncodedTensors, SearchProblem, TrainingPlan
from sklearn_autorec.networks import FM, DeepFM
from sklearn_autorec.nn import (
    BinaryLogLoss,
    BuildContext,
    FieldEmbedding,
    Inputs,
    MixedEmbedding,
    SizedRows,
    pack_table,
    store_tables,
)
from sklearn_autorec.nn._anchored_rows import AnchoredRows
from sklearn_autorec.nn._row_groups import GroupedRows

N_FIELDS, DIM = 10, 16
NETWORKS = {"fm": FM, "deepfm": DeepFM}
# Searches that are one gradient training, with as little as possible behind it.
SEARCHES = {
    "no search": None,
    "AutoDim": {},
    "PEP": {},
    "AMTL": {},
    "ANT": {},
    "NIS": {},
    "AutoSrh": {"warmup": 0.0},
    "OptEmbed": {"n_evaluations": 1, "population": 1},
    "RULE": {"n_samples": 2, "n_evaluations": 1, "population": 1, "n_rescored": 1},
    "SSEDS": {"score": "gradient"},
    "MagnitudePruning": {},
    "AutoEmb": {},
    "ESAPN": {},
}


def context_of(n_ids, sparse):
    """Fields of so many ids each."""
    return BuildContext(
        tuple(f"f{k}" for k in range(len(n_ids))),
        tuple(n_ids),
        embedding_dim=DIM,
        output_bias=(0.0,),
        counts=tuple(np.arange(n, 0, -1) for n in n_ids),
        generator=torch.Generator().manual_seed(0),
        sparse_gradients=sparse,
    )


def rows_of(n_rows, n_ids, seed=0, falling=False):
    """Random rows of such fields, values drawn evenly or by 1 / v."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(n_rows, len(n_ids), generator=generator).double()
    n = torch.tensor(n_ids, dtype=torch.float64) - 2
    ids = n**draws if falling else 1 + n * draws
    return EncodedTensors(
        (1 + ids.long().clamp(max=n.long())).int(),
        torch.zeros(n_rows, 0),
        torch.zeros(n_rows, 0, dtype=torch.int32),
        torch.randint(0, 2, (n_rows,), generator=generator).float(),
    )


def epoch_seconds(context, data, batch_size, method=None, network="fm", epochs=3):
    """Processor time of the last epoch of a search, or of a training without one."""
    ends, slots = [], () if method is None else ("embedding",)
    problem = SearchProblem(
        NETWORKS[network](),
        context,
        slots,
        dict,
        BinaryLogLoss(),
        data,
        TrainingPlan(epochs=epochs, batch_size=batch_size),
        torch.device("cpu"),
        on_epoch=lambda epoch, record: ends.append(time.process_time()) or False,
    )
    if method is None:
        problem.train()
    else:
        method.search(problem)
    return ends[epochs - 1] - ends[epochs - 2]


def report(title, lines, rounds, unit):
    """Run callables by name, which give seconds, in turns, and print their table."""
    times = rounds_of(lines, rounds)
    base = next(iter(times.values()))
    print(f"\n{title:40s}{unit[1]:>14s}   ratio, median [min, max]")
    for name, own in times.items():
        middle = unit[0] * np.median(own)
        print(f"{name:40s}{middle:14,.1f}   {ratio_of(own, base)}", flush=True)


def vocabularies(args):
    """(a)"""
    for falling in (False, True):
        lines = {}
        for n_values in args.values:
            n_ids = (n_values // 4,) * 4
            context, data = context_of(n_ids, sparse=True), rows_of(args.rows, n_ids, 0, falling)
            name = f"{n_values:,} values of {DIM}"
            lines[name] = lambda c=context, d=data: epoch_seconds(c, d, 4096)
        drawn = "by 1 / v" if falling else "evenly"
        report(f"an epoch of {args.rows:,} rows, {drawn}", lines, args.rounds, (1000, "ms"))


def searches(args):
    """(b)"""
    n_ids = (1000,) * N_FIELDS
    context, data = context_of(n_ids, sparse=False), rows_of(args.rows // 2, n_ids)
    for network in args.networks:
        lines = {}
        for name, params in SEARCHES.items():
            if args.methods and name not in args.methods and params is not None:
                continue
            method = None if params is None else getattr(embedding, name)(**params)
            lines[name] = lambda m=method, n=network: epoch_seconds(context, data, 1024, m, n)
        title = f"{network}, an epoch of {len(data):,} rows"
        report(title, lines, args.rounds, (1000, "ms"))


def forms_of(context, table):
    """Tables in all forms by name, of which about half of the numbers are kept."""
    random, sizes = np.random.default_rng(0), context.table_sizes
    n = sum(sizes)
    masks = {
        "columns": np.arange(DIM) < np.repeat(np.arange(len(sizes)) % 2 * 8 + 4, sizes)[:, None],
        "prefixes": np.arange(DIM)
        < np.concatenate([np.linspace(DIM, 1, k) for k in sizes])[:, None],
        "sparse": random.random((n, DIM)) < 0.5,
        "bits": random.random((n, DIM)) < 0.5,
    }
    forms = {"plain table": FieldEmbedding(context)}
    for name, mask in masks.items():
        forms[f"packed, {name}"] = pack_table(
            (table * mask).astype(np.float32), context, forms=[name]
        )
    widths = [(4, 8, 16)[k % 3] for k in range(len(sizes))]
    forms["widths with projections (AutoDim)"] = MixedEmbedding(context, widths)
    forms["lengths of values (AMTL)"] = SizedRows(context, random.integers(1, DIM + 1, n))
    forms["anchors (ANT)"] = AnchoredRows(context, random.random((n, 16)) < 0.15)
    for storage in ("int8", "pq"):
        forms[f"plain table, {storage}"] = stored = FieldEmbedding(context)
        store_tables(stored, storage)
    bounds = [[k // 4, k // 2, k] for k in sizes]
    kept = random.random((3 * len(sizes), DIM)) < 0.5
    forms["groups of rows (RULE)"] = GroupedRows(context, bounds, kept)
    return forms


def one_row(args):
    """(c)"""
    random = np.random.default_rng(0)
    X = pd.DataFrame(
        {f"f{k}": random.integers(0, 1000, 20_000).astype(str) for k in range(N_FIELDS)}
    )
    y = random.integers(0, 2, len(X))
    model = CTRClassifier(
        network="fm",
        embedding_dim=DIM,
        max_epochs=1,
        wide=None,
        target_statistics=False,
        random_state=0,
    ).fit(X, y)
    n_ids = model.encoder_.n_ids_
    context = context_of(n_ids, sparse=False)
    table = random.normal(size=(sum(n_ids), DIM))
    records, ids = X[:50].to_dict("records"), rows_of(50, n_ids).ids
    whole, alone = {}, {}
    for name, part in forms_of(context, table).items():
        served = copy.deepcopy(model)
        served.net_.module_.embedding = part.eval()

        def predicted(served=served):
            start = time.process_time()
            for record in records:
                served.predict_proba(record)
            return (time.process_time() - start) / len(records)

        def read(part=part):
            start = time.process_time()
            with torch.inference_mode():
                for row in ids.split(1):
                    part(Inputs(row, torch.zeros(1, 0), torch.zeros(1, 0, dtype=torch.int32)))
            return (time.process_time() - start) / len(ids)

        whole[name], alone[name] = predicted, read
    report("one row through predict_proba", whole, 3 * args.rounds, (1e6, "µs"))
    report("one row through the table alone", alone, 3 * args.rounds, (1e6, "µs"))


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--rows", type=int, default=65_536)
    p.add_argument("--values", nargs="*", type=int, default=[100_000, 1_000_000, 5_000_000])
    p.add_argument("--methods", nargs="*", default=None, help="of the second table; all by default")
    p.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    p.add_argument("--parts", nargs="*", choices=["a", "b", "c"], default=["a", "b", "c"])
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    print_machine()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for letter, part in (("a", vocabularies), ("b", searches), ("c", one_row)):
            if letter in args.parts:
                part(args)


if __name__ == "__main__":
    main()
