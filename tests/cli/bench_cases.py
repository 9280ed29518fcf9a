# Tests of `cdna bench`: the document's schema, and that its figures can be true. Goals are not tested: machines differ.
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'spec', 'reference'))
import cdna_reference
import runner
from runner import CLEAN, ERRORS_LEFT, OPERATIONAL, USAGE, ToolTest, small_model

MATMUL_GEMV = ['f32.T', 'bf16.T', 'int8.T', 'f32.N']
IO_CASES = {'open_10000', 'lookup', 'first_touch', 'second_touch', 'raw_iteration', 'overhead'}
QUALITY_PRESETS = ['cb8', 'cb8g64', 'cb6g64', 'cb5g32', 'cb4g32']
BASELINES = ['kmeans-percentile', 'int8-g32', 'int4-affine-g32', 'nf4-g64']
SOURCES = ['A', 'B', 'C', 't3']
KEYS = ['case', 'params', 'value', 'unit', 'reference', 'reference_value', 'ratio', 'goal', 'met', 'samples']
HEAD_AND_TAIL_BYTES = 64 + 256


class DocumentTest(ToolTest):
    """What all documents of schema cdna.bench/1 have."""

    def check_document(self, document):
        self.assertEqual(list(document), ['schema', 'machine', 'rows'])
        self.assertEqual(document['schema'], 'cdna.bench/1')
        self.assertLessEqual({'cpu', 'cores', 'memory_bytes', 'library', 'sha256'}, set(document['machine']))
        for row in document['rows']:
            self.check_row(row)

    def check_row(self, row):
        self.assertEqual(list(row), KEYS)
        samples = row['samples']
        self.assertTrue(0 < samples['min'] <= samples['median'] <= samples['max'], row)
        self.assertEqual(row['value'], samples['median'])
        if row['reference'] is not None:
            self.assertAlmostEqual(row['ratio'], row['value'] / row['reference_value'])
        if row['goal'] is None:
            self.assertIsNone(row['met'])
            return
        figure = row['ratio'] if row['goal']['of'] == 'ratio' else row['value']
        met = figure >= row['goal']['min'] if 'min' in row['goal'] else figure <= row['goal']['max']
        self.assertEqual(row['met'], met)


class BenchTest(DocumentTest):
    def setUp(self):
        super().setUp()
        self.write_model('model.safetensors', small_model())
        self.convert('model.safetensors', 'model.cdna')

    def bench(self, *arguments, code=CLEAN, **environment):
        return self.run_tool('cdna', 'bench', 'io', *arguments, code=code, env={**os.environ, **environment})

    def document(self, **environment):
        return json.loads(self.bench('model.cdna', '--json', **environment)[0])

    def test_a_file_is_measured_and_the_document_follows_the_schema(self):
        document = self.document()
        self.check_document(document)
        self.assertEqual({row['case'] for row in document['rows']}, IO_CASES)

    def test_the_parts_of_the_overhead_are_those_that_the_reference_decoder_sees(self):
        row = self.document()['rows'][-1]
        file = cdna_reference.File(self.read('model.cdna'))
        index = 64 * sum(item.entry_count for item in file.items)
        records = sum(item.record_length for item in file.items)
        planes = sum(plane.stored_length for item in file.items for plane in item.planes)
        structure = HEAD_AND_TAIL_BYTES + index + records + file.tail.footer_length
        self.assertEqual(
            row['params'],
            {
                'model': 'file',
                'file_bytes': file.tail.file_length,
                'index': index,
                'footer': file.tail.footer_length,
                'records': records,
                'gaps': file.tail.file_length - structure - planes,
            },
        )
        self.assertAlmostEqual(row['value'], 100 * structure / file.tail.file_length)

    def test_the_table_has_a_line_for_each_case(self):
        out, _ = self.bench('model.cdna')
        for name in IO_CASES:
            self.assertRegex(out, rf'(?m)^{name} ')

    def test_the_sha256_implementation_can_be_forced_and_a_wrong_name_is_refused(self):
        for name in ('openssl', self.document()['machine']['sha256']):
            self.assertEqual(self.document(CDNA_SHA256=name)['machine']['sha256'], name)
        _, err = self.bench('model.cdna', code=USAGE, CDNA_SHA256='md\x1b5')
        self.assertIn('CDNA_SHA256=md\\x1b5', err)

    def test_damage_stops_the_measurement_and_names_the_block(self):
        data = bytearray(self.read('model.cdna'))
        at = data.index(small_model()[0][3])
        data[at] ^= 1
        self.write('bad.cdna', bytes(data))
        _, err = self.bench('bad.cdna', code=ERRORS_LEFT)
        for part in ('bad.cdna', 'embed.word_embeddings.weight', 'block 0', f'{at}', 'B1'):
            self.assertIn(part, err)

    def test_nothing_is_left_in_the_temporary_folder(self):
        with tempfile.TemporaryDirectory() as folder:
            self.bench('model.cdna', TMPDIR=folder)
            self.assertEqual(os.listdir(folder), [])

    def test_a_missing_file_and_a_temporary_folder_that_cannot_be_made_are_errors(self):
        self.bench('missing.cdna', code=OPERATIONAL)
        _, err = self.bench('model.cdna', code=OPERATIONAL, TMPDIR='/proc/none')
        self.assertIn('/proc/none', err)


