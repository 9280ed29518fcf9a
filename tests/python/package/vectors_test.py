"""The conformance vectors of the format, and their documents, through the package."""
from __future__ import annotations

import hashlib
import json

import pytest
from conftest import VECTORS

import cdna

TENSOR, ASSET, METADATA, ALIAS = range(4)
FOLDERS = [path for folder in ("good", "bad") for path in sorted((VECTORS / folder).glob("*.cdna"))]


def decoded(tensor: cdna.Tensor) -> bytes:
    """What the document has the digest of: the source's bytes of exact tensors, else f32. All planes are read first."""
    tensor.verify()
    if tensor.encoding == "cdna.codebook":
        return tensor.numpy("float32").tobytes()
    return tensor.numpy().tobytes()


def expect(outcome, action):
    """`action()` ends as the document says: its value, or None where it had to fail and did."""
    if outcome == "ok":
        return action()
    with pytest.raises(cdna.CdnaError) as caught:
        action()
    assert (caught.value.rule, caught.value.code) == (outcome["rule"] or "", outcome["class"])
    assert str(caught.value)
    return None


@pytest.mark.parametrize("trust", ["auto", "strict"])
@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_outcomes_are_those_of_the_document(path, trust):
    document = json.loads(path.with_suffix(".json").read_text())
    data = path.read_bytes()
    root = document.get("expected_root")
    file = expect(document["open"], lambda: cdna.open(data, expected_root=root, trust=trust))
    if file is None:
        return
    assert file.root.hex() == document["root"]
    for item in document["items"]:
        if item["kind"] == METADATA:
            expect(item["status"], lambda: dict(file.metadata))
        elif item["kind"] == ASSET:
            content = expect(item["status"], file.assets[item["name"]].read)
            assert content is None or hashlib.sha256(content).hexdigest() == item["decoded_sha256"]
        elif item["kind"] == ALIAS:
            number = item["alias_of"]
            assert file[item["name"]]._number == number
        elif item["kind"] == TENSOR:
            tensor = file[item["name"]]
            assert list(tensor.shape) == item["shape"] and tensor.encoding == item["encoding"]
            content = expect(item["status"], lambda tensor=tensor: decoded(tensor))
            assert content is None or hashlib.sha256(content).hexdigest() == item["decoded_sha256"]
    if document["deep"] == "clean":
        assert file.verify(level="deep").valid
    elif document["deep"] is not None:
        expect(document["deep"], lambda: file.verify(level="deep"))
