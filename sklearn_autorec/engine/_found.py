"""What the search phase of a fit leaves: architectures, weights, and what becomes of them."""

import dataclasses
import json

from ..nn import MemberLosses, Members

__all__ = ["Found"]


@dataclasses.dataclass
class Found:
    """What the search phase leaves.

    Parameters
    ----------
    architecture : dict of slot to dict
    starts : list of (str, dict of str to Tensor)
        Weights that the final network takes over: all those whose name starts with the string.
    history : list of dict
    interrupted : bool
    last : list of (str, dict of str to Tensor)
        All weights of the last search of which an epoch was finished, brought over to its
        architecture.
    rules : dict of slot to str
        ``retrain`` of the methods whose search is over.
    rest : str
        Rule of the network around them.
    kept : dict of slot to object
        What `SearchProblem` was left to keep, under the first slot of each method.
    """

    architecture: dict = dataclasses.field(default_factory=dict)
    starts: list = dataclasses.field(default_factory=list)
    history: list = dataclasses.field(default_factory=list)
    interrupted: bool = False
    last: list = dataclasses.field(default_factory=list)
    rules: dict = dataclasses.field(default_factory=dict)
    rest: str = "scratch"
    kept: dict = dataclasses.field(default_factory=dict)

    @property
    def state(self):
        """All of it as tensors and plain values, for a file; None where it holds something else, or
        is what a search has left that was interrupted.
        """
        values = [self.architecture, self.history, self.rules, self.rest]
        try:
            text = json.dumps(values)
        except TypeError:
            return None
        if self.interrupted or self.kept or json.loads(text) != values:
            return None
        return {"plain": text, "starts": self.starts, "last": self.last}

    @classmethod
    def from_state(cls, state, device):
        """What `state` was taken of, with its weights on a device."""
        architecture, history, rules, rest = json.loads(state["plain"])
        starts, last = (
            [(prefix, {name: t.to(device) for name, t in own.items()}) for prefix, own in weights]
            for weights in (state["starts"], state["last"])
        )
        return cls(architecture, starts, history, last=last, rules=rules, rest=rest)

    def rests(self, name):
        """Whether a weight or a module of that name ("slot.", for a whole part) is not trained
        again.
        """
        for slot, rule in self.rules.items():
            if name.startswith(f"{slot}."):
                return rule == "none"
        return self.rest == "none"

    def leaves(self, module, part=None):
        """Whether there is something to train in a network and in a part of the loss slot; if not,
        what was searched serves.
        """
        names = [name for name, _ in module.named_parameters()]
        if part is not None:
            names += [f"loss.{name}" for name, _ in part.named_parameters()]
        return not all(self.rests(name) for name in names)

    def give_weights(self, parts):
        """Bring the parts that are not trained again to their weights, for a search around them.

        Parameters
        ----------
        parts : dict of slot to Module

        Returns
        -------
        dict, the same
        """
        for slot, part in parts.items():
            if self.rules.get(slot) == "none":
                _take_over(part, f"{slot}.", self.starts)
                self.check_complete(part, f"{slot}.")
        return parts

    def check_complete(self, module, prefix=""):
        """Refuse what is not trained again and lacks some of its weights.

        Raises
        ------
        ValueError
        """
        known = {
            name: t.shape
            for start, state in self.starts
            for name, t in state.items()
            if name.startswith(start)
        }
        for name, t in module.state_dict(prefix=prefix).items():
            if self.rests(name) and known.get(name) != t.shape:
                told = f"of shape {tuple(known[name])}" if name in known else "not there"
                raise ValueError(
                    f"retrain='none' needs all weights of the searched network: {name!r} of shape "
                    f"{tuple(t.shape)} is {told}. The hook transfer of the search method must give "
                    f"it; otherwise choose retrain='keep' or 'scratch'."
                )

    def fall_back(self):
        """Take the weights of the last search for the model, since nothing better will come.

        Raises
        ------
        KeyboardInterrupt
            If no search has finished an epoch: there is no model to keep.
        """
        if not self.last:
            raise KeyboardInterrupt
        self.interrupted, self.starts, self.rules, self.rest = True, self.last, {}, "scratch"

    def hand_over(self, module):
        """Start the final network from weights of the searches, where name and shape agree.

        Of several members the first takes them over: the others would not be independent of it.
        """
        if isinstance(module, Members):
            for prefix, state in self.starts:
                taken = {name: t for name, t in state.items() if name.startswith(prefix)}
                for name, view in module.weights_of(
                    0, {name: t.shape for name, t in taken.items()}
                ).items():
                    view.copy_(taken[name])
            return
        _take_over(module, "", self.starts)
        self.check_complete(module)

    def hand_over_loss(self, part):
        """Start a part in the loss slot from the weights that a search has left it; of several
        members, that of the first.
        """
        part = part.losses[0] if isinstance(part, MemberLosses) else part
        _take_over(part, "loss.", self.starts)
        self.check_complete(part, "loss.")


def _take_over(module, prefix, starts):
    """Load from weights of searches what agrees in name and shape with a module whose names begin
    with ``prefix``.
    """
    own = module.state_dict(prefix=prefix)
    for start, state in starts:
        matching = {
            name.removeprefix(prefix): t
            for name, t in state.items()
            if name.startswith(start) and name in own and own[name].shape == t.shape
        }
        module.load_state_dict(matching, strict=False)
