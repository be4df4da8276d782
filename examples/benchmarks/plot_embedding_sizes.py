"""Pictures of the embedding sizes that AutoDim and PEP choose on Frappe, for the user guide.

python examples/benchmarks/plot_embedding_sizes.py --data-home DIR --folder doc/images
"""

from pathlib import Path

import matplotlib
import torch
from _common import frappe, parser

from sklearn_autorec import CTRClassifier
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.inspection import EmbeddingSizeDisplay
from sklearn_autorec.networks import DeepFM


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--folder", type=Path, default=Path(), help="where to save the figures")
    args = p.parse_args()
    matplotlib.use("Agg")
    torch.set_num_threads(args.threads)
    data = frappe(args.data_home)
    options = {
        "network": DeepFM(hidden_units=(64, 64)),
        "embedding_dim": 16,
        "embedding_init": 1e-3,
        "embedding_l2": 0.02,
        "lr": 3e-3,
        "batch_size": 4096,
        "random_state": 0,
    }
    for name, search in (("autodim", AutoDim()), ("pep", PEP(0.8))):
        model = CTRClassifier(search=search, search_epochs=6, max_epochs=2, **options)
        display = EmbeddingSizeDisplay.from_estimator(model.fit(*data["train"]))
        path = args.folder / f"embedding_{name}.png"
        display.figure_.savefig(path, dpi=110)
        print("picture:", path)


if __name__ == "__main__":
    main()
