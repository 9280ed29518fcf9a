"""Files that helix-substrate's own code wrote (tests/legacy): imported, they decode to the bits that its own readers gave."""
from __future__ import annotations

import hashlib
import json
import pathlib

import numpy as np
import pytest
from conftest import ROOT

import cdna

LEGACY = ROOT / "tests/legacy"
EXPECTED = json.loads((LEGACY / "expected.json").read_text("utf-8"))
HXZ2_WITH_SIDECAR = "v2_hxz/t300x200.brotli.br64"
# Sums in another order: BLAS's in `(U * s) @ Vt`, NumPy's in the inverse FFT. Tests of their own compare the values.
WITHOUT_BITS = {"v3_dir_v023/decoded/svd_rank4", "v3_dir_v023/decoded/morpho_fft_norm"}
# Refused with the reason: seeds of numpy's generator and a differential equation stand for the values.
REFUSED = {"v3_dir_v023/decoded/morpho_seed"}


def keys(folder: str, suffix: str = "") -> list[str]:
    return [key for key in EXPECTED if key.startswith(folder) and key.endswith(suffix)]


def assert_same(values: np.ndarray, key: str) -> None:
    expected = EXPECTED[key]
    assert values.dtype.newbyteorder("<").str == expected["dtype"]
    assert list(values.shape) == expected["shape"]
    assert hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest() == expected["sha256"], key


def imported(source: pathlib.Path, folder: pathlib.Path, **options: object) -> cdna.File:
    """The file that cdna.convert makes of a source, whole and verified."""
    path = folder / "imported.cdna"
    report = cdna.convert(source, path, force=True, **options)  # type: ignore[arg-type]
    assert report is not None
    file = cdna.open(path)
    assert file.root == report.root
    assert file.verify(level="deep").valid
    return file


def only_tensor(file: cdna.File) -> cdna.Tensor:
    (name,) = file
    return file[name]


def source_of(key: str, ending: str) -> pathlib.Path:
    return LEGACY / (key.removesuffix(".decoded") + ending)


# ---- One matrix in a file ----


@pytest.mark.parametrize("source_format", ["auto", "hxzc"])
@pytest.mark.parametrize("key", keys("v1_cdna/"))
def test_v1_decodes_to_the_same_bits(key, source_format, tmp_path):
    with imported(source_of(key, ".cdna"), tmp_path, source_format=source_format) as file:
        tensor = only_tensor(file)
        assert tensor.encoding == "cdna.codebook"
        assert_same(tensor.numpy("float32"), key)


def without_sidecar(key: str, folder: pathlib.Path) -> pathlib.Path:
    """A copy of a v2 file where no sidecar lies beside it."""
    source = source_of(key, ".cdna2.hxz")
    copy = folder / source.name
    copy.write_bytes(source.read_bytes())
    return copy


@pytest.mark.parametrize("source_format", ["auto", "hxz2"])
@pytest.mark.parametrize("key", keys("v2_hxz/", ".decoded"))
def test_v2_decodes_to_the_same_bits(key, source_format, tmp_path):
    with imported(without_sidecar(key, tmp_path), tmp_path, source_format=source_format) as file:
        tensor = only_tensor(file)
        assert tensor.encoding == "cdna.codebook"
        assert_same(tensor.numpy("float32"), key)


def test_the_outliers_of_a_sidecar_replace_values_bit_for_bit(tmp_path):
    source = without_sidecar(HXZ2_WITH_SIDECAR, tmp_path)
    sidecar = LEGACY / "hxzo/t300x200_p999.hxzo"
    with imported(source, tmp_path, sidecar=sidecar) as file:
        assert_same(only_tensor(file).numpy("float32"), HXZ2_WITH_SIDECAR + ".decoded_with_hxzo_sidecar")


def test_a_damaged_v2_block_is_refused_with_its_place_and_leaves_no_file(tmp_path):
    source = without_sidecar("v2_hxz/t300x200.zstd.br128", tmp_path)
    content = bytearray(source.read_bytes())
    content[-1] ^= 1
    source.write_bytes(content)
    with pytest.raises(cdna.CdnaError) as caught:
        cdna.convert(source, tmp_path / "out.cdna")
    assert source.name in str(caught.value)
    assert not (tmp_path / "out.cdna").exists()


def test_another_format_than_the_source_has_is_refused(tmp_path):
    source = source_of("v1_cdna/g96x64.v021", ".cdna")
    for source_format in ("hxz2", "gguf", "npy", "npz", "safetensors", "helix-v3"):
        with pytest.raises(cdna.CdnaError):
            cdna.convert(source, tmp_path / "out.cdna", source_format=source_format)
        assert not (tmp_path / "out.cdna").exists()


# ---- Tensor directories ----


def directories(folder: str) -> list[str]:
    return keys(f"{folder}/decoded/")


@pytest.mark.parametrize("key", sorted({*directories("v3_dir_v023"), *directories("v3_dir_head")} - WITHOUT_BITS))
def test_a_v3_directory_decodes_to_the_same_bits(key, tmp_path):
    folder, _, name = key.split("/")
    source = LEGACY / folder / "model" / f"{name}.cdnav3"
    if key in REFUSED:
        with pytest.raises(cdna.UnsupportedError, match="morpho"):
            cdna.convert(source, tmp_path / "out.cdna")
        return
    with imported(source, tmp_path) as file:
        assert_same(only_tensor(file).numpy("float32"), key)


