"""What every search method does, counted instead of timed: passes over the rows, and bytes.

    python examples/benchmarks/bench_search_work.py --data-home DIR --threads 1 [--methods NAME ...]

Each method is fitted with its defaults around a factorization machine with embeddings of 8, on the
first ``--rows`` rows of Frappe, with ``--epochs`` epochs for its search. While it searches, the
rows that go through a network are counted: forward with gradients, backward, and forward alone,
which only judges. The unit is an epoch of the training rows, so that a plain training of E epochs
counts E forward and E backward. Bytes are those of the weights that the search trains, those of the
weights and of what the optimisers keep beside them, and those of the model that serves, each over
the same figure of the network without a search. Nothing here is a time: every machine counts the
same.
"""

import contextlib
import warnings
from unittest import mock

import torch
from _common import frappe, parser, print_machine

from sklearn_autorec import CTRClassifier, embedding, feature_selection, interaction, losses
from sklearn_autorec.base import networks_with_slot
from sklearn_autorec.engine import _problem
from sklearn_autorec.nn import FieldNetwork
from sklearn_autorec.transfer import AutoFT

MODULES = (interaction, feature_selection, embedding, losses)
NETWORK = "fm"
OPTIONS = {
    "network": NETWORK,
    "embedding_dim": 8,
    "lr": 0.01,
    "early_stopping": False,
    "random_state": 0,
}


class Work:
    """Counts rows and bytes of what is trained and judged while ``watching``.

    Attributes
    ----------
    forward, backward, scored : int
        Rows through a network with gradients, back through it, and without gradients.
    weights, held : int
        Bytes of the weights, and of the weights and their optimisers' states, of the largest
        training.
    """

    def __init__(self):
        self.forward = self.backward = self.scored = self.weights = self.held = 0

    def saw(self, logits):
        """Count the rows of a forward pass, and again each time that gradients go back."""
        rows = len(logits)
        if not logits.requires_grad:
            self.scored += rows
            return
        self.forward += rows
        logits.register_hook(lambda gradient: self.went_back(rows))

    def went_back(self, rows):
        """Count the rows of a backward pass."""
        self.backward += rows

    def trained(self, train):
        """The engine's ``train``, after which it is known what was held in memory."""

        def call(net, *args, **kwargs):
            result = train(net, *args, **kwargs)
            optimizers = [*net.weight_optimizers(), *(turn[1] for turn in net.arch_turns_)]
            states = [state for o in optimizers for state in o.state.values()]
            kept = [t for state in states for t in state.values() if isinstance(t, torch.Tensor)]
            weights = n_bytes(net.trained.parameters())
            self.weights = max(self.weights, weights)
            self.held = max(self.held, weights + n_bytes(kept))
            return result

        return call

    @contextlib.contextmanager
    def watching(self):
        """While this is open, everything counts."""
        forward = FieldNetwork.__call__

        def call(module, **inputs):
            logits = forward(module, **inputs)
            self.saw(logits)
            return logits

        with (
            mock.patch.object(FieldNetwork, "__call__", call),
            mock.patch.object(_problem, "train", self.trained(_problem.train)),
        ):
            yield


def n_bytes(tensors):
    """Bytes of tensors, all together."""
    return sum(t.numel() * t.element_size() for t in tensors)


def methods_of(chosen, source):
    """Search methods by name with their defaults, and the one that begins with another model."""
    found = {}
    for module in MODULES:
        for name in module.__all__:
            cls = getattr(module, name)
            searches = hasattr(cls, "slots") and hasattr(cls, "search")
            if searches and NETWORK in networks_with_slot(*cls().slots):
                found[name] = cls()
    found["AutoFT"] = AutoFT(source)
    return {name: m for name, m in found.items() if chosen is None or name in chosen}


def work_of(method, X, y, epochs):
    """What the search of one fit counts, and the bytes of the model that serves."""
    work, search = Work(), type(method).search

    def watched(self, problem):
        with work.watching():
            return search(self, problem)

    model = CTRClassifier(search=method, max_epochs=2, search_epochs=epochs, **OPTIONS)
    with warnings.catch_warnings(), mock.patch.object(type(method), "search", watched):
        warnings.simplefilter("ignore")
        model.fit(X, y)
    return work, model.nbytes_["total"]


def plain_bytes(X, y):
    """Bytes of weights, of weights and Adam's two moments, and of the model without a search."""
    model = CTRClassifier(max_epochs=2, **OPTIONS).fit(X, y)
    weights = n_bytes(model.net_.module_.parameters())
    return weights, 3 * weights, model.nbytes_["total"]


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--rows", type=int, default=4000)
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--methods", nargs="*", default=None, help="names; all by default")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    print_machine()
    X, y = frappe(args.data_home)["train"]
    source = CTRClassifier(max_epochs=2, **OPTIONS).fit(
        X[args.rows :][: args.rows], y[args.rows :][: args.rows]
    )
    X, y = X[: args.rows], y[: args.rows]
    plain = plain_bytes(X, y)
    print(f"{'method':<20}forward  backward  judging  weights     held   served")
    for name, method in methods_of(args.methods, source).items():
        work, served = work_of(method, X, y, args.epochs)
        passes = [rows / len(X) for rows in (work.forward, work.backward, work.scored)]
        shares = [
            b / base for b, base in zip((work.weights, work.held, served), plain, strict=True)
        ]
        print(
            f"{name:<20}{passes[0]:7.1f}  {passes[1]:8.1f}  {passes[2]:7.1f}  {shares[0]:7.2f}"
            f"  {shares[1]:7.2f}  {shares[2]:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
