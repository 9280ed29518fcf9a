# Tests of cdna convert and cdna export: what becomes of the tensors, and where the result may go.
import json
import os
import re
import resource
import stat
import struct

import runner
from runner import CLEAN, ERRORS_LEFT, OPERATIONAL, USAGE, ToolTest, bf16, f16, f32, read_safetensors, small_model

SPEC = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'spec', 'format.md')
METADATA = {'format': 'pt', 'text': 'Zeichen: äöü ☃ "\\\n\t\x01\x7f', 'empty': '', '': 'no key'}


class EncodingTest(ToolTest):
    def presets(self, *options, tensors=None):
        """{name: preset} of a conversion to cb8."""
        self.write_model('m.safetensors', tensors or small_model())
        self.convert('m.safetensors', 'm.cdna', '--encoding', 'cb8', '--force', *options)
        return {tensor['name']: tensor['preset'] for tensor in self.inspect('m.cdna')['tensors']}

    def cb8_names(self, *options, tensors=None):
        return {name for name, preset in self.presets(*options, tensors=tensors).items() if preset == 'cb8'}

    def test_exact_and_export_restore_tensors_and_metadata_bit_for_bit(self):
        tensors = small_model()
        self.write_model('m.safetensors', tensors, METADATA)
        for codec in ('raw', 'zstd', 'brotli'):
            with self.subTest(codec=codec):
                self.convert('m.safetensors', f'{codec}.cdna', '--encoding', 'exact', '--codec', codec)
                self.export(f'{codec}.cdna', f'{codec}.safetensors')
                restored, metadata = read_safetensors(self.read(f'{codec}.safetensors'))
                self.assertEqual(
                    restored, {name: (dtype, shape, data) for name, dtype, shape, data in tensors}
                )
                self.assertEqual(metadata, METADATA)
                self.assertEqual(self.fsck(f'{codec}.cdna', '--deep')[0]['problems'], [])

    def test_exact_z_puts_float_tensors_in_byte_planes_and_export_restores_them(self):
        weights = [('w', 'BF16', [64, 512], bf16(77, 64 * 512))]
        tensors = small_model() + weights
        self.write_model('m.safetensors', tensors, METADATA)
        self.convert('m.safetensors', 'm.cdna', '--encoding', 'exact-z')
        self.assertEqual(self.fsck('m.cdna', '--deep')[0]['problems'], [])
        described = {tensor['name']: tensor for tensor in self.inspect('m.cdna')['tensors']}
        self.assertEqual((described['w']['preset'], described['w']['codec']), ('exact-z', 'zstd'))
        self.assertEqual(described['w']['encoding'], 'cdna.exact')
        self.assertLess(described['w']['stored_bytes'], 0.75 * described['w']['source_bytes'])
        self.assertLessEqual({tensor['preset'] for tensor in described.values()}, {'exact', 'exact-z'})
        text, _ = self.run_tool('cdna-inspect', 'm.cdna')
        self.assertRegex(text, r'(?m)^w .* exact-z +zstd ')
        self.export('m.cdna', 'back.safetensors')
        restored, metadata = read_safetensors(self.read('back.safetensors'))
        self.assertEqual(restored, {name: (dtype, shape, data) for name, dtype, shape, data in tensors})
        self.assertEqual(metadata, METADATA)

    def test_zstd_without_byte_planes_is_exact(self):
        self.write_model('m.safetensors', [('w', 'F32', [64, 64], bytes(4 * 4096))])
        self.convert('m.safetensors', 'm.cdna', '--encoding', 'exact', '--codec', 'zstd')
        tensor, = self.inspect('m.cdna')['tensors']
        self.assertEqual((tensor['preset'], tensor['codec']), ('exact', 'zstd'))

    def test_a_model_without_tensors_is_restored(self):
        self.write_model('m.safetensors', [], {'a': 'b'})
        self.convert('m.safetensors', 'm.cdna')
        self.export('m.cdna', 'back.safetensors')
        self.assertEqual(read_safetensors(self.read('back.safetensors')), ({}, {'a': 'b'}))

    def test_the_default_is_exact_and_raw(self):
        self.write_model('m.safetensors', small_model())
        self.convert('m.safetensors', 'default.cdna')
        self.convert('m.safetensors', 'named.cdna', '--encoding', 'exact', '--codec', 'raw')
        self.assertEqual(self.read('default.cdna'), self.read('named.cdna'))

    def test_cb8_encodes_large_float_matrices_and_leaves_all_else_exact(self):
        presets = self.presets()
        self.assertEqual(
            {name for name, preset in presets.items() if preset == 'cb8'}, runner.CB8_OF_SMALL_MODEL
        )
        self.assertEqual(set(presets.values()), {'cb8', 'exact'})

    def test_cb8_begins_at_4096_elements_and_rows_of_64(self):
        shapes = {
            'a': [64, 64],
            'b': [63, 65],
            'c': [63, 64],
            'd': [65, 63],
            'e': [1, 4096],
            'f': [4096],
            'g': [4096, 1],
            'h': [1, 4095],
            'i': [2, 32, 64],
            'j': [4, 2, 32, 16],
            'k': [64, 4, 4, 4],
            'l': [65, 7, 3, 3],
        }
        tensors = []
        for name, shape in shapes.items():
            count = 1
            for dimension in shape:
                count *= dimension
            tensors.append((name + '.weight', 'F32', shape, f32(1, count)))
        self.assertEqual(
            self.cb8_names(tensors=tensors), {f'{name}.weight' for name in ('a', 'e', 'i', 'j', 'k')}
        )

    def test_cb8_takes_the_four_float_dtypes_only(self):
        tensors = [
            (dtype, dtype, [64, 64], data)
            for dtype, data in (
                ('F16', f16(1, 4096)),
                ('BF16', runner.bf16(1, 4096)),
                ('F32', f32(1, 4096)),
                ('F64', runner.f64(1, 4096)),
            )
        ]
        tensors += [
            (dtype, dtype, [64, 64], bytes(4096 * runner.SIZES[dtype]))
            for dtype in ('U8', 'I16', 'I32', 'U64', 'BOOL', 'C64')
        ]
        tensors += [(dtype, dtype, [64, 64], bytes(4096)) for dtype in ('F8_E4M3', 'F8_E5M2', 'F8_E8M0')]
        self.assertEqual(self.cb8_names(tensors=tensors), {'F16', 'BF16', 'F32', 'F64'})

    def test_what_cb8_leaves_exact_is_exported_bit_for_bit(self):
        tensors = small_model()
        self.cb8_names(tensors=tensors)
        self.export('m.cdna', 'back.safetensors')
        restored, _ = read_safetensors(self.read('back.safetensors'))
        for name, dtype, shape, data in tensors:
            self.assertEqual(restored[name][:2], (dtype, shape))
            self.assertEqual(restored[name][2] == data, name not in runner.CB8_OF_SMALL_MODEL, name)

    def test_cb8_keeps_to_the_error_that_inspect_states(self):
        tensors = small_model()
        self.cb8_names(tensors=tensors)
        self.export('m.cdna', 'back.safetensors', '--dtype', 'f32')
        restored, _ = read_safetensors(self.read('back.safetensors'))
        stated = {tensor['name']: tensor['error'] for tensor in self.inspect('m.cdna')['tensors']}
        name, _, _, data = next(tensor for tensor in tensors if tensor[0].endswith('query.weight'))
        count = len(data) // 4
        was = struct.unpack(f'<{count}f', data)
        now = struct.unpack(f'<{count}f', restored[name][2])
        worst = max(abs(a - b) for a, b in zip(was, now))
        self.assertLessEqual(worst, stated[name]['max_abs'])
        self.assertGreaterEqual(worst, stated[name]['max_abs'] * 0.999)
        self.assertGreater(stated[name]['snr_db'], 40)

    def test_every_number_of_threads_gives_the_same_bytes(self):
        tensors = small_model() + [
            ('large.weight', 'F32', [1200, 512], f32(3, 1200 * 512))
        ]  # Several blocks.
        self.write_model('m.safetensors', tensors)
        for encoding in ('exact', 'cb8'):
            for codec in ('raw', 'zstd'):
                files = set()
                for threads in (0, 1, 2, 8):
                    self.convert(
                        'm.safetensors',
                        'm.cdna',
                        '--encoding',
                        encoding,
                        '--codec',
                        codec,
                        '--threads',
                        str(threads),
                        '--force',
                    )
                    files.add(self.read('m.cdna'))
                self.assertEqual(len(files), 1, (encoding, codec))

    def test_any_number_of_threads_works_or_is_a_usage_error(self):
        self.write_model('m.safetensors', small_model())
        for threads in ('-1', '1.5', 'two', '4294967296'):
            self.assert_nothing_written(
                self.convert('m.safetensors', 'm.cdna', '--threads', threads, code=USAGE)
            )
        # More threads than there is room for: a message or a file, never an abort.
        done = runner.subprocess.run(
            [runner.tool('cdna'), 'convert', 'm.safetensors', 'm.cdna', '--threads', '1000'],
            cwd=self.folder,
            capture_output=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29)),
        )
        self.assertIn(done.returncode, (CLEAN, OPERATIONAL, USAGE), done.stderr)

    def assert_nothing_written(self, done):
        self.assertEqual(done[0], '')
        self.assertEqual(self.names(), ['m.safetensors'])

    def test_codecs_make_compressible_tensors_smaller_and_are_named_by_inspect(self):
        self.write_model('m.safetensors', [('t', 'I32', [256, 256], bytes(range(4)) * 65536)])
        sizes = {}
        for codec in ('raw', 'zstd', 'brotli'):
            self.convert('m.safetensors', f'{codec}.cdna', '--codec', codec)
            (tensor,) = self.inspect(f'{codec}.cdna')['tensors']
            self.assertEqual(tensor['codec'], codec)
            sizes[codec] = tensor['stored_bytes']
        self.assertLess(max(sizes['zstd'], sizes['brotli']) * 10, sizes['raw'])

    def test_blocks_that_gain_nothing_are_stored_raw(self):
        self.write_model(
            'm.safetensors', [('t', 'U8', [100, 1000], runner.random.Random(1).randbytes(100000))]
        )
        self.convert('m.safetensors', 'm.cdna', '--codec', 'zstd')
        self.assertEqual(self.inspect('m.cdna')['tensors'][0]['codec'], 'raw')

    def test_keep_exact_keeps_the_tensors_of_each_pattern_exact(self):
        self.assertEqual(
            self.cb8_names('--keep-exact', '*.query.*'), {'conv.weight', 'layer.0.output.weight'}
        )
        self.assertEqual(self.cb8_names('--keep-exact', 'layer.?.*', '--keep-exact', 'conv*'), set())
        self.assertEqual(
            self.cb8_names(
                '--keep-exact',
                '[ab]*',
                '--keep-exact',
                'scalar',
                tensors=[
                    ('a.weight', 'F32', [64, 64], f32(1, 4096)),
                    ('c.weight', 'F32', [64, 64], f32(1, 4096)),
                    ('scalar', 'F32', [], f32(1, 1)),
                ],
            ),
            {'c.weight'},
        )

    def test_a_keep_exact_pattern_that_matches_nothing_is_a_usage_error(self):
        self.write_model('m.safetensors', small_model())
        for options in (
            ['--keep-exact', 'conv'],
            ['--keep-exact', 'conv*', '--keep-exact', 'nothing\x1b*'],
            ['--keep-exact', ''],
        ):
            done = self.convert('m.safetensors', 'm.cdna', '--encoding', 'cb8', *options, code=USAGE)
            self.assert_nothing_written(done)
            self.assertIn('--keep-exact', done[1])
            self.assertNotIn('\x1b', done[1])

    def test_export_rounds_floats_to_the_dtype_asked_for_and_leaves_the_others(self):
        tensors = small_model()
        self.write_model('m.safetensors', tensors)
        self.convert('m.safetensors', 'm.cdna')
        for option, dtype in (('f32', 'F32'), ('f16', 'F16'), ('bf16', 'BF16'), ('source', None)):
            self.export('m.cdna', f'{option}.safetensors', '--dtype', option)
            restored, _ = read_safetensors(self.read(f'{option}.safetensors'))
            for name, source, shape, _ in tensors:
                is_float = source in ('F16', 'BF16', 'F32', 'F64')
                self.assertEqual(restored[name][:2], (dtype if dtype and is_float else source, shape))


