"""Writes files with helix-substrate's own code and decodes them with its own readers. Runs where it is installed:

    VENV/bin/python write_fresh.py FOLDER SEED

FOLDER/files.json lists what was written: source and sidecar (paths from FOLDER), the --from that it is, and of each tensor its name
(null: the only one), the file with the decoded f32 values, and whether an import has to give the same bits.
"""
import json
import pathlib
import sys

import numpy as np

import helix_substrate
from helix_substrate import decode_cdna_to_tensor, encode_tensor_to_cdna
from helix_substrate.cdna_reader import CDNAv2Reader, CDNAv2Writer
from helix_substrate.sidecar import read_outlier_sidecar, write_outlier_sidecar


class Fresh:
    """The folder, and the list of what is in it."""

    def __init__(self, folder, seed):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.random = np.random.default_rng(seed)
        self.files = []

    def weights(self, *shape):
        """Gaussian with a few values far out."""
        values = self.random.normal(0, 0.05, shape).astype(np.float32)
        flat = values.reshape(-1)
        flat[self.random.integers(flat.size, size=max(1, flat.size // 1000))] *= 30
        return values

    def add(self, source, kind, tensors, sidecar=None):
        """tensors: (name or None, decoded values, whether bits have to be the same)."""
        entries = []
        for name, values, is_exact in tensors:
            path = self.folder / f"decoded-{len(self.files)}-{len(entries)}.f32"
            np.ascontiguousarray(values, "<f4").tofile(path)
            entries.append({"name": name, "decoded": path.name, "exact": is_exact})
        self.files.append({"source": source, "from": kind, "sidecar": sidecar, "tensors": entries})

    def finish(self):
        document = {"version": helix_substrate.__version__, "numpy": np.__version__, "files": self.files}
        (self.folder / "files.json").write_text(json.dumps(document, indent=1))


def write_v1(fresh):
    shapes = {"matrix": (200, 96), "cube": (4, 30, 16), "vector": (300,), "row": (1, 77)}
    for name, shape in shapes.items():
        path = fresh.folder / f"{name}.cdna"
        encode_tensor_to_cdna(fresh.weights(*shape), path)
        fresh.add(path.name, "hxzc", [(None, decode_cdna_to_tensor(path), True)])
    path = fresh.folder / "constant.cdna"
    encode_tensor_to_cdna(np.full((40, 30), -1.5, np.float32), path)
    fresh.add(path.name, "hxzc", [(None, decode_cdna_to_tensor(path), True)])


def codes_of(fresh, rows, cols):
    """Codes and codebook of a k-means of its own."""
    path = fresh.folder / "codes.tmp"
    encode_tensor_to_cdna(fresh.weights(rows, cols), path)
    decoded = decode_cdna_to_tensor(path)
    codebook = np.frombuffer(path.read_bytes()[16:1040], "<f4")
    path.unlink()
    entries, codes = np.unique(decoded, return_inverse=True)
    order = np.array([np.flatnonzero(codebook == entry)[0] for entry in entries])
    return order[codes].reshape(rows, cols).astype(np.uint8), codebook


def decoded_v2(path):
    reader = CDNAv2Reader(path)
    checked, wrong, _ = reader.verify_all_blocks()
    assert wrong == 0 and checked > 0
    return reader.codebook[reader.get_all_indices()]


def write_v2(fresh):
    for codec in ("brotli", "zstd", "lz4"):
        for rows, cols, block_rows in ((200, 96, 16), (130, 300, 64), (7, 33, 256)):
            codes, codebook = codes_of(fresh, rows, cols)
            path = fresh.folder / f"{codec}-{rows}.cdna2.hxz"
            CDNAv2Writer(codec=codec, block_rows=block_rows).write(codes, codebook, path, tensor_name=f"blk.{rows}.weight")
            fresh.add(path.name, "hxz2", [(None, decoded_v2(path), True)])


def write_sidecars(fresh):
    """Its readers apply a sidecar with a module that it does not ship: the values of read_outlier_sidecar() replace elements."""
    for count in (1, 500):
        codes, codebook = codes_of(fresh, 160, 90)
        path = fresh.folder / f"outliers-{count}.cdna2.hxz"
        CDNAv2Writer(codec="zstd").write(codes, codebook, path, tensor_name="w")
        sidecar = fresh.folder / "sidecars" / f"{count}.hxzo"
        sidecar.parent.mkdir(exist_ok=True)
        positions = fresh.random.choice(codes.size, count, replace=False)
        values = fresh.random.normal(0, 3, count)
        write_outlier_sidecar(positions, values, "w", {"method": "fresh"}, codes.shape, str(sidecar))
        expected = decoded_v2(path)
        positions, values, _ = read_outlier_sidecar(str(sidecar))
        expected.reshape(-1)[positions] = values.astype(np.float32)
        fresh.add(path.name, "hxz2", [(None, expected, True)], str(sidecar.relative_to(fresh.folder)))


def write_v3(fresh):
    from helix_substrate import CDNAv3Reader, CDNAv3Writer
    from helix_substrate.tensor_policy import TensorPolicy, classify_tensor, get_default_policy

    writer = CDNAv3Writer(fresh.folder / "v3")

    def policy(name, shape, **changes):
        default = get_default_policy(classify_tensor(name, shape=shape))
        return TensorPolicy(**{**vars(default), **changes})

    cases = {
        "model.layers.0.self_attn.q_proj.weight": {},
        "model.layers.0.mlp.up_proj.weight": {},
        "k16": {"n_clusters": 16},
        "k64": {"n_clusters": 64, "sidecar_enabled": False},
        "uniform": {"use_kmeans": False},
        "all.outliers": {"max_corrections": 0, "percentile": 99.0},
        "low.rank": {"svd_residual_rank": 4},
    }
    for name, changes in cases.items():
        weights = fresh.weights(120, 80)
        writer.write_tensor(weights, name, policy(name, weights.shape, **changes))
        folder = f"v3/{name.replace('.', '_').replace('/', '_')}.cdnav3"
        # The order of sums in a product of matrices is its BLAS's.
        is_exact = not changes.get("svd_residual_rank")
        fresh.add(folder, "helix-v3", [(None, CDNAv3Reader(fresh.folder / folder).reconstruct(), is_exact)])


def main():
    fresh = Fresh(sys.argv[1], int(sys.argv[2]))
    write_v1(fresh)
    write_v2(fresh)
    write_sidecars(fresh)
    if hasattr(helix_substrate, "CDNAv3Writer"):
        write_v3(fresh)
    fresh.finish()


if __name__ == "__main__":
    main()
