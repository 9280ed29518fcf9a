"""The model as bf16, to compare with: what half the size costs when every weight is simply rounded."""
import numpy as np


def rounded(values):
    """f32 to the nearest bf16, ties to even, and back. Requires: finite."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7fff) + (bits >> 16 & 1)) & np.uint32(0xffff0000)).view(np.float32)


def round_weights(weights):
    return {name: rounded(values) if values.dtype == np.float32 else values for name, values in weights.items()}


def snr_db(source, approximation):
    source, error = source.astype(np.float64), source.astype(np.float64) - approximation
    return float(10 * np.log10((source ** 2).sum() / (error ** 2).sum()))
