"""The original's side of scripts/bench_helix.py: one task a process. VENV/bin/python measure_original.py TASK ARGUMENT..."""
import contextlib
import io
import pathlib
import resource

import meters
import numpy as np

import helix_substrate
from helix_substrate import CDNAv3Reader, CDNAv3Writer, encode_tensor_to_cdna
from helix_substrate.cdna_reader import CDNAv2Reader, CDNAv2Writer, stream_cdna2_matmul
from helix_substrate.sidecar import read_outlier_sidecar, write_outlier_sidecar

NAME = "model.layers.0.mlp.up_proj.weight"  # k = 256 and a sidecar, by its own policy.
V3_FILES = ("codebook.npy", "indices.bin", "sidecar.npz")


def versions():
    return {"helix-substrate": helix_substrate.__version__, "numpy": np.__version__}


def v3_folder(folder):
    return pathlib.Path(folder) / (NAME.replace(".", "_") + ".cdnav3")


def encode_v3(matrix, folder):
    weights = np.load(matrix)
    seconds, _ = meters.timed(lambda: CDNAv3Writer(pathlib.Path(folder)).write_tensor(weights, NAME))
    peak = meters.peak_bytes()
    out = v3_folder(folder)
    bits = 8 * sum((out / name).stat().st_size for name in V3_FILES) / weights.size
    outliers = len(np.load(out / "sidecar.npz")["positions"])
    return {"seconds": seconds, "peak_bytes": peak, "bits": bits, "outliers": outliers,
            "snr_db": meters.snr_db(weights, CDNAv3Reader(out).reconstruct())}


def encode_v1(matrix, path, limit_bytes):
    """Its own quick start, with a limit on the address space: it asks for two arrays of 1 KiB per weight each."""
    weights = np.load(matrix)
    resource.setrlimit(resource.RLIMIT_AS, (int(limit_bytes), int(limit_bytes)))
    try:
        seconds, _ = meters.timed(lambda: encode_tensor_to_cdna(weights, path))
    except MemoryError:
        return {"error": "MemoryError"}
    return {"seconds": seconds, "peak_bytes": meters.peak_bytes()}


def encode_v2(folder, path, codec, block_rows):
    """The codes of the v3 directory as a v2 file: its v2 writer makes no codes."""
    indices, codebook = np.fromfile(v3_folder(folder) / "indices.bin", "u1"), np.load(v3_folder(folder) / "codebook.npy")
    indices = indices.reshape(CDNAv3Reader(v3_folder(folder)).shape)
    whole = np.zeros(256, np.float32)
    whole[: len(codebook)] = codebook
    writer = CDNAv2Writer(codec=codec, block_rows=int(block_rows))
    seconds, _ = meters.timed(lambda: writer.write(indices, whole, pathlib.Path(path), NAME))
    return {"seconds": seconds, "bytes": pathlib.Path(path).stat().st_size}


def decode_v3(folder, rounds):
    work = lambda: CDNAv3Reader(v3_folder(folder)).reconstruct()  # noqa: E731
    return {"seconds": meters.median_seconds(work, int(rounds)), "peak_bytes": meters.peak_bytes()}


def decode_v2(path, rounds):
    def work():
        reader = CDNAv2Reader(path)
        for _ in reader.stream_blocks(verify=True):
            pass
        return reader.codebook[reader.get_all_indices()]

    return {"seconds": meters.median_seconds(work, int(rounds)), "peak_bytes": meters.peak_bytes()}


def stream(path, x):
    """y = x W, block by block: the loop of its stream_xw_from_cdna() over its reader, without what it does not ship."""
    reader = CDNAv2Reader(path)
    y = np.zeros((len(x), reader.cols), np.float32)
    for block, row in reader.stream_blocks(verify=True):
        y += x[:, row : row + len(block)] @ reader.codebook[block]
    return y


