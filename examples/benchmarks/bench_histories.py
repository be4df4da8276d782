"""Histories of users as list columns: what they bring on KuaiRand, with and without tables shared.

    python examples/benchmarks/bench_histories.py --data-home DIR --threads 1

The table is ``kuairand_feedback``: shown videos in the order of time, "watched at length" as the
label. Beside it lie up to 30 earlier videos of the user, each with whether it was watched at
length. They become two list columns, ``watched`` and ``skipped``, and a third of how the shows
ended. "shared" gives the lists the vocabulary and the table of ``video``; "shuffled" gives every
row the lists of another row, as a control. Nothing else differs. Means of three seeds.
"""

import warnings

import numpy as np
import pandas as pd
import torch
from _common import parser, print_machine, scores

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import get_data_home
from sklearn_autorec.networks import DIN
from sklearn_autorec.preprocessing import FieldEncoder

KEY = ["time_ms", "user", "video"]
PLAIN = ["user", "video", "weekday", "hour", "duration_s"]
LISTS = ["watched", "skipped", "ends"]


def read(folder, part):
    """Rows of a part with their lists, and labels."""
    rows = pd.read_parquet(folder / f"{part}.parquet")
    histories = pd.read_parquet(folder / "histories.parquet").drop_duplicates(KEY)
    rows = rows.merge(histories, on=KEY, how="left", validate="many_to_one")
    lists = {name: [] for name in LISTS}
    for videos, ends in zip(rows["hist_video"], rows["hist_long_view"], strict=True):
        videos, ends = np.asarray(videos).astype(str), np.asarray(ends)
        lists["watched"].append(videos[ends == 1].tolist())
        lists["skipped"].append(videos[ends == 0].tolist())
        lists["ends"].append(["long" if end else "short" for end in ends])
    X = rows[PLAIN].astype(dict.fromkeys(PLAIN[:4], str)).assign(**lists)
    return X, rows["label"].to_numpy()


def shuffled(X, seed):
    """The same table, each row with the lists of another one."""
    order = np.random.default_rng(seed).permutation(len(X))
    return X.assign(**{name: X[name].iloc[order].to_list() for name in LISTS})


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--seeds", type=int, default=3)
    args = p.parse_args()
    print_machine()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    folder = get_data_home(args.data_home) / "kuairand_feedback"
    data = {part: read(folder, part) for part in ("train", "valid", "test")}
    shared = {"watched": "video", "skipped": "video"}
    cases = {
        "default, no lists": ("auto", PLAIN, None, False),
        "default, lists": ("auto", PLAIN + LISTS, None, False),
        "default, lists shared": ("auto", PLAIN + LISTS, shared, False),
        "default, lists shuffled": ("auto", PLAIN + LISTS, shared, True),
        "DIN, lists shared": (DIN((64, 32)), PLAIN + LISTS, shared, False),
    }
    for name, (network, columns, share, shuffle) in cases.items():
        found = []
        for seed in range(args.seeds):
            tables = {
                part: (shuffled(X, seed) if shuffle else X)[columns]
                for part, (X, _) in data.items()
            }
            model = CTRClassifier(
                network=network,
                shared_vocabularies=share,
                encoder=FieldEncoder(max_length=30),
                random_state=seed,
            )
            model.fit(
                tables["train"], data["train"][1], X_val=tables["valid"], y_val=data["valid"][1]
            )
            found.append(scores(data["test"][1], model.predict_proba(tables["test"])[:, 1]))
        auc, loss = np.mean(found, axis=0)
        spread = np.std(found, axis=0, ddof=1) if args.seeds > 1 else (np.nan, np.nan)
        print(f"{name:<26}{auc:.4f} +- {spread[0]:.4f} / {loss:.4f} +- {spread[1]:.4f}", flush=True)


if __name__ == "__main__":
    main()
