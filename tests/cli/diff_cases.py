# Tests of cdna diff: what is the same, by which evidence, how far apart the rest is, and the exit codes of diff(1).
import json
import math
import os
import re
import struct
import subprocess

import codebook_files
import runner
from codebook_files import BF16, F16, F32, F64, CodebookTensor, elements_of, to_bytes
from runner import ERRORS_LEFT, ToolTest, f32, small_model

SAME, DIFFERENT, TROUBLE = 0, 1, 2
VECTORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'spec', 'vectors', 'good')


class DiffTest(ToolTest):
    def diff(self, a, b, *options, code=SAME):
        document = json.loads(self.run_tool('cdna', 'diff', a, b, *options, '--json', code=code)[0])
        self.assertEqual((document['schema'], document['exit_code']), ('cdna.diff/1', code))
        self.assertEqual(document['same'], code == SAME)
        self.assertEqual(sum(document['counts'].values()), len(document['tensors']))
        return document

    def text(self, a, b, *options, code=SAME):
        out, err = self.run_tool('cdna', 'diff', a, b, *options, code=code)
        self.assertEqual(err, '')
        return out

    def verdicts(self, *arguments, **options):
        return {tensor['name']: tensor['verdict'] for tensor in self.diff(*arguments, **options)['tensors']}

    def difference(self, dtype, data_a, data_b, *options, code=DIFFERENT):
        """Of two tensors of one row each, in safetensors files."""
        bits = codebook_files.builder.DTYPE_BITS[dtype]
        for name, data in (('a', data_a), ('b', data_b)):
            self.write_model(f'{name}.safetensors', [('w', dtype, [len(data) * 8 // bits], data)])
        (tensor,) = self.diff('a.safetensors', 'b.safetensors', *options, code=code)['tensors']
        return tensor


class SameTest(DiffTest):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path('model'))
        self.write('model/config.json', b'{"a": 1}')
        self.write('model/vocab.txt', b'a\nb\n')
        self.write_model('model/model.safetensors', small_model(), {'format': 'pt'})
        self.convert('model', 'exact.cdna')
        self.convert('model', 'zstd.cdna', '--codec', 'zstd')
        self.convert('model', 'cb8.cdna', '--encoding', 'cb8')
        self.convert('model', 'cb8z.cdna', '--encoding', 'cb8', '--codec', 'zstd')

    def test_a_model_and_the_files_made_of_it_hold_identical_bytes_in_either_order(self):
        for a, b in (('model', 'exact.cdna'), ('exact.cdna', 'model'), ('zstd.cdna', 'model'), ('model', 'model'),
                     ('exact.cdna', 'exact.cdna'), ('cb8.cdna', 'cb8.cdna')):  # fmt: skip
            document = self.diff(a, b)
            self.assertEqual(document['counts'], {'identical bytes': 12})
            self.assertEqual([asset['name'] for asset in document['assets']], ['config.json', 'vocab.txt'])
            self.assertEqual({part['verdict'] for part in document['assets'] + document['metadata']}, {'identical bytes'})
            own = 2 if a.endswith('.cdna') and b.endswith('.cdna') else 0
            self.assertEqual(len(document['metadata']), 1 + own)
            self.assertEqual(self.text(a, b), f'{a} and {b} are the same; tensors: 12 identical bytes\n')

    def test_the_sides_are_named_with_their_kinds_and_roots(self):
        document = self.diff('exact.cdna', 'model')
        root = self.read('exact.cdna')[-40:-8].hex()
        self.assertEqual(document['a'], {'path': 'exact.cdna', 'kind': 'cdna', 'root': root})
        self.assertEqual(document['b'], {'path': 'model', 'kind': 'source', 'root': None})

    def test_exact_tensors_that_are_stored_differently_have_the_same_source(self):
        verdicts = self.verdicts('exact.cdna', 'zstd.cdna', '--tensors-only')
        self.assertEqual(verdicts, {name: 'same source' for name, _, _, _ in small_model()})

    def test_tensors_of_codes_that_are_stored_differently_are_decoded_equal(self):
        document = self.diff('cb8.cdna', 'cb8z.cdna', '--tensors-only')
        for tensor in document['tensors']:
            if tensor['name'] in runner.CB8_OF_SMALL_MODEL:
                self.assertEqual((tensor['verdict'], tensor['same_source']), ('decoded equal', True))
                self.assertEqual(tensor['difference']['differing'], 0)
                self.assertEqual(tensor['difference']['relative_frobenius'], 0)
        self.assertIn('metadata cdna.options: different\n', self.text('cb8.cdna', 'cb8z.cdna', code=DIFFERENT))

    def test_all_lists_what_is_the_same_and_quiet_lists_nothing(self):
        lines = self.text('exact.cdna', 'model', '--all').splitlines()
        self.assertEqual(len(lines), 12 + 2 + 1 + 1)
        self.assertIn('conv.weight: identical bytes', lines)
        self.assertIn('asset config.json: identical bytes', lines)
        self.assertEqual(self.text('exact.cdna', 'model', '--quiet'), '')
        self.assertEqual(self.text('exact.cdna', 'cb8.cdna', '--quiet', code=DIFFERENT), '')

    def test_globs_choose_tensors_and_leave_out_the_rest(self):
        document = self.diff('exact.cdna', 'cb8.cdna', 'layer.0.l*', 'scal??')
        self.assertEqual([tensor['name'] for tensor in document['tensors']], ['layer.0.layernorm.weight', 'scalar'])
        self.assertEqual((document['assets'], document['metadata']), ([], []))
        self.diff('exact.cdna', 'cb8.cdna', 'conv*', code=DIFFERENT)
        _, err = self.run_tool('cdna', 'diff', 'exact.cdna', 'cb8.cdna', 'nothing*', code=TROUBLE)
        self.assertIn('no tensor has such a name', err)

    def test_assets_and_metadata_that_differ_are_named(self):
        os.mkdir(self.path('other'))
        self.write('other/config.json', b'{"a": 2}')
        self.write('other/merges.txt', b'')
        self.write_model('other/model.safetensors', small_model(), {'format': 'np', 'new': 'x'})
        self.convert('other', 'other.cdna')
        for a, b in (('exact.cdna', 'other.cdna'), ('exact.cdna', 'other'), ('model', 'other')):
            lines = self.text(a, b, code=DIFFERENT).splitlines()
            self.assertEqual(
                lines,
                [
                    'asset config.json: different',
                    f'asset merges.txt: only in {b}',
                    f'asset vocab.txt: only in {a}',
                    'metadata safetensors:format: different',
                    f'metadata safetensors:new: only in {b}',
                    f'{a} and {b} differ; tensors: 12 identical bytes',
                ],
            )
            self.diff(a, b, '--tensors-only')


class DifferentTest(DiffTest):
    def test_figures_are_those_of_the_values(self):
        for seed, dtype in enumerate((F32, F16, BF16, F64)):
            a, b = (CodebookTensor(10 * seed + i, dtype=dtype).source for i in (1, 2))
            size = codebook_files.builder.DTYPE_BITS[dtype] // 8
            b = a[: 50 * size] + b[50 * size :]
            found = self.difference(dtype, a, b)
            pairs = list(zip(elements_of(dtype, a), elements_of(dtype, b)))
            differing = [i for i, (x, y) in enumerate(pairs) if x != y]
            squares = math.fsum(x * x for x, _ in pairs)
            errors = math.fsum((x - y) ** 2 for x, y in pairs)
            self.assertEqual(found['verdict'], 'different')
            figures = found['difference']
            self.assertEqual((figures['elements'], figures['differing']), (len(pairs), len(differing)))
            self.assertEqual((figures['first'], figures['first_index']), (differing[0], [differing[0]]))
            self.assertEqual(figures['max_abs'], max(abs(x - y) for x, y in pairs))
            self.assertAlmostEqual(figures['snr_db'], 10 * math.log10(squares / errors), places=9)
            self.assertAlmostEqual(figures['relative_frobenius'], math.sqrt(errors / squares), places=9)

    def test_a_file_of_codes_is_as_far_from_its_source_as_it_records(self):
        for seed, (bits, group, dtype) in enumerate(((8, 64, F32), (5, 32, BF16), (4, 32, F16), (6, 64, F64))):
            tensor = CodebookTensor(seed, 23, 130, bits, group, dtype)
            self.write('m.cdna', codebook_files.build([tensor.item()])[0])
            self.write_model('m.safetensors', [tensor.model_tensor()])
            (stated,) = self.inspect('m.cdna')['tensors']
            source, decoded = tensor.values(), tensor.decoded()
            for a, b, signal in (('m.safetensors', 'm.cdna', source), ('m.cdna', 'm.safetensors', decoded)):
                (found,) = self.diff(a, b, '--tensors-only', code=DIFFERENT)['tensors']
                self.assertIs(found['same_source'], True)
                figures = found['difference']
                self.assertEqual(figures['differing'], sum(x != y for x, y in zip(source, decoded)))
                self.assertEqual(figures['max_abs'], max(tensor.largest_errors()))
                ratio = math.fsum(x * x for x in signal) / tensor.figures()['sum_squared_error']
                self.assertAlmostEqual(figures['snr_db'], 10 * math.log10(ratio), places=9)
                if a == 'm.safetensors':
                    self.assertAlmostEqual(figures['snr_db'], stated['error']['snr_db'], places=9)
                    self.assertAlmostEqual(
                        figures['relative_frobenius'], stated['error']['relative_frobenius'], places=9
                    )
            other = CodebookTensor(99, 23, 130, bits, group, dtype)
            self.write_model('o.safetensors', [other.model_tensor()])
            (found,) = self.diff('o.safetensors', 'm.cdna', '--tensors-only', code=DIFFERENT)['tensors']
            self.assertIs(found['same_source'], False)

    def test_positions_are_given_per_dimension(self):
        data = f32(1, 2 * 3 * 5)
        self.write_model('a.safetensors', [('w', 'F32', [2, 3, 5], data)])
        for position in (0, 4, 5, 14, 15, 29):
            changed = data[: 4 * position] + struct.pack('<f', 9) + data[4 * position + 4 :]
            self.write_model('b.safetensors', [('w', 'F32', [2, 3, 5], changed)])
            (tensor,) = self.diff('a.safetensors', 'b.safetensors', code=DIFFERENT)['tensors']
            index = [position // 15, position // 5 % 3, position % 5]
            self.assertEqual(tensor['difference']['first_index'], index)
            self.assertEqual(tensor['difference']['differing'], 1)
            self.assertIn(f'w: different: 1 of 30 elements, first at {index}; max abs',
                          self.text('a.safetensors', 'b.safetensors', code=DIFFERENT))  # fmt: skip

    def test_nan_is_nan_of_the_same_bits_only_and_signs_of_zero_count(self):
        def pack(*words):
            return struct.pack(f'<{len(words)}I', *words)

        one, quiet, other, signalling = 0x3F800000, 0x7FC00001, 0x7FC00002, 0x7F800001
        infinity, minus_zero = 0x7F800000, 0x80000000
        self.difference('F32', pack(one, quiet, infinity), pack(one, quiet, infinity), code=SAME)
        for a, b in ((quiet, other), (quiet, signalling), (quiet, one), (infinity, one), (infinity, infinity | 1 << 31)):
            found = self.difference('F32', pack(one, a, one), pack(one, b, one))['difference']
            self.assertEqual((found['differing'], found['first'], found['max_abs']), (1, 1, None))
            self.assertEqual((found['snr_db'], found['relative_frobenius']), (None, 0))
        found = self.difference('F32', pack(one, 0), pack(one, minus_zero))['difference']
        self.assertEqual((found['differing'], found['first'], found['max_abs']), (1, 1, 0))
        self.difference('F32', pack(one, 0), pack(one, minus_zero), '--max-abs', '0', code=SAME)
        self.difference('F32', pack(one, quiet), pack(one, one), '--max-abs', '9', code=DIFFERENT)

    def test_a_nan_among_codes_is_the_one_of_the_source(self):
        nan = bytes.fromhex('0100C07F')
        tensor = CodebookTensor(5, outliers={3: nan, 4: to_bytes(F32, -math.inf)})
        self.write('m.cdna', codebook_files.build([tensor.item()])[0])
        self.write_model('m.safetensors', [tensor.model_tensor()])
        differing = sum(x != y for i, (x, y) in enumerate(zip(tensor.values(), tensor.decoded())) if i != 3)
        (found,) = self.diff('m.safetensors', 'm.cdna', '--tensors-only', code=DIFFERENT)['tensors']
        self.assertEqual(found['difference']['differing'], differing)
        self.assertIsNotNone(found['difference']['max_abs'])

    def test_integers_and_short_elements_are_compared_bit_for_bit(self):
        for dtype, a, b, differing, first in (
            ('I64', bytes(800), bytes(400) + b'\1' + bytes(7) + b'\1' + bytes(391), 2, 50),
            ('BOOL', b'\0\1\1', b'\0\1\0', 1, 2),
            ('F8_E4M3', b'\0\x7f', b'\0\xff', 1, 1),
            ('F4', bytes.fromhex('102030'), bytes.fromhex('102130'), 1, 2),
            ('F4', bytes.fromhex('102030'), bytes.fromhex('103230'), 2, 2),
            ('F6_E2M3', bytes.fromhex('000000000000'), bytes.fromhex('000000c00000'), 1, 5),
        ):
            with self.subTest(dtype=dtype):
                found = self.difference(dtype, a, b)['difference']
                self.assertEqual((found['differing'], found['first']), (differing, first))
                self.assertEqual((found['max_abs'], found['snr_db'], found['relative_frobenius']), (None,) * 3)
                self.difference(dtype, a, a, code=SAME)

    def test_tensors_of_one_side_and_other_dtypes_and_shapes(self):
        data = f32(1, 6)
        halves = struct.pack('<6e', *elements_of(F32, data))
        self.write_model('a.safetensors', [('dtype', 'F32', [6], data), ('gone', 'U8', [1], b'x'),
                                           ('kind', 'I32', [6], data), ('shape', 'F32', [6], data)])  # fmt: skip
        self.write_model('b.safetensors', [('dtype', 'F16', [6], halves), ('kind', 'F32', [6], data),
                                           ('new', 'U8', [1], b'x'), ('shape', 'F32', [2, 3], data)])  # fmt: skip
        self.convert('b.safetensors', 'b.cdna')
        for b in ('b.safetensors', 'b.cdna'):
            document = self.diff('a.safetensors', b, '--max-abs', '1', code=DIFFERENT)
            tensors = {tensor['name']: tensor for tensor in document['tensors']}
            self.assertEqual(document['counts'], {'different': 3, 'only in A': 1, 'only in B': 1})
            self.assertEqual(tensors['dtype']['dtype'], ['F32', 'F16'])
            self.assertLess(tensors['dtype']['difference']['max_abs'], 1e-3)
            self.assertEqual((tensors['gone']['verdict'], tensors['new']['verdict']), ('only in A', 'only in B'))
            self.assertEqual((tensors['gone']['dtype'], tensors['new']['shape']), (['U8', None], [None, [1]]))
            self.assertEqual(tensors['shape']['shape'], [[6], [2, 3]])
            self.assertEqual((tensors['kind']['difference'], tensors['shape']['difference']), (None, None))
            out = self.text('a.safetensors', b, code=DIFFERENT)
            for line in ('dtype: different, dtype F32 and F16: ', 'gone: only in a.safetensors\n', f'new: only in {b}\n',
                         'shape: different, shape 6 and 2x3', 'kind: different, dtype I32 and F32\n'):  # fmt: skip
                self.assertIn(line, out)

    def test_tolerances_hold_to_the_last_bit(self):
        a, b = f32(1, 1000), f32(2, 1000)
        found = self.difference('F32', a, b)['difference']
        largest, snr = found['max_abs'], found['snr_db']
        for options, code in (
            (['--max-abs', repr(largest)], SAME),
            (['--max-abs', repr(math.nextafter(largest, 0))], DIFFERENT),
            (['--min-snr', repr(snr)], SAME),
            (['--min-snr', repr(math.nextafter(snr, 0))], DIFFERENT),
            (['--min-snr', repr(snr), '--max-abs', repr(largest)], SAME),
            (['--min-snr', repr(snr), '--max-abs', '0.01'], DIFFERENT),
            (['--min-snr', '40', '--max-abs', repr(largest)], DIFFERENT),
        ):
            self.assertLess(snr, 0)
            tensor = self.difference('F32', a, b, *options, code=code)
            self.assertEqual(tensor['verdict'], 'within tolerance' if code == SAME else 'different')

    def test_empty_tensors_and_models_are_the_same(self):
        self.write_model('a.safetensors', [('e', 'F32', [0, 7], b'')])
        self.convert('a.safetensors', 'a.cdna')
        self.assertEqual(self.verdicts('a.cdna', 'a.safetensors'), {'e': 'identical bytes'})
        self.write_model('b.safetensors', [('e', 'F32', [7, 0], b'')])
        self.assertEqual(self.verdicts('a.cdna', 'b.safetensors', code=DIFFERENT), {'e': 'different'})
        self.write_model('none.safetensors', [])
        self.assertEqual(self.diff('none.safetensors', 'none.safetensors')['tensors'], [])

    def test_aliases_are_compared_under_their_names(self):
        data = f32(1, 64 * 64)
        self.write_model('m.safetensors', [(name, 'F32', [64, 64], data) for name in ('embed.weight', 'lm_head.weight')])
        self.convert('m.safetensors', 'm.cdna')
        self.assertEqual(len(self.inspect('m.cdna')['aliases']), 1)
        self.assertEqual(self.verdicts('m.safetensors', 'm.cdna'),
                         {'embed.weight': 'identical bytes', 'lm_head.weight': 'identical bytes'})  # fmt: skip

    def test_the_report_does_not_depend_on_threads(self):
        self.write_model('a.safetensors', small_model(1))
        self.write_model('b.safetensors', small_model(2))
        self.convert('b.safetensors', 'b.cdna', '--encoding', 'cb8')
        reports = [self.diff('a.safetensors', 'b.cdna', '--threads', n, code=DIFFERENT) for n in ('1', '2', '9')]
        self.assertTrue(all(report == reports[0] for report in reports))

    def test_every_tensor_of_codes_among_the_vectors_is_what_it_is_exported_as(self):
        compared = 0
        for name in sorted(os.listdir(VECTORS)):
            if not name.startswith(('codebook', 'cut')) or not name.endswith('.cdna') or 'nonfinite' in name:
                continue
            path = os.path.join(VECTORS, name)
            self.export(path, 'out.safetensors', '--dtype', 'f32', '--force')
            names = [t['name'] for t in self.inspect(path)['tensors'] if t['dtype'] == 'F32' and 'unsupported' not in t]
            if name == 'codebook_group_offset.cdna':
                names.remove('rows')  # Its outliers are F64, which an export as F32 rounds.
            for tensor in self.diff(path, 'out.safetensors', *names)['tensors'] if names else ():
                compared += 1
                self.assertIn(tensor['verdict'], ('decoded equal', 'identical bytes'), (name, tensor))
        self.assertGreater(compared, 20)


class TroubleTest(DiffTest):
    def setUp(self):
        super().setUp()
        self.write_model('m.safetensors', small_model())
        self.convert('m.safetensors', 'm.cdna')

    def test_what_cannot_be_read_is_trouble(self):
        self.write('cut.cdna', self.read('m.cdna')[:-1])
        self.write('bad', b'neither of them')
        for other, part in (('missing', 'missing'), ('cut.cdna', 'truncated'), ('bad', 'bad')):
            for arguments in (('m.cdna', other), (other, 'm.cdna')):
                done = self.run_tool('cdna', 'diff', *arguments, code=TROUBLE)
                self.assert_refused(done, part)

    def test_wrong_usage_is_trouble_and_help_is_none(self):
        for arguments in ([], ['m.cdna'], ['m.cdna', 'm.cdna', '--max-abs', '-1'], ['m.cdna', 'm.cdna', '--wrong']):
            self.run_tool('cdna', 'diff', *arguments, code=TROUBLE)
        text = self.run_tool('cdna', 'diff', '--help')[0]
        for part in ('0 the same, 1 different, 2 trouble', 'has been verified'):
            self.assertIn(part, text)
        self.assertRegex(text, r'--threads [^\n]*(=0|\[0\])\s')  # The default, as this or that CLI11 spells it.

    def test_an_output_that_cannot_be_written_is_trouble(self):
        with open('/dev/full', 'wb') as full:
            command = [runner.tool('cdna'), 'diff', self.path('m.cdna'), self.path('m.cdna')]
            self.assertEqual(subprocess.run(command, stdout=full, stderr=subprocess.DEVNULL).returncode, TROUBLE)

    def test_a_damaged_tensor_is_trouble_and_the_others_are_compared(self):
        data = bytearray(self.read('m.cdna'))
        data[data.find(small_model()[0][3]) + 9] ^= 1
        self.write('bad.cdna', data)
        out, err = self.run_tool('cdna', 'diff', 'bad.cdna', 'm.safetensors', code=TROUBLE)
        self.assertIn("bad.cdna, 'embed.word_embeddings.weight'", err)
        self.assertIn('embed.word_embeddings.weight: not compared\n', out)
        self.assertIn('11 identical bytes, 1 not compared', out)
        self.run_tool('cdna-fsck', 'bad.cdna', code=ERRORS_LEFT)

    def assert_damage_is_found(self, name, place, good, *others, asset=False):
        """`good` with one byte at `place` damaged, in the item `name`, is trouble against all others, in either order."""
        data = bytearray(self.read(good))
        data[place] ^= 1
        self.write('bad.cdna', data)
        for other in (good, *others, 'bad.cdna'):
            for arguments in ((other, 'bad.cdna'), ('bad.cdna', other)):
                with self.subTest(arguments=arguments):
                    out, err = self.run_tool('cdna', 'diff', *arguments, code=TROUBLE)
                    self.assertRegex(err, rf"^cdna diff: bad\.cdna, '{re.escape(name)}', plane \d, block \d+, at byte \d+: ")
                    self.assertEqual(err.count('\n'), 1, err)
                    self.assertIn(f'{"asset " if asset else ""}{name}: not compared\n', out)
                    self.assertIn(' differ; ', out)
                    self.assertNotIn(f'{name}: identical', out)
        at = int(re.search(r'at byte (\d+)', err)[1])
        self.assertLessEqual(at, place)
        self.assertLess(place, at + (1 << 20))

    def test_damage_of_what_has_the_same_digests_is_trouble(self):
        self.convert('m.safetensors', 'zstd.cdna', '--codec', 'zstd')
        name, _, _, source = small_model()[0]
        self.assert_damage_is_found(name, self.read('m.cdna').find(source) + 9, 'm.cdna', 'zstd.cdna')

    def test_damage_of_codes_scales_and_codebooks_is_trouble(self):
        tensor = CodebookTensor(7, group=32)
        data, places = codebook_files.build([tensor.item()])
        self.write('codes.cdna', data)
        for place in (places[f'plane 0.{number}'] for number in range(len(tensor.item().planes))):
            self.assert_damage_is_found('w', place, 'codes.cdna')

    def test_damage_of_an_asset_is_trouble(self):
        os.mkdir(self.path('model'))
        self.write('model/config.json', b'{"a": "never elsewhere"}')
        self.write('model/model.safetensors', self.read('m.safetensors'))
        self.convert('model', 'assets.cdna')
        place = self.read('assets.cdna').find(b'never elsewhere')
        self.assert_damage_is_found('config.json', place, 'assets.cdna', 'model', asset=True)

    def test_a_damaged_tensor_is_trouble_under_each_of_its_names_and_in_no_other(self):
        data, names = f32(1, 64 * 64), ('embed.weight', 'lm_head.weight')
        model = [(name, 'F32', [64, 64], data) for name in names] + [('other', 'F32', [64, 64], f32(2, 64 * 64))]
        self.write_model('tied.safetensors', model)
        self.convert('tied.safetensors', 'tied.cdna')
        damaged = bytearray(self.read('tied.cdna'))
        damaged[damaged.find(data)] ^= 1
        self.write('bad.cdna', damaged)
        for threads in ('1', '2', '7'):
            verdicts = self.verdicts('tied.cdna', 'bad.cdna', '--threads', threads, code=TROUBLE)
            self.assertEqual(verdicts, {**dict.fromkeys(names, 'not compared'), 'other': 'identical bytes'})
        self.assertEqual(self.verdicts('tied.cdna', 'bad.cdna', 'oth*'), {'other': 'identical bytes'})

    def test_a_tensor_of_a_later_version_is_trouble_but_against_itself(self):
        item = CodebookTensor(1).item()
        item.type = b'later.encoding'
        self.write('later.cdna', codebook_files.build([item])[0])
        self.write_model('w.safetensors', [CodebookTensor(1).model_tensor()])
        self.assertEqual(self.verdicts('later.cdna', 'later.cdna'), {'w': 'identical bytes'})
        _, err = self.run_tool('cdna', 'diff', 'later.cdna', 'w.safetensors', code=TROUBLE)
        self.assertIn("'later.encoding' is not known", err)

    def test_names_are_escaped(self):
        name = 'evil\x1b[31m\u202e'
        self.write_model('a.safetensors', [(name, 'U8', [1], b'x')])
        self.write_model('b.safetensors', [(name, 'U8', [1], b'y')])
        out = self.text('a.safetensors', 'b.safetensors', code=DIFFERENT)
        self.assertTrue(all(c == '\n' or c.isprintable() for c in out), out)

    def test_a_large_tensor_is_compared_in_little_memory(self):
        size = 96 << 20
        self.write_model('a.safetensors', [('w.weight', 'F32', [size // 4096, 1024], f32(1, 1 << 18) * 96)])
        self.convert('a.safetensors', 'b.cdna', '--encoding', 'cb8')
        limit = lambda: runner.limit_private_memory(64 << 20)  # noqa: E731
        out, _ = self.run_tool(
            'cdna', 'diff', 'a.safetensors', 'b.cdna', '--threads', '1', '--min-snr', '40', preexec_fn=limit
        )
        self.assertIn('1 within tolerance', out)
