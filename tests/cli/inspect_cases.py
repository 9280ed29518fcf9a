# Tests of cdna-inspect: its JSON document, its text, and what reaches a terminal.
import json
import math
import os
import re
import resource
import struct
import subprocess

import codebook_files
import runner
from codebook_files import BF16, F16, F32, F64, INF, CodebookTensor, statistics_plane
from runner import ERRORS_LEFT, OPERATIONAL, USAGE, ToolTest, f32, small_model

VECTORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'spec', 'vectors', 'good')
TENSOR_FIELDS = {
    'name',
    'dtype',
    'shape',
    'encoding',
    'preset',
    'codec',
    'bits_per_weight',
    'stored_bytes',
    'source_bytes',
    'rows_per_block',
    'blocks',
    'error',
    'outliers',
    'excess_kurtosis',
    'code_entropy_bits',
}


class InspectTest(ToolTest):
    def setUp(self):
        super().setUp()
        self.write_model('m.safetensors', small_model(), {'format': 'pt'})
        self.convert('m.safetensors', 'm.cdna', '--encoding', 'cb8')

    def text(self, *arguments):
        out, err = self.run_tool('cdna-inspect', *arguments)
        self.assertEqual(err, '')
        return out

    def test_json_has_the_fields_of_its_schema(self):
        document = self.inspect('m.cdna')
        self.assertEqual(document['schema'], 'cdna.inspect/1')
        self.assertRegex(document['root'], '^[0-9a-f]{64}$')
        self.assertEqual(
            set(document['totals']),
            {
                'tensors',
                'source_bytes',
                'stored_bytes',
                'ratio',
                'bits_per_weight',
                'worst_snr_db',
                'worst_snr_tensor',
            },
        )
        for tensor in document['tensors']:
            self.assertLessEqual(TENSOR_FIELDS, set(tensor))
            if tensor['preset'] == 'cb8':
                self.assertEqual(set(tensor['error']), {'snr_db', 'max_abs', 'relative_frobenius'})
                self.assertEqual(tensor['encoding'], 'cdna.codebook')
            else:
                self.assertIsNone(tensor['error'])
                self.assertIsNone(tensor['outliers'])
                self.assertEqual((tensor['preset'], tensor['encoding']), ('exact', 'cdna.exact'))

    def test_json_describes_the_tensors_of_the_source(self):
        described = {tensor['name']: tensor for tensor in self.inspect('m.cdna')['tensors']}
        self.assertEqual(len(described), len(small_model()))
        for name, dtype, shape, data in small_model():
            tensor = described[name]
            self.assertEqual(
                (tensor['dtype'], tensor['shape'], tensor['source_bytes']), (dtype, shape, len(data))
            )
            elements = len(data) // runner.SIZES[dtype]
            bits = tensor['stored_bytes'] * 8 / elements if elements else 0
            self.assertAlmostEqual(tensor['bits_per_weight'], bits, places=9)
            rows = shape[0] if len(shape) >= 2 else 1
            self.assertEqual(
                tensor['blocks'], 0 if not data else 1 if rows <= tensor['rows_per_block'] else None
            )

    def test_totals_are_the_sums_over_the_tensors(self):
        document = self.inspect('m.cdna')
        totals, tensors = document['totals'], document['tensors']
        elements = sum(len(data) // runner.SIZES[dtype] for _, dtype, _, data in small_model())
        self.assertEqual(totals['tensors'], len(tensors))
        self.assertEqual(totals['source_bytes'], sum(tensor['source_bytes'] for tensor in tensors))
        self.assertEqual(totals['stored_bytes'], sum(tensor['stored_bytes'] for tensor in tensors))
        self.assertAlmostEqual(totals['ratio'], totals['source_bytes'] / totals['stored_bytes'], places=9)
        self.assertAlmostEqual(totals['bits_per_weight'], totals['stored_bytes'] * 8 / elements, places=9)
        self.assertLess(totals['stored_bytes'], os.path.getsize(self.path('m.cdna')))

    def test_the_root_is_that_of_convert_and_of_the_tail(self):
        out, _ = self.convert('m.safetensors', 'again.cdna', '--encoding', 'cb8', '--json')
        root = json.loads(out)['root']
        self.assertEqual(self.inspect('m.cdna')['root'], root)
        self.assertEqual(self.read('m.cdna')[-40:-8].hex(), root)
        self.assertIn(f'root {root}\n', self.text('m.cdna'))

    def test_how_the_file_is_read_and_why_is_told(self):
        kind = subprocess.run(['stat', '-f', '-c', '%t', self.path('m.cdna')], capture_output=True, check=True)
        magic = int(kind.stdout, 16)
        local = {0xEF53: 'ext4', 0x01021994: 'tmpfs', 0x794C7630: 'overlayfs', 0x58465342: 'xfs', 0x9123683E: 'btrfs'}
        if magic in local:
            expected = {'backend': 'mmap', 'reason': f'{local[magic]} is a local file system', 'trust': 'zero-copy'}
        else:
            reason = f'file system type 0x{magic:x} is a network, FUSE or unknown one'
            expected = {'backend': 'pread', 'reason': reason, 'trust': 'strict'}
        self.assertEqual(self.inspect('m.cdna')['io'], expected)
        self.assertIn('read with {backend} ({reason}), {trust}\n'.format(**expected), self.text('m.cdna'))

    def test_a_file_that_finds_no_address_space_is_read_and_inspect_says_why(self):
        self.write_model('large.safetensors', [('w', 'F32', [65536, 1024], bytes(256 << 20))])
        self.convert('large.safetensors', 'large.cdna', '--encoding', 'exact')
        limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (192 << 20, 192 << 20))  # noqa: E731
        run = subprocess.run(
            [runner.tool('cdna-inspect'), self.path('large.cdna')], capture_output=True, text=True, preexec_fn=limit
        )
        self.assertEqual((run.returncode, run.stderr), (0, ''))
        if 'is a network, FUSE or unknown one' not in run.stdout:
            self.assertIn('read with pread (mmap was refused: Cannot allocate memory), strict\n', run.stdout)

    def test_globs_select_tensors_and_their_totals(self):
        self.assertEqual(
            {tensor['name'] for tensor in self.inspect('m.cdna', 'layer.?.a*')['tensors']},
            {'layer.0.attention.query.weight', 'layer.0.attention.query.bias'},
        )
        document = self.inspect('m.cdna', 'scalar', '*conv*')
        self.assertEqual([tensor['name'] for tensor in document['tensors']], ['conv.weight', 'scalar'])
        self.assertEqual(document['totals']['source_bytes'], 8 * 576 * 2 + 8)
        lines = [
            line
            for line in self.text('m.cdna', 'conv*').split('\n')
            if re.search('F32|BF16|F16|F64|I64', line)
        ]
        self.assertEqual(len(lines), 1)

    def test_a_glob_that_matches_nothing_is_a_usage_error(self):
        for options in ([], ['--json']):
            out, err = self.run_tool('cdna-inspect', 'm.cdna', 'conv', *options, code=USAGE)
            self.assertEqual(out, '')
            self.assertIn('m.cdna', err)

    def test_the_text_has_one_line_for_each_tensor_totals_root_and_features(self):
        out = self.text('m.cdna')
        for name, dtype, _, _ in small_model():
            (line,) = (line for line in out.split('\n') if line.startswith(name + ' '))
            self.assertIn(f' {dtype} ', line)
            self.assertEqual('cb8' in line, name in runner.CB8_OF_SMALL_MODEL)
        totals = self.inspect('m.cdna')['totals']
        self.assertIn('12 tensors', out)
        self.assertIn(f'ratio {totals["ratio"]:.2f}', out)
        self.assertIn(f'{totals["bits_per_weight"]:.2f} bits/weight', out)
        self.assertIn('features', out)

    def test_names_and_metadata_are_escaped_in_text_and_whole_in_json(self):
        names = ['\u202egpj.exe', 'back\\slash', '\u2066x', 'ü☃']
        metadata = {'title\x1b]0;owned\x07': 'red \x1b[31m\x9b5n\r\nforged line', 'ok': 'ä'}
        self.write_model('evil.safetensors', [(name, 'U8', [1], b'x') for name in names], metadata)
        out, err = self.convert('evil.safetensors', 'evil.cdna', '--explain')
        out += self.text('evil.cdna') + self.run_tool('cdna-fsck', 'evil.cdna', '--deep')[0] + err
        for c in out:
            self.assertTrue(c == '\n' or c.isprintable(), repr(c))
        self.assertNotIn('\nforged', out)
        for shown in (r'\xe2\x80\xaegpj.exe', r'back\\slash', r'\xe2\x81\xa6x', 'ü☃'):
            self.assertIn(shown, out)
        document = self.inspect('evil.cdna')
        self.assertEqual({tensor['name'] for tensor in document['tensors']}, set(names))
        for key, value in metadata.items():
            self.assertEqual(document['metadata'][f'safetensors:{key}'], value)

    def test_file_names_are_escaped(self):
        for name, shown in (
            ('a\x1b[31m.cdna', r'a\x1b[31m.cdna'),
            (b'\xff\xfe.cdna'.decode('utf-8', 'surrogateescape'), r'\xff\xfe.cdna'),
        ):
            self.write(name, self.read('m.cdna'))
            self.assertIn(shown, self.text(name))
            self.assertIn(shown, self.run_tool('cdna-fsck', name)[0])
            self.assertIn(shown, self.convert('m.safetensors', name, '--force')[0])
            self.write(name, b'bad')
            for tool in ('cdna-inspect', 'cdna-fsck'):
                out, err = self.run_tool(tool, name, code=ERRORS_LEFT)
                self.assertIn(shown, out + err)
                self.assertNotIn('\x1b', out + err)

    def test_json_works_for_a_file_whose_name_is_not_utf8(self):
        name = b'\xff\xfe.cdna'.decode('utf-8', 'surrogateescape')
        out, _ = self.convert('m.safetensors', name, '--json')
        json.loads(out)
        self.assertEqual(self.fsck(name)[0]['valid'], True)
        self.assertEqual(self.inspect(name)['schema'], 'cdna.inspect/1')

    def test_no_blocks_are_read(self):
        data = bytearray(self.read('m.cdna'))
        at = data.find(small_model()[0][3])
        data[at : at + 1000] = bytes(1000)
        self.write('damaged.cdna', data)
        self.assertEqual(self.inspect('damaged.cdna')['tensors'], self.inspect('m.cdna')['tensors'])

    def test_what_is_not_a_whole_cdna_file_is_refused(self):
        good = self.read('m.cdna')
        for data, part in (
            (b'', 'not_cdna'),
            (self.read('m.safetensors'), 'not_cdna'),
            (good[:-1], 'truncated'),
            (good[:1000], 'truncated'),
            (good[:-200] + b'\xff' + good[-199:], 'corrupt'),
            (good + b'\0', ''),
        ):
            self.write('bad.cdna', data)
            for options in ([], ['--json']):
                done = self.run_tool('cdna-inspect', 'bad.cdna', *options, code=ERRORS_LEFT)
                self.assert_refused(done, 'bad.cdna', part)
        self.assert_refused(
            self.run_tool('cdna-inspect', 'missing.cdna', code=OPERATIONAL), 'missing.cdna', 'No such file'
        )

    def test_an_error_of_zero_has_no_ratio_and_is_still_json(self):
        self.write_model(
            'zero.safetensors',
            [
                ('zero.weight', 'F32', [64, 64], bytes(4 * 4096)),
                ('one.weight', 'F32', [64, 64], struct.pack('<f', 1) * 4096),
            ],
        )
        self.convert('zero.safetensors', 'zero.cdna', '--encoding', 'cb8')
        for tensor in self.inspect('zero.cdna')['tensors']:
            self.assertEqual(tensor['preset'], 'cb8')
            self.assertEqual(tensor['error']['max_abs'], 0)
            self.assertIsNone(tensor['error']['snr_db'])
            self.assertEqual(tensor['error']['relative_frobenius'], 0)
        self.text('zero.cdna')

    def test_a_tensor_of_many_blocks_says_so(self):
        self.write_model('large.safetensors', [('large.weight', 'F32', [3000, 256], f32(1, 1000) * 768)])
        self.convert('large.safetensors', 'large.cdna')
        (tensor,) = self.inspect('large.cdna')['tensors']
        self.assertEqual((tensor['rows_per_block'], tensor['blocks']), (1024, 3))


