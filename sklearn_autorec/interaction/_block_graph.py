"""Graphs of blocks (perceptrons, factorization machines, dot products) over numbers and ids: the
network, the space of all graphs and what one costs.
"""

import math

import torch
from torch import nn

from ..nn import add_bias, linear, output_bias

BLOCKS = ("mlp", "fm", "dp")
DENSE, SPARSE = "dense", "sparse"
TRIES = 50  # mutations until one changes the network
VECTOR_BLOCKS = ("fm", "dp")  # they read vectors, the others plain numbers


def groups_of(context):
    """Positions of the fields of each group that the table has: numbers, ids with lists."""
    first, last = context.n_categorical, context.n_categorical + context.n_numeric
    groups = {
        DENSE: list(range(first, last)),
        SPARSE: [*range(first), *range(last, context.n_fields)],
    }
    return {name: fields for name, fields in groups.items() if fields}


class Wiring:
    """Sizes in a graph of blocks.

    Parameters
    ----------
    blocks : list of dict
        With "type", "inputs" (groups, and numbers of earlier blocks) and, of "mlp", "width".
    context : BuildContext
    """

    def __init__(self, blocks, context):
        self.blocks, self.dim = blocks, context.embedding_dim
        self.n_outputs, self.groups = context.n_outputs, groups_of(context)
        self.width = {name: len(fields) * self.dim for name, fields in self.groups.items()}
        for number, block in enumerate(blocks):
            self.width[number] = self._n_out(block)
        read = {source for block in blocks for source in block["inputs"]}
        self.unread = [source for source in self.width if source not in read]

    def n_vectors(self, block):
        """Vectors that a block reads: a field each, one of all numbers, one of another block."""
        n = [len(self.groups[SPARSE]) if s == SPARSE else 1 for s in block["inputs"]]
        return sum(n)

    def _n_out(self, block):
        n = self.n_vectors(block)
        return {"fm": 1, "dp": n * (n + 1) // 2}.get(block["type"]) or block["width"]

    def n_in(self, block):
        return sum(self.width[source] for source in block["inputs"])

    def projected(self, block):
        """Blocks whose numbers a block brings to a vector."""
        return [s for s in block["inputs"] if s not in self.groups]

    def parameters(self):
        """Weights, without those of the embeddings."""
        n = self.n_outputs * (1 + sum(self.width[source] for source in self.unread))
        for block in self.blocks:
            if block["type"] == "mlp":
                n += (self.n_in(block) + 1) * block["width"]
            else:
                n += self.dim * sum(self.width[s] for s in self.projected(block))
        return n

    def flops(self):
        """Multiplications of a row."""
        n = self.n_outputs * sum(self.width[source] for source in self.unread)
        for block in self.blocks:
            if block["type"] == "mlp":
                n += self.n_in(block) * block["width"]
                continue
            n += self.dim * sum(self.width[s] for s in self.projected(block))
            vectors = self.n_vectors(block)
            # Squares of every vector and of their sum, or a product of every two.
            n += self.dim * (vectors + 1 if block["type"] == "fm" else self._n_out(block))
        return n


class BlockGraph(nn.Module):
    """A graph of blocks and a linear layer on all that no block reads; (B, F, d), inputs ->
    logits (B, C).

    - "mlp": one layer with ReLU on all numbers of its inputs;
    - "fm": the sum of inner products of every two vectors, one number;
    - "dp": these products one by one, and of each vector with itself, n (n + 1) / 2 numbers.

    Fields of ids and lists are a vector each. The numeric fields together are one, the sum of their
    embeddings; so is a block, by a linear layer.

    Parameters
    ----------
    blocks : list of dict
        See `Wiring`.
    context : BuildContext
    """

    def __init__(self, blocks, context):
        super().__init__()
        wiring, generator = Wiring(blocks, context), context.generator
        self.blocks, self.groups, self.unread = blocks, list(wiring.groups), wiring.unread
        for name, fields in wiring.groups.items():
            self.register_buffer(f"{name}_fields", torch.tensor(fields), persistent=False)
        self.layers, self.projections = nn.ModuleDict(), nn.ModuleDict()
        for number, block in enumerate(blocks):
            if block["type"] == "mlp":
                n_in = wiring.n_in(block)
                self.layers[str(number)] = linear(n_in, block["width"], generator)
                continue
            for s in wiring.projected(block):
                layer = linear(wiring.width[s], context.embedding_dim, generator, bias=False)
                self.projections[f"{s}_{number}"] = layer
            if block["type"] == "dp":
                n = wiring.n_vectors(block)
                row, column = torch.tril_indices(n, n)
                self.register_buffer(f"triangle_{number}", row * n + column, persistent=False)
        n_unread = sum(wiring.width[source] for source in wiring.unread)
        self.out = linear(n_unread, context.n_outputs, generator, bias=False)
        self.bias = output_bias(context)

    def forward(self, e, inputs):
        numbers, vectors = {}, {}
        for name in self.groups:
            vectors[name] = e.index_select(1, getattr(self, f"{name}_fields"))
            numbers[name] = vectors[name].flatten(1)
        if DENSE in vectors:
            vectors[DENSE] = vectors[DENSE].sum(1, keepdim=True)
        for number, block in enumerate(self.blocks):
            if block["type"] == "mlp":
                own = torch.cat([numbers[s] for s in block["inputs"]], 1)
                numbers[number] = torch.relu(self.layers[str(number)](own))
                continue
            own = torch.cat(
                [
                    vectors[s]
                    if s in vectors
                    else self.projections[f"{s}_{number}"](numbers[s]).unsqueeze(1)
                    for s in block["inputs"]
                ],
                1,
            )
            if block["type"] == "fm":
                total = own.sum(1)
                products = 0.5 * (total.square() - own.square().sum(1))
                numbers[number] = products.sum(1, keepdim=True)
            else:
                products = torch.bmm(own, own.transpose(1, 2)).flatten(1)
                triangle = getattr(self, f"triangle_{number}")
                numbers[number] = products.index_select(1, triangle)
        return add_bias(self.out(torch.cat([numbers[s] for s in self.unread], 1)), self.bias)


class GraphSpace:
    """Graphs of at most so many blocks, each in one form: blocks that read nothing vanish, choices
    that change nothing are not there, and blocks stand in a fixed order.

    It is a space as `sklearn_autorec.engine.RegularizedEvolution` takes one; ``features`` and
    ``complexity`` are for `GuidedEvolution`.

    Parameters
    ----------
    context : BuildContext
    kinds : sequence of str
        Out of `BLOCKS`.
    widths : sequence of int
        Of "mlp" blocks.
    max_blocks : int
    measure : {"flops", "parameters"}
    """

    def __init__(self, context, kinds, widths, max_blocks, measure):
        self.context, self.kinds, self.widths = context, list(kinds), list(widths)
        self.max_blocks, self.measure = max_blocks, measure
        groups = groups_of(context)
        self.groups, self.n_sparse = list(groups), len(groups.get(SPARSE, []))

    def draw(self, random):
        return self._configuration([self._block(n, random) for n in range(self.max_blocks)])

    def _pick(self, values, random):
        return values[int(random.integers(len(values)))]

    def _block(self, n_earlier, random):
        """A block whose every input is there or not by an even chance."""
        sources = [*self.groups, *range(n_earlier)]
        return {
            "type": self._pick(self.kinds, random),
            "width": self._pick(self.widths, random),
            "inputs": [s for s in sources if random.integers(2)],
        }

    def _configuration(self, blocks):
        return {"n_fields": self.context.n_fields, "blocks": blocks}

    def mutate(self, configuration, random):
        """A copy in which one choice of one block, perhaps one that was not there, is another."""
        for _ in range(TRIES):
            child = self.repair(self._mutated(configuration["blocks"], random))
            if child is not None and child != configuration:
                return child
        return configuration

    def _mutated(self, blocks, random):
        n = self.max_blocks
        places = sorted(random.choice(n, len(blocks), replace=False).tolist())
        changed = [
            {**self._block(0, random), "inputs": []} if k not in places else None for k in range(n)
        ]
        for place, block in zip(places, blocks, strict=True):
            inputs = [places[s] if isinstance(s, int) else s for s in block["inputs"]]
            changed[place] = {"width": self.widths[0], **block, "inputs": inputs}
        k = int(random.integers(n))
        block, sources = changed[k], [*self.groups, *range(k)]
        token = int(random.integers(2 + len(sources)))
        if token == 0:
            block["type"] = self._pick(self.kinds, random)
        elif token == 1:
            block["width"] = self._pick(self.widths, random)
        else:
            source = sources[token - 2]
            kept = [s for s in block["inputs"] if s != source]
            block["inputs"] = kept if source in block["inputs"] else [*kept, source]
        return self._configuration(changed)

    def repair(self, configuration):
        """The one form of a graph; None if it has no block."""
        kept: dict = {}  # number before -> (depth, all that it computes, block)
        same: dict = {}  # number before -> that of the block which stands for it
        for number, block in enumerate(configuration["blocks"]):
            inputs = [s for s in self.groups if s in block["inputs"]]
            blocks = list({same[s]: None for s in block["inputs"] if s in same})
            n_vectors = sum(self.n_sparse if s == SPARSE else 1 for s in inputs) + len(blocks)
            if n_vectors < (2 if block["type"] in VECTOR_BLOCKS else 1):
                continue
            own = {"type": block["type"]}
            if block["type"] == "mlp":
                own["width"] = block["width"]
            own["inputs"] = [*inputs, *blocks]
            parts = sorted(kept[s][1] for s in blocks)
            whole = own["type"], own.get("width", 0), tuple(inputs), tuple(parts)
            twin = [k for k, (_, other, _) in kept.items() if other == whole]
            if twin and block["type"] in VECTOR_BLOCKS and not blocks:
                same[number] = twin[0]  # without weights it is the same numbers again
                continue
            same[number] = number
            depth = 1 + max((kept[s][0] for s in blocks), default=0)
            kept[number] = depth, whole, own
        order = sorted(kept, key=lambda number: kept[number][:2])
        place = {number: k for k, number in enumerate(order)}
        ordered = []
        for number in order:
            own = kept[number][2]
            blocks = sorted(place[s] for s in own["inputs"] if s in place)
            groups = [s for s in own["inputs"] if s in self.groups]
            ordered.append({**own, "inputs": [*groups, *blocks]})
        return self._configuration(ordered) if ordered else None

    def features(self, configuration):
        """Numbers that describe a graph: kind, width and inputs of every block, blocks of every
        kind, and the logarithm of what it costs.
        """
        blocks, row, counts = configuration["blocks"], [], dict.fromkeys(self.kinds, 0)
        for k in range(self.max_blocks):
            block = blocks[k] if k < len(blocks) else {"type": None, "inputs": []}
            if k < len(blocks):
                counts[block["type"]] += 1
            row += [float(block["type"] == kind) for kind in self.kinds]
            row.append(math.log2(block.get("width", 1)))
            row += [float(s in block["inputs"]) for s in [*self.groups, *range(k)]]
        return [*row, *map(float, counts.values()), math.log(self.complexity(configuration))]

    def complexity(self, configuration):
        """What a graph costs, by the measure."""
        return getattr(Wiring(configuration["blocks"], self.context), self.measure)()
