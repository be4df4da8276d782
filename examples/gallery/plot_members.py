"""
How sure the model is
=====================

``members=4`` trains four networks in one, for 0.65 of the time of four. Their mean predicts
better, and how far they lie apart says where the model has seen little. See
:doc:`/user_guide/members`.
"""

# %%
# A table with many rare values
# ------------------------------

import matplotlib.pyplot as plt
import numpy as np

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr

X, y, truth = make_ctr(
    8000,
    n_fields=4,
    cardinality=300,
    zipf=1.2,
    pairs=[(0, 1)],
    informative_fields=[2],
    random_state=0,
)
train, test = slice(0, 6000), slice(6000, None)
model = CTRClassifier(network="deepfm", members=4, lr=0.01, max_epochs=4, random_state=0)
model.fit(X[train], y[train])
probability, std = model.predict_proba(X[test], return_std=True)

# %%
# Where the members lie apart, the prediction is further from the truth
# ---------------------------------------------------------------------
# The truth is known here: the probabilities that the clicks were drawn with.

error = np.abs(probability[:, 1] - truth.probabilities[test])
spread = std if std.ndim == 1 else std[:, 1]
fifths = np.digitize(spread, np.quantile(spread, [0.2, 0.4, 0.6, 0.8]))
_, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
ax.boxplot([error[fifths == k] for k in range(5)], showfliers=False)
ax.set_xticks(range(1, 6), ["least", "", "", "", "most"])
_ = ax.set(
    xlabel="how far the members lie apart (fifths of the rows)", ylabel="error of the probability"
)