def matmul(path, rows, rounds):
    reader = CDNAv2Reader(path)
    x = np.random.default_rng(3).normal(size=(int(rows), reader.rows)).astype(np.float32)
    with meters.PrivateGrowth() as growth:
        stream(path, x)
    return {"seconds": meters.median_seconds(lambda: stream(path, x), int(rounds)), "private_bytes": growth.bytes}


def bincount(path, rounds):
    """y = W x with one row of x, which it ships."""
    x = np.random.default_rng(3).normal(size=CDNAv2Reader(path).cols).astype(np.float32)
    with meters.PrivateGrowth() as growth:
        stream_cdna2_matmul(path, x)
    return {"seconds": meters.median_seconds(lambda: stream_cdna2_matmul(path, x), int(rounds)), "private_bytes": growth.bytes}


def stream_as_shipped(path):
    from helix_substrate.stream_matmul import stream_xw_from_cdna

    try:
        stream_xw_from_cdna(np.ones((1, CDNAv2Reader(path).rows), np.float32), pathlib.Path(path))
    except Exception as error:  # noqa: BLE001  What it is goes into the table.
        return {"error": f"{type(error).__name__}: {error}"}
    return {"error": ""}


# ---- Damage ----


def flips_v3(folder, count, seed):
    """Each file's bits in turn. Noticed: the reader raises, or verify_codebook() says no."""
    out = v3_folder(folder)
    parts = {"header": "meta.json", "codebook": "codebook.npy", "payload": "indices.bin", "sidecar": "sidecar.npz"}
    found = {}

    def read():
        reader = CDNAv3Reader(out)
        accept(reader.verify_codebook())
        reader.reconstruct()

    for part, name in parts.items():
        path = out / name
        content = path.read_bytes()

        def is_detected(changed, path=path):
            path.write_bytes(changed)
            return meters.raises(read)

        found.update(meters.flips(content, {part: [(0, len(content))]}, is_detected, int(count), int(seed)))
        path.write_bytes(content)
    return found


def accept(is_right):
    if not is_right:
        raise ValueError("its own check says no")


def flips_v2(path, count, seed):
    """Noticed: the reader or verify_all_blocks() of a new reader raises, or finds a bad block."""
    path = pathlib.Path(path)
    content = path.read_bytes()
    header_end = 8 + int.from_bytes(content[6:8], "little")
    index_begin = header_end + 1024
    blocks = int.from_bytes(content[index_begin : index_begin + 4], "little")
    index_end = index_begin + 4 + 48 * blocks
    parts = {"header": [(0, header_end)], "codebook": [(header_end, index_begin)], "index": [(index_begin, index_end)],
             "payload": [(index_end, len(content))]}

    def read():
        reader = CDNAv2Reader(path)
        accept(not reader.verify_all_blocks()[2])
        reader.codebook[reader.get_all_indices()]

    def is_detected(changed):
        path.write_bytes(changed)
        with contextlib.redirect_stdout(io.StringIO()):
            return meters.raises(read)

    found = meters.flips(content, parts, is_detected, int(count), int(seed))
    path.write_bytes(content)
    return found


def flips_hxzo(path, count, seed):
    random = np.random.default_rng(int(seed))
    positions = np.sort(random.choice(1 << 18, 500, replace=False))
    write_outlier_sidecar(positions, random.normal(size=500), NAME, {"method": "percentile"}, (512, 512), path)
    path = pathlib.Path(path)
    content = path.read_bytes()

    def is_detected(changed):
        path.write_bytes(changed)
        return meters.raises(lambda: read_outlier_sidecar(str(path), use_cache=False))

    return meters.flips(content, {"sidecar": [(0, len(content))]}, is_detected, int(count), int(seed))


TASKS = {"versions": versions, "encode_v3": encode_v3, "encode_v1": encode_v1, "encode_v2": encode_v2, "decode_v3": decode_v3,
         "decode_v2": decode_v2, "matmul": matmul, "bincount": bincount, "stream_as_shipped": stream_as_shipped,
         "flips_v3": flips_v3, "flips_v2": flips_v2, "flips_hxzo": flips_hxzo}

if __name__ == "__main__":
    meters.answer(TASKS)
