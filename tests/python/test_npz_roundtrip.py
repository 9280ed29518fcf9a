# cdna convert and export against NumPy's own .npy and .npz files: test_npz_roundtrip.py BUILD_DIR.
import os
import sys
import zipfile

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'cli'))
import runner  # noqa: E402
from runner import ToolTest  # noqa: E402

SEED = 20260307
DTYPES = ['?', 'u1', 'i1', 'u2', 'i2', 'u4', 'i4', 'u8', 'i8', 'f2', 'f4', 'f8', 'c8']
SHAPES = [(), (0, 3), (7,), (5, 8), (2, 3, 4)]


def arrays():
    """An array of each dtype and shape, of any bits, by name."""
    print(f'seed {SEED}')
    generator = np.random.default_rng(SEED)
    made = {}
    for dtype in DTYPES:
        for shape in SHAPES:
            count = int(np.prod(shape, dtype=np.int64))
            raw = generator.integers(0, 2 if dtype == '?' else 256, count * np.dtype(dtype).itemsize, dtype=np.uint8)
            # Of infinite values and NaNs the bits are compared too.
            made[f'a.{dtype}.{len(shape)}'.replace('?', 'b1')] = raw.view(dtype).reshape(shape)
    return made


class NpzTest(ToolTest):
    def assert_same(self, found, wanted):
        self.assertEqual(found.dtype, wanted.dtype)
        self.assertEqual(found.shape, wanted.shape)
        self.assertEqual(found.tobytes(), wanted.tobytes())

    def assert_exported(self, wanted):
        self.export('m.cdna', 'out.npz', '--force')
        with np.load(self.path('out.npz')) as file:
            self.assertEqual(set(file.files), set(wanted))
            for name, array in wanted.items():
                self.assert_same(file[name], array)
        with zipfile.ZipFile(self.path('out.npz')) as archive:
            self.assertIsNone(archive.testzip())

    def test_what_numpy_saves_comes_back(self):
        wanted = arrays()
        for save in (np.savez, np.savez_compressed):
            save(self.path('in.npz'), **wanted)
            self.convert('in.npz', 'm.cdna', '--force')
            self.assert_exported(wanted)

    def test_big_endian_and_fortran_order_are_undone(self):
        plain = np.arange(24, dtype='<f4').reshape(2, 3, 4)
        np.savez(self.path('in.npz'), big=plain.astype('>f4'), fortran=np.asfortranarray(plain),
                 both=np.asfortranarray(plain.astype('>f4')), complex=(plain * 1j).astype('>c8'))
        self.convert('in.npz', 'm.cdna')
        self.assert_exported({'big': plain, 'fortran': plain, 'both': plain, 'complex': (plain * 1j).astype('<c8')})

    def test_a_single_array_is_called_as_its_file(self):
        for number, version in enumerate(((1, 0), (2, 0), (3, 0))):
            array = np.arange(6, dtype='<i2').reshape(3, 2) + np.int16(number)
            with open(self.path('weights.npy'), 'wb') as file:
                np.lib.format.write_array(file, array, version=version)
            self.convert('weights.npy', 'm.cdna', '--force')
            self.assert_exported({'weights': array})

    def test_objects_and_pickles_are_refused(self):
        np.savez(self.path('in.npz'), o=np.array([{}], dtype=object))
        self.assert_refused(self.run_tool('cdna', 'convert', 'in.npz', 'm.cdna', code=runner.ERRORS_LEFT), 'pickle')
        self.assertNotIn('m.cdna', self.names())


if __name__ == '__main__':
    runner.main('__main__')