class RoleTest(ToolTest):
    # One table in the spec; the names are those of checkpoints of many makers.
    ROLES = {
        'bias': [
            'encoder.layer.0.attention.self.query.bias',
            'ln_f.bias',
            'b',
            'x.beta',
            'lm_head.bias',
            'in_proj_bias',
            'X.BIAS',
        ],
        'norm': [
            'model.norm.weight',
            'transformer.h.0.ln_1.weight',
            'embeddings.LayerNorm.weight',
            'ln.w',
            'x.gamma',
            'final_ln.scale',
            'input_layernorm.weight',
            'q_norm.weight',
        ],
        'output_head': [
            'lm_head.weight',
            'output.weight',
            'head.weight',
            'embed_out.weight',
            'decoder.output_projection.weight',
        ],
        'embedding': [
            'model.embed_tokens.weight',
            'bert.embeddings.word_embeddings.weight',
            'transformer.wte.weight',
            'wpe',
            'shared.weight',
            'token_embd.weight',
            'a/embedding/kernel',
            'pos_embed',
        ],
        'matrix': [
            'model.layers.0.mlp.down_proj.weight',
            'decoder.output.weight',
            'encoder.head.weight',
            'h.0.attn.c_attn.weight',
            'weight',
            'a.shared.weight',
            'kernel',
        ],
    }

    def roles_of(self, tensors):
        self.write_model('m.safetensors', tensors)
        out, _ = self.convert('m.safetensors', 'm.cdna', '--force', '--json')
        return {tensor['name']: tensor['role'] for tensor in json.loads(out)['tensors']}

    def test_names_and_ranks_have_the_roles_of_the_table(self):
        for role, names in self.ROLES.items():
            shape = [4] if role in ('bias', 'norm') else [2, 2]
            self.assertEqual(
                self.roles_of([(name, 'F32', shape, bytes(16)) for name in names]), dict.fromkeys(names, role)
            )

    def test_the_rank_decides_where_the_name_does_not(self):
        shapes = {
            'x': [],
            'y.weight': [4],
            'm.weight': [2, 2],
            'c.weight': [1, 1, 2, 2],
            'e.weight': [1, 1, 64],
            'q.bias': [2, 2],
        }
        tensors = []
        for name, shape in shapes.items():
            count = 1
            for dimension in shape:
                count *= dimension
            tensors.append((name, 'F32', shape, bytes(4 * count)))
        self.assertEqual(
            self.roles_of(tensors),
            {
                'x': 'other',
                'y.weight': 'vector',
                'm.weight': 'matrix',
                'c.weight': 'convolution',
                'e.weight': 'matrix',
                'q.bias': 'matrix',
            },
        )

    def test_the_name_of_the_model_changes_nothing(self):
        roots = set()
        for name in ('bert', 'Llama-3', 'lm_head.norm'):
            self.write_model(f'{name}.safetensors', small_model())
            self.convert(f'{name}.safetensors', f'{name}.cdna', '--encoding', 'cb8')
            roots.add(self.inspect(f'{name}.cdna')['root'])
        self.assertEqual(len(roots), 1)

    def test_explain_prints_the_rows_of_the_spec_in_order_and_a_decision_for_each_tensor(self):
        with open(SPEC, encoding='utf-8') as file:
            section = file.read().split('\n## 21')[1].split('\n## 22')[0]
        roles = re.findall(r'^\| \d+ \| (\w+) \|', section, re.MULTILINE)
        self.assertEqual(len(roles), 8)
        self.write_model('m.safetensors', small_model())
        out, err = self.convert('m.safetensors', 'm.cdna', '--encoding', 'cb8', '--explain')
        self.assertEqual(err, '')
        table, decisions = out.split('Decisions:')
        self.assertEqual(re.findall(r'^  (\w+) ', table, re.MULTILINE), roles)
        for name, _, _, _ in small_model():
            (line,) = (line for line in decisions.split('\n') if line.endswith(' ' + name))
            self.assertEqual(line.split()[0], 'cb8' if name in runner.CB8_OF_SMALL_MODEL else 'exact')
        self.assertIn('8 x 576 convolution', decisions)

    def test_explain_prints_the_same_decisions_for_json(self):
        self.write_model('m.safetensors', small_model())
        out, _ = self.convert('m.safetensors', 'm.cdna', '--encoding', 'cb8', '--explain', '--json')
        document = json.loads(out)
        self.assertEqual(
            {tensor['name'] for tensor in document['tensors'] if tensor['preset'] == 'cb8'},
            runner.CB8_OF_SMALL_MODEL,
        )
        self.assertTrue(all(tensor['reason'] for tensor in document['tensors']))
        self.assertEqual(document['root'], self.inspect('m.cdna')['root'])

    def test_a_convolution_is_seen_as_out_by_rest(self):
        self.write_model('m.safetensors', [('conv.weight', 'F32', [64, 16, 2, 2], f32(1, 4096))])
        self.convert('m.safetensors', 'm.cdna', '--encoding', 'cb8')
        (tensor,) = self.inspect('m.cdna')['tensors']
        self.assertEqual(
            (tensor['preset'], tensor['role'], tensor['shape']), ('cb8', 'convolution', [64, 16, 2, 2])
        )
        # One byte a weight, one F32 scale for each of the 64 out channels.
        self.assertGreaterEqual(tensor['stored_bytes'], 4096 + 64 * 4 + 512)


