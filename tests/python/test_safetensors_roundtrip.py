# cdna convert and export against the public safetensors package: test_safetensors_roundtrip.py BUILD_DIR.
import ctypes
import math
import os
import random
import sys

import numpy as np
import safetensors

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'cli'))
import runner  # noqa: E402
from runner import ToolTest  # noqa: E402

# dtype of the format, bits, name for safetensors.serialize (none: it reads but does not write them).
DTYPES = [
    ('BOOL', 8, 'bool'),
    ('U8', 8, 'uint8'),
    ('I8', 8, 'int8'),
    ('U16', 16, 'uint16'),
    ('I16', 16, 'int16'),
    ('U32', 32, 'uint32'),
    ('I32', 32, 'int32'),
    ('U64', 64, 'uint64'),
    ('I64', 64, 'int64'),
    ('F16', 16, 'float16'),
    ('BF16', 16, 'bfloat16'),
    ('F32', 32, 'float32'),
    ('F64', 64, 'float64'),
    ('C64', 64, 'complex64'),
    ('F8_E4M3', 8, 'float8_e4m3fn'),
    ('F8_E5M2', 8, 'float8_e5m2'),
    ('F8_E8M0', 8, 'float8_e8m0fnu'),
    ('F8_E4M3FNUZ', 8, 'float8_e4m3fnuz'),
    ('F8_E5M2FNUZ', 8, 'float8_e5m2fnuz'),
    ('F4', 4, 'float4_e2m1fn_x2'),
    ('F6_E2M3', 6, None),
    ('F6_E3M2', 6, None),
]
SHAPES = [
    [],
    [0],
    [1],
    [8],
    [3, 0, 2],
    [0, 7],
    [1, 1, 1, 1, 1, 1, 1, 8],
    [5, 8],
    [8, 5],
    [4, 3, 2],
    [1031, 8],
    [8, 1031],
    [2, 1, 72, 8],
]
METADATA = {
    'format': 'pt',
    'ünï☃𝄞': 'ключ\u2028\u202e\ufeff\U0010ffff',
    'empty': '',
    '': 'the key is empty',
    'escapes': '"\\/\b\f\n\r\t\\u0041',
    'controls': ''.join(map(chr, range(1, 32))) + '\x7f\x80\x9f',
    '\x1b[31m\n': 'a key with controls',
    'json': '{"a": [1, 2, null]}',
    'long': 'x' * 100000,
    'cdna.writer': 'not ours',
    'safetensors:format': 'not ours either',
    '__metadata__': 'nested',
}


def count_of(shape):
    return math.prod(shape)


def random_tensors(seed, only_written=False):
    """Tensors of all dtypes in all shapes, as (name, dtype, shape, data)."""
    generator = random.Random(seed)
    tensors = []
    for dtype, bits, public_name in DTYPES:
        if only_written and public_name is None:
            continue
        for shape in SHAPES:
            half_pair = only_written and dtype == 'F4' and (not shape or shape[-1] % 2)
            if count_of(shape) * bits % 8 or half_pair:
                continue
            size = count_of(shape) * bits // 8
            # Half of them compress, so that every codec has both.
            data = (
                generator.randbytes(size)
                if generator.random() < 0.5
                else (generator.randbytes(5) * size)[:size]
            )
            if dtype == 'BOOL':
                data = bytes(byte & 1 for byte in data)
            tensors.append((f'{dtype}.{"x".join(map(str, shape)) or "scalar"}', dtype, shape, data))
    generator.shuffle(tensors)
    return tensors


def public_bytes(tensors, metadata=None):
    """What the public package writes for the tensors."""
    names = {dtype: name for dtype, _, name in DTYPES}
    keep = []
    specs = {}
    for name, dtype, shape, data in tensors:
        keep.append(ctypes.create_string_buffer(data, max(1, len(data))))
        if dtype == 'F4':  # There a unit of two elements.
            shape = shape[:-1] + [shape[-1] // 2]
        specs[name] = safetensors.TensorSpec(
            dtype=names[dtype], shape=shape, data_ptr=ctypes.addressof(keep[-1]), data_len=len(data)
        )
    return bytes(safetensors.serialize(specs, metadata))


def bf16_of(values):
    """float32 to the bits of bf16, nearest, ties to even; NaN stays NaN."""
    bits = values.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), ((bits >> 16) | 0x40).astype(np.uint16), rounded)


def f32_of_bf16(data):
    return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)


