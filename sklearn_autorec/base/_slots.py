"""Words of the contract: slots, and what an architecture says."""

# What an architecture says beside its slots.
DESCRIBED = ("network", "embedding_dim", "numeric_embedding")
# Weights with which a searched part starts; see `SearchMethod`.
RETRAIN = ("scratch", "rewind", "keep", "none")
SLOTS = ("gate", "embedding", "numeric", "sequence", "interaction", "body", "head", "loss")
