"""
Ratings, some of which are wild
===============================

A tenth of the ratings is off by twelve stars. Squared error chases them; AutoLoss learns, row by
row, which loss to listen to. See :doc:`/user_guide/losses`.
"""

# %%
# Ratings with and without wild ones
# ----------------------------------

import matplotlib.pyplot as plt
import numpy as np

from sklearn_autorec import RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.losses import AutoLoss

X, y, truth = make_ctr(
    4000, n_fields=4, cardinality=8, pairs=[(0, 1)], informative_fields=[2], task="rating",
    random_state=0,
)  # fmt: skip
rng = np.random.default_rng(0)
wild = np.where(rng.random(len(y)) < 0.1, y + rng.choice([-12, 12], len(y)), y)
train, test = slice(0, 3000), slice(3000, None)

# %%
# Errors of the expected rating
# -----------------------------

errors = {}
for name, search in {"squared error": None, "AutoLoss": AutoLoss()}.items():
    model = RatingRegressor(
        network="fm", search=search, lr=0.02, search_epochs=8, max_epochs=8, random_state=0
    ).fit(X[train], wild[train])
    errors[name] = model.predict(X[test]) - truth.probabilities[test]
_, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
for name, error in errors.items():
    rms = np.sqrt(np.mean(error**2))
    ax.hist(error, bins=40, histtype="step", linewidth=2, label=f"{name}: {rms:.2f} rms")
ax.set(xlabel="predicted less expected rating", ylabel="test rows")
ax.legend()
_ = model.architecture_["loss"]["shares"]