class PublicTest(ToolTest):
    def public_tensors(self, name):
        """{name: (dtype, shape, bytes)} as the public package reads the file."""
        entries = safetensors.deserialize(self.read(name))
        return {key: (entry['dtype'], entry['shape'], bytes(entry['data'])) for key, entry in entries}

    def public_metadata(self, name):
        with safetensors.safe_open(self.path(name), framework='np') as file:
            return file.metadata()

    def round_trip(self, *options):
        self.convert('in.safetensors', 'm.cdna', '--force', *options)
        self.export('m.cdna', 'out.safetensors', '--force')


class RoundTripTest(PublicTest):
    def test_all_dtypes_and_shapes_come_back_bit_for_bit_with_every_codec(self):
        tensors = random_tensors(1)
        self.assertEqual({tensor[1] for tensor in tensors}, {dtype for dtype, _, _ in DTYPES})
        self.write_model('in.safetensors', tensors, METADATA)
        expected = {name: (dtype, shape, data) for name, dtype, shape, data in tensors}
        self.assertEqual(self.public_tensors('in.safetensors'), expected)
        for codec in ('raw', 'zstd', 'brotli'):
            self.round_trip('--codec', codec)
            self.assertEqual(self.public_tensors('out.safetensors'), expected)
            self.assertEqual(self.public_metadata('out.safetensors'), METADATA)
            self.assertEqual(self.fsck('m.cdna', '--deep')[0]['problems'], [])

    def test_what_cb8_leaves_exact_comes_back_bit_for_bit(self):
        tensors = [tensor for tensor in random_tensors(2) if tensor[1] not in ('F16', 'BF16', 'F32', 'F64')]
        self.write_model('in.safetensors', tensors)
        self.round_trip('--encoding', 'cb8')
        expected = {name: (dtype, shape, data) for name, dtype, shape, data in tensors}
        self.assertEqual(self.public_tensors('out.safetensors'), expected)

    def test_each_metadata_entry_comes_back_alone_and_none_stays_none(self):
        tensors = [('t', 'U8', [1], b'x')]
        for metadata in [None] + [{key: value} for key, value in METADATA.items()]:
            self.write('in.safetensors', public_bytes(tensors, metadata))
            self.round_trip()
            self.assertEqual(self.public_metadata('out.safetensors'), metadata)

    def test_the_export_is_byte_for_byte_what_the_public_package_writes(self):
        # One entry: the package writes several in the order of a hash table.
        for metadata in (None, {'key "\\\x01\x7fü': 'value\n\u2028'}):
            for seed in range(3):
                tensors = random_tensors(seed, only_written=True)
                tensors += [
                    (name, 'F32', [2], bytes(8))
                    for name in ('b', 'a.b', 'a-b', 'Z', 'ü', '€', '𝄞', 'a"b\\', 'a')
                ]
                self.write('in.safetensors', public_bytes(tensors, metadata))
                self.round_trip('--codec', 'zstd')
                self.assertEqual(self.read('out.safetensors'), self.read('in.safetensors'))

    def test_a_file_without_tensors_comes_back_byte_for_byte(self):
        self.write('in.safetensors', public_bytes([]))
        self.round_trip()
        self.assertEqual(self.read('out.safetensors'), self.read('in.safetensors'))

    def test_the_order_of_the_source_does_not_matter(self):
        tensors = random_tensors(3, only_written=True)
        roots = set()
        for order in (tensors, tensors[::-1], sorted(tensors)):
            self.write_model('in.safetensors', order)
            self.round_trip()
            self.assertEqual(self.read('out.safetensors'), public_bytes(tensors))
            roots.add(self.inspect('m.cdna')['root'])
        self.assertEqual(len(roots), 1)

    def test_a_tied_head_comes_back_under_both_names(self):
        data = random.Random(4).randbytes(8192)
        tensors = [(name, 'F16', [64, 64], data) for name in ('lm_head.weight', 'model.embed_tokens.weight')]
        self.write('in.safetensors', public_bytes(tensors))
        self.round_trip()
        self.assertLess(len(self.read('m.cdna')), 2 * len(data))
        self.assertEqual(self.read('out.safetensors'), self.read('in.safetensors'))

    def test_numpy_reads_the_export_of_numpy_arrays(self):
        generator = np.random.default_rng(5)
        arrays = {
            'f': generator.standard_normal((7, 5)).astype(np.float32),
            'i': generator.integers(-100, 100, (3, 4, 5)),
            'c': generator.standard_normal(6).astype(np.complex64),
            'z': np.zeros((0, 3), np.float16),
            's': np.array(2.5),
            'b': generator.random((2, 9)) < 0.5,
        }
        from safetensors import numpy as public

        public.save_file(arrays, self.path('in.safetensors'), {'format': 'np'})
        self.round_trip()
        for name, array in public.load_file(self.path('out.safetensors')).items():
            np.testing.assert_array_equal(array, arrays[name])
            self.assertEqual(array.dtype, arrays[name].dtype)


