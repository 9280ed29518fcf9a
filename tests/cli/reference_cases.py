# Tests of cdna-fsck --deep --reference: what a file holds and records, against the model that it was made of.
import math
import os
import struct

import codebook_files
import runner
from codebook_files import BF16, F16, F32, F64, INF, CodebookTensor, next_f32, statistics_plane, to_bytes
from runner import CLEAN, ERRORS_LEFT, OPERATIONAL, USAGE, ToolTest, f32, small_model

INDEX_ENTRY_BYTES = 64


class ReferenceTest(ToolTest):
    def compare(self, file='m.cdna', reference='m.safetensors', *options, code=CLEAN, rule=None):
        """The report of the comparison; `rule`: what the file breaks by itself."""
        (report,) = self.fsck('--deep', '--reference', reference, file, *options, code=ERRORS_LEFT if rule else code)
        self.assertEqual(report['reference']['agrees'], code == CLEAN)
        if rule:
            self.assertEqual([problem['rule'] for problem in report['problems']], [rule])
        return report['reference']

    def write_tensor(self, tensor, writer='libcdna 0.1.0', **wrong):
        """Writes m.cdna and m.safetensors; returns the places in the file."""
        data, places = codebook_files.build([tensor.item(**wrong)], writer)
        self.write('m.cdna', data)
        self.write_model('m.safetensors', [tensor.model_tensor()])
        return places

    def assert_one_problem(self, report, *parts):
        self.assertEqual(report['problem_count'], 1, report)
        (problem,) = report['problems']
        for part in parts:
            self.assertIn(part, problem['message'])
        return problem


