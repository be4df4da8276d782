"""AutoCTR: the network behind the embeddings as a graph of blocks, found by guided evolution."""

from numbers import Integral, Real

from ..base import SearchMethod
from ..base._constraints import at_least_one, constraints_of
from ..engine import HeldOutScore
from ..utils._parameters import stores_parameters
from ..utils._sklearn import StrOptions
from ._block_graph import BLOCKS, SPARSE, VECTOR_BLOCKS, BlockGraph, GraphSpace, Wiring, groups_of
from ._guided_evolution import GuidedEvolution
from ._products import check_pairs_exist

LABELS = {"dense": "numbers", "sparse": "ids and lists"}
BLOCK_LABELS = {"fm": "FM", "dp": "dot products"}


class AutoCTR(SearchMethod):
    r"""Find the network behind the embeddings as a graph of blocks, by evolution that a learned
    ranking guides.

    A graph has up to ``max_blocks`` blocks:

    - "mlp": one fully connected layer with ReLU, of one of several widths;
    - "fm": the sum of inner products of every two vectors, one number;
    - "dp": all these products side by side, those of a vector with itself included.

    A block reads the numeric fields, the fields of ids and lists, earlier blocks, or several of
    them. The numeric fields are one vector for "fm" and "dp", the sum of their embeddings; an
    earlier block is one by a linear layer. What no block reads goes into a linear layer, whose
    outputs are the logits.

    Evolution begins with ``population`` random graphs. A parent is drawn from the survivors by
    tournament and mutated many times, one choice of one block at a time; of these neighbours that
    one is trained which LambdaRank on boosted trees, fitted to all scores so far, puts first. Those
    of the youngest survive whose sum of ranks by quality, age and complexity is lowest.

    It fits networks with a "body" slot: all but `LR`. What they have behind the embeddings is
    replaced.

    Parameters
    ----------
    max_blocks : int, default=7
        Blocks of a graph, at most.
    blocks : tuple of str, default=("mlp", "fm", "dp")
        Kinds of blocks.
    widths : tuple of int, default=(32, 64, 128, 256, 512, 1024)
        Units that an "mlp" block may have.
    max_evaluations : int, default=100
        Candidates that are trained.
    population : int, default=20
        Random candidates at the start, and survivors.
    tournament : int, default=10
        Size of the tournament by which a parent is drawn.
    n_neighbors : int, default=100
        Mutations of a parent of which the ranking chooses one; with 1 nothing is learned.
    n_children : int, default=4
        Candidates between two rankings, which may be evaluated at a time.
    weights : (float, float, float), default=(0.1, 1.0, 0.1)
        Of the ranks by quality, age and complexity, by which survivors are chosen.
    complexity : {"flops", "parameters"}, default="flops"
        Multiplications of a row, or weights; both without embeddings.
    epochs : int, default=1
        Epochs of the training of a candidate.
    train_share : float in (0, 1], default=1.0
        Share of the rows, other than those that judge, on which candidates train.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows by which candidates are judged.
    n_jobs : int or None, default=None
        Candidates at a time, in processes. The result does not depend on it.
    max_time : float or None, default=None
        Seconds after which no candidate begins.

    Notes
    -----
    ``architecture_["body"]["blocks"]`` has the blocks of the best candidate, each with "type",
    "inputs" (``"dense"``, ``"sparse"``, numbers of earlier blocks) and, of "mlp", "width". "front"
    has those candidates than which no other is both better and cheaper, from the cheapest on, with
    "score", "complexity" and "blocks": any of these can be trained by
    `CTRClassifier.from_architecture`. ``search_history_`` has a record a candidate.
    `sklearn_autorec.inspection.ArchitectureDisplay` draws the graph.

    Graphs are brought to one form before they count as new: blocks that read nothing or whose
    products have no partner vanish, widths of other blocks than "mlp" are not there, and the order
    of blocks does not count. Otherwise a part of all evaluations goes to networks that were trained
    already.

    The blocks, their choices, the evolution and its defaults are those of the published code; that
    takes other entries than the triangle of all products in "dp", and other costs. The ranking is
    our own in place of a library's. By default the weight of age makes it nearly an evolution in
    which the oldest die.

    References
    ----------
    .. [1] Song, Q. et al. "Towards Automated Neural Interaction Discovery for Click-Through Rate
       Prediction", KDD 2020. https://arxiv.org/abs/2007.06434

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, interaction
    >>> X, y, truth = datasets.make_ctr(1000, n_fields=4, pairs=[(0, 1)], random_state=0)
    >>> search = interaction.AutoCTR(max_blocks=3, widths=(8, 16), max_evaluations=8, population=4)
    >>> model = CTRClassifier(network="fm", search=search, lr=0.01, max_epochs=2, random_state=0)
    >>> len(model.fit(X, y).search_history_)
    8
    """

    slot = "body"
    _parameter_constraints = {
        **at_least_one("max_blocks", "population", "tournament", "n_neighbors", "n_children"),
        "blocks": [tuple, list],
        "widths": [tuple, list],
        **constraints_of(
            "max_evaluations", "epochs", "train_share", "search_fraction", "n_jobs", "max_time"
        ),
        "weights": [tuple, list],
        "complexity": [StrOptions({"flops", "parameters"})],
    }

    @stores_parameters
    def __init__(
        self,
        max_blocks=7,
        blocks=BLOCKS,
        widths=(32, 64, 128, 256, 512, 1024),
        max_evaluations=100,
        population=20,
        tournament=10,
        n_neighbors=100,
        n_children=4,
        weights=(0.1, 1.0, 0.1),
        complexity="flops",
        epochs=1,
        train_share=1.0,
        search_fraction=0.2,
        n_jobs=None,
        max_time=None,
    ):
        """Store the parameters."""

    def space(self, context):
        """All graphs for a table."""
        kinds, widths, weights = list(self.blocks), list(self.widths), list(self.weights)
        if not kinds or len(set(kinds)) < len(kinds) or not set(kinds) <= set(BLOCKS):
            raise ValueError(f"blocks must be different kinds out of {BLOCKS}, got {kinds!r}.")
        if not widths or not all(isinstance(w, Integral) and w >= 1 for w in widths):
            raise ValueError(f"widths must be ints of at least 1, got {widths!r}.")
        if len(weights) != 3 or not all(isinstance(w, Real) and w >= 0 for w in weights):
            raise ValueError(f"weights must be three numbers of at least 0, got {weights!r}.")
        check_pairs_exist("AutoCTR", context)
        widths = sorted({int(width) for width in widths})
        return GraphSpace(context, kinds, widths, self.max_blocks, self.complexity)

    def policy(self, problem):
        context = problem.context
        evolution = GuidedEvolution(
            self.space(context),
            context.generator,
            n_evaluations=self.max_evaluations,
            population=self.population,
            tournament=self.tournament,
            n_neighbors=self.n_neighbors,
            weights=self.weights,
            batch_size=self.n_children,
        )
        return evolution.proposals()

    def search(self, problem):
        evaluations = problem.evaluate(
            self.policy(problem),
            score=HeldOutScore(
                self.realise, self.search_fraction, self.train_share, epochs=self.epochs
            ),
            n_jobs=self.n_jobs,
            max_time=self.max_time,
            max_evaluations=self.max_evaluations,
        )
        return {**evaluations.best, "front": pareto_front(evaluations, self.space(problem.context))}

    def check(self, architecture, context):
        check_pairs_exist("AutoCTR", context)
        n_fields, blocks = architecture.get("n_fields"), architecture.get("blocks")
        if type(n_fields) is not int or n_fields != context.n_fields:
            raise ValueError(
                f"n_fields={n_fields!r} of the architecture must be the number of fields, "
                f"{context.n_fields}."
            )
        if not isinstance(blocks, list) or not blocks:
            raise ValueError(f"blocks must be a list of blocks, got {blocks!r:.200}.")
        groups = groups_of(context)
        for number, block in enumerate(blocks):
            check_block(block, number, groups)

    def realise(self, architecture, context):
        return BlockGraph(architecture["blocks"], context)

    def graph(self, architecture, context):
        blocks, wiring = architecture["blocks"], Wiring(architecture["blocks"], context)
        names = {name: name for name in wiring.groups}
        names |= {k: f"block {k}" for k in range(len(blocks))}
        nodes = [(name, LABELS[name], "input") for name in wiring.groups]
        edges = []
        for k, block in enumerate(blocks):
            label = BLOCK_LABELS.get(block["type"]) or f"MLP {block['width']}"
            nodes.append((names[k], label, "operation"))
            edges += [(names[source], names[k]) for source in block["inputs"]]
        nodes.append(("output", "logits", "output"))
        return nodes, [*edges, *((names[source], "output") for source in wiring.unread)]


