"""What the tests of plans share."""

import numpy as np
from scipy import stats
from sklearn.datasets import load_wine

from sklearn_autorec.model_selection import Alternating, Conditioning, Joint, PlanSearchCV

X, Y = load_wine(return_X_y=True)

SPACE = {
    "net": ["fm", "deepfm"],
    "net__lr": stats.loguniform(1e-4, 1),
    "select__k": stats.randint(1, 6),
    "cross__n": [0, 5],
}

PLANS = {
    1: Joint(),
    2: Conditioning("net", Joint()),
    3: Alternating(Joint("select__*", "cross__*"), Joint()),
    4: Alternating(Joint("select__*", "cross__*"), Conditioning("net", Joint())),
    5: Conditioning("net", Alternating(Joint("select__*", "cross__*"), Joint())),
}


def plan_search(plan, space=SPACE, **options):
    return PlanSearchCV(None, space, plan=plan, **{"sampler": "random", "n_iter": 40, **options})


def smooth(net, net__lr, select__k, cross__n):
    return (net == "fm") - (np.log10(net__lr) + 2) ** 2 - (select__k - 3) ** 2 + cross__n / 5
