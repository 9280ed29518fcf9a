# Tensors of codes with everything that a file may record about them: written by the vectors' own writer, decoded and
# measured here, in exact sums, without any of our C++.
import math
import os
import random
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'spec', 'vectors'))
sys.dont_write_bytecode = True
import builder  # noqa: E402

F16, BF16, F32, F64 = 'F16', 'BF16', 'F32', 'F64'
STATISTICS_ROLE = 0x8014
INF = math.inf


def to_bytes(dtype, value):
    """The element nearest to a value; of BF16 the upper half of the f32."""
    if dtype == BF16:
        return struct.pack('<f', value)[2:]
    return struct.pack({F16: '<e', F32: '<f', F64: '<d'}[dtype], value)


def from_bytes(dtype, data):
    if dtype == BF16:
        return struct.unpack('<f', b'\0\0' + data)[0]
    return struct.unpack({F16: '<e', F32: '<f', F64: '<d'}[dtype], data)[0]


def elements_of(dtype, data):
    size = builder.DTYPE_BITS[dtype] // 8
    return [from_bytes(dtype, data[i : i + size]) for i in range(0, len(data), size)]


def rounded_up(value):
    """The least f32 that is not below."""
    (bits,) = struct.unpack('<I', struct.pack('<f', value))
    (nearest,) = struct.unpack('<f', struct.pack('<I', bits))
    return nearest if nearest >= value else next_f32(nearest)


def next_f32(value, steps=1):
    (bits,) = struct.unpack('<I', struct.pack('<f', value))
    return struct.unpack('<f', struct.pack('<I', bits + steps))[0]


def is_finite_f32(value):
    """Whether the nearest f32 is finite."""
    try:
        return math.isfinite(struct.unpack('<f', struct.pack('<f', value))[0])
    except OverflowError:
        return False


def kurtosis(values):
    values = [value for value in values if is_finite_f32(value)]
    mean = math.fsum(values) / len(values)
    m2 = math.fsum((value - mean) ** 2 for value in values) / len(values)
    m4 = math.fsum((value - mean) ** 4 for value in values) / len(values)
    return m4 / m2**2 - 3 if len(set(values)) > 1 and m2 * m2 > 0 else 0.0


def entropy(codes):
    counts = {}
    for code in codes:
        counts[code] = counts.get(code, 0) + 1
    return -math.fsum(n / len(codes) * math.log2(n / len(codes)) for n in counts.values())