def check_block(block, number, groups):
    """Refuse what is no block of a graph."""
    if not isinstance(block, dict) or block.get("type") not in BLOCKS:
        raise ValueError(
            f"block {number} of blocks must be of a type out of {BLOCKS}, got {block!r:.200}."
        )
    inputs, width = block.get("inputs"), block.get("width")
    known = isinstance(inputs, list) and all(
        s in groups if isinstance(s, str) else type(s) is int and 0 <= s < number for s in inputs
    )
    if not known or not inputs or len(set(inputs)) < len(inputs):
        raise ValueError(
            f"inputs of block {number} of blocks must be different ones out of {[*groups]} and the "
            f"numbers below {number}, got {inputs!r:.200}."
        )
    if block["type"] == "mlp" and (type(width) is not int or width < 1):
        raise ValueError(
            f"width of block {number} of blocks must be an int >= 1, got {width!r:.200}."
        )
    n_vectors = sum(len(groups[s]) if s == SPARSE else 1 for s in inputs)
    if block["type"] in VECTOR_BLOCKS and n_vectors < 2:
        raise ValueError(
            f"inputs of block {number} of blocks, {inputs!r}, must be at least two vectors."
        )


def pareto_front(evaluations, space):
    """Candidates than which none is both better and cheaper, the cheapest first: list of dict."""
    scored = [
        (space.complexity(a), -score, number)
        for number, (a, score) in enumerate(
            zip(evaluations.architectures, evaluations.scores, strict=True)
        )
        if score == score
    ]
    front: list = []
    for cost, loss, number in sorted(scored):
        if not front or -loss > front[-1]["score"]:
            blocks = evaluations.architectures[number]["blocks"]
            front.append({"score": -loss, "complexity": cost, "blocks": blocks})
    return front
