"""What the presets are compared with: the model rounded to bf16, and with white noise added to its matrices."""
import numpy as np

SEED = 7


def rounded(values):
    """f32 to the nearest bf16, ties to even, and back. Requires: finite."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7fff) + (bits >> 16 & 1)) & np.uint32(0xffff0000)).view(np.float32)


def as_bf16(weights):
    return {name: rounded(values) if values.dtype == np.float32 else values for name, values in weights.items()}


def is_matrix(name, values):
    """What a preset compresses while embeddings stay exact."""
    return name.endswith(".weight") and values.ndim == 2 and "embeddings" not in name


def with_noise(weights, decibels):
    """Gaussian noise that is so many dB below the mean square of each matrix."""
    random = np.random.default_rng(SEED)
    noisy = dict(weights)
    for name in filter(lambda name: is_matrix(name, weights[name]), sorted(weights)):
        values = weights[name].astype(np.float64)
        deviation = np.sqrt((values ** 2).mean() * 10 ** (-decibels / 10))
        noisy[name] = (values + random.normal(0, deviation, values.shape)).astype(np.float32)
    return noisy


def snrs_db(source, other):
    """Of the matrices."""
    for name, values in source.items():
        if is_matrix(name, values):
            exact = values.astype(np.float64)
            yield float(10 * np.log10((exact ** 2).sum() / ((exact - other[name]) ** 2).sum()))
