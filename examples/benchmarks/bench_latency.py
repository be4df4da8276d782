"""Time of one row through a model read from a file, as a DataFrame and as a dict, with few and with
many ids, alone and with parts beside the network.

Run: ``python examples/benchmarks/bench_latency.py [--ids 100 1000000]``. Takes some minutes; the
rows are random, since only time and size count."""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from sklearn_autorec import CTRClassifier
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

CALLS = 300
MODELS = {
    "DeepFM alone": {"network": "deepfm", "wide": None, "target_statistics": False},
    "default, with both parts": {"wide": "autocross", "target_statistics": True},
}


def rows(n_ids, seed=0):
    """Clicks of ``n_ids`` users, each of whom occurs, in at least 100,000 rows."""
    rng, n = np.random.RandomState(seed), max(n_ids, 100_000)
    users = np.concatenate([np.arange(n_ids), rng.randint(n_ids, size=n - n_ids)])
    X = pd.DataFrame(
        {
            "user": users.astype(str),
            "item": rng.randint(50, size=n).astype(str),
            "x": rng.normal(size=n),
        }
    )
    return X, rng.randint(2, size=n)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--ids", type=int, nargs="+", default=[100, 1_000_000])
    arguments = arguments.parse_args()
    warnings.simplefilter("ignore")
    print(
        f"{'model':26}{'ids':>10}{'p50, ms':>9}{'as a dict':>11}{'file bytes':>12}"
        f"{'of parameters':>15}"
    )
    for name, options in MODELS.items():
        for n_ids in arguments.ids:
            X, y = rows(n_ids)
            encoder = FieldEncoder(min_frequency=1)
            model = CTRClassifier(
                embedding_dim=8,
                max_epochs=1,
                batch_size=8192,
                encoder=encoder,
                random_state=0,
                **options,
            ).fit(X, y)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model"
                save(model, path)
                size, loaded = path.stat().st_size, load(path)
            times, dicts = [], X[:CALLS].to_dict("records")
            for k in range(CALLS):
                for row in (X.iloc[k : k + 1], dicts[k]):  # in turns
                    started = time.perf_counter()
                    loaded.predict_proba(row)
                    times.append(time.perf_counter() - started)
            of_frames, of_dicts = np.median(times[::2]), np.median(times[1::2])
            print(
                f"{name:26}{n_ids:10,}{1000 * of_frames:9.2f}{1000 * of_dicts:11.2f}{size:12,}"
                f"{4 * model.n_parameters_:15,}",
                flush=True,
            )


if __name__ == "__main__":
    main()
