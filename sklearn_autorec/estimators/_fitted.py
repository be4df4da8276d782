"""What a fit leaves: one value, made when nothing can fail any more, and set in one assignment."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch

from ..engine._serving_form import bytes_by_kind, stored_architecture
from ..exceptions import SingleClassWarning
from ._results import whole_rows

__all__ = ["Fitted", "publish", "warn_of_single_class"]

# Fitted attributes whose names do not end in "_".
PRIVATE = ("_architecture", "_live_search", "_stream", "_trained_tables", "_weight_seen")


@dataclass(frozen=True, eq=False)
class Fitted:
    """All that a fitted estimator knows beside its parameters.

    Parameters
    ----------
    target : ClassTarget or RatingTarget
    encoder : FieldEncoder or FrozenEstimator of one
    net : FieldNet or None
        None if there is a single class. Its module is never trained again: training that goes on
        takes a copy, so that readers in other threads see whole epochs only.
    architecture : dict of slot to dict
        With the network, its ``embedding_dim`` and ``numeric_embedding``; empty without a network.
    search_history, history : list of dict
    n_iter : int
    live : FieldNet, list or None
        Moments of the optimisers, for training that goes on; a list in copies and pickles.
    weight_seen : tuple (float, int)
        Sum of the weights of all training rows, and their number.
    mixture : Mixture or None
        Companions of the network and the weights of all; None where the network predicts alone.
    loss_part : nn.Module or None
        What stands in the loss slot, as the training has left it, for training that goes on; None
        is the estimator's loss.
    live_search : LiveSearch or None
        A search that goes on with the next chunk; ``live`` then has the moments of its weights.
    kept : dict of slot to object
        What searches have left for `specialized`.
    network : Network or None
        Of which ``net`` is; None without one.
    trained_tables : dict of str to Tensor
        The tables that ``net`` has in a storage of fewer bytes, as they were trained, by name, for
        training that goes on.
    stopped : {"finished", "max_time", "interrupted"} or None
        What ended the fit; None where nothing of it is known, as in a chunk.
    dataset : dict or None
        Of a fit from a data set that was larger than a buffer, how many rows did what.
    """

    target: Any
    encoder: Any
    net: Any = None
    architecture: dict = field(default_factory=dict)
    search_history: list = field(default_factory=list)
    history: list = field(default_factory=list)
    n_iter: int = 0
    live: Any = None
    weight_seen: tuple = (0.0, 0)
    mixture: Any = None
    loss_part: Any = None
    live_search: Any = None
    kept: dict = field(default_factory=dict)
    network: Any = None
    trained_tables: dict = field(default_factory=dict)
    stopped: str | None = None
    dataset: dict | None = None

    def attributes(self):
        """The attributes of the estimator, by name."""
        encoder = self.encoder
        module = torch.nn.Module() if self.net is None else self.net.module_
        nbytes = bytes_by_kind(module)
        attributes = {
            **self.target.attributes,
            "encoder_": encoder,
            "net_": self.net,
            "_architecture": stored_architecture(self.architecture, module),
            "search_history_": self.search_history,
            "history_": self.history,
            "n_iter_": self.n_iter,
            "n_features_in_": encoder.n_features_in_,
            "n_parameters_": sum(t.numel() for t in module.parameters()),
            "nbytes_": nbytes,
            "compression_ratio_": self._compression_ratio(module, nbytes),
            "_weight_seen": self.weight_seen,
            "_mixture_": self.mixture,
        }
        if hasattr(encoder, "feature_names_in_"):
            attributes["feature_names_in_"] = encoder.feature_names_in_
        if self.stopped is not None:
            attributes["stopped_"] = self.stopped
        if self.live is not None:
            attributes["_stream"] = self.live
        if self.trained_tables:
            attributes["_trained_tables"] = self.trained_tables
        if self.live_search is not None:
            attributes["_live_search"] = self.live_search
        if self.dataset is not None:
            attributes["dataset_"] = self.dataset
        if self.kept:
            attributes["_kept_"] = self.kept
        if self.loss_part is not None:
            attributes["_loss_part_"] = self.loss_part
        return attributes

    def _compression_ratio(self, module, nbytes):
        """Bytes of full tables over those of the module's."""
        stored = nbytes["total"] - nbytes["network"]
        if not stored:
            return float("inf")
        rows = whole_rows(self.encoder, self.architecture)
        members = getattr(module, "members", 1)
        width = self.network.table_width(
            self.architecture["embedding_dim"], len(self.encoder.field_names_)
        )
        return members * 4 * rows * width / stored


def publish(estimator, fitted):
    """Replace all that an earlier fit has left, in one assignment."""
    attributes = fitted.attributes()
    kept = {
        name: v
        for name, v in vars(estimator).items()
        if not name.endswith("_") and name not in PRIVATE
    }
    estimator.__dict__ = {**kept, **attributes}


def warn_of_single_class(estimator, stacklevel=4):
    """Tell that a fit has trained nothing."""
    warnings.warn(
        f"{type(estimator).__name__} was fitted on the single class {estimator.classes_.tolist()}: "
        f"nothing was trained, and every row is predicted to be of this class.",
        SingleClassWarning,
        stacklevel=stacklevel,
    )
