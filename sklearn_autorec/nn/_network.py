"""The frame every network shares: inputs -> embedding -> gate -> the network's own wiring."""

import torch
from torch import nn

from ._blocks import mix_of_features
from ._context import Inputs
from ._embeddings import FieldRows
from ._given import plain_embedding
from ._numeric import hold_constants
from ._vectors import vector_embedding


class FieldAssembly(nn.Module):
    """Puts the vectors of categorical, numeric and list fields side by side where parts of their
    own make the latter; it has no weights.

    Parameters
    ----------
    context : BuildContext
    targets : sequence of (int or None)
        For each list field the categorical field that its part is told of.
    """

    def __init__(self, context, targets):
        super().__init__()
        self.n_ids, self.n_numeric = len(context.n_ids), context.n_numeric
        self.lengths, self.n_vectors = context.sequence_lengths, len(context.vectors)
        self.targets, self.dim, self.members = list(targets), context.embedding_dim, context.members

    def forward(self, inputs, embedding, numeric, sequence, dense=None):
        """inputs and the parts (None where there is none) -> (B, F, d).

        ``dense`` is the part of vector fields; None where there are none, or where the embedding
        part has them.
        """
        lists = None
        if embedding is None:
            vectors = []
        elif sequence is None:
            vectors = [embedding(inputs)]
        else:
            vectors, items = embedding.unpooled(inputs)
            lists = self._pooled(inputs.sequences, vectors, items, sequence)
            dense = dense or getattr(embedding, "dense", None)
        e = (
            torch.cat(vectors, 1)
            if vectors
            else inputs.numeric.new_zeros(inputs.ids.shape[0], 0, 1)
        )
        wanted = self.n_ids + (len(self.lengths) if sequence is None else 0)
        wanted += self.n_numeric if numeric is None else 0
        wanted += self.n_vectors if dense is None else 0
        if e.shape[1] != wanted:
            raise TypeError(
                f"{type(embedding).__name__} in the embedding slot gives vectors of {e.shape[1]} "
                f"fields where {wanted} are wanted: beside a numeric part it is built for "
                f"context.without_numbers(), and for context.without_vectors() unless it embeds "
                f"vectors."
            )
        parts = [e]
        if numeric is not None and self.n_numeric:
            own = inputs.numeric[:, : 2 * self.n_numeric] if self.n_vectors else inputs.numeric
            parts = [e[:, : self.n_ids], numeric(own), e[:, self.n_ids :]]
        if lists is not None:
            parts.append(lists)
        if dense is not None:
            parts.append(dense(inputs.numeric))
        # Without categorical fields the first is empty, and so is the last without lists.
        return torch.cat([part for part in parts if part.shape[1]], 1)

    def _pooled(self, sequences, vectors, items, sequence):
        """Vectors of the list fields, (B, F_seq, d)."""
        longest, padded, present = max(self.lengths), [], []
        for ids, rows in zip(sequences.split(self.lengths, 1), items, strict=True):
            there, missing = ids > 0, longest - ids.shape[1]
            rows = rows * there.unsqueeze(-1).to(rows.dtype)
            padded.append(nn.functional.pad(rows, (0, 0, 0, missing)))
            present.append(nn.functional.pad(there, (0, missing)))
        nothing = items[0].new_zeros(sequences.shape[0], self.dim)
        targets = [nothing if f is None else vectors[0][:, f] for f in self.targets]
        return sequence(torch.stack(padded, 1), torch.stack(present, 1), torch.stack(targets, 1))


