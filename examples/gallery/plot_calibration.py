"""
Right on the whole, wrong for every shop
========================================

A model whose mean prediction is right can be wrong for each value of a column. The display shows
click rates by value with their standard errors; the metrics say it in numbers. See
:doc:`/user_guide/judging`.
"""

# %%
# Clicks that depend on the shop, and on a pair
# ---------------------------------------------

import matplotlib.pyplot as plt

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.inspection import CalibrationByFieldDisplay
from sklearn_autorec.metrics import calibration_ratio, grouped_roc_auc_score

X, y, truth = make_ctr(
    12_000, n_fields=4, cardinality=12, pairs=[(0, 1)], informative_fields=[2], random_state=0
)
X.columns = ["user", "item", "shop", "hour"]
train, test = slice(0, 8_000), slice(8_000, None)

# %%
# Clicks by shop, where the model knows the shop, and where it does not
# ----------------------------------------------------------------------

figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
for ax, columns in zip(axes, (["user", "item", "shop"], ["user", "item", "hour"]), strict=True):
    model = CTRClassifier(network="fm", lr=0.01, max_epochs=5, random_state=0)
    model.fit(X.loc[:, columns][train], y[train])
    probability = model.predict_proba(X[columns][test])[:, 1]
    CalibrationByFieldDisplay.from_predictions(
        y[test], probability, X["shop"][test], field_name="shop", ax=ax
    )
    ratio = calibration_ratio(y[test], probability)
    within = grouped_roc_auc_score(y[test], probability, groups=X["shop"][test])
    ax.set_title(f"{', '.join(columns)}: ratio {ratio:.2f}, AUC within shops {within:.2f}", pad=34)
