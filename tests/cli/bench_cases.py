# Tests of `cdna bench`: the document's schema, and that its figures can be true. Goals are not tested: machines differ.
import json
import os
import sys
import tempfile

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'spec', 'reference'))
import cdna_reference
from runner import CLEAN, ERRORS_LEFT, OPERATIONAL, USAGE, ToolTest, small_model

IO_CASES = {'open_10000', 'lookup', 'first_touch', 'second_touch', 'raw_iteration', 'overhead'}
KEYS = ['case', 'params', 'value', 'unit', 'reference', 'reference_value', 'ratio', 'goal', 'met', 'samples']
HEAD_AND_TAIL_BYTES = 64 + 256


class BenchTest(ToolTest):
    def setUp(self):
        super().setUp()
        self.write_model('model.safetensors', small_model())
        self.convert('model.safetensors', 'model.cdna')

    def bench(self, *arguments, code=CLEAN, **environment):
        return self.run_tool('cdna', 'bench', 'io', *arguments, code=code, env={**os.environ, **environment})

    def document(self, **environment):
        return json.loads(self.bench('model.cdna', '--json', **environment)[0])

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

    def test_a_file_is_measured_and_the_document_follows_the_schema(self):
        document = self.document()
        self.assertEqual(list(document), ['schema', 'machine', 'rows'])
        self.assertEqual(document['schema'], 'cdna.bench/1')
        self.assertLessEqual({'cpu', 'cores', 'memory_bytes', 'library', 'sha256'}, set(document['machine']))
        self.assertEqual({row['case'] for row in document['rows']}, IO_CASES)
        for row in document['rows']:
            self.check_row(row)

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
