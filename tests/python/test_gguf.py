# cdna convert and export of GGUF against the public gguf package: test_gguf.py BUILD_DIR.
import os
import struct
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'cli'))
import runner  # noqa: E402
from runner import ToolTest, read_safetensors  # noqa: E402

SEED = 20260801
EXACT = {
    Type.F32: np.float32,
    Type.F16: np.float16,
    Type.F64: np.float64,
    Type.I8: np.int8,
    Type.I16: np.int16,
    Type.I32: np.int32,
    Type.I64: np.int64,
}
# Bytes of a block at which a binary16 number stands, which has to be finite: layouts of ggml-common.h.
HALVES = {
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.Q8_0: [0],
    Type.Q2_K: [80, 82],
    Type.Q3_K: [108],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
    Type.IQ4_NL: [0],
    Type.IQ4_XS: [0],
    Type.TQ1_0: [52],
    Type.TQ2_0: [64],
    Type.MXFP4: [],
    Type.NVFP4: [],
}
# What quantize() of the package can make.
MADE = [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.TQ1_0, Type.TQ2_0, Type.MXFP4]
LISTED = [Type.IQ2_XXS, Type.IQ2_XS, Type.IQ2_S, Type.IQ3_XXS, Type.IQ3_S, Type.IQ1_S, Type.IQ1_M, Type.Q8_K, Type.Q1_0]
ALL_DENSE = '{"rules": [{"glob": "*", "preset": "exact"}]}'


def random_blocks(generator, kind, rows, blocks):
    """Random bytes whose halves are finite, of all magnitudes: also subnormal and, in one row, +0 and -0."""
    _, size = gguf.GGML_QUANT_SIZES[kind]
    data = generator.integers(0, 256, (rows * blocks, size), np.uint8)
    for at in HALVES[kind]:
        halves = data[:, at].astype(np.uint16) | data[:, at + 1].astype(np.uint16) << 8
        halves = np.where(halves & 0x7C00 == 0x7C00, halves ^ 0x0400, halves)
        halves[:blocks] &= 0x8000
        data[:, at] = halves & 0xFF
        data[:, at + 1] = halves >> 8
    return data.reshape(rows, blocks * size)


def weights(generator, *shape):
    return generator.normal(0, 0.05, shape).astype(np.float32)


def bits(array):
    """Of float32 values, with one NaN: which of them arithmetic makes is not the format's to say."""
    words = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return np.where(np.isnan(array), np.uint32(0x7FC00000), words)


