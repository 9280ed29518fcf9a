# Tests of how the command line says what a model is, and what is to be written: --from, --sidecar, --to.
import hashlib
import json
import os
import shutil

from runner import CLEAN, ERRORS_LEFT, OPERATIONAL, USAGE, ToolTest, read_safetensors, small_model

LEGACY = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'legacy')
SOURCE_FORMATS = ('auto', 'safetensors', 'hxq', 'hxzc', 'hxz2', 'helix-v2', 'helix-v3', 'gguf', 'gguf-hxq', 'npy', 'npz')


class SourceFormatTest(ToolTest):
    def test_help_lists_what_a_source_and_a_destination_can_be(self):
        for command in (['cdna', 'convert'], ['cdna', 'diff'], ['cdna-fsck']):
            text = self.run_tool(*command, '--help')[0]
            for name in SOURCE_FORMATS:
                self.assertRegex(text, rf'[{{,]{name}[,}}]', command)
            self.assertIn('--sidecar', text)
        text = self.run_tool('cdna', 'export', '--help')[0]
        self.assertRegex(text, r'\{safetensors,gguf,npz,hxq\}')

    def test_what_is_found_by_content_may_also_be_named(self):
        self.write_model('m.safetensors', small_model())
        self.convert('m.safetensors', 'found.cdna')
        for name in ('auto', 'safetensors'):
            self.convert('m.safetensors', f'{name}.cdna', '--from', name)
            self.assertEqual(self.read(f'{name}.cdna'), self.read('found.cdna'))

    def test_a_source_of_another_format_than_named_leaves_no_file(self):
        self.write_model('m.safetensors', small_model())
        for name in ('hxzc', 'hxz2', 'helix-v2', 'helix-v3', 'gguf', 'gguf-hxq', 'npy', 'npz'):
            with self.subTest(name):
                code = USAGE if name.startswith('helix') else ERRORS_LEFT  # These are folders.
                done = self.run_tool('cdna', 'convert', 'm.safetensors', 'out.cdna', '--from', name, code=code)
                self.assertEqual(done[0], '')
        self.convert('m.safetensors', 'out.cdna', '--from', 'zip', code=USAGE)
        self.assertEqual(self.names(), ['m.safetensors'])

    def test_a_reference_is_what_from_says_and_nothing_else_is(self):
        self.write_model('m.safetensors', small_model())
        self.convert('m.safetensors', 'm.cdna')
        self.run_tool('cdna-fsck', '--deep', 'm.cdna', '--reference', 'm.safetensors', '--from', 'safetensors')
        self.run_tool('cdna', 'diff', 'm.cdna', 'm.safetensors', '--from', 'safetensors')
        self.run_tool('cdna-fsck', 'm.cdna', '--from', 'safetensors', code=USAGE)
        self.run_tool('cdna-fsck', 'm.cdna', '--sidecar', 'm.hxzo', code=USAGE)


