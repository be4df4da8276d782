"""
A stream whose tastes turn
==========================

Rows come in batches, and what people like drifts. ``partial_fit`` learns from each batch after it
was predicted, so that every score is one of rows not yet seen. A model of the first batches alone
grows old. See :doc:`/user_guide/embedding` for sizes that follow a stream.
"""

# %%
# Twenty batches
# --------------

import matplotlib.pyplot as plt
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr

X, y, truth = make_ctr(
    20_000, n_fields=4, cardinality=10, pairs=[(0, 1)], informative_fields=[2, 3], drift=1.0,
    random_state=0,
)  # fmt: skip
batches = [slice(k, k + 1000) for k in range(0, len(y), 1000)]

# %%
# Predict, then learn
# -------------------

options = {"network": "fm", "lr": 0.01, "batch_size": 64, "random_state": 0}
stream, old = CTRClassifier(**options), CTRClassifier(**options)
scores = {"learns on": [], "stopped after five batches": []}
for k, batch in enumerate(batches):
    if k:
        for name, model in zip(scores, (stream, old), strict=True):
            scores[name].append(roc_auc_score(y[batch], model.predict_proba(X[batch])[:, 1]))
    stream.partial_fit(X[batch], y[batch], classes=[0, 1])
    if k < 5:
        old.partial_fit(X[batch], y[batch], classes=[0, 1])

# %%

_, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, values in scores.items():
    ax.plot(range(1, len(batches)), values, "o-", label=name)
ax.set(xlabel="batch", ylabel="AUC before learning from it", xticks=range(0, 20, 5))
_ = ax.legend()
