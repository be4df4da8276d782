"""
Numbers with steps and plateaus
===============================

A price acts in steps: nothing below a threshold, much above it. Where no perceptron follows, an
embedding that is linear in the number cannot say so; a piecewise-linear one, with bins from the
training rows, can. See :doc:`/user_guide/encoding`.
"""

# %%
# A step, a plateau and a wave
# ----------------------------

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_autorec import CTRClassifier

rng = np.random.default_rng(0)
price = rng.gamma(2.0, 20.0, 6000)
logit = np.select([price < 20, price < 60], [1.0, -1.5], 0.5)
y = (rng.random(6000) < 1 / (1 + np.exp(-logit))).astype(int)
X = pd.DataFrame({"price": price, "shop": rng.choice(["a", "b", "c"], 6000)})

# %%
# Three embeddings of the same number
# -----------------------------------

grid = pd.DataFrame({"price": np.linspace(1, 140, 300), "shop": "a"})
_, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
ax.plot(
    grid["price"],
    1 / (1 + np.exp(-np.select([grid["price"] < 20, grid["price"] < 60], [1.0, -1.5], 0.5))),
    color="black",
    label="truth",
)
for kind in ("linear", "periodic", "piecewise"):
    model = CTRClassifier(
        network="fm", numeric_embedding=kind, lr=0.01, max_epochs=12, random_state=0
    ).fit(X, y)
    ax.plot(grid["price"], model.predict_proba(grid)[:, 1], label=f'numeric_embedding="{kind}"')
ax.set(xlabel="price", ylabel="probability of a click")
_ = ax.legend()