class FiguresTest(ReferenceTest):
    def test_true_figures_of_every_shape_of_codes_agree(self):
        seed = 0
        for bits, group in ((8, 0), (8, 64), (6, 64), (5, 32), (4, 32), (3, 128), (1, 0), (12, 0)):
            for dtype in (F32, F16, BF16, F64):
                seed += 1
                with self.subTest(bits=bits, group=group, dtype=dtype, seed=seed):
                    self.write_tensor(CodebookTensor(seed, 9, 130, bits, group, dtype, rows_per_block=4))
                    report = self.compare()
                    self.assertEqual((report['tensors_compared'], report['notes']), (1, []))

    def test_a_wrong_figure_is_named_with_what_is_recorded_and_what_is_true(self):
        tensor = CodebookTensor(100)
        true = tensor.figures()
        for figure, name, wrong in (
            ('sum_squares', 'sum of squares', true['sum_squares'] * (1 + 1e-8)),
            ('sum_squares', 'sum of squares', true['sum_squares'] * (1 - 1e-8)),
            ('sum_squares', 'sum of squares', 0.0),
            ('sum_squared_error', 'sum of squared errors', true['sum_squared_error'] * (1 + 1e-8)),
            ('sum_squared_error', 'sum of squared errors', 0.0),
            ('kurtosis', 'excess kurtosis', true['kurtosis'] + 1e-4),
            ('kurtosis', 'excess kurtosis', true['kurtosis'] - 1e-4),
            ('entropy', 'code entropy', true['entropy'] + 1e-4),
            ('entropy', 'code entropy', true['entropy'] - 1e-4),
            ('outliers', 'number of outliers', true['outliers'] + 1),
        ):
            with self.subTest(figure=figure, wrong=wrong):
                self.write_tensor(tensor, **{figure: wrong})
                problem = self.assert_one_problem(self.compare(code=ERRORS_LEFT), name)
                recorded, is_true = map(float, problem['message'].replace(',', '').split()[-4::3])
                self.assertAlmostEqual(recorded, wrong, places=12)
                self.assertTrue(math.isclose(is_true, true[figure], rel_tol=1e-9))
                self.assertEqual((problem['item'], problem['class']), ('w', 'malformed'))

    def test_sums_may_differ_by_the_rounding_of_their_order(self):
        tensor = CodebookTensor(101)
        true = tensor.figures()
        self.write_tensor(tensor, **{name: true[name] * (1 + 1e-12) for name in ('sum_squares', 'sum_squared_error')})
        self.compare()

    def test_a_bound_below_the_largest_error_is_named_with_its_block_and_index_entry(self):
        tensor = CodebookTensor(102)
        true = [codebook_files.rounded_up(error) for error in tensor.largest_errors()]
        self.assertEqual(len(true), 4)
        for block in range(4):
            bounds = list(true)
            bounds[block] = next_f32(bounds[block], -1)
            places = self.write_tensor(tensor, bounds=bounds)
            problem = self.assert_one_problem(self.compare(code=ERRORS_LEFT), 'largest error', repr(bounds[block]))
            entry = places['index 0'] + INDEX_ENTRY_BYTES * block
            self.assertEqual((problem['plane'], problem['block']), (0, block))
            self.assertEqual((problem['offset'], problem['bytes']), (entry, [entry, entry + INDEX_ENTRY_BYTES]))
            stored = self.read('m.cdna')[entry + 20 : entry + 24]
            self.assertEqual(struct.unpack('<f', stored)[0], bounds[block])

    def test_a_generous_bound_is_wrong_from_this_library_and_right_from_others(self):
        tensor = CodebookTensor(103)
        bounds = [codebook_files.rounded_up(error) for error in tensor.largest_errors()]
        bounds[2] *= 1.001
        self.write_tensor(tensor, bounds=bounds)
        self.assertEqual(self.assert_one_problem(self.compare(code=ERRORS_LEFT), 'largest error')['block'], 2)
        self.write_tensor(tensor, 'another writer', bounds=bounds)
        self.compare()

    def test_what_is_not_recorded_is_noted_and_no_problem(self):
        tensor = CodebookTensor(104)
        blocks = len(tensor.blocks())
        for wrong, note in (
            ({'sum_squares': INF}, 'sum of squares'),
            ({'sum_squared_error': INF}, 'sum of squared errors'),
            ({'bounds': [INF] * blocks}, 'error bounds of blocks'),
            ({'source_digest': bytes(32)}, 'the digest of the source'),
            ({'statistics': False}, 'code entropy, excess kurtosis'),
        ):
            with self.subTest(wrong=wrong):
                self.write_tensor(tensor, **wrong)
                self.assertEqual(self.compare()['notes'], [f'w: not recorded: {note}'])
        for wrong, note in (({'kurtosis': math.nan}, 'excess kurtosis'), ({'entropy': math.nan}, 'code entropy')):
            self.write_tensor(tensor, **wrong)
            self.assertEqual(self.compare(rule='D4')['notes'], [f'w: not recorded: {note}'])

    def test_a_statistics_plane_of_another_shape_records_nothing(self):
        tensor = CodebookTensor(105)
        true = tensor.figures()
        values = [true['outliers'], true['kurtosis'], true['entropy']]
        self.write_tensor(tensor, statistics=statistics_plane([*values, 42.0, math.nan]))
        self.assertEqual(self.compare()['notes'], [])
        for plane in (statistics_plane([1, 2, 3], F32), statistics_plane([true['outliers'], 77.0])):
            self.write_tensor(tensor, statistics=plane)
            self.assertEqual(self.compare(rule='D4')['notes'], ['w: not recorded: code entropy, excess kurtosis'])

    def test_another_source_is_told_by_its_digest_first(self):
        tensor = CodebookTensor(106)
        self.write_tensor(tensor)
        other = CodebookTensor(107)
        self.write_model('other.safetensors', [other.model_tensor()])
        problems = self.compare('m.cdna', 'other.safetensors', code=ERRORS_LEFT)['problems']
        digests = [codebook_files.builder.bulk_hash(source).hex() for source in (tensor.source, other.source)]
        self.assertIn('digest of the source is recorded as {}, that of the reference is {}'.format(*digests),
                      problems[0]['message'])  # fmt: skip
        self.assertGreater(len(problems), 4)

    def test_values_that_are_not_finite_are_in_no_sum_and_must_come_back(self):
        for dtype, nan in ((F32, bytes.fromhex('0100C07F')), (F16, bytes.fromhex('017E')), (BF16, bytes.fromhex('C1FF'))):
            infinity = to_bytes(dtype, -INF)
            tensor = CodebookTensor(108, dtype=dtype, outliers={5: nan, 700: infinity, 701: to_bytes(dtype, 3.0)})
            self.write_tensor(tensor)
            self.assertEqual(self.compare()['notes'], [])
            other = nan[:1] + bytes([nan[1] ^ 1]) + nan[2:] if dtype == F32 else bytes([nan[0] ^ 2]) + nan[1:]
            changed = bytearray(tensor.source)
            size = len(nan)
            changed[5 * size : 6 * size] = other
            self.write_model('other.safetensors', [('w', dtype, [24, 96], bytes(changed))])
            problems = self.compare('m.cdna', 'other.safetensors', code=ERRORS_LEFT)['problems']
            self.assertEqual(len(problems), 2)
            self.assertIn('element [0, 5] is nan in the reference', problems[1]['message'].replace('-nan', 'nan'))

    def test_values_that_are_not_finite_as_f32_are_in_no_sum_and_must_come_back(self):
        least = float.fromhex('0x1.ffffffp127')  # Halfway to what would be the next f32.
        great = [least, 1e39, -1e100, INF, math.nan, -1e300]
        outliers = {7 * i: to_bytes(F64, value) for i, value in enumerate(great)}
        tensor = CodebookTensor(111, dtype=F64, outliers=outliers)
        self.assertLess(tensor.figures()['sum_squares'], 1e6)
        self.write_tensor(tensor)
        self.assertEqual(self.compare()['notes'], [])
        changed = tensor.source[:56] + to_bytes(F64, math.nextafter(1e39, 0)) + tensor.source[64:]
        self.write_model('other.safetensors', [('w', F64, [24, 96], changed)])
        problems = self.compare('m.cdna', 'other.safetensors', code=ERRORS_LEFT)['problems']
        self.assertEqual(len(problems), 2)
        self.assertIn('element [0, 7] is', problems[1]['message'])

    def test_the_greatest_values_that_are_finite_as_f32_are_in_the_sums(self):
        greatest = math.nextafter(float.fromhex('0x1.ffffffp127'), 0)
        tensor = CodebookTensor(112, dtype=F64, outliers={3: to_bytes(F64, greatest), 900: to_bytes(F64, -greatest)})
        self.assertGreater(tensor.figures()['sum_squares'], 1e77)
        self.write_tensor(tensor)
        self.assertEqual(self.compare()['notes'], [])
        self.write_tensor(tensor, sum_squares=1e6)
        self.assert_one_problem(self.compare(code=ERRORS_LEFT), 'sum of squares is recorded as 1000000')

    def test_no_recorded_sum_agrees_where_a_finite_value_is_decoded_to_one_that_is_not(self):
        tensor = CodebookTensor(113, outliers={})
        true = tensor.figures()
        bounds = [codebook_files.rounded_up(error) for error in tensor.largest_errors()]
        for decoded, is_true in ((INF, 'inf'), (math.nan, 'nan')):
            tensor.outliers = {5: to_bytes(F32, decoded)}
            self.write_tensor(tensor, bounds=bounds, sum_squared_error=true['sum_squared_error'])
            problems = self.compare(code=ERRORS_LEFT, rule='D1')['problems']
            messages = [problem['message'].replace('-nan', 'nan') for problem in problems]
            self.assertEqual(len(messages), 2, messages)
            self.assertRegex(messages[0], 'the largest error is recorded as .*, and is inf')
            self.assertRegex(messages[1], f'the sum of squared errors is recorded as .*, and is {is_true}$')

    def test_values_whose_squared_variance_is_0_have_no_kurtosis(self):
        for scale in (1e-300, 1e-150, 1e-82):
            tensor = CodebookTensor(114, dtype=F64, outliers={})
            tensor.source = b''.join(to_bytes(F64, scale * value) for value in tensor.values())
            tensor.row_scales = [0.0] * tensor.rows
            self.assertEqual(tensor.figures()['kurtosis'], 0)
            self.write_tensor(tensor)
            self.assertEqual(self.compare()['notes'], [])
            self.write_tensor(tensor, kurtosis=-3.0)
            self.assert_one_problem(self.compare(code=ERRORS_LEFT), 'excess kurtosis is recorded as -3, and is 0')

    def test_constant_values_have_no_kurtosis(self):
        tensor = CodebookTensor(109, outliers={})
        tensor.source = to_bytes(F32, 0.1) * (24 * 96)
        self.write_tensor(tensor)
        self.assertEqual(tensor.figures()['kurtosis'], 0)
        self.compare()

    def test_values_far_from_zero_keep_their_kurtosis(self):
        tensor = CodebookTensor(110, dtype=F64, outliers={})
        tensor.source = b''.join(to_bytes(F64, 1e6 + value) for value in tensor.values())
        self.write_tensor(tensor, writer='x')
        self.compare()


