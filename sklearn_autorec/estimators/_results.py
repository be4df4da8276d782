"""What searches found, as attributes of the fitted estimators."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..base import fixed_methods, network_of
from ..nn import mask_from_text, mask_to_text
from ..utils._state import reads_once

__all__ = ["SearchResults"]


class SearchResults:
    """Mixin: the architecture, whole and by slot.

    Reads ``_architecture`` (dict by slot; the mask of a packed table stays in the table),
    ``encoder_`` and ``net_``."""

    @property
    @reads_once
    def architecture_(self):
        """What each search found, by slot, the network and its embedding_dim: plain values."""
        check_is_fitted(self, "encoder_")
        found = dict(self._architecture)
        if "mask" in found.get("embedding", {}):
            mask = self.net_.module_.embedding.mask()
            found["embedding"] = {**found["embedding"], "mask": mask_to_text(mask)}
        return found

    @property
    def part_weights_(self):
        """Weight of the network and of each part beside it in the mean that predicts: dict, of sum
        1.
        """
        check_is_fitted(self, "encoder_")
        mixture = self.__dict__.get("_mixture_")
        return {"network": 1.0} if mixture is None else dict(mixture.weights)

    @classmethod
    def from_architecture(cls, architecture, **params):
        """An estimator that trains a known architecture, without searching.

        Parameters
        ----------
        architecture : dict
            ``architecture_`` of a fitted estimator, also after a round trip through JSON.
        **params
            Further parameters of the estimator.

        Returns
        -------
        estimator
            Not fitted. Its ``search`` holds a `FixedArchitecture` per method.
        """
        if not isinstance(architecture, dict) or "network" not in architecture:
            raise ValueError(
                f"architecture must be the architecture_ of a fitted model, got "
                f"{architecture!r:.200}."
            )
        search = fixed_methods(architecture)
        options = {
            "embedding_dim": architecture.get("embedding_dim", 16),
            # Of before there was a choice.
            "numeric_embedding": architecture.get("numeric_embedding", "linear"),
            **params,
        }
        return cls(network=network_of(architecture["network"]), search=search or None, **options)

    @property
    @reads_once
    def embedding_sizes_(self):
        """Length of the embeddings by column: an int, or an int array by id where values differ."""
        check_is_fitted(self, "encoder_")
        found = self._architecture.get("embedding", {})
        all_names, encoder = self.encoder_.field_names_, self.encoder_
        sizes = dict.fromkeys(all_names, 0)  # a dropped field has no table
        if "widths" in found:
            names, numbers = self._field_names(), []
            if "numeric" in self._architecture:  # they have a part of their own
                first = len(encoder.n_ids_)
                numbers = all_names[first : first + len(encoder.numeric_)]
                sizes |= dict.fromkeys(
                    (name for name in names if name in numbers), self._architecture["embedding_dim"]
                )
            names = [name for name in names if name not in numbers]
            return sizes | dict(zip(names, found["widths"], strict=True))
        if "mask" in found:
            n, n_numeric = len(encoder.n_ids_), len(encoder.numeric_)
            module = self.net_.module_
            tables = {f: np.arange(k) for f, k in enumerate(encoder.n_ids_)}
            tables |= {
                n + n_numeric + k: np.arange(m) for k, m in enumerate(encoder.sequence_n_ids_)
            }
            totals = {f: len(ids) for f, ids in tables.items()}
            if module.selection is not None:
                lists = {
                    f: ids for f, ids in tables.items() if f in module.selection.fields and f >= n
                }
                kept = module.selection.kept_ids()
                tables = dict(zip(module.selection.categorical, kept, strict=True)) | lists
            shared = enumerate(getattr(encoder, "shared_with_", ()))
            owners = {n + n_numeric + k: f for k, f in shared if f in tables}
            readers = {f: owners[f] for f in tables if f in owners}
            tables = {f: ids for f, ids in tables.items() if f not in readers}
            counts = module.embedding.mask().sum(1)
            bounds = np.cumsum([len(ids) for ids in tables.values()])[:-1]
            sizes = {all_names[f]: np.zeros(n_ids, counts.dtype) for f, n_ids in totals.items()}
            for (f, ids), own in zip(
                tables.items(), np.split(counts, bounds) if tables else [], strict=True
            ):
                sizes[all_names[f]][ids] = own
            for f, owner in readers.items():
                sizes[all_names[f]] = sizes[all_names[owner]]
            return sizes
        raise AttributeError(
            f"search={self.search!r} does not choose embedding sizes; use for instance "
            f"search=PEP()."
        )

    @property
    @reads_once
    def interactions_(self):
        """Interactions that the search kept: list of tuples of column names."""
        names, found = self._interactions()
        return [tuple(names[i] for i in t) for t in found["interactions"]]

    @property
    @reads_once
    def interaction_scores_(self):
        """Score of every candidate interaction, by tuple of column names; larger is stronger."""
        names, found = self._interactions()
        return {
            tuple(names[i] for i in t): s
            for t, s in zip(found["candidates"], found["scores"], strict=True)
        }

    def _interactions(self):
        check_is_fitted(self, "encoder_")
        found = self._architecture.get("interaction", {})
        if "candidates" not in found:
            raise AttributeError(
                f"search={self.search!r} does not choose interactions; use for instance "
                f"search=AutoFIS()."
            )
        return self._field_names(), found

    def _field_names(self):
        """Names of the fields that the network has, in its order."""
        names, gate = self.encoder_.field_names_, self._architecture.get("gate", {})
        return [names[f] for f in gate.get("fields", range(len(names)))]

    def _chosen(self, key, what="fields", example="AutoField"):
        check_is_fitted(self, "encoder_")
        found = self._architecture.get("gate", {})
        if self.net_ is None:
            raise AttributeError(
                f"The model has seen a single class: nothing was searched, there are no {what} to "
                f"choose."
            )
        if key not in found:
            raise AttributeError(
                f"search={self.search!r} does not choose {what}; use for instance "
                f"search={example}()."
            )
        return found[key]

    @property
    @reads_once
    def support_(self):
        """Which columns the search kept, bool, one a column of ``fit``."""
        encoder, kept = self.encoder_, self._chosen("fields")
        support = np.zeros(self.n_features_in_, bool)
        support[
            np.concatenate([encoder.categorical_, encoder.numeric_, encoder.sequence_])[kept]
        ] = True
        return support

    @property
    @reads_once
    def selected_fields_(self):
        """Names of the columns that the search kept, in the order of the network's fields."""
        self._chosen("fields")
        return self._field_names()

    @property
    @reads_once
    def field_scores_(self):
        """Score of every column, by name; larger is more useful."""
        return dict(zip(self.encoder_.field_names_, self._chosen("scores"), strict=True))

    @property
    @reads_once
    def selected_values_(self):
        """Values that the search kept, by name of the kept categorical columns: ndarrays, most
        frequent first.
        """
        kept = mask_from_text(self._chosen("values", "values", "OptFS"))[:, 0]
        own = np.split(kept, np.cumsum(self.encoder_.n_ids_)[:-1])
        fields, names = self._chosen("fields"), self.encoder_.field_names_
        return {
            names[f]: values[own[f][2:]]  # after the missing and the unknown id
            for f, values in enumerate(self.encoder_.categories_)
            if f in fields and len(values)
        }
