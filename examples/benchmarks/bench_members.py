"""Four members packed in one network, beside one network and beside four separate fits: quality,
seconds, bytes, latency.

    python examples/benchmarks/bench_members.py --data-home DIR --threads 1 [--tables insteval \\
        adult] [--rows 20000]

DeepFM (128, 64), dropout 0.3, embeddings of 8, lr 0.004, L2 0.1 on embeddings, averaging 0.99,
cosine schedule, early stopping on the published valid rows. Figures of single networks are means
over the four seeds of the separate fits; those of packed networks are means over ``--seeds``.
Seconds per epoch are processor seconds of epochs after the first, single and packed networks taken
in turns.
"""

import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _common import EpochClock, parser, print_machine, scores
from scipy.special import expit

from sklearn_autorec import CTRClassifier
from sklearn_autorec.networks import DeepFM
from sklearn_autorec.preprocessing import FieldEncoder

MEMBERS = 4
NOT_FEATURES = {"label", "rating"}


def table(folder, rows):
    """Train (cut to ``rows``), valid and test as (DataFrame, labels)."""
    found = {}
    for subset in ("train", "valid", "test"):
        frame = pd.read_parquet(folder / f"{subset}.parquet")
        if subset == "train" and len(frame) > rows:
            frame = frame.sample(rows, random_state=0)
        found[subset] = (
            frame[[c for c in frame if c not in NOT_FEATURES]].reset_index(drop=True),
            frame["label"].to_numpy(),
        )
    return found


def estimator(seed, members=1, **options):
    return CTRClassifier(
        **{
            "network": DeepFM(hidden_units=(128, 64), dropout=0.3),
            "encoder": FieldEncoder(min_frequency=2),
            "embedding_dim": 8,
            "lr": 0.004,
            "embedding_l2": 0.1,
            "weight_decay": 1e-5,
            "averaging": 0.99,
            "patience": 4,
            "embedding_init": 0.1,
            "lr_schedule": "cosine",
            "members": members,
            "random_state": seed,
            "device": "cpu",
            **options,
        }
    )


def seconds_an_epoch(X, y, rounds):
    """Median processor seconds of an epoch, by number of members; interleaved."""
    found = {1: [], MEMBERS: []}
    for _ in range(rounds):
        for members, seconds in found.items():
            clock = EpochClock(time.process_time)
            estimator(0, members, max_epochs=4, early_stopping=False).set_callbacks(clock).fit(X, y)
            seconds += np.diff(clock.ends).tolist()
    return {members: np.median(seconds) for members, seconds in found.items()}


def latency(model, X, n=300):
    """Median milliseconds of one row."""
    row, seconds = X.iloc[[0]], []
    for _ in range(n):
        start = time.perf_counter()
        model.predict_proba(row)
        seconds.append(time.perf_counter() - start)
    return 1e3 * np.median(seconds)


def show(name, figures):
    print(f"  {name:34s} AUC {figures[0]:.4f}  log loss {figures[1]:.4f}", flush=True)


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--tables", nargs="+", default=["insteval", "adult", "frappe_x1"])
    p.add_argument("--rows", type=int, default=20_000)
    p.add_argument("--seeds", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    print_machine()
    home = Path(args.data_home or os.environ["SKLEARN_AUTOREC_DATA"])
    for name in args.tables:
        data = table(home / name, args.rows)
        (X, y), (X_val, y_val), (X_test, y_test) = (data[s] for s in ("train", "valid", "test"))
        print(f"{name}, {len(X)} rows, {X.shape[1]} columns")
        singles = [estimator(10 + s).fit(X, y, X_val=X_val, y_val=y_val) for s in range(MEMBERS)]
        logits = np.stack([m.decision_function(X_test) for m in singles])
        show("one network", np.mean([scores(y_test, expit(z)) for z in logits], 0))
        show(f"mean of {MEMBERS} fits, logits", scores(y_test, expit(logits.mean(0))))
        show(f"mean of {MEMBERS} fits, probabilities", scores(y_test, expit(logits).mean(0)))
        packed = [
            estimator(s, MEMBERS).fit(X, y, X_val=X_val, y_val=y_val) for s in range(args.seeds)
        ]
        logits = [m._member_logits(X_test)[..., 0] for m in packed]
        show(
            f"{MEMBERS} members, one of them",
            np.mean([scores(y_test, expit(z)) for of in logits for z in of], 0),
        )
        show(
            f"{MEMBERS} members, logits",
            np.mean([scores(y_test, expit(z.mean(0))) for z in logits], 0),
        )
        show(
            f"{MEMBERS} members, probabilities",
            np.mean([scores(y_test, expit(z).mean(0)) for z in logits], 0),
        )
        epochs = [m.n_iter_ for m in singles], [m.n_iter_ for m in packed]
        each = seconds_an_epoch(X, y, args.rounds)
        print(
            f"  best epochs {epochs[0]} and {epochs[1]}; an epoch {1e3 * each[1]:.0f} ms of one, "
            f"{1e3 * each[MEMBERS]:.0f} ms "
            f"of {MEMBERS} members: {each[MEMBERS] / each[1]:.2f} x one, "
            f"{each[MEMBERS] / each[1] / MEMBERS:.2f} x {MEMBERS} fits"
        )
        print(
            f"  bytes {singles[0].nbytes_['total']:,} of one, {packed[0].nbytes_['total']:,}; "
            f"one row {latency(singles[0], X_test):.2f} ms, {latency(packed[0], X_test):.2f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
