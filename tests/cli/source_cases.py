# Tests of what cdna convert reads: folders, shards, tied tensors, and the inputs that it must refuse.
import io
import json
import math
import os
import pickle
import struct
import zipfile

import runner
from runner import (
    ERRORS_LEFT,
    OPERATIONAL,
    USAGE,
    ToolTest,
    f16,
    f32,
    read_safetensors,
    safetensors,
    small_model,
)


class FolderTest(ToolTest):
    def write_folder(self, name, shards, metadata=None, index=None, **files):
        """A model folder; `shards` are {file name: tensors}, and an index is made for more than one."""
        os.mkdir(self.path(name))
        self.write(f'{name}/config.json', b'{"model_type": "test"}')
        for file, data in files.items():
            self.write(f'{name}/{file.replace("__", ".")}', data)
        for file, tensors in shards.items():
            self.write(f'{name}/{file}', safetensors(tensors, metadata))
        if len(shards) > 1 or index is not None:
            weight_map = {tensor[0]: file for file, tensors in shards.items() for tensor in tensors}
            document = {'metadata': {'total_size': 1}, 'weight_map': {**weight_map, **(index or {})}}
            self.write(f'{name}/model.safetensors.index.json', json.dumps(document).encode())
        return name

    def split(self, tensors, count):
        shards = {f'model-{i + 1:05}-of-{count:05}.safetensors': tensors[i::count] for i in range(count)}
        return shards

    def refuse_folder(self, name, *parts, code=ERRORS_LEFT):
        before = self.names()
        self.assert_refused(self.convert(name, 'out.cdna', code=code), name, *parts)
        self.assertEqual(self.names(), before)

    def test_the_root_does_not_depend_on_the_sharding(self):
        tensors = small_model()
        roots = set()
        for count in (1, 2, 5):
            shards = self.split(tensors, count) if count > 1 else {'model.safetensors': tensors}
            self.write_folder(f'in{count}', shards, {'format': 'pt'})
            self.convert(f'in{count}', f'{count}.cdna', '--encoding', 'cb8', '--codec', 'zstd')
            roots.add(self.inspect(f'{count}.cdna')['root'])
        self.assertEqual(len(roots), 1)

    def test_the_root_does_not_depend_on_the_order_of_the_tensors_in_the_file(self):
        self.write_model('a.safetensors', small_model())
        self.write_model('b.safetensors', small_model()[::-1])
        for name in 'ab':
            self.convert(f'{name}.safetensors', f'{name}.cdna')
        self.assertEqual(self.read('a.cdna'), self.read('b.cdna'))

    def test_a_folder_gives_the_tensors_of_its_single_file(self):
        tensors = small_model()
        self.write_folder('in', {'pytorch_weights.safetensors': tensors}, {'format': 'pt'})
        self.convert('in/', 'out.cdna')
        self.export('out.cdna', 'out.safetensors')
        restored, metadata = read_safetensors(self.read('out.safetensors'))
        self.assertEqual(restored, {name: (dtype, shape, data) for name, dtype, shape, data in tensors})
        self.assertEqual(metadata, {'format': 'pt'})

    def test_config_and_tokenizer_become_assets_and_nothing_else_does(self):
        tokenizer = b'{"tokens": ["one", "two"]}' * 20
        self.write_folder(
            'in',
            {'model.safetensors': small_model()},
            tokenizer__json=tokenizer,
            vocab__txt=b'a\nb\n',
            modeling__py=b'import os',
            pytorch_model__bin=b'weights',
            empty__txt=b'',
        )
        os.mkdir(self.path('in/onnx'))
        os.symlink('/nowhere', self.path('in/link.json'))
        out, _ = self.convert('in', 'out.cdna', '--explain')
        for left_out in ('modeling.py', 'pytorch_model.bin', 'onnx', 'link.json'):
            self.assertIn(f'note: {left_out}: ', out)
        assets = {asset['name']: asset['bytes'] for asset in self.inspect('out.cdna')['assets']}
        self.assertEqual(
            assets, {'config.json': 22, 'tokenizer.json': len(tokenizer), 'vocab.txt': 4, 'empty.txt': 0}
        )
        self.assertIn(tokenizer, self.read('out.cdna'))
        self.assertIn(b'{"model_type": "test"}', self.read('out.cdna'))
        self.assertNotIn(b'import os', self.read('out.cdna'))
        self.fsck('out.cdna', '--deep')

    def test_a_tied_head_is_one_tensor_with_two_names(self):
        data = f32(1, 80 * 64)
        tensors = [
            ('lm_head.weight', 'F32', [80, 64], data),
            ('model.embed_tokens.weight', 'F32', [80, 64], data),
            ('model.up.weight', 'F32', [80, 64], f32(2, 80 * 64)),
            ('model.same.weight', 'F32', [80, 64], f32(2, 80 * 64)),
        ]
        self.write_model('m.safetensors', tensors)
        for encoding in ('exact', 'cb8'):
            self.convert('m.safetensors', f'{encoding}.cdna', '--encoding', encoding)
            document = self.inspect(f'{encoding}.cdna')
            self.assertEqual(
                document['aliases'], [{'name': 'model.embed_tokens.weight', 'tensor': 'lm_head.weight'}]
            )
            self.assertEqual(
                {tensor['name'] for tensor in document['tensors']},
                {'lm_head.weight', 'model.up.weight', 'model.same.weight'},
            )
            self.assertEqual(document['totals']['source_bytes'], 3 * len(data))
            self.assertEqual(self.read(f'{encoding}.cdna').count(data), 1)
            self.fsck(f'{encoding}.cdna', '--deep')
        self.export('exact.cdna', 'back.safetensors')
        restored, _ = read_safetensors(self.read('back.safetensors'))
        self.assertEqual(restored, {name: (dtype, shape, data) for name, dtype, shape, data in tensors})

    def test_heads_that_differ_in_one_bit_in_dtype_or_in_shape_are_not_tied(self):
        data = f32(1, 4096)
        other = data[:-1] + bytes([data[-1] ^ 0x80])
        self.write_model(
            'm.safetensors',
            [
                ('lm_head.weight', 'F32', [64, 64], data),
                ('a.embed_tokens.weight', 'F32', [64, 64], other),
                ('b.embed_tokens.weight', 'F32', [32, 128], data),
                ('c.embed_tokens.weight', 'I32', [64, 64], data),
                ('d.embed_tokens.weight', 'F32', [0, 64], b''),
                ('e.embed_tokens.weight', 'F32', [0, 64], b''),
            ],
        )
        self.convert('m.safetensors', 'm.cdna')
        self.assertEqual(self.inspect('m.cdna')['aliases'], [])

    def test_a_tied_tensor_in_another_shard_is_tied(self):
        data = f32(1, 4096)
        self.write_folder(
            'in',
            {
                'a.safetensors': [('lm_head.weight', 'F32', [64, 64], data)],
                'b.safetensors': [('wte.weight', 'F32', [64, 64], data)],
            },
        )
        self.convert('in', 'out.cdna')
        self.assertEqual(len(self.inspect('out.cdna')['aliases']), 1)

    def test_a_folder_without_config_is_refused(self):
        os.mkdir(self.path('in'))
        self.write('in/model.safetensors', safetensors(small_model()))
        self.refuse_folder('in', 'config.json', code=OPERATIONAL)

    def test_a_folder_without_weights_or_with_several_and_no_index_is_refused(self):
        self.write_folder('none', {})
        self.refuse_folder('none', 'safetensors', code=OPERATIONAL)
        self.write_folder('two', {'a.safetensors': small_model()})
        self.write('two/b.safetensors', safetensors([]))
        self.refuse_folder('two', 'a.safetensors, b.safetensors')

    def test_a_shard_that_is_missing_is_refused_by_its_name(self):
        self.write_folder('in', self.split(small_model(), 2))
        os.unlink(self.path('in/model-00002-of-00002.safetensors'))
        self.refuse_folder('in', 'model-00002-of-00002.safetensors', code=OPERATIONAL)

    def test_a_damaged_shard_is_refused_by_its_name(self):
        self.write_folder('in', self.split(small_model(), 2))
        self.write(
            'in/model-00002-of-00002.safetensors', self.read('in/model-00002-of-00002.safetensors')[:-4]
        )
        self.refuse_folder('in', 'model-00002-of-00002.safetensors')

    def test_an_index_that_does_not_fit_the_shards_is_refused(self):
        tensors = small_model()
        self.write_folder(
            'extra', self.split(tensors, 2), index={'ghost.weight': 'model-00001-of-00002.safetensors'}
        )
        self.refuse_folder('extra', 'ghost.weight', 'model-00001-of-00002.safetensors')
        self.write_folder(
            'wrong', self.split(tensors, 2), index={tensors[0][0]: 'model-00002-of-00002.safetensors'}
        )
        self.refuse_folder('wrong', tensors[0][0])
        self.write_folder('twice', {'a.safetensors': tensors[:6], 'b.safetensors': tensors[5:]})
        self.refuse_folder('twice', tensors[5][0], 'a.safetensors', 'b.safetensors')
        self.write_folder('text', {'a.safetensors': tensors}, index={})
        self.write('text/model.safetensors.index.json', b'{"weight_map": [')
        self.refuse_folder('text', 'model.safetensors.index.json')

    def test_an_index_cannot_lead_out_of_its_folder(self):
        self.write_model('secret.safetensors', small_model())
        for target in ('../secret.safetensors', self.path('secret.safetensors'), '..', ''):
            name = self.write_folder('in', {'a.safetensors': []}, index={'x': target})
            self.refuse_folder(name, 'x', 'not a plain file name')
            runner.shutil.rmtree(self.path('in'))

    def test_a_file_name_that_no_asset_can_have_is_left_out_by_name(self):
        self.write_folder('in', {'model.safetensors': small_model()})
        self.write(b'in/tok\xff\x1b.json'.decode('utf-8', 'surrogateescape'), b'{}')
        _, err = self.convert('in', 'out.cdna')
        self.assertIn('note: tok\\xff\\x1b.json: left out', err)
        self.run_tool('cdna-fsck', '--deep', 'out.cdna')


