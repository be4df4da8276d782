"""
Which columns interact
======================

A factorization machine multiplies every pair of columns. Here three of 15 pairs matter. AutoFIS
finds them, and the picture shows its scores; with shuffled clicks it finds none. See
:doc:`/user_guide/interaction`.
"""

# %%
# Three planted pairs
# -------------------

import matplotlib.pyplot as plt
import numpy as np

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.inspection import InteractionDisplay
from sklearn_autorec.interaction import AutoFIS

X, y, truth = make_ctr(
    12_000, n_fields=6, cardinality=8, pairs=[(0, 1), (2, 3), (1, 4)], random_state=0
)
X.columns = ["user", "item", "hour", "device", "shop", "banner"]
[(X.columns[i], X.columns[j]) for i, j in truth.pairs]

# %%
# A search, and what it keeps
# ---------------------------

options = {"network": "fm", "search": AutoFIS(), "lr": 0.01, "max_epochs": 4, "random_state": 0}
model = CTRClassifier(**options).fit(X, y)
model.interactions_

# %%
# The control: the same search where there is nothing to find.

shuffled = np.random.default_rng(0).permutation(y)
control = CTRClassifier(**options).fit(X, shuffled)
control.interactions_

# %%

figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for ax, (title, estimator) in zip(
    axes, {"clicks": model, "shuffled clicks": control}.items(), strict=True
):
    InteractionDisplay.from_estimator(estimator, ax=ax)
    ax.set_title(title)