def test_a_spectrum_is_transformed_back(tmp_path):
    source = LEGACY / "v3_dir_v023/model/morpho_fft_norm.cdnav3"
    config = json.loads((source / "morpho_config.json").read_text("utf-8"))
    spectrum = np.zeros(config["n_original"] // 2 + 1, np.complex128)
    for bin in config["coefficients"]:
        spectrum[bin["freq_bin"]] = complex(bin["real"], bin["imag"])
    expected = np.fft.irfft(spectrum, n=config["n_original"])
    with imported(source, tmp_path) as file:
        values = only_tensor(file).numpy("float32")
    assert list(values.shape) == EXPECTED["v3_dir_v023/decoded/morpho_fft_norm"]["shape"]
    # In f64, then rounded to f32: by half a unit in the last place, and what f64 leaves open.
    assert (np.abs(values - expected) <= 0.51 * np.spacing(np.abs(values))).all()


def test_the_low_rank_matrix_of_a_v3_directory_is_added(tmp_path):
    source = LEGACY / "v3_dir_v023/model/svd_rank4.cdnav3"
    arrays = {name: np.load(source / f"{name}.npy") for name in ("codebook", "svd_U", "svd_s", "svd_Vt")}
    with imported(source, tmp_path) as file:
        values = only_tensor(file).numpy("float32")
    base = arrays["codebook"][np.fromfile(source / "indices.bin", "u1")].reshape(values.shape)
    with np.load(source / "sidecar.npz") as sidecar:
        base.reshape(-1)[sidecar["positions"]] = sidecar["values"].astype(np.float32)
    whole = base + (arrays["svd_U"].astype(np.float64) * arrays["svd_s"]) @ arrays["svd_Vt"].astype(np.float64)
    # Products and sums of r + 1 terms in f32, each rounded by half a unit in the last place at most.
    magnitude = np.abs(base) + np.abs(arrays["svd_U"] * arrays["svd_s"]) @ np.abs(arrays["svd_Vt"])
    assert (np.abs(values - whole) <= 8 * np.finfo(np.float32).eps * magnitude).all()


def test_the_folder_of_a_model_has_all_its_tensors_under_their_own_names(tmp_path):
    """manifest_v3.json: names with dots, where the directories have underscores; but for what is refused."""
    source = tmp_path / "model"
    copy_tree(LEGACY / "v3_dir_head/model", source)
    with imported(source, tmp_path) as file:
        names = set(json.loads((source / "manifest_v3.json").read_text("utf-8"))["tensors"])
        assert set(file) == names
        for key in directories("v3_dir_head"):
            (name,) = (name for name in names if name.replace("/", "_").replace(".", "_") == key.split("/")[-1])
            assert_same(file[name].numpy("float32"), key)


def copy_tree(source: pathlib.Path, destination: pathlib.Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            copy = destination / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())


# ---- Checkpoints ----


@pytest.mark.parametrize("folder", ["hf_v023_cdna_v3", "hf_head_hxq"])
def test_a_checkpoint_decodes_to_the_same_bits_and_multiplies_as_its_own_module_did(folder, tmp_path):
    modules = [key for key in keys(f"{folder}/decoded/") if not key.endswith((".x", ".y"))]
    assert len(modules) == 3
    with imported(LEGACY / folder, tmp_path) as file:
        for key in modules:
            module = key.removeprefix(f"{folder}/decoded/")
            tensor = file[f"{module}.weight"]
            assert_same(tensor.numpy("float32"), key)
            x, y = (np.load(LEGACY / f"{key}.{name}.npy") for name in "xy")
            bias = file[f"{module}.bias"].numpy("float32") if f"{module}.bias" in file else np.float32(0)
            assert np.allclose(x @ tensor.T + bias, y, rtol=1e-5, atol=1e-5)
        assert not [name for name in file if name.endswith((".codebook", ".indices", ".sidecar_values"))]


def test_a_checkpoint_may_be_taken_as_the_safetensors_that_it_is(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    source = LEGACY / "hf_head_hxq"
    arrays = safetensors.load_file(source / "model.safetensors")
    with imported(source, tmp_path, source_format="safetensors") as file:
        assert set(file) == set(arrays)
        for name, array in arrays.items():
            assert np.array_equal(file[name].numpy(), array)


# ---- GGUF ----


def test_the_forks_types_of_gguf_are_read_only_when_asked_for(tmp_path):
    source = LEGACY / "gguf/hxq_types_36_37_q5k.gguf"
    with pytest.raises(cdna.CdnaError):
        cdna.convert(source, tmp_path / "out.cdna")
    with imported(source, tmp_path, source_format="gguf-hxq") as file:
        assert len(file) == 5
        for name in file:
            assert np.isfinite(file[name].numpy("float32")).all()


# ---- How it is asked for ----


def test_an_unknown_source_format_is_refused_by_name(tmp_path):
    with pytest.raises(cdna.ArgumentError, match='source_format is "zip": not one of auto, safetensors, hxq, hxzc'):
        cdna.convert(LEGACY / "hf_head_hxq", tmp_path / "out.cdna", source_format="zip")


def test_numpys_own_files_are_imported(tmp_path, rng):
    arrays = {"a.weight": rng.normal(size=(40, 30)).astype(np.float32), "b": rng.integers(0, 99, size=7)}
    np.savez(tmp_path / "plain.npz", **arrays)
    np.savez_compressed(tmp_path / "deflated.npz", **arrays)
    for name in ("plain", "deflated"):
        with imported(tmp_path / f"{name}.npz", tmp_path) as file:
            assert set(file) == set(arrays)
            for key, array in arrays.items():
                assert np.array_equal(file[key].numpy(), array)
    np.save(tmp_path / "one.npy", arrays["a.weight"])
    with imported(tmp_path / "one.npy", tmp_path) as file:
        assert np.array_equal(only_tensor(file).numpy(), arrays["a.weight"])