class QualityTest(DocumentTest):
    SMALL = ('--rows', '64', '--cols', '640')

    def quality(self, *arguments, code=CLEAN):
        return self.run_tool('cdna', 'bench', 'quality', *arguments, code=code)

    def rows(self, *arguments):
        document = json.loads(self.quality(*arguments, *self.SMALL, '--json')[0])
        self.check_document(document)
        return document['rows']

    def test_every_source_has_the_error_and_the_size_of_every_encoding(self):
        rows = self.rows()
        expected = [
            (source, case, unit)
            for source in SOURCES
            for case in QUALITY_PRESETS + BASELINES
            for unit in ('dB', 'bits/weight')
        ]
        self.assertEqual([(row['params']['source'], row['case'], row['unit']) for row in rows], expected)
        for error, size in zip(rows[::2], rows[1::2]):
            self.assertEqual(error['params']['bits_per_weight'], size['value'])
            self.assertEqual(error['params']['kind'], 'preset' if error['case'] in QUALITY_PRESETS else 'baseline')
            self.assertEqual((error['params']['rows'], error['params']['cols']), (64, 640))
            self.assertLess(error['value'], error['reference_value'])  # No code is better than the bound.
            self.assertIsNone(error['goal'])  # Goals are those of 4096 x 4096.
            self.assertIsNone(size['goal'])

    def test_figures_are_those_of_theory(self):
        figures = {(row['params']['source'], row['case'], row['unit']): row['value'] for row in self.rows()}
        for source in SOURCES:
            self.assertEqual(figures[source, 'int8-g32', 'bits/weight'], 8.5)
            self.assertEqual(figures[source, 'int4-affine-g32', 'bits/weight'], 5)
            self.assertEqual(figures[source, 'nf4-g64', 'bits/weight'], 4.25)
        # At 4096 x 4096: 44.9, 21.8 and 20.5. Of 40,960 values the error's variance is about 1 %.
        self.assertAlmostEqual(figures['A', 'int8-g32', 'dB'], 44.9, delta=0.3)
        self.assertAlmostEqual(figures['A', 'int4-affine-g32', 'dB'], 21.8, delta=0.3)
        self.assertAlmostEqual(figures['A', 'nf4-g64', 'dB'], 20.5, delta=0.3)

    def test_a_preset_has_the_error_and_the_size_that_a_file_records(self):
        row = self.rows('cb4g32,k=15')[0]
        self.assertEqual(row['case'], 'cb4g32,k=15')
        self.assertEqual(row['unit'], 'dB')
        # 15 entries: 4 bits, a byte for 32 codes, F32 for each row, and two small tables.
        tables = 8 * (16 * 4 + 256 * 4) / (64 * 640)
        self.assertAlmostEqual(row['params']['bits_per_weight'], 4.25 + 32 / 640 + tables, delta=8 * 64 / (64 * 640))
        self.assertLess(row['params']['code_entropy_bits'], 3.907)  # log2(15)
        self.assertEqual(row['params']['outliers'], 0)

    def test_cases_choose_presets_and_the_table_has_a_line_for_each(self):
        out, _ = self.quality('cb6g64,outliers=0.001', 'cb8,class=pwl16', *self.SMALL)
        for name in ['cb6g64,outliers=0.001', 'cb8,class=pwl16', *BASELINES]:
            self.assertEqual(len(re.findall(rf'(?m)^  {re.escape(name)} ', out)), len(SOURCES), out)
        self.assertNotIn('cb5g32', out)
        self.assertIn('seed 4', out)

    def test_a_wrong_case_is_refused_before_anything_is_measured(self):
        for arguments, part in (
            (('cb9',), 'cb9'),
            (('cb8', 'cb8,k=1'), 'k=1'),
            (('exact',), 'exact'),
            (('cb8,class=affine,k=12',), 'affine'),
            (('--rows', '63'), '63'),
            (('--cols', '1000000'), '1000000'),
        ):
            self.assert_refused(self.quality(*arguments, code=USAGE), part)