class DestinationTest(ToolTest):
    def setUp(self):
        super().setUp()
        self.write_model('m.safetensors', small_model())
        self.convert('m.safetensors', 'm.cdna')
        os.mkdir(self.path('cut'))
        self.write('cut/lost.cdna', self.read('m.cdna')[:-300])
        self.writers = (
            ('.cdna', lambda to, *options, code: self.convert('m.safetensors', to, *options, code=code)),
            ('.safetensors', lambda to, *options, code: self.export('m.cdna', to, *options, code=code)),
            (
                '.cdna',
                lambda to, *options, code: self.run_tool(
                    'cdna-fsck', 'cut/lost.cdna', '--rebuild', to, *options, code=code
                ),
            ),
        )

    def test_an_existing_destination_is_refused_without_force_and_replaced_with_it(self):
        for suffix, write in self.writers:
            name = self.write('there' + suffix, b'precious')
            os.chmod(self.path(name), 0o640)
            before = self.names()
            self.assert_refused(write(name, code=OPERATIONAL), name, 'exists')
            self.assertEqual(self.read(name), b'precious')
            write(name, '--force', code=CLEAN)
            self.assertGreater(len(self.read(name)), 1000)
            self.assertEqual(stat.S_IMODE(os.stat(self.path(name)).st_mode), 0o640)
            self.assertEqual(self.names(), before)
            os.unlink(self.path(name))

    def test_a_link_at_the_destination_is_refused_and_never_followed(self):
        self.write('precious', b'precious')
        for suffix, write in self.writers:
            for target in ('precious', 'nothing'):
                name = 'link' + suffix
                os.symlink(target, self.path(name))
                self.assert_refused(write(name, code=OPERATIONAL), name, 'exists')
                self.assertTrue(os.path.islink(self.path(name)))
                write(name, '--force', code=CLEAN)
                self.assertFalse(os.path.islink(self.path(name)))
                self.assertNotIn('nothing', self.names())
                os.unlink(self.path(name))
        self.assertEqual(self.read('precious'), b'precious')

    def test_a_folder_or_a_pipe_at_the_destination_is_never_replaced(self):
        for suffix, write in self.writers:
            for make in (os.mkdir, os.mkfifo):
                name = 'special' + suffix
                make(self.path(name))
                kind = os.stat(self.path(name)).st_mode
                before = self.names()
                self.assert_refused(write(name, code=OPERATIONAL), name, 'exists')
                out, err = self.refused_with_force(write, name)
                self.assertEqual(out, '')
                self.assertIn('not a regular file', err)
                self.assertEqual(os.stat(self.path(name)).st_mode, kind)
                self.assertEqual(self.names(), before)
                (os.rmdir if make is os.mkdir else os.unlink)(self.path(name))

    def refused_with_force(self, write, name):
        return write(name, '--force', code=USAGE)

    def test_a_destination_in_a_folder_that_is_missing_is_an_operational_failure(self):
        for suffix, write in self.writers:
            before = self.names()
            self.assert_refused(
                write('missing/out' + suffix, code=OPERATIONAL), 'missing/out' + suffix, 'No such file'
            )
            self.assert_refused(
                write('m.cdna/out' + suffix, code=OPERATIONAL), 'm.cdna/out' + suffix, 'Not a directory'
            )
            self.assertEqual(self.names(), before)

    def test_an_unknown_suffix_of_the_destination_is_a_usage_error(self):
        for suffix, write in self.writers:
            for name in (
                'out',
                'out.bin',
                'out' + suffix + '.gz',
                suffix[1:],
                'out' + suffix.upper(),
                'out/',
                '',
                '.',
            ):
                before = self.names()
                self.assert_refused(write(name, code=USAGE), suffix)
                self.assertEqual(self.names(), before)
        self.convert('m.safetensors', 'out.safetensors', code=USAGE)
        self.export('m.cdna', 'out.cdna', code=USAGE)

    def test_a_folder_without_write_permission_is_an_operational_failure(self):
        if os.geteuid() == 0:
            self.skipTest('root may write to every folder')
        os.mkdir(self.path('closed'), 0o555)
        for suffix, write in self.writers:
            self.assert_refused(write('closed/out' + suffix, code=OPERATIONAL), 'closed/out' + suffix)

    def test_the_kind_of_a_source_is_known_from_its_content(self):
        self.write('model.cdna.bin', self.read('m.safetensors'))
        self.convert('model.cdna.bin', 'a.cdna')
        self.assertEqual(self.read('a.cdna'), self.read('m.cdna'))
        self.write('weights.safetensors', self.read('m.cdna'))
        self.export('weights.safetensors', 'b.safetensors')
        self.export('m.cdna', 'c.safetensors')
        self.assertEqual(self.read('b.safetensors'), self.read('c.safetensors'))
        self.inspect('weights.safetensors')
        self.fsck('weights.safetensors')

    def test_a_source_can_be_replaced_by_its_own_conversion(self):
        self.write('x.cdna', self.read('m.safetensors'))
        self.convert('x.cdna', 'x.cdna', code=OPERATIONAL)
        self.convert('x.cdna', 'x.cdna', '--force')
        self.assertEqual(self.read('x.cdna'), self.read('m.cdna'))

    def test_the_destination_of_a_failed_conversion_keeps_what_it_had(self):
        self.write('there.cdna', b'precious')
        self.write('bad.safetensors', self.read('m.safetensors')[:-1])
        self.convert('bad.safetensors', 'there.cdna', '--force', code=ERRORS_LEFT)
        self.assertEqual(self.read('there.cdna'), b'precious')

    def test_export_of_a_damaged_block_leaves_no_file(self):
        data = bytearray(self.read('m.cdna'))
        tensor = small_model()[1]
        data[data.find(tensor[3]) + 1000] ^= 1
        self.write('bad.cdna', data)
        before = self.names()
        self.assert_refused(
            self.export('bad.cdna', 'out.safetensors', code=ERRORS_LEFT), 'bad.cdna', tensor[0], 'B1'
        )
        self.assertEqual(self.names(), before)