class ModelTest(ReferenceTest):
    def setUp(self):
        super().setUp()
        self.write_model('m.safetensors', small_model())

    def test_what_convert_writes_agrees_with_its_source_on_any_number_of_threads(self):
        for encoding in (
            'exact', 'exact-z', 'cb8', 'cb8g64', 'cb6g64', 'cb5g32', 'cb4g32', 'cb8,class=pwl16', 'cb8,class=affine',
            'cb6g64,k=50,outliers=0.01',
        ):  # fmt: skip
            self.convert('m.safetensors', 'm.cdna', '--encoding', encoding, '--force')
            reports = [self.compare('m.cdna', 'm.safetensors', '--threads', threads) for threads in ('1', '2', '7')]
            self.assertEqual((reports[0]['tensors_compared'], reports[0]['notes']), (len(small_model()), []))
            self.assertTrue(all(report == reports[0] for report in reports))

    def test_what_convert_writes_of_f64_of_any_magnitude_agrees_with_its_source(self):
        weights = runner.floats(120, 64 * 96)
        greatest = math.nextafter(float.fromhex('0x1.ffffffp127'), 0)
        for case, values in {
            'beyond f32': [1e39, -1e100, math.nan, INF, *weights[4:]],
            'the greatest of f32': [greatest, -greatest, *weights[2:]],
            'few that are finite': [1e39] * (63 * 96) + weights[: 96],
            'none that is finite': [1e39, -1e100] * (32 * 96),
            'squares are 0': [1e-300 * x for x in weights],
            'fourth powers are 0': [1e-100 * x for x in weights],
            'fourth powers are nearly 0': [1e-79 * x for x in weights],
            'squares are nearly 0': [1e-159 * x for x in weights],
        }.items():
            self.write_model('f64.safetensors', [('w.weight', F64, [64, 96], struct.pack(f'<{len(values)}d', *values))])
            for encoding in ('cb8', 'cb4g32'):
                with self.subTest(case=case, encoding=encoding):
                    self.convert('f64.safetensors', 'f64.cdna', '--encoding', encoding, '--nonfinite', 'exact', '--force')
                    self.assertEqual(self.inspect('f64.cdna')['tensors'][0]['encoding'], 'cdna.codebook')
                    self.assertEqual(self.compare('f64.cdna', 'f64.safetensors')['notes'], [])

    def test_a_hugging_face_directory_is_a_reference(self):
        os.mkdir(self.path('model'))
        self.write('model/config.json', b'{}')
        self.write('model/model.safetensors', self.read('m.safetensors'))
        self.convert('model', 'm.cdna')
        self.assertEqual(self.compare('m.cdna', 'model')['tensors_compared'], len(small_model()))

    def test_a_different_byte_of_an_exact_tensor_is_found_where_it_is(self):
        self.convert('m.safetensors', 'm.cdna')
        for name, at, place in (('layer.0.attention.query.weight', 4 * (3 * 96 + 5) + 2, '[3, 5]'),
                                ('scalar', 7, '[]'), ('conv.weight', 2 * (576 + 9 + 2), '[1, 1, 0, 2]')):  # fmt: skip
            model = [
                (n, d, s, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if n == name else data)
                for n, d, s, data in small_model()
            ]
            self.write_model('other.safetensors', model)
            report = self.compare('m.cdna', 'other.safetensors', code=ERRORS_LEFT)
            self.assertEqual({problem['item'] for problem in report['problems']}, {name})
            self.assertEqual(len(report['problems']), 2)
            self.assertIn('digest', report['problems'][0]['message'])
            self.assertIn(f'1 of its {sum(len(t[3]) for t in model if t[0] == name)} bytes differ from the reference, '
                          f'the first at byte {at} (element {place})', report['problems'][1]['message'])  # fmt: skip

    def test_tensors_of_one_side_other_dtypes_and_other_shapes_are_problems(self):
        self.convert('m.safetensors', 'm.cdna')
        model = [tensor for tensor in small_model() if tensor[0] not in ('long', 'narrow.weight', 'counts.weight')]
        model += [
            ('long', 'F32', [50, 100], f32(10, 5000)),
            ('new', 'U8', [1], b'x'),
            ('counts.weight', 'U64', [64, 64], bytes(64 * 64 * 8)),
        ]
        self.write_model('other.safetensors', model)
        report = self.compare('m.cdna', 'other.safetensors', code=ERRORS_LEFT)
        self.assertEqual(
            {problem['item']: problem['message'] for problem in report['problems']},
            {
                'counts.weight': 'has dtype I64, the reference U64',
                'long': 'has shape 5000, the reference 50x100',
                'narrow.weight': 'is in the file and not in the reference',
                'new': 'is in the reference and not in the file',
            },
        )
        self.assertEqual(report['tensors_compared'], len(small_model()) - 3)

    def test_an_alias_is_compared_under_its_own_name(self):
        data, other = f32(1, 64 * 64), f32(2, 64 * 64)
        names = ('embed.weight', 'lm_head.weight')
        self.write_model('m.safetensors', [(name, 'F32', [64, 64], data) for name in names])
        self.convert('m.safetensors', 'm.cdna')
        self.assertEqual(len(self.inspect('m.cdna')['aliases']), 1)
        self.assertEqual(self.compare()['tensors_compared'], 2)
        for name in names:
            changed = [(n, 'F32', [64, 64], other if n == name else data) for n in names]
            self.write_model('other.safetensors', changed)
            problems = self.compare('m.cdna', 'other.safetensors', code=ERRORS_LEFT)['problems']
            self.assertEqual({problem['item'] for problem in problems}, {name})

    def test_damage_is_reported_and_the_other_tensors_are_compared(self):
        self.convert('m.safetensors', 'm.cdna')
        data = bytearray(self.read('m.cdna'))
        data[data.find(small_model()[0][3]) + 100] ^= 1
        self.write('bad.cdna', data)
        (file,) = self.fsck('--deep', '--reference', 'm.safetensors', 'bad.cdna', code=ERRORS_LEFT)
        self.assertEqual([problem['rule'] for problem in file['problems']], ['B1'])
        problem = self.assert_one_problem(file['reference'], 'cannot be compared')
        self.assertEqual((problem['item'], problem['rule']), ('embed.word_embeddings.weight', 'B1'))
        self.assertEqual(file['reference']['tensors_compared'], len(small_model()) - 1)

    def test_a_tensor_of_a_later_version_is_noted(self):
        item = CodebookTensor(1).item()
        item.type = b'later.encoding'
        self.write('m.cdna', codebook_files.build([item])[0])
        self.write_model('m.safetensors', [CodebookTensor(1).model_tensor()])
        report = self.compare()
        self.assertEqual(report['tensors_compared'], 0)
        self.assertEqual(report['notes'], ["w: not compared: encoding 'later.encoding' is not known"])

    def test_a_file_that_does_not_open_is_not_compared(self):
        self.convert('m.safetensors', 'm.cdna')
        self.write('cut.cdna', self.read('m.cdna')[:-1])
        (file,) = self.fsck('--deep', '--reference', 'm.safetensors', 'cut.cdna', code=ERRORS_LEFT)
        self.assertIsNone(file['reference'])

    def test_the_text_says_what_agrees_and_what_does_not(self):
        self.convert('m.safetensors', 'm.cdna', '--encoding', 'cb8')
        out, _ = self.run_tool('cdna-fsck', '--deep', '--reference', 'm.safetensors', 'm.cdna')
        self.assertIn('m.cdna: complete, valid', out)
        self.assertTrue(out.endswith('m.cdna: agrees with m.safetensors; 12 tensors compared, 0 problems\n'), out)
        self.write_model('other.safetensors', small_model(2))
        out, _ = self.run_tool('cdna-fsck', '--deep', '--reference', 'other.safetensors', 'm.cdna', code=ERRORS_LEFT)
        self.assertIn("m.cdna, 'conv.weight', plane 0, block 0, at byte", out)
        self.assertIn('m.cdna: DOES NOT AGREE with other.safetensors', out)

    def test_usage_and_a_reference_that_cannot_be_read(self):
        self.convert('m.safetensors', 'm.cdna')
        for options in ([], ['--quick'], ['--deep', '--rebuild', 'out.cdna']):
            done = self.run_tool('cdna-fsck', 'm.cdna', '--reference', 'm.safetensors', *options, code=USAGE)
            self.assert_refused(done, '--reference')
        self.write('bad.safetensors', b'\xff' * 100)
        for name, code in (('missing', OPERATIONAL), ('bad.safetensors', ERRORS_LEFT)):
            done = self.run_tool('cdna-fsck', 'm.cdna', '--deep', '--reference', name, code=code)
            self.assert_refused(done, name)
        self.assertNotIn('out.cdna', self.names())

    def test_a_large_tensor_is_compared_in_little_memory(self):
        size = 96 << 20
        self.write_model('large.safetensors', [('w.weight', 'F32', [size // 4096, 1024], f32(1, 1 << 18) * 96)])
        self.convert('large.safetensors', 'large.cdna', '--encoding', 'cb8')
        limit = lambda: runner.limit_private_memory(64 << 20)  # noqa: E731
        (out, _) = self.run_tool('cdna-fsck', '--deep', '--threads', '1', '--reference', 'large.safetensors',
                                 'large.cdna', preexec_fn=limit)  # fmt: skip
        self.assertIn('large.cdna: agrees with', out)
