"""What the tests of AutoCross share."""

import small_tables


def planted_crosses(seed, n=16_000, **options):
    """Field 0 adds; (1, 2), (3, 4) and (3, 4, 5) act together; (3, 4) leads to the triple. The rest
    is noise.
    """
    return small_tables.planted_crosses(n, seed, **{"triples": [(3, 4, 5)], **options})


PLANTED = {("f1", "f2"), ("f3", "f4"), ("f3", "f4", "f5")}
