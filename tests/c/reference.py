# Vectors, and what the reference decoder reads in them: floats that are compared with what the library gives.
import sys
from array import array

import c_header

sys.path.insert(0, str(c_header.ROOT / 'spec/reference'))
import cdna_reference  # noqa: E402  pylint: disable=wrong-import-position

GOOD = c_header.ROOT / 'spec/vectors/good'
# Two and a half rows of codes with row scales and an outlier; a raw F32 tensor.
CODES, EXACT = GOOD / 'codebook_worked_example.cdna', GOOD / 'rebuilt.cdna'


def tensors(path):
    """(name, rows, columns, elements) of each tensor and alias, in the order of names; for files whose tensors decode to f32."""
    file = cdna_reference.File(path)
    found = []
    for item in file.items:
        if item.kind in (cdna_reference.TENSOR, cdna_reference.ALIAS):
            tensor = file.find(item.name.decode())
            values = array('f', file.read_item(tensor.number))
            rows = tensor.dims[0]
            found.append((item.name.decode(), rows, len(values) // rows, list(values)))
    return sorted(found)
