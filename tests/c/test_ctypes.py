"""Tests libcdna.so as a program without a compiler uses it, with the types that cdna.h states: test_ctypes.py BUILD.

Every function is declared from the header. What is read is compared with the reference decoder, products with sums in Python.
"""
import ctypes
import pathlib
import sys
import tempfile
import unittest

import abi_record
import c_header
import c_types
import reference
import script


def text(value):
    return value.decode('utf-8')


class Calls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cdna = c_types.Library(script.build / 'bindings/c/libcdna.so')

    def open(self, path, **options):
        """A reader, freed when the test ends."""
        reader = ctypes.POINTER(self.cdna.structs['cdna_reader'])()
        made = self.cdna.new('cdna_open_options', **options)
        self.cdna.call('cdna_open', str(path).encode(), ctypes.byref(made), ctypes.byref(reader))
        self.addCleanup(self.cdna.cdna_reader_free, reader)
        return reader

    def describe(self, function, struct, *arguments):
        made = self.cdna.new(struct)
        self.cdna.call(function, *arguments, ctypes.byref(made))
        return made

    def rows(self, reader, tensor, info, workers=None):
        values = (ctypes.c_float * (info.rows * info.cols))()
        self.cdna.call('cdna_read_rows', reader, tensor, 0, info.rows, self.cdna.constants['CDNA_F32'], values, 0, workers)
        return list(values)

    def test_structs_are_laid_out_as_the_compiler_does(self):
        """The record is the compiler's."""
        structs, _ = abi_record.sections(abi_record.LAYOUT.read_text())
        for name, (size, fields) in structs.items():
            struct = self.cdna.structs[name]
            self.assertEqual(ctypes.sizeof(struct), size, name)
            places = [(field, getattr(struct, field).offset, getattr(struct, field).size) for field, *_ in struct._fields_]
            self.assertEqual([f'{offset} +{length} {field}' for field, offset, length in places], fields, name)

    def test_versions(self):
        self.assertEqual(text(self.cdna.cdna_version()), c_header.VERSION)
        info = self.describe('cdna_build', 'cdna_build_info')
        self.assertEqual(info.format_version, 3)
        self.assertIn(text(info.isa), text(info.isas).split())

    def test_tensors_are_those_of_the_reference_decoder(self):
        for path in (reference.CODES, reference.EXACT):
            for options in ({}, {'trust': self.cdna.constants['CDNA_TRUST_STRICT'], 'io': self.cdna.constants['CDNA_IO_PREAD']}):
                reader = self.open(path, **options)
                found = []
                for tensor in range(self.cdna.cdna_tensor_count(reader)):
                    info = self.describe('cdna_tensor_describe', 'cdna_tensor_info', reader, tensor)
                    found.append((text(info.name), info.rows, info.cols, self.rows(reader, tensor, info)))
                self.assertEqual(found, reference.tensors(path))

    def test_memory_source_and_their_ends(self):
        data = reference.CODES.read_bytes()
        buffer = ctypes.create_string_buffer(data, len(data))
        closed = []

        def read_at(_, offset, out, size):
            ctypes.memmove(out, data[offset:offset + size], size)
            return 0

        source = self.cdna.new('cdna_source', size_bytes=len(data), name=b'python')
        fields = dict(self.cdna.structs['cdna_source']._fields_)
        source.read_at, source.close = fields['read_at'](read_at), fields['close'](closed.append)
        for function, arguments in (('cdna_open_memory', (buffer, len(data))), ('cdna_open_source', (ctypes.byref(source),))):
            reader = ctypes.POINTER(self.cdna.structs['cdna_reader'])()
            self.cdna.call(function, *arguments, None, ctypes.byref(reader))
            info = self.describe('cdna_tensor_describe', 'cdna_tensor_info', reader, 0)
            [(_, _, _, expected)] = reference.tensors(reference.CODES)
            self.assertEqual(self.rows(reader, 0, info), expected)
            self.cdna.cdna_reader_free(reader)
        self.assertEqual(len(closed), 1)

    def test_blocks_and_planes(self):
        reader = self.open(reference.EXACT)
        tensor = ctypes.c_uint64()
        self.cdna.call('cdna_tensor_find', reader, b'first', ctypes.byref(tensor))
        [expected] = [values for name, _, _, values in reference.tensors(reference.EXACT) if name == 'first']
        data, size = ctypes.c_void_p(), ctypes.c_uint64()
        self.cdna.call('cdna_plane_data', reader, tensor, 0, ctypes.byref(data), ctypes.byref(size))
        self.assertEqual(list((ctypes.c_float * (size.value // 4)).from_address(data.value)), expected)
        block = self.cdna.new('cdna_block')
        self.cdna.call('cdna_block_acquire', reader, tensor, 0, ctypes.byref(block))
        elements = list((ctypes.c_float * (block.data_size // 4)).from_address(block.data))
        self.assertEqual(elements, expected[:len(elements)])
        self.cdna.cdna_block_release(ctypes.byref(block))
        self.assertFalse(block.data)

    def test_products_are_sums(self):
        reader = self.open(reference.CODES)
        [(_, rows, cols, weights)] = reference.tensors(reference.CODES)
        x, y = (ctypes.c_float * cols)(*range(1, cols + 1)), (ctypes.c_float * rows)()
        f32 = self.cdna.constants['CDNA_F32']

        def matrix(data, width):
            return self.cdna.new('cdna_matrix', data=ctypes.addressof(data), dtype=f32, rows=1, cols=width, row_stride=width,
                                 col_stride=1)

        loops = []

        def parallel_for(_, count, body, body_context):
            loops.append(count)
            for i in reversed(range(count)):
                body(body_context, i)

        kept = self.cdna.callback(self.cdna.header.callbacks['cdna_parallel_for'])(parallel_for)
        workers = ctypes.POINTER(self.cdna.structs['cdna_workers'])()
        self.cdna.call('cdna_workers_create_with', 2, kept, None, ctypes.byref(workers))
        part = self.cdna.new('cdna_rows', reader=reader, tensor=0, row_end=self.cdna.constants['CDNA_ALL_ROWS'])
        options = self.cdna.new('cdna_matmul_options', workers=workers)
        self.cdna.call('cdna_matmul', ctypes.byref(part), 1, ctypes.byref(matrix(x, cols)), ctypes.byref(matrix(y, rows)),
                       ctypes.byref(options))
        self.cdna.cdna_workers_free(workers)
        self.assertEqual(list(y), [sum(weights[i * cols + j] * (j + 1) for j in range(cols)) for i in range(rows)])

    def test_what_is_written_is_read(self):
        values = [0.5 * i - 3 for i in range(12)]
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, 'written.cdna')
            writer = ctypes.POINTER(self.cdna.structs['cdna_writer'])()
            self.cdna.call('cdna_writer_create', str(path).encode(), None, ctypes.byref(writer))
            shape = (ctypes.c_uint64 * 2)(3, 4)
            spec = self.cdna.new('cdna_tensor_spec', dtype=self.cdna.constants['CDNA_F32'], name='wörk'.encode(), shape=shape, rank=2)
            data = (ctypes.c_float * 12)(*values)
            self.cdna.call('cdna_writer_add', writer, ctypes.byref(spec), data, ctypes.sizeof(data))
            self.cdna.call('cdna_writer_finish', writer, None)
            self.cdna.cdna_writer_free(writer)
            self.assertEqual(reference.tensors(path), [('wörk', 3, 4, values)])

    def test_errors_have_their_fields(self):
        with self.assertRaises(c_types.Error) as caught:
            self.open('/nowhere/at all.cdna')
        self.assertEqual((caught.exception.code, caught.exception.fields['os_errno']), (self.cdna.constants['CDNA_NOT_FOUND'], 2))
        self.assertEqual(text(caught.exception.fields['file']), '/nowhere/at all.cdna')
        reader = self.open(reference.CODES)
        with self.assertRaises(c_types.Error) as caught:
            self.cdna.call('cdna_tensor_find', reader, b'missing', ctypes.byref(ctypes.c_uint64()))
        self.assertEqual(caught.exception.code, self.cdna.constants['CDNA_NOT_FOUND'])
        # Nothing but a code, where nobody wants to know more.
        self.assertEqual(self.cdna.cdna_open(None, None, None, None), self.cdna.constants['CDNA_BAD_ARGUMENT'])

    def test_null_handles_may_be_freed(self):
        for name in self.cdna.header.functions:
            if name.endswith('_free') or name == 'cdna_block_release':
                self.assertIsNone(getattr(self.cdna, name)(None))


class Loading(unittest.TestCase):
    def test_unloading_leaves_nothing_behind(self):
        """dlclose() in a process of its own: the library, and what it started, are gone."""
        program = f'''
import ctypes, _ctypes, sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import c_types, reference
for _ in range(2):
    cdna = c_types.Library({str(script.build / 'bindings/c/libcdna.so')!r})
    reader, workers = (ctypes.POINTER(cdna.structs[name])() for name in ('cdna_reader', 'cdna_workers'))
    cdna.call('cdna_open', str(reference.CODES).encode(), None, ctypes.byref(reader))
    cdna.call('cdna_workers_create', 3, ctypes.byref(workers))
    values = (ctypes.c_float * 10)()
    cdna.call('cdna_read_rows', reader, 0, 0, 2, cdna.constants['CDNA_F32'], values, 0, workers)
    cdna.cdna_workers_free(workers)
    cdna.cdna_reader_free(reader)
    handle = cdna.loaded._handle
    assert 'libcdna' in open('/proc/self/maps').read()
    del cdna
    _ctypes.dlclose(handle)
    assert 'libcdna' not in open('/proc/self/maps').read()
'''
        result = abi_record.run([sys.executable, '-c', program])
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, '', ''))


if __name__ == '__main__':
    script.main(__name__)