class RefusedInputTest(ToolTest):
    def refuse(self, data, *parts, code=ERRORS_LEFT, options=()):
        """Converting a file of `data` gives one line with the file and the parts, and nothing else."""
        self.write('bad.safetensors', data)
        done = self.convert('bad.safetensors', 'out.cdna', *options, code=code)
        self.assert_refused(done, 'cdna convert: bad.safetensors', *parts)
        self.assertEqual(self.names(), ['bad.safetensors'])
        for c in done[1][:-1]:
            self.assertTrue(c.isprintable(), repr(c))

    def header(self, text, data=b''):
        text = text.encode() if isinstance(text, str) else text
        return struct.pack('<Q', len(text)) + text + data

    def test_other_formats_are_refused_by_their_names(self):
        self.write_model('m.safetensors', small_model())
        self.convert('m.safetensors', 'm.cdna')
        cdna = self.read('m.cdna')
        os.unlink(self.path('m.safetensors'))
        os.unlink(self.path('m.cdna'))
        for protocol in (2, 3, 4, 5):
            self.refuse(pickle.dumps({'weight': [1.0] * 100}, protocol), 'pickle')
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, 'w') as members:
            members.writestr('archive/data.pkl', pickle.dumps({}))
        self.refuse(archive.getvalue(), 'torch.save', 'pickle')
        self.refuse(b'PK\x03\x04' + bytes(100), 'zip')
        self.refuse(b'HXZO\0\1\0\2{}', 'sidecar')
        self.refuse(b'GGUF\x01\0\0\0' + bytes(100), 'GGUF')
        self.refuse(cdna, 'already a CDNA file')
        self.refuse(b'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n', 'Git LFS')
        self.refuse(b'{"weights": 1}', 'JSON')
        self.refuse(b'\x89HDF\r\n\x1a\n' + bytes(100), 'HDF5')
        self.refuse(runner.random.Random(1).randbytes(1000), 'not a safetensors file')

    def test_an_empty_file_is_refused(self):
        self.refuse(b'', 'empty')

    def test_a_missing_source_is_an_operational_failure(self):
        done = self.convert('missing.safetensors', 'out.cdna', code=OPERATIONAL)
        self.assert_refused(done, 'missing.safetensors', 'No such file')
        self.assertEqual(self.names(), [])

    def test_a_source_that_is_a_pipe_is_refused_at_once(self):
        os.mkfifo(self.path('pipe.safetensors'))
        for tool, *arguments in (
            ('cdna', 'convert', 'pipe.safetensors', 'out.cdna'),
            ('cdna', 'export', 'pipe.safetensors', 'out.safetensors'),
            ('cdna-inspect', 'pipe.safetensors'),
            ('cdna-fsck', 'pipe.safetensors'),
        ):
            done = runner.subprocess.run(
                [runner.tool(tool), *arguments], cwd=self.folder, capture_output=True, timeout=10
            )
            self.assertIn(done.returncode, (OPERATIONAL, USAGE), tool)
        self.assertEqual(self.names(), ['pipe.safetensors'])

    def test_a_file_cut_anywhere_is_refused(self):
        data = safetensors(small_model()[2:5])
        lengths = {*range(0, 12), *range(12, len(data), len(data) // 40), len(data) - 1}
        for length in sorted(lengths):
            self.write('bad.safetensors', data[:length])
            self.convert('bad.safetensors', 'out.cdna', code=ERRORS_LEFT)
            self.assertEqual(self.names(), ['bad.safetensors'])
        self.refuse(data + b'x', 'belong to none')

    def test_a_truncated_file_says_how_much_is_missing(self):
        data = safetensors([('t', 'F32', [4, 4], bytes(64))])
        self.refuse(data[:-10], '64 bytes', '54')

    def test_a_dtype_that_is_not_known_is_named_with_its_tensor(self):
        entry = {'dtype': 'F7_E3M3', 'shape': [4], 'data_offsets': [0, 4]}
        self.refuse(self.header(json.dumps({'odd.weight': entry}), bytes(4)), "'odd.weight'", '"F7_E3M3"')
        entry['dtype'] = 'F7\x1b[31m'
        self.refuse(self.header(json.dumps({'odd.weight': entry}), bytes(4)), "'odd.weight'", 'F7\\x1b[31m')

    def test_sizes_that_do_not_fit_are_refused_with_the_tensor(self):
        self.refuse(safetensors([('short', 'F32', [4, 4], bytes(60))]), "'short'", '60', '64')
        self.refuse(safetensors([('half', 'F4', [3], bytes(2))]), "'half'", 'F4')
        self.refuse(safetensors([('huge', 'F64', [2**62, 4], b'')]), "'huge'")
        for offsets, data in (
            ([1, 5], bytes(5)),
            ([4, 0], bytes(4)),
            ([0, 4, 8], bytes(8)),
            ([-1, 3], bytes(4)),
            ([0], b''),
            ([0.0, 4.0], bytes(4)),
        ):
            self.refuse(
                self.header(json.dumps({'t': {'dtype': 'U8', 'shape': [4], 'data_offsets': offsets}}), data),
                "'t'",
            )

    def test_tensors_that_overlap_are_refused(self):
        entry = {'dtype': 'U8', 'shape': [4], 'data_offsets': [0, 4]}
        self.refuse(
            self.header(json.dumps({'a': entry, 'b': {**entry, 'data_offsets': [2, 6]}}), bytes(6)),
            "'b'",
            'overlap',
        )

    def test_broken_headers_are_refused(self):
        entry = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
        for text in (
            '{',
            '{}x',
            '{"a":1}',
            '{"a":%s,"a":%s}' % (entry, entry),
            '{"__metadata__":{"a":1}}',
            '{"a":{"dtype":"U8"}}',
            '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"shape":[1]}}',
            '{"a":' * 50,
            b'{"\xff":%s}' % entry.encode(),
        ):
            self.refuse(self.header(text, b'x'))

    def test_a_nan_or_infinity_in_a_cb8_tensor_is_refused_with_tensor_row_and_column(self):
        cases = (
            ('F32', '<f', f32(1, 70 * 64), math.nan),
            ('F16', '<e', f16(1, 70 * 64), -math.inf),
            ('F64', '<d', runner.f64(1, 70 * 64), math.inf),
            ('F64', '<d', runner.f64(1, 70 * 64), 1e300),
        )
        for dtype, code, data, value in cases:
            size = struct.calcsize(code)
            for row, column in ((0, 0), (37, 5), (69, 63)):
                at = (row * 64 + column) * size
                bad = data[:at] + struct.pack(code, value) + data[at + size :]
                model = safetensors(
                    [('good.weight', dtype, [70, 64], data), ('x.bad.weight', dtype, [70, 64], bad)]
                )
                self.refuse(
                    model,
                    "'x.bad.weight'",
                    f'row {row}, column {column} ',
                    code=ERRORS_LEFT,
                    options=['--encoding', 'cb8'],
                )

    def test_of_several_nans_the_first_is_named_with_any_number_of_threads(self):
        rows = 3000  # Several blocks.
        data = bytearray(f32(1, 1000) * (rows * 512 // 1000))
        for row, column in ((2999, 1), (1700, 3), (700, 2)):
            struct.pack_into('<f', data, (row * 512 + column) * 4, math.nan)
        model = safetensors([('w', 'F32', [rows, 512], bytes(data))])
        for threads in ('1', '2', '8'):
            self.refuse(
                model, 'row 700, column 2 ', code=ERRORS_LEFT, options=['--encoding', 'cb8', '--threads', threads]
            )

    def test_nan_is_kept_in_exact_tensors(self):
        data = struct.pack('<2I', 0x7FC00001, 0xFF800001) + f32(1, 4094)
        self.write_model(
            'm.safetensors', [('bad.weight', 'F32', [64, 64], data), ('embed.weight', 'F32', [64, 64], data)]
        )
        self.convert('m.safetensors', 'm.cdna', '--encoding', 'cb8', '--keep-exact', 'bad*')
        self.export('m.cdna', 'back.safetensors')
        restored, _ = read_safetensors(self.read('back.safetensors'))
        self.assertEqual([tensor[2] for tensor in restored.values()], [data, data])

    def test_names_that_no_item_can_have_are_refused_and_escaped(self):
        for name, shown in (
            ('a\nb', r'a\x0ab'),
            ('\x1b[31mred', r'\x1b[31mred'),
            ('x\x7f', r'x\x7f'),
            ('c1\x9b', r'c1\xc2\x9b'),
            ('tab\t', r'tab\x09'),
            ('nul\0', r'nul\x00'),
        ):
            self.refuse(
                safetensors([('good', 'U8', [1], b'a'), (name, 'U8', [1], b'b')]),
                f"'{shown}'",
                'control character',
                code=ERRORS_LEFT,
            )
        self.refuse(safetensors([('n' * 1025, 'U8', [1], b'b')]), '1024 bytes', code=ERRORS_LEFT)
        self.refuse(safetensors([('', 'U8', [1], b'b')]), '1024 bytes', code=ERRORS_LEFT)

    def test_a_rank_over_eight_is_refused_with_the_tensor(self):
        self.refuse(
            safetensors([('deep', 'U8', [1] * 9, b'b')]), "bad.safetensors, 'deep': ", 'rank', code=ERRORS_LEFT
        )

    def test_names_of_1024_bytes_quotes_and_backslashes_are_kept(self):
        names = ['n' * 1024, 'ü' * 512, 'a"b\\c/d', ' ', '__metadata', '\u202ertl', '..', 'a/../b']
        self.write_model('m.safetensors', [(name, 'U8', [1], b'x') for name in names])
        self.convert('m.safetensors', 'm.cdna')
        self.export('m.cdna', 'back.safetensors')
        self.assertEqual(set(read_safetensors(self.read('back.safetensors'))[0]), set(names))

    def test_export_refuses_what_is_not_cdna(self):
        self.write_model('m.safetensors', small_model())
        self.assert_refused(
            self.export('m.safetensors', 'out.safetensors', code=ERRORS_LEFT), 'm.safetensors', 'not_cdna'
        )
        self.assert_refused(self.export('missing.cdna', 'out.safetensors', code=OPERATIONAL), 'missing.cdna')
        self.write('empty.cdna', b'')
        self.assert_refused(self.export('empty.cdna', 'out.safetensors', code=ERRORS_LEFT), 'empty.cdna')
        self.assertEqual(self.names(), ['empty.cdna', 'm.safetensors'])
