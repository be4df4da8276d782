"""Searches that several processes do as one does."""

from process_cases import PLAIN, table

from sklearn_autorec import CTRClassifier
from sklearn_autorec.embedding import (
    AMTL,
    ANT,
    MDE,
    NIS,
    PEP,
    QR,
    RULE,
    SSEDS,
    AutoDim,
    AutoDis,
    AutoEmb,
    AutoSrh,
    EqualSize,
    Hashing,
    MagnitudePruning,
    OptEmbed,
    RandomSizes,
)
from sklearn_autorec.feature_selection import LPFS, AdaFS, AutoField, OptFS
from sklearn_autorec.interaction import (
    BPFIS,
    FIVES,
    L0SIGN,
    PROFIT,
    SIF,
    AOANet,
    AutoFIS,
    AutoGroup,
    AutoPI,
    InteractionGain,
    RandomInteractions,
)
from sklearn_autorec.transfer import AutoFT

OPTIONS = {**PLAIN, "network": "fm", "embedding_dim": 4, "max_epochs": 2, "batch_size": 128}
# A batch norm right behind the embeddings takes the constants of numbers away, and of what rounding
# leaves of their gradients Adam makes whole steps.
OF_IDS = ("a", "b", "c")


def searched(method, columns=(*OF_IDS, "number"), **changes):
    """A fit whose search is made by a function without arguments."""

    def fit_searched(distributed):
        X, y, weight = table()
        model = CTRClassifier(search=method(), distributed=distributed, **{**OPTIONS, **changes})
        return model.fit(X[list(columns)], y, sample_weight=weight)

    return fit_searched


def transferred():
    """From a network of a part of the rows."""
    X, y, _ = table()
    options = {**OPTIONS, "max_epochs": 1}
    return AutoFT(CTRClassifier(**options).fit(X[:100], y[:100]))


SEARCHES = {
    "AMTL": searched(AMTL),
    "ANT": searched(lambda: ANT(n_anchors=8)),
    "AOANet": searched(AOANet),
    "AdaFS": searched(AdaFS),
    "AdaFS, hard": searched(lambda: AdaFS("hard", n_kept=2)),
    "AutoDim": searched(lambda: AutoDim((1, 4))),
    "AutoDim, normalised": searched(lambda: AutoDim((1, 4), normalize=True)),
    "AutoDim, unrolled": searched(lambda: AutoDim((1, 4), level="unrolled")),
    "AutoDis": searched(AutoDis),
    "AutoEmb": searched(lambda: AutoEmb((1, 4))),
    "AutoEmb, held out": searched(lambda: AutoEmb((1, 4), harden=True, rows="held_out")),
    "AutoFIS": searched(AutoFIS),
    "AutoFT": searched(transferred),
    "AutoField": searched(AutoField),
    "AutoGroup": searched(AutoGroup, OF_IDS),
    "AutoPI": searched(AutoPI, OF_IDS, max_epochs=1),
    "AutoSrh": searched(AutoSrh),
    "BPFIS": searched(lambda: BPFIS("a")),
    "EqualSize": searched(lambda: EqualSize(2)),
    "FIVES": searched(FIVES, OF_IDS),
    "Hashing": searched(Hashing),
    "InteractionGain": searched(lambda: InteractionGain(2)),
    "L0SIGN": searched(L0SIGN),
    "LPFS": searched(LPFS),
    "MDE": searched(MDE),
    "MagnitudePruning": searched(MagnitudePruning),
    "NIS": searched(lambda: NIS(budget=0.5)),
    "OptEmbed": searched(OptEmbed),
    "OptFS": searched(lambda: OptFS(0.2)),
    "PEP": searched(PEP),
    "PEP, rising": searched(lambda: PEP(schedule="rise")),
    "PROFIT": searched(PROFIT, OF_IDS),
    "QR": searched(lambda: QR(0.9)),
    "RULE": searched(lambda: RULE(n_samples=8, n_evaluations=40)),
    "RandomInteractions": searched(RandomInteractions),
    "RandomSizes": searched(RandomSizes),
    "SIF": searched(SIF),
    "SSEDS": searched(SSEDS),
}
