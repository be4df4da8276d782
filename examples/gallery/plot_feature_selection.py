"""
Which columns to keep
=====================

Ten columns, of which three act alone and two as a pair. A gate search closes the others while the
network trains; a selector for pipelines drops them from the table. See
:doc:`/user_guide/feature_selection`.
"""

# %%
# A pair has no effect column by column
# -------------------------------------
# Scores of single columns, such as mutual information, see nothing of the pair.

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.feature_selection import mutual_info_classif
from sklearn.preprocessing import OrdinalEncoder

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_selection import AutoField

X, y, truth = make_ctr(
    12_000,
    n_fields=10,
    cardinality=20,
    zipf=0.5,
    informative_fields=[1, 4, 8],
    pairs=[(2, 6)],
    random_state=0,
)
information = mutual_info_classif(
    OrdinalEncoder().fit_transform(X), y, discrete_features=True, random_state=0
)

# %%
# Gates that are trained with the network
# ---------------------------------------

model = CTRClassifier(
    network="mlp",
    search=AutoField(),
    lr=2e-3,
    batch_size=256,
    search_epochs=8,
    max_epochs=3,
    random_state=0,
).fit(X, y)
scores = pd.Series(model.field_scores_)
kept = list(model.selected_fields_)
kept

# %%

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
color = [
    "tab:orange" if i in (2, 6) else "tab:blue" if i in (1, 4, 8) else "0.75" for i in range(10)
]
axes[0].barh(X.columns, information, color=color)
axes[0].set(title="mutual information with the click", xlabel="nats")
axes[1].barh(X.columns, scores[X.columns], color=color)
axes[1].set(title="AutoField: log odds of keeping")
axes[0].invert_yaxis()
