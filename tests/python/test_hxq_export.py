# cdna export --to hxq against the checkpoints of helix-substrate, its loader's rules and numpy: test_hxq_export.py BUILD_DIR.
import hashlib
import json
import os
import shutil
import struct
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'cli'))
import runner  # noqa: E402
from runner import ToolTest  # noqa: E402

LEGACY = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'legacy')
NUMPY = {'F32': '<f4', 'F16': '<f2', 'I64': '<i8', 'U8': 'u1', 'U16': '<u2'}


def read_safetensors(path):
    """The tensors of a file, by the format's own description."""
    with open(path, 'rb') as file:
        data = file.read()
    length = struct.unpack('<Q', data[:8])[0]
    header = json.loads(data[8:8 + length])
    arrays = {}
    for name, entry in header.items():
        if name != '__metadata__':
            begin, end = entry['data_offsets']
            arrays[name] = np.frombuffer(data[8 + length:][begin:end], NUMPY[entry['dtype']]).reshape(entry['shape'])
    return arrays


def unpack_12bit(packed, shape):
    a, b, c = (packed.reshape(-1, 3)[:, i].astype(np.uint16) for i in range(3))
    return np.stack([a | (b & 15) << 8, b >> 4 | c << 4], 1).reshape(shape)


def weight_of(arrays, module, shape):
    """What HelixLinear of the original holds: gather, replace, add, undo the scales."""
    codebook = arrays[module + '.codebook']
    indices = arrays[module + '.indices']
    if indices.ndim == 1:
        indices = unpack_12bit(indices, (shape[0], -1))
    weight = codebook[indices].reshape(shape)
    if module + '.sidecar_positions' in arrays:
        flat = weight.ravel().copy()
        flat[arrays[module + '.sidecar_positions']] = arrays[module + '.sidecar_values']
        weight = flat.reshape(shape)
    if module + '.svd_U' in arrays:
        weight = weight + (arrays[module + '.svd_U'] * arrays[module + '.svd_s'][None, :]) @ arrays[module + '.svd_Vt']
    return weight


def modules_of(arrays):
    return sorted(name[:-len('.codebook')] for name in arrays if name.endswith('.codebook'))


class HxqExport(ToolTest):
    def check_same_model(self, before, after, shapes):
        """Codes may be renumbered; what they stand for, and all other tensors, are the same bits."""
        self.assertEqual(modules_of(before), modules_of(after))
        for module, shape in shapes.items():
            old, new = weight_of(before, module, shape), weight_of(after, module, shape)
            self.assertEqual(old.tobytes(), new.tobytes(), module)
        parts = ('.codebook', '.indices', '.sidecar_positions', '.sidecar_values')
        for name in before:
            if not name.endswith(parts):
                self.assertEqual(before[name].tobytes(), after[name].tobytes(), name)
                self.assertEqual(before[name].dtype, after[name].dtype, name)
        self.assertEqual({name for name in before if not name.endswith(parts)},
                         {name for name in after if not name.endswith(parts)})

    def out(self, name):
        return os.path.join(self.path('out'), name)

    def export_hxq(self, source):
        self.convert(source, 'model.cdna')
        self.export('model.cdna', 'out', '--to', 'hxq')

    def test_checkpoint_of_the_original_comes_back(self):
        source = os.path.join(LEGACY, 'hf_v023_cdna_v3')
        self.export_hxq(source)
        before = read_safetensors(os.path.join(source, 'model.safetensors'))
        after = read_safetensors(self.out('model.safetensors'))
        shapes = {module: before[module + '.indices'].shape for module in modules_of(before)}
        self.assertEqual(len(shapes), 3)
        self.check_same_model(before, after, shapes)
        for module in shapes:
            for part, dtype in (('codebook', '<f4'), ('indices', 'u1'), ('sidecar_positions', '<i8'),
                                ('sidecar_values', '<f4')):
                self.assertEqual(after[f'{module}.{part}'].dtype, np.dtype(dtype))
                self.assertEqual(after[f'{module}.{part}'].shape, before[f'{module}.{part}'].shape)
            self.assertTrue((np.diff(after[module + '.codebook']) >= 0).all())

    def test_configuration_is_what_the_loader_reads(self):
        source = os.path.join(LEGACY, 'hf_v023_cdna_v3')
        self.export_hxq(source)
        with open(self.out('config.json')) as file:
            config = json.load(file)
        with open(os.path.join(source, 'config.json')) as file:
            original = json.load(file)
        written, expected = config.pop('quantization_config'), original.pop('quantization_config')
        self.assertEqual(config, original)
        for key in ('quant_method', 'bits', 'n_clusters', 'n_svd_routed'):
            self.assertEqual(written[key], expected[key], key)
        self.assertEqual(sorted(written['compressed_modules']), sorted(expected['compressed_modules']))
        self.assertNotIn('module_k_map', written)  # All have the 256 entries that the loader expects.

    def test_assets_come_along(self):
        source = os.path.join(LEGACY, 'hf_v023_cdna_v3')
        self.export_hxq(source)
        for name in ('conversion_receipt.json', 'cdnav3_manifest.json'):
            with open(os.path.join(source, name), 'rb') as before, open(self.out(name), 'rb') as after:
                self.assertEqual(before.read(), after.read())

    def test_a_folder_is_never_replaced_and_nothing_is_left(self):
        source = os.path.join(LEGACY, 'hf_v023_cdna_v3')
        os.mkdir(self.path('out'))
        self.convert(source, 'model.cdna')
        self.export('model.cdna', 'out', '--to', 'hxq', code=runner.OPERATIONAL)
        self.assertEqual(os.listdir(self.path('out')), [])
        self.assertEqual(self.names(), ['model.cdna', 'out'])

    def test_codebooks_of_other_sizes_are_listed_and_wide_ones_have_16_bit_indices(self):
        folder = self.path('v3')
        os.mkdir(folder)
        for name in ('k16', 'k512_uint16'):
            place = os.path.join(folder, name + '.cdnav3')
            shutil.copytree(os.path.join(LEGACY, 'v3_dir_v023', 'model', name + '.cdnav3'), place)
            path = os.path.join(place, 'meta.json')
            with open(path) as file:
                meta = json.load(file)
            meta['tensor_name'] = name + '.weight'
            with open(path, 'w') as file:
                json.dump(meta, file)
        self.export_hxq(folder)
        after = read_safetensors(self.out('model.safetensors'))
        self.assertEqual(after['k16.indices'].dtype, np.uint8)
        self.assertEqual(after['k512_uint16.indices'].dtype, np.uint16)
        with open(self.out('config.json')) as file:
            written = json.load(file)['quantization_config']
        self.assertEqual(written['module_k_map'], {'k16': 16, 'k512_uint16': 512})
        with open(os.path.join(LEGACY, 'expected.json')) as file:
            expected = json.load(file)
        for name in ('k16', 'k512_uint16'):
            weight = weight_of(after, name, (300, 200))
            self.assertEqual(hashlib.sha256(weight.astype('<f4').tobytes()).hexdigest(),
                             expected[f'v3_dir_v023/decoded/{name}']['sha256'])

    def test_an_export_imports_as_the_model_that_it_was_made_of(self):
        self.export_hxq(os.path.join(LEGACY, 'hf_v023_cdna_v3'))
        self.convert('out', 'again.cdna')
        self.export('model.cdna', 'a.safetensors')
        self.export('again.cdna', 'b.safetensors')
        self.assertEqual(self.read('a.safetensors'), self.read('b.safetensors'))


if __name__ == '__main__':
    runner.main('__main__')
