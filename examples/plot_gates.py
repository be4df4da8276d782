"""Pictures of gates: what each of the four gate searches says about the same ten columns.

Saves one figure in the current folder, or shows it::

    python examples/plot_gates.py
    python examples/plot_gates.py --show
"""

import argparse
from pathlib import Path

import matplotlib

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_selection import LPFS, AdaFS, AutoField, OptFS

NAMES = "user item category brand city device weekday hour page position".split()
SEARCHES = {
    "AutoField: log odds of keeping": AutoField(),
    "LPFS++: average |x|": LPFS(),
    "OptFS: cells with kept values": OptFS(0.1),
    "AdaFS: mean weight": AdaFS(),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the made data")
    parser.add_argument("--folder", type=Path, default=Path(), help="where to save the figure")
    parser.add_argument("--show", action="store_true", help="show the figure instead of saving it")
    args = parser.parse_args()
    if not args.show:
        matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    X, y, _ = make_ctr(
        args.rows,
        n_fields=10,
        cardinality=20,
        zipf=0.5,
        informative_fields=[1, 4, 8],
        pairs=[(2, 6)],
        random_state=0,
    )
    X.columns = NAMES
    roles = dict.fromkeys(NAMES, ("no effect", "0.75"))
    roles |= dict.fromkeys([NAMES[i] for i in (1, 4, 8)], ("effect of its own", "tab:blue"))
    roles |= dict.fromkeys([NAMES[i] for i in (2, 6)], ("effect in a pair", "tab:orange"))
    figure, axes = plt.subplots(1, 4, figsize=(11, 3.6), sharey=True, layout="constrained")
    for ax, (title, search) in zip(axes, SEARCHES.items(), strict=True):
        model = CTRClassifier(
            network="mlp",
            search=search,
            lr=2e-3,
            batch_size=256,
            search_epochs=10,
            max_epochs=2,
            random_state=0,
        )
        model.fit(X, y)
        scores = model.field_scores_
        ax.barh(NAMES, [scores[name] for name in NAMES], color=[roles[name][1] for name in NAMES])
        ax.set_title(title, fontsize=10)
        ax.axvline(0, color="black", linewidth=0.8)
        kept = None if isinstance(search, AdaFS) else model.selected_fields_
        print(f"{title}: {'drops nothing' if kept is None else 'kept ' + ', '.join(kept)}")
    axes[0].invert_yaxis()
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for _, color in sorted(set(roles.values()))]
    figure.legend(
        handles,
        [role for role, _ in sorted(set(roles.values()))],
        loc="outside lower center",
        ncols=3,
    )
    if args.show:
        plt.show()
        return
    path = args.folder / "selection_gates.png"
    figure.savefig(path, dpi=110)
    print("picture:", path)


if __name__ == "__main__":
    main()
