"""How far two sets of sentence embeddings agree: by cosine, and by what a search finds with them."""
import dataclasses

import numpy as np

NEAREST = 5


class Search:
    """Every sentence as a query among all others."""

    def __init__(self, rows):
        rows = rows.astype(np.float64)
        self.rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        self.similarity = self.rows @ self.rows.T
        np.fill_diagonal(self.similarity, -np.inf)
        # Ties, which trained weights do not have, would go to the sentence that comes first.
        self.found = np.argsort(-self.similarity, axis=1, kind="stable")[:, :NEAREST]

    def lead(self, query, other):
        """By how much the nearest sentence is nearer than `other`."""
        return float(self.similarity[query, self.found[query, 0]] - self.similarity[query, other])


@dataclasses.dataclass
class Agreement:
    """`distance` is 1 - cosine; top1 and top5 are shares of 1; `lead_overturned_max` is by how much the sentence that the dense model
    finds first was nearer there than the one that is found instead, where that was most."""
    distance_mean: float
    distance_max: float
    top1: float
    top5: float
    top1_changed: int
    lead_overturned_max: float


def agreement(dense, decoded):
    """Of two searches over the same sentences."""
    # 1 - cosine of unit vectors, without the cancellation.
    distance = ((dense.rows - decoded.rows) ** 2).sum(axis=1) / 2
    changed = np.flatnonzero(dense.found[:, 0] != decoded.found[:, 0])
    common = [len(np.intersect1d(one, other)) for one, other in zip(dense.found, decoded.found)]
    return Agreement(distance_mean=float(distance.mean()), distance_max=float(distance.max()),
                     top1=1 - len(changed) / len(distance), top5=sum(common) / (NEAREST * len(common)), top1_changed=len(changed),
                     lead_overturned_max=max((dense.lead(i, decoded.found[i, 0]) for i in changed), default=0.0))