class FieldNetwork(nn.Module):
    """Base of all networks. A subclass writes ``logits(e, inputs)``.

    In a context of M members all has M * B rows.

    Parameters
    ----------
    context : BuildContext
    parts : dict of str to nn.Module
        Modules that stand in for slots:

        - "embedding": inputs -> (B, F, d), of all fields but vectors, which have projections of
          their own (`VectorEmbedding`). Beside a "numeric" part it is one of
          ``context.without_numbers()``. Beside a "sequence" part it has ``unpooled(inputs)``, as
          `FieldRows` has it.
        - "numeric": scaled values and missing indicators (B, 2 F_num) -> (B, F_num, d);
        - "sequence": vectors (B, F_seq, L, d) of the items of all lists, zero where there is none,
          bool (B, F_seq, L), where there is an item, and (B, F_seq, d), the embeddings of the
          fields that the lists are judged by, zero where there is no such field -> (B, F_seq, d);
        - "gate": (B, F, d), inputs -> factors (B, F) or (1, F);
        - "body": (B, F, d), inputs -> logits (B, C), in the place of ``logits``;
        - those that the network itself reads ("interaction", "head").

        "selection", an `InputSelection`, brings batches of the whole table down to the fields of
        the context.
    targets : sequence of (int or None) or None, default=None
        For each list field the number of the categorical field whose embedding the "sequence" part
        is told; None stands for the fields with which they share their tables.
    """

    def __init__(self, context, parts, targets=None):
        super().__init__()
        # Of a table without lists (and of one without numbers) such a part has nothing to do.
        self.numeric, self.sequence = parts.get("numeric"), parts.get("sequence")
        own = context if self.numeric is None else context.without_numbers()
        self.embedding = parts.get("embedding") or (plain_embedding(own) if own.n_fields else None)
        self.gate = parts.get("gate")
        self.body = parts.get("body")
        self.selection = parts.get("selection")
        self.assembly = self.dense = None
        if getattr(self.embedding, "dense", None) is None:
            self.dense = vector_embedding(context, context.embedding_dim, context.embedding_init)
        if self.numeric is not None or self.sequence is not None or self.dense is not None:
            self.assembly = FieldAssembly(
                context, context.list_targets if targets is None else targets
            )
        if getattr(self.body, "normalises_fields", False) and self.gate is None:
            hold_constants(self)
        self.has_lists = bool(context.sequences)
        if self.sequence is not None and self.has_lists and not hasattr(self.embedding, "unpooled"):
            raise TypeError(
                f"{type(self.embedding).__name__} in the embedding slot cannot stand beside "
                f"{type(self.sequence).__name__} in the sequence slot: it has no method unpooled, "
                "which gives the vectors of single items; see sklearn_autorec.nn.FieldRows."
            )

    def embed(self, inputs):
        """Embeddings of all fields, not gated, (B, F, d)."""
        if self.assembly is None:
            return self.embedding(inputs)
        sequence = self.sequence if self.has_lists else None
        return self.assembly(inputs, self.embedding, self.numeric, sequence, self.dense)

    def forward(self, ids, numeric, sequences):
        """Encoded batch (see `Inputs`) to logits (B, C)."""
        inputs = Inputs(ids, numeric, sequences)
        if self.selection is not None:
            inputs = self.selection(inputs)
        linear = getattr(self, "linear", None)
        if isinstance(linear, FieldRows) and isinstance(self.embedding, FieldRows):
            numbers = self.embedding.embed_with(linear, inputs.numeric)
            if numbers is not None:
                inputs = inputs._replace(
                    numbers=((self.embedding, numbers[0]), (linear, numbers[1]))
                )
        e = self.embed(inputs)
        if self.gate is not None:
            # Behind the gate every other table (the first-order term, those of parts) reads its
            # fields gated as well.
            inputs = inputs._replace(gates=self.gate(self.seen_by_gate(e), inputs))
            e = e * inputs.gates.unsqueeze(-1)
        return self.logits(e, inputs) if self.body is None else self.body(e, inputs)

    def gates(self, ids, numeric, sequences):
        """Factors of the fields, (B, F)."""
        inputs = Inputs(ids, numeric, sequences)
        if self.selection is not None:
            inputs = self.selection(inputs)
        e = self.embed(inputs)
        return (
            e.new_ones(e.shape[:2])
            if self.gate is None
            else self.gate(self.seen_by_gate(e), inputs).expand(e.shape[:2])
        )

    def seen_by_gate(self, e):
        """What the gate is given of the embeddings, (B, F, d): themselves, unless a network has
        others than one vector of d numbers a field.
        """
        return e

    def logits(self, e, inputs):
        """Gated embeddings (B, F, d) and the batch to logits (B, C)."""
        raise NotImplementedError


def check_parts(network, module, parts):
    """Refuse a network that names a slot and leaves out the part that should stand there.

    Raises
    ------
    TypeError
        If a part is nowhere in the module that the network has built.
    """
    there = {id(m) for m in module.modules()}
    for slot, part in parts.items():
        if id(part) not in there:
            raise TypeError(
                f"network={network!r} names the slot {slot!r}, but its module "
                f"{type(module).__name__} does not hold the part that "
                f"is to stand there ({type(part).__name__}): build(context, parts) must use "
                f"parts[{slot!r}], or slots "
                f"{network.slots!r} must not name it."
            )


def head_part(parts, n_in, context):
    """The part that stands in the head slot, told its widths, or None.

    What a head takes depends on the network and on what stands in its other slots, so that the
    network says it as it is built: ``set_widths(n_in, n_out, generator)``, a hook of the part,
    makes the weights. A part that comes again with the same widths keeps those that it has. A part
    without the hook must fit by itself.

    Parameters
    ----------
    parts : dict of str to nn.Module
        Handed to ``build`` of the network.
    n_in : int
        Numbers of a row that the network will give it.
    context : BuildContext
        Its ``n_outputs`` are wanted; initial weights come from its generator.

    Returns
    -------
    nn.Module or None
        (B, n_in) -> (B, C).
    """
    head = parts.get("head")
    widths = (n_in, context.n_outputs)
    if hasattr(head, "set_widths") and getattr(head, "told_widths", None) != widths:
        head.set_widths(*widths, context.generator)
        head.told_widths = widths
    return head


class SumPool(nn.Module):
    """Interaction features to logits: their sum for one output, a learned mix for C > 1; (B, K) ->
    (B, C). Of no features it is 0.
    """

    def __init__(self, n_in, context):
        super().__init__()
        self.mix = None if context.n_outputs == 1 or n_in == 0 else mix_of_features(n_in, context)

    def forward(self, features):
        return features.sum(1, keepdim=True) if self.mix is None else self.mix(features)

    def of(self, part, e, inputs):
        """What the part in the interaction slot adds to the logits, (B, C).

        A part that has ``total``, (e, inputs) -> (B, 1), says the sum of its features itself, where
        that takes less than the features.
        """
        total = None if self.mix is not None else getattr(part, "total", None)
        return self(part(e, inputs)) if total is None else total(e, inputs)
