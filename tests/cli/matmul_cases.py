# Tests of `cdna matmul`: products against exact sums in Python, arrays as NumPy reads and writes them, and refusals.
import ast
import json
import math
import os
import random
import resource
import signal
import struct
import subprocess
import time

import codebook_files
import hostile_cases
import runner
from codebook_files import BF16, F16, F32, F64, CodebookTensor, elements_of, to_bytes
from runner import CLEAN, ERRORS_LEFT, INTERRUPTED, OPERATIONAL, USAGE, ToolTest

SEED = 20250402
UNIT = 2.0**-24
DESCRS = {F32: '<f4', F16: '<f2', BF16: '<V2'}
OPTIONS = {F32: 'f32', F16: 'f16', BF16: 'bf16'}
# Of a result that is rounded to a dtype: relative, and absolute where numbers are subnormal.
ROUNDING = {F32: (0, 0), F16: (2.0**-11, 2.0**-25), BF16: (2.0**-8, 0)}
ISAS = ('baseline', 'avx2', 'avx512', 'avx512bf16', 'amx')
KEYS = [
    'schema', 'file', 'tensor', 'rows', 'transposed', 'mode', 'x', 'y', 'seconds', 'stored_bytes',
    'gigabytes_per_second', 'private_growth_bytes', 'file_backed_bytes', 'file_backed_growth_bytes', 'kernel', 'loop',
    'products', 'isa', 'io', 'trust', 'blocks', 'threads', 'passes', 'scratch_bytes',
]  # fmt: skip


def npy(descr, shape, data, fortran=False, version=1):
    """An array as NumPy writes it."""
    text = repr({'descr': descr, 'fortran_order': fortran, 'shape': tuple(shape)})[:-1].encode() + b', }'
    width = 2 if version == 1 else 4
    text += b' ' * (-(8 + width + len(text) + 1) % 64) + b'\n'
    return b'\x93NUMPY' + bytes([version, 0]) + len(text).to_bytes(width, 'little') + text + data


def read_npy(data):
    """(descr, shape, bytes of the elements) of an array in C order, version 1.0."""
    assert data[:8] == b'\x93NUMPY\x01\0'
    (length,) = struct.unpack_from('<H', data, 8)
    assert (10 + length) % 64 == 0 and data[9 + length : 10 + length] == b'\n'
    header = ast.literal_eval(data[10 : 10 + length].decode('ascii'))
    assert sorted(header) == ['descr', 'fortran_order', 'shape'] and header['fortran_order'] is False
    return header['descr'], header['shape'], data[10 + length :]


class Array:
    """Random numbers of a dtype: rows of exact values, and their bytes."""

    def __init__(self, seed, rows, cols, dtype=F32):
        generator = random.Random(seed)
        elements = [to_bytes(dtype, generator.gauss(0, 1)) for _ in range(rows * cols)]
        self.rows, self.cols, self.dtype = rows, cols, dtype
        self.data = b''.join(elements)
        self.by_columns = b''.join(elements[i * cols + j] for j in range(cols) for i in range(rows))
        values = elements_of(dtype, self.data)
        self.values = [values[i * cols : (i + 1) * cols] for i in range(rows)]

    def npy(self, **options):
        return npy(DESCRS[self.dtype], (self.rows, self.cols), self.data, **options)


