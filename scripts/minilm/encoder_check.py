"""Compares the sentence encoder with published figures, with math.erf, and with itself on one sentence at a time."""
import math

import numpy as np

from sentence_encoder import erf, tokenize

# Cosines with all-MiniLM-L6-v2 in the documentation of sentence-transformers, made there with PyTorch and printed with 4 digits:
# https://sbert.net/docs/sentence_transformer/usage/usage.html and …/usage/semantic_textual_similarity.html.
PUBLISHED = (
    ("The weather is lovely today.", "It's so sunny outside!", 0.6660),
    ("The weather is lovely today.", "He drove to the stadium.", 0.1046),
    ("It's so sunny outside!", "He drove to the stadium.", 0.1411),
    ("The new movie is awesome", "The dog plays in the garden", 0.0543),
    ("The new movie is awesome", "The new movie is so great", 0.8939),
    ("The new movie is awesome", "A woman watches TV", -0.0502),
    ("The cat sits outside", "The dog plays in the garden", 0.2838),
    ("The cat sits outside", "The new movie is so great", -0.0029),
    ("The cat sits outside", "A woman watches TV", 0.1310),
    ("A man is playing guitar", "The dog plays in the garden", 0.2277),
    ("A man is playing guitar", "The new movie is so great", -0.0136),
    ("A man is playing guitar", "A woman watches TV", -0.0327),
)
PUBLISHED_TOLERANCE = 1e-4
ERF_TOLERANCE = 1e-6
ALONE_TOLERANCE = 1e-5


def published_difference(encoder, folder):
    """The largest difference to a published cosine."""
    sentences = sorted({sentence for pair in PUBLISHED for sentence in pair[:2]})
    rows = dict(zip(sentences, encoder.encode(tokenize(folder, sentences)).astype(np.float64)))
    return max(abs(float(rows[one] @ rows[other]) - cosine) for one, other, cosine in PUBLISHED)


def erf_difference():
    x = np.linspace(-6, 6, 20001, dtype=np.float32)
    return max(abs(approximate - math.erf(exact)) for approximate, exact in zip(erf(x).tolist(), x.tolist()))


def alone_difference(encoder, tokens, rows):
    """The largest difference between a row and that of the sentence in a batch of its own: what padding and mask do."""
    some = range(0, len(tokens), max(1, len(tokens) // 32))
    return max(float(np.abs(encoder.encode([tokens[i]])[0] - rows[i]).max()) for i in some)


def check(encoder, folder, tokens, rows):
    """The differences by name. Raises AssertionError if one is too large."""
    found = {"published_cosines": (published_difference(encoder, folder), PUBLISHED_TOLERANCE),
             "erf": (erf_difference(), ERF_TOLERANCE),
             "without_padding": (alone_difference(encoder, tokens, rows), ALONE_TOLERANCE)}
    for name, (difference, tolerance) in found.items():
        if not difference <= tolerance:
            raise AssertionError(f"the sentence encoder is wrong: {name} differ by {difference:.2g}, more than {tolerance:g}")
    return {name: difference for name, (difference, _) in found.items()}