class GgufTest(ToolTest):
    def write_gguf(self, name, tensors, fields=()):
        """tensors: {name: (type, array)}, blocks as bytes."""
        writer = gguf.GGUFWriter(self.path(name), 'llama')
        for add, key, value in fields:
            getattr(writer, add)(key, value)
        for key, (kind, data) in tensors.items():
            writer.add_tensor(key, data, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return name

    def values(self, file, *options):
        """{name: float32 array} of a container, by way of safetensors."""
        self.export(file, 'out.safetensors', '--force', '--dtype', 'f32', *options)
        tensors, _ = read_safetensors(self.read('out.safetensors'))
        return {name: np.frombuffer(data, np.float32).reshape(shape) for name, (dtype, shape, data) in tensors.items()}

    def blocks(self):
        generator = np.random.default_rng(SEED)
        tensors = {}
        for kind in HALVES:
            tensors[f'{kind.name}.random'] = kind, random_blocks(generator, kind, 7, 5)
            tensors[f'{kind.name}.line'] = kind, random_blocks(generator, kind, 1, 3).reshape(-1)
        for kind in MADE:
            tensors[f'{kind.name}.made'] = kind, gguf.quants.quantize(weights(generator, 6, 512), kind)
            tensors[f'{kind.name}.zero'] = kind, gguf.quants.quantize(np.zeros((2, 256), np.float32), kind)
            three = gguf.quants.quantize(weights(generator, 2, 3, 256), kind)
            tensors[f'{kind.name}.three'] = kind, three
        return tensors

    def check_values(self, tensors, found):
        self.assertEqual(set(found), set(tensors))
        for name, (kind, data) in tensors.items():
            with self.subTest(tensor=name, seed=SEED):
                expected = gguf.quants.dequantize(np.atleast_2d(data), kind)
                self.assertEqual(found[name].size, expected.size)
                np.testing.assert_array_equal(bits(found[name]).ravel(), bits(expected).ravel())

    def test_blocks_keep_their_codes_and_decode_to_the_bits_of_the_package(self):
        tensors = self.blocks()
        self.convert(self.write_gguf('in.gguf', tensors), 'm.cdna')
        for tensor in self.inspect('m.cdna')['tensors']:
            dense = tensor['name'].endswith('.line')  # Of a vector: no codes fit its one column.
            self.assertEqual(tensor['encoding'], 'cdna.exact' if dense else 'cdna.codebook', tensor['name'])
        self.check_values(tensors, self.values('m.cdna'))
        self.fsck('m.cdna')

    def test_blocks_can_be_decoded_for_good(self):
        tensors = self.blocks()
        self.write('dense.json', ALL_DENSE.encode())
        self.convert(self.write_gguf('in.gguf', tensors), 'm.cdna', '--policy', 'dense.json')
        self.assertEqual({tensor['encoding'] for tensor in self.inspect('m.cdna')['tensors']}, {'cdna.exact'})
        self.check_values(tensors, self.values('m.cdna'))

    def test_exact_types_stay_what_they_are(self):
        generator = np.random.default_rng(SEED)
        tensors = {}
        for kind, dtype in EXACT.items():
            for shape in ([5], [3, 7], [2, 3, 5], [2, 1, 3, 4]):
                data = generator.integers(-100, 100, shape).astype(dtype)
                tensors[f'{kind.name}.{len(shape)}'] = kind, data
        halves = generator.integers(0, 65536, (4, 6), np.uint16)
        tensors['BF16.2'] = Type.BF16, halves.view(np.uint8)
        self.convert(self.write_gguf('in.gguf', tensors), 'm.cdna')
        self.export('m.cdna', 'out.safetensors')
        found, _ = read_safetensors(self.read('out.safetensors'))
        for name, (kind, data) in tensors.items():
            self.assertEqual(found[name][0], kind.name)
            self.assertEqual(found[name][1], [4, 6] if kind == Type.BF16 else list(data.shape))
            self.assertEqual(found[name][2], data.tobytes())

    def test_types_without_a_decoder_are_refused_by_name(self):
        for kind in LISTED:
            elements, size = gguf.GGML_QUANT_SIZES[kind]
            name = f'{kind.name}.gguf'
            self.write_gguf(name, {'some.weight': (kind, np.zeros((2, size), np.uint8))})
            done = self.convert(name, 'm.cdna', code=runner.ERRORS_LEFT)
            self.assert_refused(done, 'some.weight', kind.name)
        self.assertNotIn('m.cdna', self.names())

    def test_split_models_are_one(self):
        generator = np.random.default_rng(SEED)
        tensors = {f'{i}.weight': (Type.Q8_0, random_blocks(generator, Type.Q8_0, 4, 2)) for i in range(5)}
        writer = gguf.GGUFWriter(self.path('split.gguf'), 'llama', split_max_tensors=2)
        for name, (kind, data) in tensors.items():
            writer.add_tensor(name, data, raw_dtype=kind)
        writer.write_header_to_file(path=writer.path)
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        parts = self.names()
        self.assertEqual(len(parts), 3)
        self.convert(parts[1], 'm.cdna')
        self.check_values(tensors, self.values('m.cdna'))
        os.remove(self.path(parts[2]))
        self.assert_refused(self.convert(parts[0], 'n.cdna', code=runner.OPERATIONAL), parts[2])

    def fields_of(self, name):
        return {key: field.contents() for key, field in gguf.GGUFReader(self.path(name)).fields.items()}

    FIELDS = [
        ('add_string', 'general.name', 'ünï'),
        ('add_uint32', 'llama.block_count', 7),
        ('add_float32', 'llama.rope.freq_base', 1e6),
        ('add_bool', 'tokenizer.ggml.add_bos_token', True),
        ('add_array', 'tokenizer.ggml.tokens', [f'token {i}' for i in range(1000)]),
        ('add_array', 'tokenizer.ggml.scores', [0.5 * i for i in range(1000)]),
        ('add_uint32', 'general.file_type', 2),
    ]

    def test_an_export_is_what_the_package_reads(self):
        generator = np.random.default_rng(SEED)
        tensors = {
            'f32.weight': (Type.F32, weights(generator, 8, 64)),
            'f16.weight': (Type.F16, weights(generator, 3, 4, 64).astype(np.float16)),
            'norm.weight': (Type.F32, weights(generator, 64)),
            'positions': (Type.I32, np.arange(7, dtype=np.int32)),
            'wide': (Type.F64, weights(generator, 4, 5).astype(np.float64)),
        }
        self.convert(self.write_gguf('in.gguf', tensors, self.FIELDS), 'm.cdna')
        self.export('m.cdna', 'out.gguf')
        reader = gguf.GGUFReader(self.path('out.gguf'))
        found = {tensor.name: tensor for tensor in reader.tensors}
        self.assertEqual(set(found), set(tensors))
        for name, (kind, data) in tensors.items():
            self.assertEqual(found[name].tensor_type, kind)
            self.assertEqual(found[name].data_offset % 32, 0)
            self.assertEqual(list(found[name].shape), list(reversed(data.shape)))
            np.testing.assert_array_equal(found[name].data, data)
        before, after = self.fields_of('in.gguf'), self.fields_of('out.gguf')
        for fields in before, after:
            for key in 'GGUF.tensor_count', 'GGUF.kv_count', 'general.file_type':
                fields.pop(key)
        self.assertEqual(before, after)
        self.convert('out.gguf', 'again.cdna')
        self.export('again.cdna', 'again.gguf')
        self.assertEqual(self.read('again.gguf'), self.read('out.gguf'))

    def test_q8_0_has_the_bits_of_the_package(self):
        generator = np.random.default_rng(SEED)
        # Magnitudes from subnormal to large, ties, blocks of zeros and of -0.
        data = generator.normal(0, 1, (64, 256)) * 10.0 ** generator.uniform(-44, 6, (64, 1))
        data = data.astype(np.float32)
        data[:8] = generator.integers(-254, 255, (8, 256)) / 2
        data[8] = 0
        data[9] = -0.0
        tensors = {
            'w.weight': (Type.F32, data),
            'norm.weight': (Type.F32, weights(generator, 64)),
            'odd.weight': (Type.F16, weights(generator, 4, 33).astype(np.float16)),
        }
        self.convert(self.write_gguf('in.gguf', tensors, self.FIELDS), 'm.cdna')
        self.export('m.cdna', 'out.gguf', '--dtype', 'q8_0')
        found = {tensor.name: tensor for tensor in gguf.GGUFReader(self.path('out.gguf')).tensors}
        self.assertEqual(found['norm.weight'].tensor_type, Type.F32)
        self.assertEqual(found['odd.weight'].tensor_type, Type.F16)
        self.assertEqual(found['w.weight'].tensor_type, Type.Q8_0)
        with np.errstate(all='ignore'):
            expected = gguf.quants.quantize(data, Type.Q8_0)
        blocks, known = found['w.weight'].data.reshape(-1, 34), expected.reshape(-1, 34)
        # Where 1 / d overflows the package multiplies with infinity; the scale is 0 there, and so are our codes.
        scale = np.abs(data).reshape(-1, 32).max(axis=1) / np.float32(127)
        with np.errstate(all='ignore'):
            usable = (scale == 0) | np.isfinite(np.float32(1) / scale)
        self.assertLess(np.count_nonzero(~usable), blocks.shape[0] // 4)
        np.testing.assert_array_equal(blocks[usable], known[usable])
        self.assertFalse(blocks[~usable].any())
        fields = self.fields_of('out.gguf')
        self.assertEqual((fields['general.file_type'], fields['general.quantization_version']), (7, 2))

    def test_blocks_of_q8_0_come_back_as_they_were(self):
        data = gguf.quants.quantize(weights(np.random.default_rng(SEED), 32, 512), Type.Q8_0)
        self.convert(self.write_gguf('in.gguf', {'w.weight': (Type.Q8_0, data)}, self.FIELDS), 'm.cdna')
        self.export('m.cdna', 'out.gguf', '--dtype', 'q8_0')
        found = gguf.GGUFReader(self.path('out.gguf')).tensors[0]
        np.testing.assert_array_equal(found.data.reshape(data.shape), data)

    def test_big_endian_files_are_refused_by_name(self):
        writer = gguf.GGUFWriter(self.path('big.gguf'), 'llama', endianess=gguf.GGUFEndian.BIG)
        writer.add_tensor('w', np.zeros((2, 4), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        self.assertEqual(struct.unpack('>I', self.read('big.gguf')[4:8]), (3,))
        self.assert_refused(self.convert('big.gguf', 'm.cdna', code=runner.ERRORS_LEFT), 'big-endian')


if __name__ == '__main__':
    runner.main(__name__)