class ErrorsTest(ToolTest):
    """Figures of files that the vectors' own writer wrote."""

    def describe(self, *tensors, **said):
        items = [tensor.item(**said) for tensor in tensors]
        self.write('m.cdna', codebook_files.build(items)[0])
        return self.inspect('m.cdna')

    def row(self, name, *options):
        out, err = self.run_tool('cdna-inspect', 'm.cdna', *options)
        self.assertEqual(err, '')
        (line,) = (line for line in out.split('\n') if line.startswith(name + ' '))
        return line.split()

    def test_the_figures_are_those_of_the_values(self):
        for seed, dtype in enumerate((F32, F16, BF16, F64)):
            tensor = CodebookTensor(seed, dtype=dtype)
            true = tensor.figures()
            (row,) = self.describe(tensor)['tensors']
            ratio = true['sum_squares'] / true['sum_squared_error']
            self.assertAlmostEqual(row['error']['snr_db'], 10 * math.log10(ratio), places=9)
            self.assertAlmostEqual(row['error']['relative_frobenius'], ratio**-0.5, places=12)
            self.assertEqual(row['error']['max_abs'], max(map(codebook_files.rounded_up, tensor.largest_errors())))
            self.assertEqual(row['outliers'], 5)
            self.assertEqual((row['excess_kurtosis'], row['code_entropy_bits']), (true['kurtosis'], true['entropy']))
            self.assertEqual(
                self.row('w', '--errors')[1:],
                [
                    'cb8',
                    f'{row["bits_per_weight"]:.2f}',
                    f'{row["error"]["snr_db"]:.2f}',
                    f'{row["error"]["relative_frobenius"]:.3e}',
                    f'{row["error"]["max_abs"]:.3e}',
                    '5',
                    f'{true["kurtosis"]:.2f}',
                    f'{true["entropy"]:.3f}',
                ],
            )

    def test_what_is_not_known_is_null_and_a_dash(self):
        tensor = CodebookTensor(1)
        (row,) = self.describe(tensor, statistics=False)['tensors']
        self.assertEqual((row['outliers'], row['excess_kurtosis'], row['code_entropy_bits']), (5, None, None))
        self.assertEqual(self.row('w', '--errors')[-3:], ['5', '-', '-'])
        document = self.describe(tensor, sum_squares=INF, bounds=[INF] * 4, kurtosis=math.nan)
        (row,) = document['tensors']
        self.assertEqual(row['error'], {'snr_db': None, 'max_abs': None, 'relative_frobenius': None})
        self.assertEqual((row['excess_kurtosis'], row['code_entropy_bits']), (None, tensor.figures()['entropy']))
        self.assertEqual((document['totals']['worst_snr_db'], document['totals']['worst_snr_tensor']), (None, None))
        self.assertEqual(self.row('w', '--errors')[3:6], ['-', '-', '-'])

    def test_a_later_versions_statistics_are_read_as_far_as_they_are_known(self):
        tensor = CodebookTensor(1)
        for plane, expected in (
            (statistics_plane([7, 0.5, 3.25, 99, 98]), (7, 0.5, 3.25)),
            (statistics_plane([7, 0.5]), (5, None, None)),
            (statistics_plane([7, 0.5, 3.25], F32), (5, None, None)),
        ):
            (row,) = self.describe(tensor, statistics=plane)['tensors']
            self.assertEqual((row['outliers'], row['excess_kurtosis'], row['code_entropy_bits']), expected)

    def test_damaged_statistics_are_told_and_everything_else_is_shown(self):
        tensors = [CodebookTensor(1, name=b'a'), CodebookTensor(2, name=b'b')]
        data, places = codebook_files.build([tensor.item() for tensor in tensors])
        whole = self.describe(*tensors)
        plane, index = places['plane 0.4'], places['index 0']
        for at, part in ((plane + 3, "'a', plane 4, block 0"), (index + 5, "'a'")):
            damaged = bytearray(data)
            damaged[at] ^= 1
            self.write('m.cdna', damaged)
            document = self.inspect('m.cdna')
            self.assertEqual(document['tensors'][1], whole['tensors'][1])
            row = document['tensors'][0]
            self.assertEqual((row['error'], row['outliers']), (whole['tensors'][0]['error'], None))
            self.assertIn(part, row['statistics_fault'])
            self.assertIn('[corrupt', row['statistics_fault'])
            out, _ = self.run_tool('cdna-inspect', 'm.cdna', '--errors')
            self.assertIn(row['statistics_fault'], out)

    def test_a_number_of_outliers_that_cannot_be_is_told(self):
        tensor = CodebookTensor(1)
        for count in (-1.0, 0.5, 24 * 96 + 1.0, math.nan, INF, 1e300):
            (row,) = self.describe(tensor, outliers=count)['tensors']
            self.assertIsNone(row['outliers'])
            self.assertIn('number of outliers', row['statistics_fault'])
        (row,) = self.describe(tensor, outliers=24 * 96.0)['tensors']
        self.assertEqual(row['outliers'], 24 * 96)

    def test_codes_are_named_after_the_preset_that_writes_them(self):
        for bits, group, name in (
            (8, 0, 'cb8'),
            (8, 64, 'cb8g64'),
            (6, 64, 'cb6g64'),
            (5, 32, 'cb5g32'),
            (4, 32, 'cb4g32'),
            (5, 64, 'codebook 5-bit g64'),
            (3, 0, 'codebook 3-bit'),
            (8, 128, 'codebook 8-bit g128'),
        ):
            tensor = CodebookTensor(1, 2, 130, bits, group)
            (row,) = self.describe(tensor)['tensors']
            self.assertEqual((row['preset'], row['encoding']), (name, 'cdna.codebook'))
            self.assertIn(f' {name} ', ' '.join(self.row('w')))
            for role, suffix in ((0x8012, 'pwl16'), (0x8013, 'affine')):
                plane = statistics_plane([0, 0, 0])
                plane.role = role
                (row,) = self.describe(tensor, statistics=plane)['tensors']
                separator = ',class=' if name.startswith('cb') else ' '
                self.assertEqual(row['preset'], name + separator + suffix)

    def test_what_no_preset_has_is_named(self):
        for file, names in (
            ('codebook_extensions', {'all.F32': 'codebook 3-bit g16 vectors of 4 offsets rank 3 column scales'}),
            ('codebook_vectors', {'v2.8': 'codebook 8-bit vectors of 2', 'scaled': 'codebook 3-bit vectors of 4'}),
            ('codebook_group_offset', {'rows': 'codebook 3-bit g32 offsets'}),
        ):
            rows = self.inspect(os.path.join(VECTORS, file + '.cdna'))['tensors']
            found = {row['name']: row['preset'] for row in rows}
            self.assertEqual({name: found[name] for name in names}, names)

    def test_the_worst_tensor_is_in_the_totals(self):
        tensors = [CodebookTensor(n, name=b'%d' % n, bits=3 + n) for n in range(4)]
        document = self.describe(*tensors)
        errors = {row['error']['snr_db']: row['name'] for row in document['tensors']}
        self.assertEqual(len(errors), 4)
        worst = min(errors)
        self.assertEqual(document['totals']['worst_snr_db'], worst)
        self.assertEqual(document['totals']['worst_snr_tensor'], errors[worst])
        out, _ = self.run_tool('cdna-inspect', 'm.cdna')
        self.assertRegex(out, rf'4 tensors, .* bits/weight, worst SNR {worst:.1f} dB\n')
        names = sorted(set(errors.values()) - {errors[worst]})
        others = self.inspect('m.cdna', *names)['totals']
        self.assertEqual(others['worst_snr_db'], sorted(errors)[1])
