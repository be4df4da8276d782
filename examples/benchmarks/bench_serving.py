"""Serving: one-row latency by cardinality, batch prediction beside the bare forward, size of the
pickle.

python examples/benchmarks/bench_serving.py --data-home DIR
"""

import pickle
import time

import numpy as np
import pandas as pd
import torch
from _common import frappe, parser, print_machine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_autorec import CTRClassifier
from sklearn_autorec.engine import EncodedTensors
from sklearn_autorec.networks import DeepFM


def latency(call, n=400):
    """Milliseconds of one call: median and 95th percentile."""
    for _ in range(30):
        call()
    seconds = np.empty(n)
    for i in range(n):
        start = time.perf_counter()
        call()
        seconds[i] = time.perf_counter() - start
    return np.median(seconds) * 1e3, np.percentile(seconds, 95) * 1e3


def main():
    p = parser(__doc__.splitlines()[0])
    args = p.parse_args()
    data = frappe(args.data_home)
    X, y = data["train"]
    options = {
        "network": DeepFM(),
        "embedding_dim": 10,
        "max_epochs": 1,
        "random_state": 0,
        "device": "cpu",
    }
    torch.set_num_threads(args.threads)
    print_machine()
    model = CTRClassifier(**options).fit(X, y)
    module = model.net_.module_

    rows = pd.concat([X] * (100_000 // len(X) + 1), ignore_index=True)[:100_000]
    encoded = EncodedTensors.from_table(model.encoder_.encode(rows), "cpu")

    def forward():
        with torch.inference_mode():
            for start in range(0, len(rows), 16_384):
                module(**encoded.select(slice(start, start + 16_384)).inputs)

    ratios, ours, bare = [], [], []
    for _ in range(9):
        start = time.perf_counter()
        forward()
        middle = time.perf_counter()
        model.predict_proba(rows)
        end = time.perf_counter()
        bare.append(len(rows) / (middle - start))
        ours.append(len(rows) / (end - middle))
        ratios.append((middle - start) / (end - middle))
    print(
        f"predict_proba, 100,000 raw rows: {np.median(ours):,.0f} rows/s; bare forward on tensors "
        f"{np.median(bare):,.0f}; ratio {np.median(ratios):.2f} [{min(ratios):.2f}, "
        f"{max(ratios):.2f}]"
    )
    as_text = rows.astype(str)
    text_model = CTRClassifier(**options).fit(X.astype(str), y)
    start = time.perf_counter()
    text_model.predict_proba(as_text)
    print(f"the same with text columns: {len(rows) / (time.perf_counter() - start):,.0f} rows/s")

    torch.set_num_threads(1)
    one = X.iloc[[7]]
    p50, p95 = latency(lambda: model.predict_proba(one))
    print(f"one raw row, Frappe, one thread: p50 {p50:.2f} ms, p95 {p95:.2f} ms")
    by_size = {}
    for n in (100, 1_000_000):
        wide = X.iloc[np.arange(max(n, 20_000)) % len(X)].assign(
            user=[f"user-{i % n}" for i in range(max(n, 20_000))]
        )
        clicks = y[np.arange(len(wide)) % len(y)]
        big = pickle.loads(
            pickle.dumps(CTRClassifier(**{**options, "batch_size": 65_536}).fit(wide, clicks))
        )
        row = wide.iloc[[7]]
        by_size[n] = latency(lambda big=big, row=row: big.predict_proba(row))
        print(
            f"one raw row, a text field of {n:,} ids: p50 {by_size[n][0]:.2f} ms, p95 "
            f"{by_size[n][1]:.2f} ms"
        )
    print(f"a million ids to a hundred: {by_size[1_000_000][0] / by_size[100][0]:.2f} x")
    linear = make_pipeline(
        OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=100)
    ).fit(X, y)
    p50, p95 = latency(lambda: linear.predict_proba(one))
    print(f"OneHotEncoder + LogisticRegression: p50 {p50:.2f} ms, p95 {p95:.2f} ms")

    size, parameters = len(pickle.dumps(model)), model.nbytes_["total"]
    vocabulary = sum(
        len(pickle.dumps((c, n)))
        for c, n in zip(model.encoder_.categories_, model.encoder_.counts_, strict=True)
    )
    print(
        f"pickle: {size:,} bytes; parameters {parameters:,}, vocabularies {vocabulary:,}; (pickle "
        f"- vocabularies) / parameters = {(size - vocabulary) / parameters:.3f}"
    )


if __name__ == "__main__":
    main()
