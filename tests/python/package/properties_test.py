"""Properties of files for any shapes, dtypes, slices and factors: NumPy says what is right. Examples are the same in every run."""
from __future__ import annotations

import hypothesis
import numpy as np
from hypothesis import strategies
from hypothesis.extra import numpy as arrays

import cdna

hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None, max_examples=150)
hypothesis.settings.load_profile("same")

DTYPES = ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8"]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9)
ANY_ARRAY = strategies.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES))
# Rows of every remainder modulo groups, words and vectors.
MATRIX = strategies.tuples(strategies.integers(1, 40), strategies.integers(1, 140), strategies.integers(0, 2**32 - 1))
PRESETS = strategies.sampled_from(["exact", "exact-z", "cb8", "cb8g64", "cb6g64", "cb5g32", "cb4g32"])


def matrix_of(size):
    rows, cols, seed = size
    return np.random.default_rng(seed).normal(size=(rows, cols)).astype(np.float32)


def key_of(data, shape):
    """Something to index an array of this shape with: slices, numbers, an ellipsis."""
    return data.draw(arrays.basic_indices(shape, allow_newaxis=False))


@hypothesis.given(ANY_ARRAY)
def test_arrays_come_back_bit_for_bit(array):
    with cdna.open(cdna.save(None, {"a": array})) as f:
        t = f["a"]
        back = t.numpy()
        assert (t.shape, t.ndim, t.size, t.nbytes) == (array.shape, array.ndim, array.size, array.nbytes)
        assert back.dtype == array.dtype and back.shape == array.shape and back.tobytes() == array.tobytes()


@hypothesis.given(ANY_ARRAY, strategies.data())
def test_slices_of_exact_tensors_are_numpys(array, data):
    key = key_of(data, array.shape)
    with cdna.open(cdna.save(None, {"a": array})) as f:
        got, want = f["a"][key], array[key]
        assert np.shape(got) == np.shape(want) and got.dtype == want.dtype
        assert np.asarray(got).tobytes() == np.asarray(want).tobytes()


@hypothesis.given(MATRIX, PRESETS, strategies.data())
def test_slices_of_coded_tensors_are_those_of_the_whole(size, preset, data):
    key = key_of(data, size[:2])
    with cdna.open(cdna.save(None, {"w": matrix_of(size)}, preset)) as f:
        np.testing.assert_array_equal(f["w"][key], f["w"].numpy()[key])


@hypothesis.given(MATRIX, PRESETS, strategies.sampled_from(["f2", "f4", "f8"]))
def test_floats_are_converted_as_numpy_does(size, preset, dtype):
    with cdna.open(cdna.save(None, {"w": matrix_of(size)}, preset)) as f:
        np.testing.assert_array_equal(f["w"].numpy(dtype), f["w"].numpy("f4").astype(dtype))


@hypothesis.given(MATRIX, PRESETS, strategies.integers(1, 6), strategies.booleans())
def test_products_are_within_rounding_of_float64(size, preset, count, transposed):
    with cdna.open(cdna.save(None, {"w": matrix_of(size)}, preset)) as f:
        t = f["w"]
        w = t.numpy("f8")
        x = np.random.default_rng(size[2] + 1).normal(size=(count, w.shape[0 if transposed else 1])).astype(np.float32)
        right = w if transposed else w.T
        got, want = (x @ t if transposed else x @ t.T), x.astype(np.float64) @ right
        # The sum of n products in float32: each is off by at most n epsilon times the sum of sizes (Higham 2002, 3.1).
        bound = (x.shape[1] + 2) * np.finfo(np.float32).eps * (np.abs(x).astype(np.float64) @ np.abs(right))
        assert (np.abs(got - want) <= bound).all()


@hypothesis.given(MATRIX, strategies.sampled_from(["cb8", "cb8g64", "cb6g64", "cb5g32", "cb4g32"]))
def test_a_file_holds_what_encode_makes(size, preset):
    matrix = matrix_of(size)
    rules = {"rules": [{"glob": "*", "preset": preset}]}
    encoded = cdna.encode(matrix, preset)
    with cdna.open(cdna.save(None, {"w": matrix}, rules)) as f:
        if f["w"].encoding == "cdna.codebook":
            np.testing.assert_array_equal(f["w"].numpy(), encoded.decode())
        else:
            np.testing.assert_array_equal(f["w"].numpy(), matrix)
    assert np.abs(matrix - encoded.decode()).max() <= encoded.max_abs_error * (1 + 1e-6)


@hypothesis.given(
    strategies.dictionaries(strategies.text(strategies.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=12),
                            arrays.arrays("f4", arrays.array_shapes(max_dims=2, max_side=3)), max_size=6)
)
def test_names_are_any_text(tensors):
    with cdna.open(cdna.save(None, tensors)) as f:
        assert list(f) == sorted(tensors, key=str.encode) and len(f) == len(tensors)
        for name, array in tensors.items():
            assert f[name].numpy().tobytes() == array.tobytes()


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers(-(2**53), 2**53) | strategies.text(max_size=8),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(max_size=5), inner, max_size=3),
)


@hypothesis.given(strategies.dictionaries(
    strategies.text("abcdefgh.:_", min_size=1, max_size=8),
    strategies.none() | strategies.booleans() | strategies.integers(-(2**63), 2**63 - 1) | strategies.floats(allow_nan=False)
    | strategies.text(strategies.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=8)
    | strategies.binary(max_size=8) | strategies.lists(JSON, max_size=3), max_size=4))  # fmt: skip
def test_metadata_comes_back(metadata):
    with cdna.open(cdna.save(None, {}, metadata=metadata)) as f:
        for key, value in metadata.items():
            assert f.metadata[key] == value and type(f.metadata[key]) is type(value)