class DtypeTest(PublicTest):
    """Floats rounded on export. The expected bits come from NumPy and from integers."""

    def setUp(self):
        super().setUp()
        generator = random.Random(6)
        every = np.arange(65536, dtype=np.uint16)
        bits32 = np.frombuffer(generator.randbytes(4 << 16), np.uint32)
        near = [
            0x477FEFFF,
            0x477FF000,
            0x387FFFFF,
            0x38800000,
            0x33000000,
            0x33000001,
            0x7F7FFFFF,
            0x7F7F8000,
            0x7F800000,
        ]
        ties = [int(high) << 16 | low for high in every[::257] for low in (0x7FFF, 0x8000, 0x8001)]
        halfway = [
            int(bits) + low
            for bits in every.view(np.float16).astype(np.float32).view(np.uint32)[::61]
            for low in (-1, 0, 1, 0xFFF, 0x1000, 0x1001)
        ]
        bits32 = np.concatenate(
            [bits32, np.array(near + ties + [bits & 0xFFFFFFFF for bits in halfway], np.uint32)]
        )
        with np.errstate(all='ignore'):
            doubles = np.concatenate(
                [
                    bits32.view(np.float32).astype(np.float64) * factor
                    for factor in (1, 1 + 2**-40, 1e-20, 1e200)
                ]
            )
        random64 = np.frombuffer(generator.randbytes(8 << 12), np.float64)
        self.sources = {
            'F16': every.tobytes(),
            'BF16': every.tobytes(),
            'F32': bits32.tobytes(),
            'F64': np.concatenate([doubles, random64]).tobytes(),
        }
        sizes = {'F16': 2, 'BF16': 2, 'F32': 4, 'F64': 8}
        tensors = [(dtype, dtype, [len(data) // sizes[dtype]], data) for dtype, data in self.sources.items()]
        self.write_model('in.safetensors', tensors + [('int', 'I32', [2], b'12345678')])
        self.convert('in.safetensors', 'm.cdna')

    def as_f32(self, dtype):
        data = self.sources[dtype]
        if dtype == 'BF16':
            return f32_of_bf16(data)
        numpy_type = {'F16': np.float16, 'F32': np.float32, 'F64': np.float64}[dtype]
        with np.errstate(all='ignore'):
            return np.frombuffer(data, numpy_type).astype(np.float32)

    def assert_rounded(self, option, wanted, round_values, unsigned, nan_above):
        self.export('m.cdna', 'out.safetensors', '--dtype', option)
        restored = self.public_tensors('out.safetensors')
        self.assertEqual(restored.pop('int'), ('I32', [2], b'12345678'))
        for name, (dtype, _, data) in restored.items():
            self.assertEqual(dtype, wanted)
            if name == wanted:
                self.assertEqual(data, self.sources[name])  # NaNs too.
                continue
            values = self.as_f32(name)  # From F64 two roundings, as the library states.
            with np.errstate(all='ignore'):
                expected = round_values(values)
            found = np.frombuffer(data, unsigned)
            nan = np.isnan(values)
            np.testing.assert_array_equal(found[~nan], expected[~nan], name)
            magnitude = found[nan] & (np.iinfo(unsigned).max >> 1)
            self.assertTrue(np.all(magnitude > nan_above), name)

    def test_f32_is_rounded_to_nearest(self):
        self.assert_rounded('f32', 'F32', lambda values: values.view(np.uint32), np.uint32, 0x7F800000)

    def test_f16_is_rounded_to_nearest_with_subnormals_and_overflow(self):
        self.assert_rounded(
            'f16', 'F16', lambda values: values.astype(np.float16).view(np.uint16), np.uint16, 0x7C00
        )

    def test_bf16_is_rounded_to_nearest(self):
        self.assert_rounded('bf16', 'BF16', bf16_of, np.uint16, 0x7F80)


class CodebookTest(PublicTest):
    SHAPES = {'w': [300, 96], 'conv': [32, 16, 3, 3], 'wide': [5, 2000], 'tall': [3000, 64]}

    def setUp(self):
        super().setUp()
        generator = np.random.default_rng(7)
        self.tensors = []
        self.planted = {}
        for dtype in ('F16', 'BF16', 'F32', 'F64'):
            for name, shape in self.SHAPES.items():
                values = generator.standard_normal(count_of(shape)) * 0.05 * math.pi
                # Far beyond the others, and fewer than the one in a thousand that are kept exactly.
                places = generator.choice(values.size, values.size // 2000, replace=False)
                values[places] = generator.choice([-1, 1], places.size) * generator.uniform(15, 16, places.size)
                data = {
                    'F16': lambda v: v.astype(np.float16).tobytes(),
                    'BF16': lambda v: bf16_of(v.astype(np.float32)).tobytes(),
                    'F32': lambda v: v.astype(np.float32).tobytes(),
                    'F64': lambda v: v.tobytes(),
                }[dtype](values)
                self.tensors.append((f'{name}.{dtype}', dtype, shape, data))
                self.planted[f'{name}.{dtype}'] = places
        self.write_model('in.safetensors', self.tensors, {'format': 'pt'})
        self.round_trip('--encoding', 'cb8')
        self.errors = {tensor['name']: tensor['error'] for tensor in self.inspect('m.cdna')['tensors']}

    def values_of(self, dtype, data):
        if dtype == 'BF16':
            return f32_of_bf16(data).astype(np.float64)
        return np.frombuffer(data, {'F16': np.float16, 'F32': np.float32, 'F64': np.float64}[dtype]).astype(
            np.float64
        )

    def test_the_public_package_reads_the_export_in_the_source_dtype(self):
        restored = self.public_tensors('out.safetensors')
        self.assertEqual(
            {name: tensor[:2] for name, tensor in restored.items()},
            {tensor[0]: (tensor[1], tensor[2]) for tensor in self.tensors},
        )
        self.assertEqual(self.public_metadata('out.safetensors'), {'format': 'pt'})

    def test_outliers_come_back_bit_for_bit_in_the_source_dtype(self):
        restored = self.public_tensors('out.safetensors')
        for name, dtype, shape, data in self.tensors:
            size = len(data) // count_of(shape)
            for place in self.planted[name]:
                place = slice(place * size, (place + 1) * size)
                self.assertEqual(restored[name][2][place], data[place], name)

    def test_the_error_is_the_one_that_inspect_states(self):
        self.export('m.cdna', 'f32.safetensors', '--dtype', 'f32')
        for name, (_, _, data) in self.public_tensors('f32.safetensors').items():
            dtype, source = next((tensor[1], tensor[3]) for tensor in self.tensors if tensor[0] == name)
            was = self.values_of(dtype, source)
            now = np.frombuffer(data, np.float32).astype(np.float64)
            if dtype == 'F64':  # An outlier is exact in F64; here it is rounded.
                now[self.planted[name]] = was[self.planted[name]]
            error = np.abs(was - now)
            stated = self.errors[name]
            self.assertLessEqual(error.max(), stated['max_abs'], name)
            self.assertGreaterEqual(error.max(), stated['max_abs'] * (1 - 1e-6), name)
            snr = 10 * math.log10((was**2).sum() / (error**2).sum())
            self.assertAlmostEqual(snr, stated['snr_db'], places=3 if dtype == 'F64' else 6, msg=name)

    def test_the_error_in_the_source_dtype_is_at_most_one_rounding_more(self):
        for name, (_, _, data) in self.public_tensors('out.safetensors').items():
            dtype, source = next((tensor[1], tensor[3]) for tensor in self.tensors if tensor[0] == name)
            was, now = self.values_of(dtype, source), self.values_of(dtype, data)
            half_ulp = np.abs(now) * {'F16': 2.0**-11, 'BF16': 2.0**-8, 'F32': 0, 'F64': 0}[dtype]
            if dtype == 'F16':
                half_ulp = np.maximum(half_ulp, 2.0**-25)
            self.assertTrue(np.all(np.abs(was - now) <= self.errors[name]['max_abs'] + half_ulp), name)

    def test_the_source_dtype_is_the_f32_value_rounded_once(self):
        self.export('m.cdna', 'f32.safetensors', '--dtype', 'f32')
        exact = self.public_tensors('f32.safetensors')
        for name, (dtype, _, data) in self.public_tensors('out.safetensors').items():
            values = np.frombuffer(exact[name][2], np.float32)
            if dtype == 'F64':
                self.assertEqual(
                    np.frombuffer(data, np.float64).astype(np.float32).tobytes(), values.tobytes(), name
                )
            elif dtype == 'BF16':
                self.assertEqual(data, bf16_of(values).tobytes(), name)
            else:
                self.assertEqual(
                    data, values.astype({'F16': np.float16, 'F32': np.float32}[dtype]).tobytes(), name
                )


if __name__ == '__main__':
    runner.main('__main__')