class Weights:
    """A matrix: its values, and per value what errors are measured by: |w|, and scale * largest codebook entry."""

    def __init__(self, values, magnitudes=None, largest=None):
        self.values = values
        self.magnitudes = magnitudes or [[abs(w) for w in row] for row in values]
        self.largest = largest

    @staticmethod
    def of_codes(tensor, **parameters):
        plain = CodebookTensor(**parameters | {'outliers': {}}).decoded()
        values = tensor.decoded()
        magnitudes = [abs(d) + abs(v - d) for v, d in zip(values, plain)]
        top = max(map(abs, tensor.codebook))
        scales = []
        for row in range(tensor.rows):
            for col in range(tensor.cols):
                scale = tensor.row_scales[row]
                if tensor.group:
                    scale *= tensor.scale_table[tensor.group_scales[row * tensor.groups + col // tensor.group]]
                scales.append(abs(scale) * top)
        return Weights(*(matrix(flat, tensor.cols) for flat in (values, magnitudes, scales)))

    def part(self, begin, end):
        cut = [rows and rows[begin:end] for rows in (self.values, self.magnitudes, self.largest)]
        return Weights(*cut)

    def transposed(self):
        return Weights(*(rows and [list(column) for column in zip(*rows)] for rows in (self.values, self.magnitudes)))


def matrix(flat, cols):
    return [flat[i : i + cols] for i in range(0, len(flat), cols)]


def bound(mode, x, weights, row):
    """Of |y - exact| for one row of x and one of W, as libcdna/include/cdna/matmul.hpp states it."""
    magnitude = math.fsum(abs(a) * b for a, b in zip(x, weights.magnitudes[row]))
    terms = len(x) + 16
    if mode == 'f32':
        return terms * UNIT * magnitude
    if mode == 'bf16':
        return (2.0**-7 + 2.0**-16 + terms * 2 * UNIT) * magnitude
    total = terms * 2 * UNIT * magnitude
    for begin in range(0, len(x), 64):
        part = range(begin, min(begin + 64, len(x)))
        step = max(abs(x[j]) for j in part) / 127
        total += math.fsum(
            step / 2 * weights.magnitudes[row][j] + abs(x[j]) * weights.largest[row][j] * 2.0**-16 for j in part
        )
    return total


class MatmulTest(ToolTest):
    def matmul(self, *arguments, code=CLEAN, **options):
        return self.run_tool('cdna', 'matmul', *arguments, code=code, **options)

    def document(self, *arguments):
        out, err = self.matmul(*arguments, '--json')
        self.assertEqual(err, '')
        return json.loads(out)

    def assert_product(self, x, weights, name='y.npy', dtype=None, mode='f32', shape=None):
        """The file is x times the transposed weights, within the bound of the mode and the rounding to its dtype."""
        dtype = dtype or x.dtype
        descr, found_shape, data = read_npy(self.read(name))
        self.assertEqual(descr, DESCRS[dtype])
        self.assertEqual(found_shape, shape or (x.rows, len(weights.values)))
        found = elements_of(dtype, data)
        self.assertEqual(len(found), x.rows * len(weights.values))
        relative, absolute = ROUNDING[dtype]
        for i, row_of_x in enumerate(x.values):
            for j, row in enumerate(weights.values):
                exact = math.fsum(a * b for a, b in zip(row_of_x, row))
                most = bound(mode, row_of_x, weights, j)
                most += relative * (abs(exact) + most) + absolute
                error = abs(found[i * len(weights.values) + j] - exact)
                self.assertLessEqual(error, most, f'seed {SEED}, element [{i}, {j}], {mode}')

    def write_codes(self, name='m.cdna', **parameters):
        """A file with a tensor 'w' of codes; its weights."""
        parameters = {'seed': SEED, **parameters}
        tensor = CodebookTensor(**parameters)
        data, self.places = codebook_files.build([tensor.item()])
        self.write(name, data)
        return Weights.of_codes(tensor, **parameters)

    def write_values(self, dtype, rows, cols, *options):
        """A file with a tensor 'w' of values; its weights, of F64 rounded to f32."""
        generator = random.Random(SEED)
        data = b''.join(to_bytes(dtype, generator.gauss(0, 1)) for _ in range(rows * cols))
        self.write_model('m.safetensors', [('w', dtype, [rows, cols], data)])
        self.convert('m.safetensors', 'm.cdna', '--force', *options)
        return Weights(matrix(elements_of(F32, b''.join(to_bytes(F32, w) for w in elements_of(dtype, data))), cols))

    def write_x(self, array, name='x.npy', **options):
        self.write(name, array.npy(**options))
        return array


class ProductTest(MatmulTest):
    def test_codes_of_every_width_and_mode_give_products_within_the_bound(self):
        for bits, group in ((8, 0), (8, 64), (6, 64), (5, 32), (4, 32), (3, 0), (1, 32)):
            weights = self.write_codes(bits=bits, group=group, rows=19, cols=161)
            for rows, mode in ((1, 'f32'), (5, 'f32'), (1, 'bf16'), (5, 'bf16'), (1, 'int8'), (5, 'int8')):
                x = self.write_x(Array(SEED + rows, rows, 161))
                self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--mode', mode, '--force')
                with self.subTest(bits=bits, group=group, rows=rows, mode=mode):
                    self.assert_product(x, weights, mode=mode)

    def test_values_of_every_dtype_give_products_within_the_bound(self):
        for dtype in (F16, BF16, F32, F64):
            for options in ((), ('--encoding', 'exact-z', '--codec', 'zstd')):
                weights = self.write_values(dtype, 64, 66, *options)
                for rows, mode in ((1, 'f32'), (6, 'f32'), (2, 'bf16')):
                    x = self.write_x(Array(SEED + rows, rows, 66))
                    self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--mode', mode, '--force')
                    with self.subTest(dtype=dtype, options=options, rows=rows, mode=mode):
                        self.assert_product(x, weights, mode=mode)

    def test_transposed_products_are_within_the_bound(self):
        weights = self.write_codes(bits=6, group=32, rows=37, cols=70).transposed()
        for rows, mode in ((1, 'f32'), (7, 'f32'), (3, 'bf16')):
            x = self.write_x(Array(SEED + rows, rows, 37))
            self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--transpose', '--mode', mode, '--force')
            with self.subTest(rows=rows, mode=mode):
                self.assert_product(x, weights, mode=mode)

    def test_rows_are_a_part_of_the_matrix(self):
        weights = self.write_codes(rows=24, cols=96)
        for begin, end in ((0, 24), (5, 19), (6, 7), (23, 24), (0, 0), (24, 24)):
            x = self.write_x(Array(SEED, 2, 96))
            self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--rows', f'{begin}:{end}', '--force')
            self.assert_product(x, weights.part(begin, end))
            x = self.write_x(Array(SEED, 2, end - begin))
            self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--rows', f'{begin}:{end}', '--transpose', '--force')
            part = weights.part(begin, end).transposed() if end > begin else Weights([[]] * 96)
            self.assert_product(x, part)

    def test_dtypes_go_in_and_out(self):
        weights = self.write_codes(rows=10, cols=96)
        for dtype in DESCRS:
            x = self.write_x(Array(SEED, 3, 96, dtype))
            self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--force')
            self.assert_product(x, weights)
            self.matmul('m.cdna', 'w', 'x.npy', 'z.npy', '--out-dtype', 'x', '--force')
            self.assertEqual(self.read('z.npy'), self.read('y.npy'))
            for out in DESCRS:
                self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--out-dtype', OPTIONS[out], '--force')
                self.assert_product(x, weights, dtype=out)

    def test_forms_of_the_same_array_give_the_same_bytes(self):
        self.write_codes()
        for dtype in DESCRS:
            x = self.write_x(Array(SEED, 6, 96, dtype))
            self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--force')
            columns = npy(DESCRS[dtype], (6, 96), x.by_columns, fortran=True)
            forms = [columns, x.npy(version=2), x.npy(version=3)]
            if dtype == BF16:
                forms.append(npy('|V2', (6, 96), x.data))
            for form in forms:
                self.write('form.npy', form)
                self.matmul('m.cdna', 'w', 'form.npy', 'z.npy', '--force')
                self.assertEqual(self.read('z.npy'), self.read('y.npy'))

    def test_one_dimension_in_one_dimension_out(self):
        weights = self.write_codes()
        x = Array(SEED, 1, 96)
        for fortran in (False, True):  # NumPy says True of neither, but reads both.
            self.write('x.npy', npy('<f4', (96,), x.data, fortran=fortran))
            self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--force')
            self.assert_product(x, weights, shape=(24,))
        x = Array(SEED, 1, 24)
        self.write('x.npy', npy('<f4', (24,), x.data))
        self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--transpose', '--force')
        self.assert_product(x, weights.transposed(), shape=(96,))

    def test_nothing_times_something_is_nothing_and_a_sum_of_nothing_is_0(self):
        self.write_model('m.safetensors', [('w', F32, [4, 0], b''), ('v', F32, [0, 4], b'')])
        self.convert('m.safetensors', 'm.cdna')
        for name, x_shape, y_shape in (('w', (3, 0), (3, 4)), ('v', (3, 4), (3, 0)), ('v', (0, 4), (0, 0))):
            self.write('x.npy', npy('<f4', x_shape, bytes(4 * math.prod(x_shape))))
            self.matmul('m.cdna', name, 'x.npy', 'y.npy', '--force')
            self.assertEqual(read_npy(self.read('y.npy')), ('<f4', y_shape, bytes(4 * math.prod(y_shape))))

    def test_a_tensor_of_many_dimensions_is_its_matrix(self):
        generator = random.Random(SEED)
        data = b''.join(to_bytes(F32, generator.gauss(0, 1)) for _ in range(5 * 3 * 2 * 2))
        self.write_model('m.safetensors', [('conv', F32, [5, 3, 2, 2], data)])
        self.convert('m.safetensors', 'm.cdna')
        x = self.write_x(Array(SEED, 2, 12))
        self.matmul('m.cdna', 'conv', 'x.npy', 'y.npy')
        self.assert_product(x, Weights(matrix(elements_of(F32, data), 12)))


class OptionTest(MatmulTest):
    def test_in_f32_nothing_but_the_arithmetic_changes_a_bit(self):
        self.write_codes(rows=40, cols=161, bits=6, group=32)
        others = [['--threads', n] for n in ('0', '1', '2', '3')]
        others += [['--io', io] for io in ('automatic', 'mmap', 'pread')]
        others += [['--trust', 'strict'], ['--trust', 'automatic'], ['--io', 'mmap', '--trust', 'zero_copy']]
        others += [['--resident-max', size] for size in ('1', '4096', '64KiB', '1 GB')] + [['--mode', 'f32']]
        others += [['--scratch-max', size] for size in ('600KiB', '1GiB')]
        for rows in (2, 9):
            self.write_x(Array(SEED, rows, 161))
            self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--force')
            for other in others:
                self.matmul('m.cdna', 'w', 'x.npy', 'z.npy', '--force', *other)
                self.assertEqual(self.read('z.npy'), self.read('y.npy'), other)

    def test_instruction_sets_give_the_same_bits_or_are_refused(self):
        self.write_codes(rows=40, cols=161)
        self.write_x(Array(SEED, 3, 161))
        self.matmul('m.cdna', 'w', 'x.npy', 'y.npy')
        arguments = ['matmul', 'm.cdna', 'w', 'x.npy', 'z.npy', '--force', '--json', '--isa']
        for isa in ISAS:
            done = subprocess.run([runner.tool('cdna'), *arguments, isa], cwd=self.folder, capture_output=True)
            if done.returncode == CLEAN:
                self.assertEqual(json.loads(done.stdout)['isa'], isa)
                self.assertEqual(self.read('z.npy'), self.read('y.npy'), isa)
            else:
                self.assertEqual(done.returncode, USAGE, isa)
                self.assertNotEqual(isa, 'baseline')
                self.assertIn(b'[bad_argument]', done.stderr)

    def test_the_document_says_what_ran(self):
        self.write_codes(rows=24, cols=96)
        x = self.write_x(Array(SEED, 3, 96, BF16))
        document = self.document('m.cdna', 'w', 'x.npy', 'y.npy', '--rows', '3:21', '--threads', '2', '--out-dtype',
                                 'f32')  # fmt: skip
        self.assertEqual(list(document), KEYS)
        said = {key: document[key] for key in ('schema', 'file', 'tensor', 'rows', 'transposed', 'mode', 'x', 'y')}
        self.assertEqual(
            said,
            {
                'schema': 'cdna.matmul/1',
                'file': 'm.cdna',
                'tensor': 'w',
                'rows': [3, 21],
                'transposed': False,
                'mode': 'f32',
                'x': {'path': 'x.npy', 'dtype': x.dtype, 'shape': [3, 96]},
                'y': {'path': 'y.npy', 'dtype': F32, 'shape': [3, 18]},
            },
        )
        for key in ('kernel', 'loop', 'products', 'io', 'trust', 'blocks'):
            self.assertIsInstance(document[key], str)
        self.assertIn(document['isa'], ISAS)
        self.assertTrue(1 <= document['threads'] <= 2)
        self.assertGreaterEqual(document['passes'], 1)
        self.assertGreater(document['file_backed_bytes'], 0)
        self.assertLessEqual(document['file_backed_growth_bytes'], document['file_backed_bytes'])
        self.assertGreater(document['seconds'], 0)
        rate = document['stored_bytes'] / document['seconds'] / 1e9
        self.assertAlmostEqual(document['gigabytes_per_second'] / rate, 1)
        self.write('x.npy', npy('<f4', (24,), bytes(96)))
        document = self.document('m.cdna', 'w', 'x.npy', 'z.npy', '--transpose', '--mode', 'bf16', '--io', 'pread')
        said = [document[key] for key in ('transposed', 'mode', 'rows', 'io', 'trust')]
        self.assertEqual(said, [True, 'bf16', [0, 24], 'pread', 'strict'])
        self.assertEqual((document['x']['shape'], document['y']['shape']), ([24], [96]))

    def test_stored_bytes_are_those_of_the_planes_of_rows(self):
        self.write_values(F32, 64, 96, '--encoding', 'cb4g32')
        self.write_x(Array(SEED, 1, 96))
        codes, scales, row_scales = 64 * 48, 64 * 3, 64 * 4
        document = self.document('m.cdna', 'w', 'x.npy', 'y.npy')
        self.assertEqual(document['stored_bytes'], codes + scales + row_scales)
        document = self.document('m.cdna', 'w', 'x.npy', 'y.npy', '--rows', '16:32', '--force')
        self.assertEqual(document['stored_bytes'], (codes + scales + row_scales) // 4)

    def test_the_pages_of_the_file_that_stay_are_bounded(self):
        rows, cols, megabyte = 16384, 1024, 1 << 20
        header = json.dumps({'w': {'dtype': F32, 'shape': [rows, cols], 'data_offsets': [0, rows * cols * 4]}}).encode()
        self.write('m.safetensors', struct.pack('<Q', len(header)) + header)
        os.truncate(self.path('m.safetensors'), 8 + len(header) + rows * cols * 4)
        self.convert('m.safetensors', 'm.cdna')
        self.write_x(Array(SEED, 1, cols))
        arguments = ['m.cdna', 'w', 'x.npy', 'y.npy', '--force', '--io', 'mmap', '--threads', '2']
        document = self.document(*arguments)
        self.assertEqual(document['stored_bytes'], 64 * megabyte)
        self.assertGreaterEqual(document['file_backed_growth_bytes'], 64 * megabyte)
        self.assertLess(document['private_growth_bytes'], 16 * megabyte)
        document = self.document(*arguments, '--resident-max', '4MiB')
        self.assertLess(document['file_backed_growth_bytes'], 16 * megabyte)
        self.assertLess(document['private_growth_bytes'], 16 * megabyte)

    def test_the_summary_is_for_people(self):
        self.write_codes(rows=24, cols=96)
        self.write_x(Array(SEED, 3, 96))
        out, err = self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--io', 'pread')
        self.assertEqual(err, '')
        self.assertRegex(out, r'^y\.npy: 3x24 F32 in \S+ s, \S+ GB/s of codes\n')
        document = self.document('m.cdna', 'w', 'x.npy', 'z.npy', '--io', 'pread')
        for key in ('kernel', 'loop', 'products', 'isa', 'io', 'trust', 'blocks'):
            self.assertIn(document[key], out)
        self.assertEqual(out.count('\n'), 3)

    def test_help_tells_every_option_and_exit_code(self):
        out, err = self.matmul('--help')
        self.assertEqual(err, '')
        for part in ('--transpose', '--rows', '--mode', '--out-dtype', '--threads', '--resident-max', '--isa', '--io',
                     '--trust', '--force', '--json', 'Exit codes', '130 interrupted'):  # fmt: skip
            self.assertIn(part, out)
        self.assertIn('matmul', self.run_tool('cdna', '--help')[0])


class RefusalTest(MatmulTest):
    """What cannot be done is said in one line, and leaves no file behind."""

    def setUp(self):
        super().setUp()
        self.write_codes(rows=24, cols=96)
        self.write_x(Array(SEED, 3, 96))

    def refused(self, *arguments, code, parts=()):
        before = self.names()
        for extra in ((), ('--json',)):
            self.assert_refused(self.matmul(*arguments, *extra, code=code), 'cdna matmul: ', *parts)
            self.assertEqual(self.names(), before)

    def refused_x(self, data, code, *parts):
        self.write('bad.npy', data)
        self.refused('m.cdna', 'w', 'bad.npy', 'y.npy', code=code, parts=('bad.npy', *parts))

    def test_shapes_that_do_not_fit(self):
        for shape in ((3, 95), (95,), (96, 3), (3, 24), (0, 0), (0,)):
            data = bytes(4 * math.prod(shape))
            self.refused_x(npy('<f4', shape, data), USAGE, 'x'.join(map(str, shape)), '96 columns are wanted', "'w'")
        for shape in ((), (1, 1, 96), (3, 1, 96)):
            self.refused_x(npy('<f4', shape, bytes(4 * math.prod(shape))), USAGE, 'one dimension or two')
        arguments = ('m.cdna', 'w', 'x.npy', 'y.npy', '--transpose')
        self.refused(*arguments, code=USAGE, parts=('x.npy', '24 columns are wanted', 'each row'))
        self.refused(*arguments, '--rows', '3:9', code=USAGE, parts=('6 columns are wanted',))

    def test_dtypes_that_are_not_rounded_in_silence(self):
        for descr, size, advice in (
            ('<f8', 8, 'astype(numpy.float32)'),
            ('>f8', 8, 'astype(numpy.float32)'),
            ('>f4', 4, "astype('<f4')"),
            ('<u2', 2, 'ml_dtypes'),
            ('<i4', 4, 'is wanted'),
            ('|b1', 1, 'is wanted'),
            ('|O', 8, 'is wanted'),
            ('<c8', 8, 'is wanted'),
            ([('a', '<f4')], 4, 'structured'),
        ):
            self.refused_x(npy(descr, (3, 96), bytes(288 * size)), ERRORS_LEFT, advice, 'at byte 20', '[unsupported]')

    def test_arrays_that_are_none(self):
        good = self.read('x.npy')
        data = len(good) - 3 * 96 * 4
        for bad, *parts in (
            (b'', 'at byte 0', '[malformed]'),
            (b'PK\x03\x04' + bytes(1000), 'at byte 0', '[malformed]'),
            (self.read('m.cdna'), 'at byte 0', '[malformed]'),
            (good[:5], 'at byte 5', '[truncated]'),
            (good[:9], 'at byte 9', '[truncated]'),
            (good[:50], 'at byte 8', '[truncated]'),
            (good[:data], f'at byte {data}', '[truncated]'),
            (good[:-1], f'at byte {len(good) - 1}', '[truncated]'),
            (good + b'\0', f'at byte {len(good)}', '1 bytes after', '[malformed]'),
            (good + good, f'at byte {len(good)}', '[malformed]'),
            (good[:6] + b'\4' + good[7:], 'at byte 6', 'version 4.0', '[unsupported]'),
            (good[:6] + b'\1\1' + good[8:], 'at byte 6', 'version 1.1', '[unsupported]'),
            (good[:6] + b'\2\0\xff\xff\xff\xff' + good[8:], 'at byte 8', '[limit]'),
            (good.replace(b'(3,', b'[3,'), 'at byte 60', '[malformed]'),
            (good.replace(b'96)', b'-6)'), 'at byte 64', '[malformed]'),
            (good.replace(b'shape', b'shade'), 'at byte 51', "'shade'", '[malformed]'),
            (npy('<f4', (1 << 62, 1 << 62), b''), 'at byte 128', '2^64 bytes', '[limit]'),
            (npy('<f4', (1 << 63, 96), b''), 'at byte 61', '2^63', '[limit]'),
            (npy('<f4', (1 << 40, 96), b''), 'at byte 128', '[truncated]'),
        ):
            with self.subTest(parts):
                self.refused_x(bad, ERRORS_LEFT, *parts)

    def test_inputs_that_are_not_there_or_no_files(self):
        os.mkfifo(self.path('pipe'))
        os.mkdir(self.path('folder'))
        self.refused('m.cdna', 'w', 'missing.npy', 'y.npy', code=OPERATIONAL, parts=('missing.npy',))
        self.refused('missing.cdna', 'w', 'x.npy', 'y.npy', code=OPERATIONAL, parts=('missing.cdna',))
        self.refused('m.cdna', 'w', 'pipe', 'y.npy', code=USAGE, parts=('pipe', 'not a regular file'))
        self.refused('m.cdna', 'w', 'folder', 'y.npy', code=USAGE, parts=('folder', 'is a directory'))
        self.refused('x.npy', 'w', 'x.npy', 'y.npy', code=ERRORS_LEFT, parts=('x.npy', '[not_cdna'))

    def test_tensors_that_are_not_there_or_no_floats(self):
        self.refused('m.cdna', 'v', 'x.npy', 'y.npy', code=USAGE, parts=('m.cdna', "'v'", 'no tensor has this name'))
        self.refused('m.cdna', '', 'x.npy', 'y.npy', code=USAGE)
        for dtype in ('I64', 'U8', 'BOOL', 'I8'):
            self.write_model('m.safetensors', [('counts', dtype, [2, 96], bytes(192 * runner.SIZES[dtype]))])
            self.convert('m.safetensors', 'counts.cdna', '--force')
            self.refused('counts.cdna', 'counts', 'x.npy', 'y.npy', code=ERRORS_LEFT, parts=("'counts'", 'unsupported'))

    def test_modes_that_a_tensor_does_not_have(self):
        self.write_values(F32, 24, 96)
        self.refused('m.cdna', 'w', 'x.npy', 'y.npy', '--mode', 'int8', code=ERRORS_LEFT, parts=("'w'", 'unsupported'))
        self.write_codes(rows=96, cols=24)
        arguments = ('m.cdna', 'w', 'x.npy', 'y.npy', '--mode', 'int8', '--transpose')
        self.refused(*arguments, code=ERRORS_LEFT, parts=("'w'", 'unsupported'))

    def test_rows_that_are_no_range_of_the_matrix(self):
        for rows in ('0:25', '25:25', '9:8', '0:18446744073709551615'):
            self.refused('m.cdna', 'w', 'x.npy', 'y.npy', '--rows', rows, code=USAGE, parts=(rows, 'rows 0:24'))
        for rows in ('3', ':', '3:', ':3', '-1:3', '1:-3', '1:3:5', '1:3 ', ' 1:3', '1-3', 'a:b', '0x1:3',
                     '0:18446744073709551616'):  # fmt: skip
            self.refused('m.cdna', 'w', 'x.npy', 'y.npy', f'--rows={rows}', code=USAGE, parts=('A:B is wanted',))

    def test_arguments_that_are_none(self):
        good = ('m.cdna', 'w', 'x.npy', 'y.npy')
        for bad in (
            good[:3],
            (*good, 'z.npy'),
            (*good, '--mode', 'f64'),
            (*good, '--out-dtype', 'f64'),
            (*good, '--isa', 'sse9'),
            (*good, '--io', 'tape'),
            (*good, '--trust', 'blind'),
            (*good, '--threads', '-1'),
            (*good, '--threads', '1025'),
            (*good, '--resident-max', 'much'),
            (*good, '--scratch-max', 'little'),
            (*good, '--resident-max', '0'),
            (*good, '--resident-max', '-1'),
            (*good, '--fast'),
        ):
            out, err = self.matmul(*bad, code=USAGE)
            self.assertEqual(out, '', bad)
            self.assertNotEqual(err, '', bad)
            self.assertNotIn('y.npy', self.names())
        self.refused(*good, '--io', 'pread', '--trust', 'zero_copy', code=USAGE, parts=('m.cdna',))

    def test_an_existing_result_is_kept_unless_force_is_said(self):
        self.write('y.npy', b'precious')
        self.refused('m.cdna', 'w', 'x.npy', 'y.npy', code=OPERATIONAL, parts=('y.npy', '--force replaces it'))
        self.assertEqual(self.read('y.npy'), b'precious')
        self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--force')
        self.assertEqual(read_npy(self.read('y.npy'))[1], (3, 24))

    def test_the_files_that_are_read_are_never_the_result(self):
        os.link(self.path('x.npy'), self.path('hard.npy'))
        os.symlink('m.cdna', self.path('soft.npy'))
        kept = {name: self.read(name) for name in ('m.cdna', 'x.npy')}
        for name in ('m.cdna', './m.cdna', 'soft.npy', 'x.npy', self.path('x.npy'), 'hard.npy'):
            for force in ((), ('--force',)):
                self.refused('m.cdna', 'w', 'x.npy', name, *force, code=USAGE, parts=(name, 'is also read'))
        self.assertEqual({name: self.read(name) for name in kept}, kept)

    def test_places_where_nothing_can_be_written(self):
        os.mkdir(self.path('folder'))
        for place in ('no/such/y.npy', 'x.npy/y.npy', '/proc/y.npy'):
            self.refused('m.cdna', 'w', 'x.npy', place, code=OPERATIONAL, parts=(place,))
        self.refused('m.cdna', 'w', 'x.npy', 'folder', '--force', code=USAGE, parts=('folder', 'not a regular file'))

    def test_a_disk_that_is_full_leaves_nothing(self):
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

        before = self.names()
        arguments = ('m.cdna', 'w', 'x.npy', 'y.npy', '--json')
        done = self.matmul(*arguments, code=OPERATIONAL, preexec_fn=limit, restore_signals=False)
        self.assert_refused(done, '[io]')
        self.assertEqual(self.names(), before)

    def test_a_document_that_cannot_be_printed_is_an_operational_failure(self):
        with open('/dev/full', 'wb') as full:
            command = [runner.tool('cdna'), 'matmul', 'm.cdna', 'w', 'x.npy', 'y.npy', '--json']
            done = subprocess.run(command, cwd=self.folder, stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, OPERATIONAL)
        self.assertIn(b'cannot write the output', done.stderr)

    def test_a_damaged_block_is_named_and_leaves_nothing(self):
        parameters = {'seed': SEED, 'bits': 6, 'group': 32}
        weights = self.write_codes(**parameters)
        good = self.read('m.cdna')
        planes = CodebookTensor(**parameters).item().planes
        used = [number for number, plane in enumerate(planes) if plane.role != codebook_files.STATISTICS_ROLE]
        self.assertEqual(len(used), len(planes) - 1)
        for number, plane in enumerate(planes):
            data = bytearray(good)
            data[self.places[f'plane 0.{number}']] ^= 1
            self.write('m.cdna', data)
            if number in used:
                parts = ('m.cdna', "'w'", f'plane {number}', 'block 0', 'at byte', '[corrupt')
                self.refused('m.cdna', 'w', 'x.npy', 'y.npy', code=ERRORS_LEFT, parts=parts)
            if plane.scope != 0 or number not in used:  # Rows without the first block do not touch what is damaged.
                self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--rows', '7:24')
                self.assert_product(Array(SEED, 3, 96), weights.part(7, 24))
                os.unlink(self.path('y.npy'))


class HostileArrayTest(hostile_cases.LimitedTest, MatmulTest):
    """Within 512 MiB and 5 s of CPU time, and nothing reaches a terminal raw."""

    def limited_matmul(self, *arguments, codes):
        before = self.names()
        _, out, err = self.limited('cdna', 'matmul', *arguments, codes=codes)
        self.assertEqual((out, err.count('\n')), ('', 1))
        self.assertLess(len(err), 1000)
        self.assertEqual(self.names(), before)
        return err

    def test_junk_costs_little_and_leaves_nothing(self):
        self.write_codes()
        good = Array(SEED, 3, 96).npy()
        generator = random.Random(SEED)
        deep = b"{'descr': " + b'(' * 60000
        cases = [
            b'\x93NUMPY\1\0' + struct.pack('<H', len(deep)) + deep,
            b'\x93NUMPY\2\0\xff\xff\xff\x7f' + b' ' * 100000,
            npy('<f4' * 20000, (3, 96), b'', version=2),
            npy('\x1b[31m\n\r\u202e', (3, 96), b'', version=3),
            good.replace(b'shape', b'\x1b[2J\x9b'),
            good.replace(b"'descr'", b"'de\ncr'"),
            npy('<f4', [1] * 20000, b'', version=2),
        ]
        cases += [generator.randbytes(generator.randrange(1, 300)) for _ in range(10)]
        cases += [good[:10] + generator.randbytes(len(good) - 10) for _ in range(10)]
        for data in cases:
            self.write('x.npy', data)
            with self.subTest(data[:100]):
                self.limited_matmul('m.cdna', 'w', 'x.npy', 'y.npy', codes=[ERRORS_LEFT])

    def test_a_hole_of_a_terabyte_is_no_reason_to_take_its_memory(self):
        self.write_codes()
        with open(self.path('x.npy'), 'wb') as file:
            file.write(npy('<f4', (1 << 20, 1 << 18), b''))
            file.truncate(file.tell() + (1 << 40))
        before = self.names()
        _, out, err = self.limited('cdna', 'matmul', 'm.cdna', 'w', 'x.npy', 'y.npy', codes=[USAGE])
        self.assertEqual((out, err.count('\n')), ('', 1))
        self.assertEqual(self.names(), before)

    def test_names_and_arguments_are_escaped(self):
        self.write_codes()
        self.write_x(Array(SEED, 3, 96))
        evil = '\x1b[31m\u202e'
        self.limited_matmul('m.cdna', evil, 'x.npy', 'y.npy', codes=[USAGE])
        self.limited_matmul('m.cdna', 'w', evil, 'y.npy', codes=[OPERATIONAL])
        self.limited_matmul('m.cdna', 'w', 'x.npy', evil + '/y', codes=[OPERATIONAL])
        for option in ('--rows', '--resident-max', '--mode', '--isa', '--threads'):
            self.limited_matmul('m.cdna', 'w', 'x.npy', 'y.npy', option, evil, codes=[USAGE])
        self.write(evil + '.cdna', self.read('m.cdna'))
        arguments = (evil + '.cdna', 'w', 'x.npy', evil + '.npy', '--threads', '1', '--force')
        for option in ('--force', '--json'):
            self.limited('cdna', 'matmul', *arguments, option, codes=[CLEAN])


class SignalTest(MatmulTest):
    def start_long_work(self, *options):
        """A multiplication of minutes, a moment after it began."""
        size = 4096
        header = json.dumps({'w': {'dtype': F32, 'shape': [size, size], 'data_offsets': [0, size * size * 4]}}).encode()
        self.write('m.safetensors', struct.pack('<Q', len(header)) + header)
        os.truncate(self.path('m.safetensors'), 8 + len(header) + size * size * 4)
        self.convert('m.safetensors', 'm.cdna', '--force')
        with open(self.path('x.npy'), 'wb') as file:
            file.write(npy('<V2', (2 * size, size), b''))
            file.truncate(file.tell() + 4 * size * size)
        self.before = {name: os.stat(self.path(name)).st_size for name in self.names()}
        command = [runner.tool('cdna'), 'matmul', 'm.cdna', 'w', 'x.npy', 'y.npy', '--isa', 'baseline']
        process = subprocess.Popen(
            [*command, '--threads', '1', *options], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 60
        while not self.has_begun(process) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        begun = self.cpu_ticks(process)
        while self.cpu_ticks(process) < begun + 10 and process.poll() is None:  # 0.1 s of work.
            time.sleep(0.005)
        return process

    def has_begun(self, process):
        """Whether the file that shall become the result is there, nameless or not yet named."""
        folder = f'/proc/{process.pid}/fd'
        for number in os.listdir(folder):
            try:
                link = os.readlink(os.path.join(folder, number))
            except OSError:
                continue
            if link.startswith(self.folder) and ('deleted' in link or 'cdna-tmp' in link):
                return True
        return False

    def cpu_ticks(self, process):
        try:
            with open(f'/proc/{process.pid}/stat', encoding='ascii') as file:
                return sum(map(int, file.read().rsplit(')', 1)[1].split()[11:13]))
        except OSError:
            return 0

    def test_a_signal_ends_the_work_at_once_and_leaves_nothing(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.start_long_work()
            self.assertIsNone(process.poll(), 'it ended too soon')
            process.send_signal(number)
            sent = time.monotonic()
            out, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, INTERRUPTED)
            self.assertLess(time.monotonic() - sent, 30)
            self.assertEqual((out, err), (b'', b'cdna matmul: stopped on request [cancelled]\n'))
            self.assertEqual({name: os.stat(self.path(name)).st_size for name in self.names()}, self.before)

    def test_a_signal_leaves_the_result_of_before(self):
        self.write('y.npy', b'precious')
        process = self.start_long_work('--force', '--json')
        self.assertIsNone(process.poll(), 'it ended too soon')
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out), (INTERRUPTED, b''))
        self.assertEqual(self.read('y.npy'), b'precious')
        self.assertEqual(self.names(), sorted(self.before))


class DeviceTest(MatmulTest):
    """`--device`, with the library on an emulated device, and without any."""

    def library(self):
        path = os.path.join(runner.build_directory, 'tests', 'cuda', 'libcdna_cuda_emulated.so')
        self.assertTrue(os.path.exists(path), path)
        return {'env': {**os.environ, 'CDNA_CUDA_LIBRARY': path}}

    def assert_no_result(self):
        self.assertNotIn('y.npy', self.names())

    def test_products_on_an_emulated_device_are_within_the_bound(self):
        for bits, group in ((8, 0), (8, 64), (6, 64), (5, 32), (4, 32), (3, 0)):
            weights = self.write_codes(bits=bits, group=group, rows=19, cols=161)
            for rows, fortran in ((1, False), (5, False), (3, True)):
                x = Array(SEED + rows, rows, 161)
                data = npy('<f4', (rows, 161), x.by_columns, fortran=True) if fortran else x.npy()
                self.write('x.npy', data)
                self.matmul('m.cdna', 'w', 'x.npy', 'y.npy', '--device', 'cuda', '--force', **self.library())
                with self.subTest(bits=bits, group=group, rows=rows):
                    # Each x is two f16 numbers: 2^-21 beside what sums in f32 lose, which 'bf16' has room for.
                    self.assert_product(x, weights, mode='bf16')

    def test_rows_are_a_part_of_the_matrix_and_the_document_says_what_ran(self):
        weights = self.write_codes(rows=24, cols=96)
        x = self.write_x(Array(SEED, 2, 96))
        arguments = ['m.cdna', 'w', 'x.npy', 'y.npy', '--device', 'cuda:0', '--rows', '3:21', '--json']
        out, err = self.matmul(*arguments, **self.library())
        self.assertEqual(err, '')
        self.assert_product(x, weights.part(3, 21), mode='bf16')
        document = json.loads(out)
        self.assertEqual(document['schema'], 'cdna.matmul.device/1')
        self.assertEqual((document['device'], document['rows']), ('cuda:0', [3, 21]))
        self.assertEqual(document['y'], {'path': 'y.npy', 'dtype': F32, 'shape': [2, 18]})
        self.assertIn(document['loop'], ('stream', 'block', 'wgmma'))
        self.assertGreaterEqual(document['splits'], 1)
        stages = document['upload']['stages']
        self.assertEqual(sorted(stages), ['copy', 'fill', 'permute', 'read'])
        self.assertIn(document['upload']['bottleneck'], stages)
        self.assertGreater(document['upload']['device_bytes_peak'], document['upload']['device_bytes'])
        out, err = self.matmul(*[each for each in arguments if each != '--json'], '--force', **self.library())
        self.assertIn('cuda:0', out)

    def test_without_library_or_device_there_is_a_reason_and_no_result(self):
        self.write_codes()
        self.write_x(Array(SEED, 1, 96))
        arguments = ['m.cdna', 'w', 'x.npy', 'y.npy', '--device']
        for library, parts in (
            ('/nowhere/libcdna_cuda.so', ['libcdna_cuda', '/nowhere/libcdna_cuda.so']),
            ('libm.so.6', ['libm.so.6', 'version']),
        ):
            done = self.matmul(*arguments, 'cuda', code=OPERATIONAL, env={**os.environ, 'CDNA_CUDA_LIBRARY': library})
            self.assert_refused(done, *parts)
            self.assert_no_result()
        self.assert_refused(self.matmul(*arguments, 'cuda:7', code=OPERATIONAL, **self.library()), 'device 7')
        self.assert_no_result()
        for device in ('cpu', 'cuda:', 'cuda:x', 'cuda:-1', 'cuda:0 ', 'cuda:99999999999'):
            self.assert_refused(self.matmul(*arguments, device, code=USAGE, **self.library()), '--device')
            self.assert_no_result()

    def test_a_file_that_is_replaced_before_the_upload_is_refused(self):
        self.write_codes('wider.cdna', rows=24, cols=961)
        self.write_codes(rows=24, cols=96)
        self.write_x(Array(SEED, 1, 96))
        library = os.path.join(runner.build_directory, 'tests', 'cuda', 'libcdna_cuda_emulated_replacing.so')
        replaced = {
            'CDNA_CUDA_LIBRARY': library,
            'CDNA_TEST_REPLACE_FROM': self.path('wider.cdna'),
            'CDNA_TEST_REPLACE_TO': self.path('m.cdna'),
        }
        arguments = ['m.cdna', 'w', 'x.npy', 'y.npy', '--device', 'cuda']
        done = self.matmul(*arguments, code=ERRORS_LEFT, env={**os.environ, **replaced})
        self.assert_refused(done, '[root_mismatch T4]')
        self.assert_no_result()

    def test_what_a_device_cannot_do_is_refused(self):
        self.write_codes()
        self.write_x(Array(SEED, 1, 96))
        arguments = ['m.cdna', 'w', 'x.npy', 'y.npy', '--device', 'cuda']
        for option in (['--mode', 'bf16'], ['--io', 'pread'], ['--isa', 'baseline'], ['--scratch-max', '1GiB'],
                       ['--resident-max', '1GiB'], ['--rows', '3:3']):  # fmt: skip
            self.matmul(*arguments, *option, code=USAGE, **self.library())
            self.assert_no_result()
        self.write_values(F32, 64, 96, '--encoding', 'exact')
        done = self.matmul(*arguments, code=ERRORS_LEFT, **self.library())
        self.assert_refused(done, 'w', 'exact', '[unsupported]')
        self.assert_no_result()