class EncodeTest(DocumentTest):
    SMALL = ('--rows', '64', '--cols', '256')

    def encode(self, *arguments, code=CLEAN, **environment):
        return self.run_tool(
            'cdna', 'bench', 'encode', *arguments, *self.SMALL, code=code, env={**os.environ, **environment}
        )

    def rows(self, *arguments):
        document = json.loads(self.encode(*arguments, '--json')[0])
        self.check_document(document)
        return document['rows']

    def test_a_case_is_measured_with_every_instruction_set_up_to_the_best(self):
        best = json.loads(self.encode('exact-z.decode', '--json')[0])['machine']['kernels']
        names = ['baseline', 'avx2', 'avx512']
        for case in ('encode.cb4g32.f32', 'encode.cb8.bf16', 'exact-z.encode', 'exact-z.decode'):
            rows = self.rows(case)
            last = names.index(best) if best in names else len(names) - 1  # The encoder knows none beyond avx512.
            self.assertEqual([row['params']['cpu'] for row in rows], names[: last + 1])
            for row in rows:
                self.assertEqual((row['case'], row['unit']), (case, 'GB/s'))
                self.assertEqual(row['reference'] is None, row['params']['cpu'] == 'baseline')
                self.assertIsNone(row['goal'])  # Goals are those of 4096 x 4096.

    def test_conversions_and_two_cores_are_measured(self):
        rows = self.rows('convert.f32', 'convert.bf16', 'scale_2_cores')
        cases = ['convert.f32', 'convert.bf16'] + 3 * ['scale_2_cores']
        self.assertEqual([row['case'] for row in rows], cases)
        for row in rows[:2]:
            self.assertRegex(row['params']['hashing'], r'^\d+ %$')

    def test_the_instruction_set_can_be_forced_and_a_wrong_name_is_refused(self):
        out, _ = self.encode('exact-z.decode', '--json', CDNA_CPU='baseline')
        self.assertEqual(json.loads(out)['machine']['kernels'], 'baseline')
        _, err = self.encode('scale_2_cores', code=USAGE, CDNA_CPU='sse\x1b9')
        self.assertIn('CDNA_CPU=sse\\x1b9', err)

    def test_a_case_that_is_not_known_is_refused(self):
        self.assert_refused(self.encode('encode.cb9.f32', code=USAGE), 'encode.cb9.f32')

    def test_nothing_is_left_in_the_temporary_folder(self):
        with tempfile.TemporaryDirectory() as folder:
            self.encode('convert.f32', TMPDIR=folder)
            self.assertEqual(os.listdir(folder), [])

    def test_the_program_may_stand_in_a_folder_of_any_name(self):
        os.mkdir(self.path("it's a folder"))
        program = self.path("it's a folder/cdna")
        shutil.copy(runner.tool('cdna'), program)
        done = subprocess.run(
            [program, 'bench', 'encode', 'exact-z.decode', *self.SMALL, '--json'], capture_output=True, timeout=120
        )
        self.assertEqual((done.returncode, done.stderr), (CLEAN, b''))
        self.assertEqual(json.loads(done.stdout)['rows'][0]['params']['cpu'], 'baseline')

    def test_a_case_whose_process_fails_is_an_error_that_says_which(self):
        # 268 MB of weights: what only starts the process that makes them has room enough.
        limit = lambda: runner.limit_private_memory(128 << 20)  # noqa: E731
        out, err = self.run_tool(
            'cdna', 'bench', 'encode', 'encode.cb8.f32', '--rows', '4096', '--cols', '16384', code=OPERATIONAL, preexec_fn=limit
        )
        self.assertIn('out of memory', err)  # What the process itself said.
        self.assertRegex(err, r'(?m)^cdna bench encode: CDNA_CPU=baseline .*/cdna: failed with exit code 8$')
        self.assertNotIn('goals met', out)


