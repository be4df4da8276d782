"""What the networks share that read histories by a target: which column is the target of which."""

from ..nn import FieldNetwork
from ._deep import DeepNetwork


class HistoryModule(FieldNetwork):
    """Perceptron on the embeddings, lists as a part of the network makes vectors of them.

    A subclass has ``part(context, targets, network)``, which returns that part, or None where no
    list has a target.
    """

    def __init__(self, context, parts, network):
        targets = network.targets(context, narrowed="selection" in parts)
        own = None if "sequence" in parts else self.part(context, targets, network)
        super().__init__(context, parts if own is None else {**parts, "sequence": own}, targets)
        self.head = network.head(context, parts, context.axis("F", context.embedding_dim))

    @staticmethod
    def part(context, targets, network):
        raise NotImplementedError

    def logits(self, e, inputs):
        return self.head(e.flatten(1))


class HistoryNetwork(DeepNetwork):
    """Base of networks whose lists are read by the value of a categorical column; subclasses have a
    parameter ``attention``, ``{list column: categorical column}`` or None.

    Parameters
    ----------
    hidden_units : tuple of int, default=(200, 80)
        Units of each hidden layer.
    """

    _parameter_constraints: dict = {
        **DeepNetwork._parameter_constraints,
        "attention": [dict, None],
    }

    def targets(self, context, narrowed=False):
        """Number of the categorical field that is the target of each list field, or None.

        Parameters
        ----------
        context : BuildContext
        narrowed : bool, default=False
            Whether columns may be gone, since a search has dropped them.

        Returns
        -------
        list of (int or None)

        Raises
        ------
        ValueError
            If ``attention`` names other columns, or is None and no list shares a vocabulary.
        """
        names, n_ids = context.field_names, len(context.n_ids)
        lists, targets = names[n_ids + context.n_numeric : context.first_vector], names[:n_ids]
        if self.attention is None:
            if lists and not narrowed and all(f is None for f in context.list_targets):
                raise ValueError(
                    f"network={self!r} has no target for the lists {list(lists)}: share the "
                    "vocabulary of a list with a column, encoder=FieldEncoder(shared_vocabularies="
                    f"{{list: column}}), or name the targets, {type(self).__name__}(attention="
                    "{list: column}); attention={} says that no list has one."
                )
            return list(context.list_targets)
        for items, target in self.attention.items():
            known = items in lists and target in targets
            if not known and not narrowed:
                raise ValueError(
                    f"attention={self.attention!r} must name list columns, {list(lists)}, and for "
                    f"each a categorical one of {list(targets)}."
                )
        wanted = (self.attention.get(name) for name in lists)
        return [targets.index(name) if name in targets else None for name in wanted]