class LegacyTest(ToolTest):
    """Files that helix-substrate wrote; tests/python/package/legacy_test.py has all of them."""

    def expected(self, key):
        with open(os.path.join(LEGACY, 'expected.json'), encoding='utf-8') as file:
            return json.load(file)[key]['sha256']

    def take(self, name):
        return shutil.copy(os.path.join(LEGACY, name), self.folder)

    def decoded(self, container):
        """The digest of the one tensor's values as f32."""
        self.export(container, 'decoded.safetensors', '--dtype', 'f32', '--force')
        ((dtype, _, data),) = read_safetensors(self.read('decoded.safetensors'))[0].values()
        self.assertEqual(dtype, 'F32')
        return hashlib.sha256(data).hexdigest()

    def test_codes_of_the_source_stay_codes_and_the_report_says_which(self):
        source = self.take('v2_hxz/t300x200.brotli.br64.cdna2.hxz')
        out, err = self.convert(source, 'a.cdna')
        self.assertRegex(err, r'(?m)^cdna convert: note: source integrity: ')
        self.assertRegex(out, r'(?m)^as the source has them: 1 tensor, 8\.\d\d bits/weight, 8-bit codes$')
        self.assertEqual(self.decoded('a.cdna'), self.expected('v2_hxz/t300x200.brotli.br64.decoded'))
        document = json.loads(self.convert(source, 'b.cdna', '--json')[0])
        (tensor,) = document['tensors']
        self.assertEqual((tensor['preset'], tensor['decided_by']), ('source', 'source'))
        self.assertEqual((tensor['codes']['bits'], tensor['codes']['vector']), (8, 1))
        self.assertEqual((tensor['codes']['outliers'], tensor['codes']['rank']), (0, 0))
        self.assertAlmostEqual(tensor['codes']['bits_per_weight'], tensor['stored_bytes'] * 8 / 60000)
        out, err = self.convert(source, 'c.cdna', '--explain')
        self.assertIn('codes of the source', out)
        self.assertRegex(out, r'(?m)^  note: source integrity: ')
        self.assertEqual(err, '')
        self.assertEqual(self.read('a.cdna'), self.read('b.cdna'))

    def test_a_sidecar_is_the_one_named_or_none(self):
        source = self.take('v2_hxz/t300x200.brotli.br64.cdna2.hxz')
        sidecar = os.path.join(LEGACY, 'hxzo', 't300x200_p999.hxzo')
        document = json.loads(self.convert(source, 'a.cdna', '--sidecar', sidecar, '--json')[0])
        (tensor,) = document['tensors']
        self.assertEqual((tensor['codes']['outliers'], tensor['codes']['outlier_dtype']), (120, 'F16'))
        self.assertEqual(
            self.decoded('a.cdna'), self.expected('v2_hxz/t300x200.brotli.br64.decoded_with_hxzo_sidecar')
        )
        self.convert(source, 'b.cdna', '--sidecar', 'none.hxzo', code=OPERATIONAL)
        self.write_model('m.safetensors', small_model())
        self.convert('m.safetensors', 'b.cdna', '--sidecar', sidecar, code=USAGE)
        self.assertNotIn('b.cdna', self.names())

    def test_an_import_is_compared_with_its_source(self):
        source = self.take('v2_hxz/t300x200.brotli.br64.cdna2.hxz')
        sidecar = os.path.join(LEGACY, 'hxzo', 't300x200_p999.hxzo')
        options = ('--sidecar', sidecar)
        self.convert(source, 'a.cdna', *options)
        self.run_tool('cdna', 'diff', 'a.cdna', source, *options, '--tensors-only')
        self.run_tool('cdna', 'diff', 'a.cdna', source, '--tensors-only', code=1)
        self.run_tool('cdna-fsck', '--deep', 'a.cdna', '--reference', source, *options)


class ExportFormatTest(ToolTest):
    def setUp(self):
        super().setUp()
        self.write_model('m.safetensors', small_model())
        self.convert('m.safetensors', 'm.cdna')

    def test_what_is_written_is_what_to_says_or_the_ending(self):
        self.export('m.cdna', 'a.safetensors')
        self.export('m.cdna', 'b.safetensors', '--to', 'safetensors')
        self.assertEqual(self.read('a.safetensors'), self.read('b.safetensors'))

    def test_an_ending_that_says_another_format_or_none_is_a_usage_error(self):
        before = self.names()
        for name, options, part in (
            ('out', (), 'must end in .safetensors, .gguf or .npz, or --to say what it is'),
            ('out.SAFETENSORS', (), 'must end in .safetensors, .gguf or .npz'),
            ('out.npz', ('--to', 'safetensors'), 'must end in .safetensors'),
            ('out', ('--to', 'gguf'), 'must end in .gguf'),
            ('out.safetensors', ('--to', 'npz'), 'must end in .npz'),
            ('out.safetensors', ('--to', 'hxq'), 'hxq is a folder'),
            ('out.cdna', ('--to', 'hxq'), 'hxq is a folder'),
        ):
            with self.subTest(name=name, options=options):
                self.assert_refused(self.export('m.cdna', name, *options, code=USAGE), name, part)
        self.export('m.cdna', 'out.zip', '--to', 'zip', code=USAGE)
        self.assertEqual(self.names(), before)

    def test_an_existing_destination_is_replaced_by_force_only(self):
        self.write('out.safetensors', b'mine')
        self.export('m.cdna', 'out.safetensors', code=OPERATIONAL)
        self.assertEqual(self.read('out.safetensors'), b'mine')
        self.export('m.cdna', 'out.safetensors', '--to', 'safetensors', '--force', code=CLEAN)
        self.assertNotEqual(self.read('out.safetensors'), b'mine')