class MatmulTest(DocumentTest):
    SMALL = ('--bytes', '64KiB')

    def matmul(self, *arguments, code=CLEAN, **environment):
        return self.run_tool('cdna', 'bench', 'matmul', *arguments, code=code, env={**os.environ, **environment})

    def rows(self, *arguments):
        document = json.loads(self.matmul(*arguments, '--json')[0])
        self.check_document(document)
        for row in document['rows']:
            self.assertIsNone(row['goal'])  # Goals are those of matrices beyond the cache.
        return document['rows']

    def small_rows(self, case):
        return self.rows(*self.SMALL, '--case', case)

    def write_coded_model(self):
        self.write_model('model.safetensors', small_model())
        self.convert('model.safetensors', 'model.cdna', '--encoding', 'cb8')

    def test_gemv_is_measured_in_every_math_against_reading_decoding_and_cb8(self):
        rows = self.small_rows('gemv.cb4g32')
        self.assertEqual({row['case'] for row in rows}, {f'gemv.cb4g32.{kind}' for kind in MATMUL_GEMV})
        for row in rows:
            self.assertEqual(row['params']['bytes'], 64 * 4096 // 2)
            self.assertIn(row['params']['threads'], (1, 2))
        plain = [row for row in rows if row['case'] == 'gemv.cb4g32.f32.T' and row['params']['threads'] == 1]
        against = {row['params']['against']: row['unit'] for row in plain}
        against.pop('sgemv', None)  # Where there is OpenBLAS.
        self.assertEqual(against, {'reading': 'GB/s', 'decoding': 'Gw/s', 'cb8': 'Gw/s'})

    def test_a_codebook_of_f32_is_measured(self):
        rows = self.small_rows('gemv.cb8-f32codebook.f32.T')
        self.assertEqual({row['case'] for row in rows}, {'gemv.cb8-f32codebook.f32.T'})

    def test_gemm_has_its_rows_of_x_and_the_peak_that_the_cpu_reaches(self):
        rows = self.small_rows('gemm.m256')
        self.assertEqual({row['case'] for row in rows}, {'gemm.m256.f32', 'gemm.m256.bf16'})
        for row in rows:
            self.assertIn(row['params']['against'], ('sgemm', 'nothing', 'peak'))
            self.assertEqual((row['params']['rows'], row['unit']), (256, 'Gop/s'))

    def test_codecs_and_first_pass_are_compared_with_one_step_after_the_other(self):
        rows = self.small_rows('codec.zstd')
        self.assertEqual(
            {row['params']['tensor'] for row in rows}, {'uniform grid', 'exact-z BF16', 'exact-z F32'}
        )
        for row in rows:
            self.assertLess(row['params']['stored'], 0.97)  # It is compressed.
        for row, first in [(row, 'd') for row in rows] + [(row, 'h') for row in self.small_rows('first_pass')]:
            params = row['params']
            series = 1 / (1 / params[first] + 1 / params['g'])
            self.assertAlmostEqual(row['reference_value'] / series, 1, delta=2e-3)

    def test_memory_is_that_of_a_process_of_its_own(self):
        (row,) = self.small_rows('memory.64')
        params = row['params']
        self.assertEqual((params['dense_mib'], params['x_rows'], row['unit']), (64, 8, 'x'))
        self.assertAlmostEqual(row['value'] * params['private_mib'] / params['dense_mib'], 1, delta=1e-3)
        self.assertGreaterEqual(params['file_backed_mib'], 16)  # All codes, zero-copy.

    def test_a_tensor_of_a_file_is_measured(self):
        self.write_coded_model()
        rows = self.rows('model.cdna', 'layer.0.attention.query.weight', '--case', 'gemv.', '--case', 'first_pass')
        expected = {f'gemv.tensor.{kind}' for kind in MATMUL_GEMV} | {'first_pass'}
        self.assertLessEqual(expected, {row['case'] for row in rows})

    def test_what_is_not_there_is_refused(self):
        self.write_coded_model()
        self.assert_refused(self.matmul('model.cdna', 'no such\x1b', code=USAGE), 'no such\\x1b')
        self.assert_refused(self.matmul('--case', 'gemx', code=USAGE), 'gemx')
        self.assert_refused(self.matmul('--bytes', '1KiB', code=USAGE), '1KiB')
        self.matmul('missing.cdna', 'w', code=OPERATIONAL)
        self.matmul('model.cdna', code=USAGE)

    def test_nothing_is_left_in_the_temporary_folder(self):
        with tempfile.TemporaryDirectory() as folder:
            self.matmul(*self.SMALL, '--case', 'memory.64', '--case', 'gemv.exact-bf16', TMPDIR=folder)
            self.assertEqual(os.listdir(folder), [])