class CodebookTensor:
    """Random codes with scales, and a source that is near to what they decode to. `outliers`: the source's bytes by
    position in the tensor; `group`: of one-byte scales."""

    def __init__(self, seed, rows=24, cols=96, bits=8, group=0, dtype=F32, rows_per_block=7, outliers=None, name=b'w'):
        self.name, self.rows, self.cols, self.bits, self.group, self.dtype = name, rows, cols, bits, group, dtype
        self.rows_per_block = rows_per_block
        generator = random.Random(seed)
        size = 1 << bits
        half = sorted(from_bytes(F16, to_bytes(F16, generator.gauss(0, 1))) for _ in range(size))
        self.codebook = half
        self.codes = [min(size - 1, int(abs(generator.gauss(0, size / 3)))) for _ in range(rows * cols)]
        self.row_scales = [from_bytes(F32, to_bytes(F32, generator.uniform(0.5, 2))) for _ in range(rows)]
        self.scale_table = [from_bytes(F32, to_bytes(F32, 2 ** ((i - 128) / 32))) for i in range(256)]
        self.groups = -(-cols // group) if group else 0
        self.group_scales = [generator.randrange(100, 156) for _ in range(rows * self.groups)]
        if outliers is None:
            outliers = {p: to_bytes(dtype, generator.gauss(0, 8)) for p in generator.sample(range(rows * cols), 5)}
        self.outliers = outliers
        self.source = b''.join(
            self.outliers.get(i, to_bytes(dtype, value + generator.gauss(0, 0.01)))
            for i, value in enumerate(self._without_outliers())
        )

    def _without_outliers(self):
        values = []
        for position, code in enumerate(self.codes):
            row, col = divmod(position, self.cols)
            scale = self.row_scales[row]
            if self.group:
                table = self.scale_table[self.group_scales[row * self.groups + col // self.group]]
                scale = builder.to_f32(table * scale)
            values.append(builder.to_f32(self.codebook[code] * scale))
        return values

    def decoded(self):
        values = self._without_outliers()
        for position, data in self.outliers.items():
            values[position] = from_bytes(self.dtype, data)
        return values

    def values(self):
        return elements_of(self.dtype, self.source)

    def blocks(self):
        step = self.rows_per_block * self.cols
        return [range(i, min(i + step, len(self.codes))) for i in range(0, len(self.codes), step)]

    def figures(self):
        pairs = [(w, d) for w, d in zip(self.values(), self.decoded()) if is_finite_f32(w)]
        return {
            'sum_squares': math.fsum(w * w for w, _ in pairs),
            'sum_squared_error': math.fsum((w - d) ** 2 for w, d in pairs),
            'outliers': float(len(self.outliers)),
            'kurtosis': kurtosis(self.values()),
            'entropy': entropy(self.codes),
        }

    def largest_errors(self):
        source, decoded = self.values(), self.decoded()
        return [max(abs(source[i] - decoded[i]) if is_finite_f32(source[i]) else 0 for i in b) for b in self.blocks()]

    def _plane(self, role, dtype, bits, row_entries, data, rows_per_block=None, scope=1, group=0):
        rows_per_block = rows_per_block or self.rows_per_block
        plane = builder.Plane(role, builder.DTYPE_ID[dtype], bits, row_entries, rows_per_block, scope, group)
        rows = self.rows if scope else 1
        lengths = builder.block_lengths(rows, row_entries, bits, rows_per_block)
        plane.blocks = builder.cut_blocks(data, lengths)
        return plane

    def _codes_plane(self, bounds):
        data = b''.join(
            builder.pack_bits(self.codes[i : i + self.cols], self.bits) for i in range(0, len(self.codes), self.cols)
        )
        plane = self._plane(builder.CODES, 'none', self.bits, self.cols, data)
        for block, bound in zip(plane.blocks, bounds):
            block.error = bound
        return plane

    def _outlier_plane(self):
        plane = builder.Plane(builder.OUTLIERS, builder.DTYPE_ID[self.dtype], 8, 0, 0, 2)
        for block in self.blocks():
            positions = sorted(p for p in self.outliers if p in block)
            data = b''.join(self.outliers[p] for p in positions)
            data += b''.join(struct.pack('<I', p - block.start) for p in positions)
            plane.blocks.append(builder.raw_block(data))
        return plane

    def item(self, bounds=None, statistics=True, source_digest=None, **figures):
        """The item; `bounds` and `figures` replace the true ones. `statistics`: whether there is a statistics plane, or
        the plane."""
        said = self.figures() | figures
        if bounds is None:
            bounds = [rounded_up(error) for error in self.largest_errors()]
        planes = [
            self._codes_plane(bounds),
            self._plane(builder.CODEBOOK, F16, 16, 1 << self.bits,
                        b''.join(to_bytes(F16, x) for x in self.codebook), 1, scope=0),
            self._plane(builder.ROW_SCALE, F32, 32, 1, struct.pack(f'<{self.rows}f', *self.row_scales)),
        ]
        if self.group:
            planes.append(
                self._plane(builder.GROUP_SCALE, 'U8', 8, self.groups, bytes(self.group_scales), group=self.group)
            )
            planes.append(
                self._plane(builder.SCALE_TABLE, F32, 32, 256, struct.pack('<256f', *self.scale_table), 1, scope=0)
            )
        planes.append(self._outlier_plane())
        if statistics is True:
            planes.append(statistics_plane([said['outliers'], said['kurtosis'], said['entropy']]))
        elif statistics:
            planes.append(statistics)
        nonfinite = not all(map(math.isfinite, self.values()))
        return builder.Item(
            self.name, builder.TENSOR, [self.rows, self.cols], planes, row_dims=1, dtype=builder.DTYPE_ID[self.dtype],
            type=b'cdna.codebook', optional=builder.NONFINITE if nonfinite else 0,
            sums=(said['sum_squares'], said['sum_squared_error']),
            source_digest=builder.bulk_hash(self.source) if source_digest is None else source_digest,
        )  # fmt: skip

    def model_tensor(self):
        return self.name.decode(), self.dtype, [self.rows, self.cols], self.source


def statistics_plane(values, dtype=F64, scope=0):
    plane = builder.Plane(STATISTICS_ROLE, builder.DTYPE_ID[dtype], builder.DTYPE_BITS[dtype], len(values), 1, scope)
    plane.layout = 0
    plane.blocks = [builder.raw_block(b''.join(to_bytes(dtype, value) for value in values))]
    return plane


def metadata_item(entries):
    """The metadata as strings."""
    data = builder.metadata_bytes([(key.encode(), 5, value.encode()) for key, value in sorted(entries.items())])
    plane = builder.Plane(builder.DATA, builder.DTYPE_ID['U8'], 8, len(data), 1)
    plane.blocks = [builder.raw_block(data)]
    return builder.Item(b'metadata', builder.METADATA, [len(data)], [plane], dtype=builder.DTYPE_ID['U8'])


def build(items, writer='libcdna 0.1.0'):
    """(bytes of the file, places of its parts)."""
    built = builder.build(builder.File([*items, metadata_item({'cdna.writer': writer})]))
    return built.data, built.places
