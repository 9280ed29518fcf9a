# Tests of cdna convert's policies and budgets: which preset each tensor gets, and why.
import json
import os
import random
import re
import struct

import runner
from runner import CLEAN, ERRORS_LEFT, OPERATIONAL, USAGE, ToolTest, bf16, f32, small_model

EMBEDDING = 'embed.word_embeddings.weight'
QUERY = 'layer.0.attention.query.weight'
OUTPUT = 'layer.0.output.weight'
CONVOLUTION = 'conv.weight'


class PolicyTest(ToolTest):
    def setUp(self):
        super().setUp()
        self.write_model('m.safetensors', small_model())

    def write_policy(self, *rules, name='policy.json'):
        return self.write(name, json.dumps({'rules': rules}).encode())

    def convert_json(self, *options, source='m.safetensors'):
        """The document of a conversion, and {name: tensor}."""
        out, _ = self.convert(source, 'm.cdna', '--force', '--json', *options)
        document = json.loads(out)
        self.assertEqual(self.inspect('m.cdna')['root'], document['root'])
        return document, {tensor['name']: tensor for tensor in document['tensors']}

    def tensors(self, *rules, options=()):
        return self.convert_json('--policy', self.write_policy(*rules), *options)[1]

    def coded(self, *rules, options=()):
        """{name: preset} of what does not stay exact."""
        tensors = self.tensors(*rules, options=options).values()
        return {tensor['name']: tensor['preset'] for tensor in tensors if tensor['preset'] != 'exact'}

    def recorded(self):
        return self.inspect('m.cdna')['metadata']['cdna.options']

    def test_the_first_rule_that_matches_decides(self):
        tensors = self.tensors(
            {'glob': '*.query.weight', 'preset': 'exact'},
            {'role': 'matrix', 'preset': 'cb8'},
            {'preset': 'cb8,class=pwl16'},
        )
        self.assertEqual((tensors[QUERY]['preset'], tensors[QUERY]['rule']), ('exact', 1))
        self.assertEqual((tensors[OUTPUT]['preset'], tensors[OUTPUT]['rule']), ('cb8', 2))
        self.assertEqual((tensors[CONVOLUTION]['preset'], tensors[CONVOLUTION]['rule']), ('cb8,class=pwl16', 3))
        self.assertEqual(tensors[EMBEDDING]['reason'], 'embedding stays exact')

    def test_all_conditions_of_a_rule_hold_and_one_of_each_list(self):
        self.assertEqual(self.coded({'glob': '*.weight', 'role': 'convolution', 'preset': 'cb8'}), {CONVOLUTION: 'cb8'})
        self.assertEqual(
            self.coded({'glob': ['layer.?.out*', 'conv*'], 'role': ['matrix', 'norm'], 'preset': 'cb8'}), {OUTPUT: 'cb8'}
        )
        self.assertEqual(self.coded({'glob': 'layer.0', 'preset': 'cb8'}), {})

    def test_what_no_rule_matches_stays_exact(self):
        tensors = self.tensors({'glob': '*.query.*', 'preset': 'cb8'})
        self.assertEqual({name for name, tensor in tensors.items() if tensor['preset'] == 'cb8'}, {QUERY})
        self.assertEqual(tensors[OUTPUT]['reason'], 'no rule matches')
        self.assertIsNone(tensors[OUTPUT]['rule'])

    def test_a_rule_without_conditions_is_the_encoding_of_that_name(self):
        self.tensors({'preset': 'cb8'})
        policy = self.inspect('m.cdna')['tensors']
        self.convert('m.safetensors', 'm.cdna', '--force', '--encoding', 'cb8')
        self.assertEqual(policy, self.inspect('m.cdna')['tensors'])

    def test_a_rule_that_names_tensors_reaches_embeddings_and_no_other_does(self):
        self.assertNotIn(EMBEDDING, self.coded({'preset': 'cb8'}))
        for condition in ({'role': 'embedding'}, {'glob': '*embed*'}, {'glob': '*'}):
            self.assertEqual(self.coded({**condition, 'preset': 'cb8'})[EMBEDDING], 'cb8')

    def test_what_cannot_be_encoded_stays_exact_with_the_reason_whatever_the_rule(self):
        tensors = self.tensors({'glob': '*', 'preset': 'cb8'})
        reasons = {
            'layer.0.attention.query.bias': 'rank 1 stays exact',
            'layer.0.layernorm.weight': 'rank 1 stays exact',
            'long': 'rank 1 stays exact',
            'scalar': 'rank 0 stays exact',
            'small.weight': 'fewer than 4096 elements',
            'narrow.weight': 'rows of fewer than 64',
            'counts.weight': 'I64 is not F16, BF16, F32 or F64',
            'empty.weight': 'fewer than 4096 elements',
        }
        for name, reason in reasons.items():
            self.assertEqual((tensors[name]['preset'], tensors[name]['reason'], tensors[name]['rule']), ('exact', reason, 1))
        self.assertEqual(
            {name for name, tensor in tensors.items() if tensor['preset'] == 'cb8'}, runner.CB8_OF_SMALL_MODEL | {EMBEDDING}
        )

    def test_keep_exact_wins_over_every_rule(self):
        tensors = self.tensors({'glob': '*', 'preset': 'cb8'}, options=('--keep-exact', '*.query.*', '--embeddings', 'cb8'))
        self.assertEqual((tensors[QUERY]['preset'], tensors[QUERY]['reason']), ('exact', '--keep-exact *.query.*'))
        self.assertEqual(tensors[EMBEDDING]['decided_by'], '--embeddings')

    def test_embeddings_and_output_heads_are_coded_when_asked_for(self):
        model = small_model() + [('lm_head.weight', 'BF16', [80, 64], bf16(90, 80 * 64))]
        self.write_model('m.safetensors', model)
        for options in (['--encoding', 'cb8,class=affine'], ['--policy', self.write_policy({'glob': '*', 'preset': 'exact'})], []):
            _, tensors = self.convert_json('--embeddings', 'cb8', *options)
            self.assertEqual({tensors[EMBEDDING]['preset'], tensors['lm_head.weight']['preset']}, {'cb8'})
            self.assertEqual(tensors[QUERY]['preset'], 'cb8,class=affine' if '--encoding' in options else 'exact')

    def test_a_rule_that_decides_nothing_is_a_note(self):
        policy = self.write_policy(
            {'glob': '*', 'preset': 'exact'}, {'glob': 'conv*', 'preset': 'cb8'}, {'glob': 'nothing\x1b*', 'preset': 'cb8'}
        )
        _, err = self.convert('m.safetensors', 'm.cdna', '--policy', policy)
        self.assertEqual(
            err,
            'cdna convert: note: policy.json: rule 2 (glob conv*) decides nothing: earlier rules match its tensors\n'
            'cdna convert: note: policy.json: rule 3 (glob nothing\\x1b*) matches no tensor\n',
        )
        self.write_model('plain.safetensors', small_model()[1:])
        _, err = self.convert('plain.safetensors', 'p.cdna', '--embeddings', 'cb8')
        self.assertEqual(err, 'cdna convert: note: --embeddings (role embedding|output_head) matches no tensor\n')

    def test_explain_shows_the_rules_and_which_decided(self):
        policy = self.write_policy({'glob': ['*.query.weight', 'conv*'], 'preset': 'cb8'}, {'role': 'bias', 'preset': 'exact'})
        out, _ = self.convert('m.safetensors', 'm.cdna', '--policy', policy, '--explain')
        rules, decisions = out.split('\nRules;')[1].split('Decisions:')
        self.assertRegex(rules, r'(?m)^  rule 1 +glob \*\.query\.weight\|conv\* -> cb8$')
        self.assertRegex(rules, r'(?m)^  rule 2 +role bias -> exact$')
        for name, expected in ((QUERY, 'rule 1: glob *.query.weight|conv*'), ('layer.0.attention.query.bias', 'rule 2: role bias'),
                               (OUTPUT, 'default')):
            (line,) = (line for line in decisions.split('\n') if line.endswith(' ' + name))
            self.assertIn(expected, line)

    def test_the_options_are_recorded_and_the_policys_path_is_not(self):
        rules = [{'glob': ['*.query.*'], 'role': ['matrix'], 'preset': 'cb8'}, {'preset': 'exact'}]
        roots = set()
        for name in ('a.json', 'other.txt'):
            self.write_policy(*rules, name=name)
            roots.add(self.convert_json('--policy', name, '--nonfinite', 'exact', '--embeddings', 'cb8')[0]['root'])
        self.assertEqual(len(roots), 1)
        self.assertEqual(
            self.recorded(),
            {
                'embeddings': 'cb8',
                'policy': {'rules': rules},
                'codec': 'raw',
                'keep_exact': [],
                'nonfinite': 'exact',
            },
        )
        self.convert_json('--encoding', 'cb8')
        self.assertEqual(self.recorded(), {'encoding': 'cb8', 'codec': 'raw', 'keep_exact': [], 'nonfinite': 'refuse'})

    def test_tied_tensors_are_stored_once_where_the_same_was_decided_for_them(self):
        data = f32(1, 80 * 64)
        tied = [(name, 'F32', [80, 64], data) for name in ('lm_head.weight', 'model.embed_tokens.weight', 'wte')]
        self.write_model('m.safetensors', tied)
        both = {'role': ['embedding', 'output_head'], 'preset': 'cb8'}
        tensors = self.tensors(both)
        self.assertEqual(tensors['wte']['alias_of'], 'lm_head.weight')
        tensors = self.tensors(both, options=('--keep-exact', 'lm_head*'))
        self.assertIsNone(tensors['model.embed_tokens.weight']['alias_of'])
        self.assertEqual(tensors['model.embed_tokens.weight']['preset'], 'cb8')
        self.assertEqual(tensors['wte']['alias_of'], 'model.embed_tokens.weight')
        self.export('m.cdna', 'back.safetensors')
        self.assertEqual(runner.read_safetensors(self.read('back.safetensors'))[0]['lm_head.weight'][2], data)

    def test_a_bad_policy_is_refused_with_the_file_the_rule_and_what_would_be_right(self):
        rule = b'{"preset": "cb8"}'
        wrapped = lambda *rules: b'{"rules": [' + b', '.join(rules) + b']}'
        cases = [
            (b'', 'not JSON'),
            (b'{', 'not JSON'),
            (wrapped(rule) + b'x', 'not JSON'),
            (b'\xef\xbb\xbf' + wrapped(rule), 'byte order mark'),
            (wrapped(rule) + b'\0', 'NUL'),
            (b'{"rules": [{"preset": "cb8\xff"}]}', 'not JSON'),
            (b'[]', '{"rules": [...]}'),
            (b'{}', '{"rules": [...]}'),
            (b'{"rules": []}', 'at least one rule'),
            (b'{"rules": {}}', 'at least one rule'),
            (b'{"rules": [], "rules": []}', "'rules' occurs twice"),
            (b'{"rules": [' + rule + b'], "version": 1}', "unknown key 'version'"),
            (wrapped(rule, b'"cb8"'), 'rule 2', 'a rule is an object'),
            (wrapped(rule, b'{}'), 'rule 2', "needs 'preset'"),
            (wrapped(b'{"preset": 8}'), 'rule 1', "needs 'preset', a string"),
            (wrapped(b'{"preset": "cb9"}'), 'rule 1', "'cb9': presets are exact, exact-z, cb8"),
            (wrapped(b'{"preset": "cb8,k=1"}'), 'rule 1', "'k=1': k is 2..256"),
            (wrapped(b'{"preset": "cb8", "globs": "x"}'), 'rule 1', "unknown key 'globs'", "'glob'"),
            (wrapped(b'{"preset": "cb8", "glob": ""}'), 'rule 1', "'glob' is a string or a list of strings"),
            (wrapped(b'{"preset": "cb8", "glob": []}'), 'rule 1', 'at least one'),
            (wrapped(b'{"preset": "cb8", "glob": [1]}'), 'rule 1', "'glob' is a string"),
            (wrapped(b'{"preset": "cb8", "glob": "a\\u0000b"}'), 'rule 1', 'NUL'),
            (wrapped(b'{"preset": "cb8", "role": "matrices"}'), 'rule 1', "'matrices': roles are bias, norm"),
            (wrapped(b'{"preset": "cb8", "role": null}'), 'rule 1', "'role' is a string"),
            (wrapped(b'{"preset": "cb8", "preset": "cb8"}'), "'preset' occurs twice"),
            (wrapped(*[rule] * 257), 'over 256 rules'),
            (wrapped(b'{"preset": "cb8", "glob": [' + b', '.join([b'"a"'] * 1025) + b']}'), 'over 1024 globs'),
            (wrapped(b'{"preset": "cb8", "glob": ' + b'[' * 5000 + b']' * 5000 + b'}'), 'nested'),
            (b'[' * 1000000, 'policy.json'),
            (wrapped(rule) + b' ' * (1 << 20), 'at most 1 MiB'),
            (wrapped(b'{"preset": "' + b'x' * 100000 + b'"}'), 'rule 1', 'presets are'),
        ]
        before = self.names() + ['policy.json']
        for data, *parts in cases:
            with self.subTest(policy=data[:80]):
                self.write('policy.json', data)
                done = self.convert('m.safetensors', 'm.cdna', '--policy', 'policy.json', code=ERRORS_LEFT)
                self.assert_refused(done, 'policy.json', *parts)
                self.assertLess(len(done[1]), 1000)
                self.assertEqual(self.names(), sorted(before))

    def test_a_policy_that_is_no_file_is_refused(self):
        self.assert_refused(self.convert('m.safetensors', 'm.cdna', '--policy', 'none.json', code=OPERATIONAL), 'none.json')
        os.mkfifo(self.path('pipe'))
        for name, reason in (('.', 'is a directory'), ('pipe', 'not a regular file'), ('/dev/zero', 'not a regular file')):
            done = self.convert('m.safetensors', 'm.cdna', '--policy', name, code=OPERATIONAL)
            self.assert_refused(done, name, reason)

    def test_a_long_rule_that_matches_nothing_is_cut_in_its_note(self):
        cases = (('x' * 500_000, 'x' * 195), ('é' * 500, 'é' * 195), ('\x1b' * 500, r'\x1b' * 48))
        for glob, shown in cases:
            policy = self.write_policy({'glob': glob, 'preset': 'cb8'})
            _, err = self.convert('m.safetensors', 'm.cdna', '--force', '--policy', policy)
            self.assertEqual(err, f'cdna convert: note: policy.json: rule 1 (glob {shown}…) matches no tensor\n')

    def test_options_that_exclude_each_other_are_usage_errors(self):
        policy = self.write_policy({'preset': 'cb8'})
        for options in (
            ['--policy', policy, '--encoding', 'cb8'],
            ['--bits-per-weight', '5', '--encoding', 'cb8'],
            ['--target-size', '1MB', '--encoding', 'cb8'],
            ['--target-size', '1MB', '--bits-per-weight', '5'],
            ['--candidates', 'cb8'],
            ['--nonfinite', 'keep'],
            ['--embeddings', 'cb9'],
            ['--embeddings', ''],
            ['--bits-per-weight', ''],
            ['--target-size', ''],
        ):
            with self.subTest(options=options):
                self.assert_refused(self.convert('m.safetensors', 'm.cdna', *options, code=USAGE), options[-2])


def weights(seed, rows, columns):
    """bf16 values of a Student t distribution of 6 degrees of freedom times a scale for each row: heavy tails, quickly."""
    generator = random.Random(seed)
    pool = [generator.gauss(0, 1) / (generator.gammavariate(3, 2) / 6) ** 0.5 for _ in range(4096)]
    data = bytearray()
    for _ in range(rows):
        scale = 0.02 * 2 ** generator.gauss(0, 0.5)
        row = struct.pack(f'<{columns}f', *(value * scale for value in generator.choices(pool, k=columns)))
        for i in range(2, len(row), 4):
            data += row[i : i + 2]
    return bytes(data)


def layered_model():
    """Eight layers of matrices of several shapes, an embedding, norms."""
    tensors = [('model.embed_tokens.weight', 'BF16', [600, 128], weights(1, 600, 128))]
    for layer in range(8):
        for i, (name, rows, columns) in enumerate(
            (('q_proj', 128, 128), ('k_proj', 64, 64), ('o_proj', 128, 128), ('up_proj', 256, 128), ('down_proj', 128, 256))
        ):
            tensors.append((f'layers.{layer}.{name}.weight', 'BF16', [rows, columns], weights(10 * layer + i, rows, columns)))
        tensors.append((f'layers.{layer}.norm.weight', 'F32', [128], f32(layer, 128)))
    return tensors


class BudgetTest(ToolTest):
    model = layered_model()

    def setUp(self):
        super().setUp()
        self.write_model('m.safetensors', self.model)

    def convert_json(self, *options):
        out, err = self.convert('m.safetensors', 'm.cdna', '--force', '--json', *options)
        self.assertEqual(err, '')
        document = json.loads(out)
        return document, {tensor['name']: tensor for tensor in document['tensors']}

    def test_bits_per_weight_are_reached_within_half_a_percent(self):
        errors = []
        for bits in (5.5, 6, 7, 8, 9):
            document, _ = self.convert_json('--bits-per-weight', str(bits))
            reached = document['totals']['bits_per_weight']
            self.assertLessEqual(reached, bits * 1.001)
            self.assertGreaterEqual(reached, bits * 0.995)
            errors.append(document['budget']['mean_relative_error'])
        self.assertEqual(errors, sorted(errors, reverse=True))

    def test_a_file_of_a_target_size_is_not_larger_and_not_much_smaller(self):
        self.convert('m.safetensors', 'exact.cdna')
        largest = os.path.getsize(self.path('exact.cdna'))
        for size in (largest * 5 // 10, largest * 6 // 10):
            document, _ = self.convert_json('--target-size', str(size))
            reached = os.path.getsize(self.path('m.cdna'))
            self.assertEqual(document['totals']['file_bytes'], reached)
            self.assertLessEqual(reached, size)
            self.assertGreaterEqual(reached, size * 0.98)

    def test_the_result_does_not_depend_on_the_number_of_threads(self):
        files = set()
        for threads in ('1', '2', '5'):
            self.convert_json('--bits-per-weight', '6.3', '--threads', threads)
            files.add(self.read('m.cdna'))
        self.assertEqual(len(files), 1)

    def test_sizes_can_be_written_with_units(self):
        roots = set()
        for text in ('800000', '800KB', '800 kb', '0.8MB', '781.25KiB'):
            roots.add(self.convert_json('--target-size', text)[0]['root'])
        self.assertEqual(len(roots), 1)

    def test_embeddings_have_8_bits_at_least_unless_asked(self):
        self.write_model('m.safetensors', self.model + [('lm_head.weight', 'BF16', [64, 128], weights(77, 64, 128))])
        _, tensors = self.convert_json('--bits-per-weight', '5.9')
        small = {tensor['preset'] for name, tensor in tensors.items() if name.startswith('layers')}
        self.assertTrue(small & {'cb4g32', 'cb5g32'}, small)
        for name, role in (('model.embed_tokens.weight', 'embedding'), ('lm_head.weight', 'output_head')):
            self.assertIn(tensors[name]['preset'], ('cb8', 'cb8g64', 'exact', 'exact-z'))
            self.assertEqual(tensors[name]['forecast']['constraint'], f'{role}: 8 bits at least')
        _, tensors = self.convert_json('--bits-per-weight', '5.9', '--embeddings', 'cb4g32')
        self.assertEqual(tensors['model.embed_tokens.weight']['preset'], 'cb4g32')
        self.assertEqual(tensors['lm_head.weight']['preset'], 'cb4g32')

    def test_rules_and_keep_exact_bind_the_budget(self):
        policy = self.write('p.json', b'{"rules": [{"glob": "*.q_proj.weight", "preset": "cb8g64"}]}')
        _, tensors = self.convert_json('--bits-per-weight', '8', '--policy', policy, '--keep-exact', 'layers.0.*')
        for name, tensor in tensors.items():
            if name.startswith('layers.0.'):
                self.assertEqual((tensor['preset'], tensor['decided_by']), ('exact', '--keep-exact'))
            elif name.endswith('q_proj.weight'):
                self.assertEqual((tensor['preset'], tensor['decided_by'], tensor['rule']), ('cb8g64', 'rule 1', 1))
            else:
                self.assertEqual(tensor['decided_by'], 'default' if name.endswith('norm.weight') else 'budget')

    def test_forecasts_are_what_the_conversion_then_has(self):
        _, tensors = self.convert_json('--bits-per-weight', '6.5')
        coded = 0
        for tensor in tensors.values():
            self.assertEqual(tensor['forecast']['stored_bytes'], tensor['stored_bytes'])  # All tensors are measured whole.
            if tensor['forecast']['snr_db'] is not None:
                self.assertAlmostEqual(tensor['forecast']['snr_db'], tensor['snr_db'], places=6)
                coded += 1
        self.assertEqual(coded, 41)

    def test_candidates_can_be_chosen(self):
        _, tensors = self.convert_json('--bits-per-weight', '9', '--candidates', 'cb8 exact', '--candidates', 'cb6g64,outliers=0.01')
        presets = {tensor['preset'] for tensor in tensors.values()}
        self.assertLessEqual(presets, {'cb8', 'exact', 'cb6g64,outliers=0.01'})
        self.assertGreater(len(presets), 1)

    def test_a_budget_that_cannot_be_reached_says_the_least_possible_which_can(self):
        for option, wanted in (('--bits-per-weight', '2'), ('--target-size', '1000')):
            out, err = self.convert('m.safetensors', 'm.cdna', option, wanted, code=USAGE)
            self.assertEqual(out, '')
            self.assertIn(f'{option} {wanted}: the least possible for this model is ', err)
            least = re.search(r' is ([\d.]+)', err).group(1)
            self.assertEqual(self.names(), ['m.safetensors'])
            self.convert('m.safetensors', 'm.cdna', option, least)
            os.unlink(self.path('m.cdna'))

    def test_the_least_possible_size_is_that_of_the_file_to_a_percent_and_never_below_it(self):
        data = [weights(seed, 64, 64) for seed in range(4)]
        rotated = [data[i % 4][2 * i :] + data[i % 4][: 2 * i] for i in range(200)]
        small = [(f'layers.{i}.up_proj.weight', 'BF16', [64, 64], rotated[i]) for i in range(200)]
        tied = [(f'tied.{i}.weight', 'BF16', [64, 64], data[0]) for i in range(20)]
        odd = [(f'layers.{i}.norm.weight', 'F32', [i], f32(i, i)) for i in range(1, 40)] + [('empty', 'F32', [0, 3], b'')]
        wide = [('layers.0.down_proj.weight', 'BF16', [64, 4001], weights(9, 64, 4001))]
        for tensors in (small, small + tied + odd, odd, wide):
            self.write_model('m.safetensors', tensors)
            for candidates in ('cb8', 'cb4g32', 'cb6g64,outliers=0.01,class=pwl16', 'cb8,class=affine', 'exact-z', 'exact'):
                for codec in ('raw', 'zstd'):
                    options = ('--candidates', candidates, '--codec', codec)
                    with self.subTest(tensors=len(tensors), options=options):
                        _, err = self.convert('m.safetensors', 'no.cdna', *options, '--target-size', '1', code=USAGE)
                        least = int(re.search(r' is (\d+) bytes', err).group(1))
                        self.convert('m.safetensors', 'm.cdna', *options, '--target-size', str(least), '--force')
                        size = os.path.getsize(self.path('m.cdna'))
                        self.assertLessEqual(size, least)
                        if codec == 'raw':
                            self.assertLessEqual(least - size, size // 100 + 256)

    def test_a_budget_that_is_more_than_enough_keeps_everything_exact_and_says_so(self):
        out, _ = self.convert('m.safetensors', 'm.cdna', '--bits-per-weight', '40', '--candidates', 'cb4g32 cb8 exact')
        self.assertIn('every tensor has its best candidate', out)
        self.assertEqual({tensor['preset'] for tensor in self.inspect('m.cdna')['tensors']}, {'exact'})

    def test_bad_budgets_are_usage_errors(self):
        for option, values in (
            ('--bits-per-weight', ('0', '-1', 'nan', 'inf', '65', '5x', '', '1e', '0x5')),
            ('--target-size', ('0', '-5MB', 'nan', 'inf', '6 GBs', 'MB', '1e9', '', '99999999TB', '1,5GB', '0x10')),
        ):
            for value in values:
                with self.subTest(option=option, value=value):
                    done = self.convert('m.safetensors', 'm.cdna', f'{option}={value}', code=USAGE)
                    self.assert_refused(done, option)
        done = self.convert('m.safetensors', 'm.cdna', '--bits-per-weight', '5', '--candidates', 'cb8 cb9', code=USAGE)
        self.assert_refused(done, '--candidates', "'cb9': presets are")
        done = self.convert('m.safetensors', 'm.cdna', '--bits-per-weight', '5', '--candidates', ' ', code=USAGE)
        self.assert_refused(done, '--candidates', 'names no preset')

    def test_explain_says_what_was_chosen_and_at_which_price(self):
        out, _ = self.convert('m.safetensors', 'm.cdna', '--bits-per-weight', '6', '--explain')
        self.assertIn('Budget: 6 bits/weight wanted, ', out)
        header = next(line for line in out.split('\n') if line.startswith('  preset'))
        self.assertEqual(header.split()[:6], ['preset', 'role', 'bits', 'dB', 'paid', 'next'])
        (line,) = (line for line in out.split('\n') if line.endswith(' model.embed_tokens.weight'))
        self.assertIn('embedding: 8 bits at least', line)
        self.assertIn('wanted 6 bits/weight, reached ', out)

    def test_what_is_not_finite_is_refused_with_its_place_or_kept_exactly(self):
        data = bytearray(weights(5, 128, 128))
        at = 2 * (77 * 128 + 13)
        data[at : at + 2] = b'\xc1\x7f'  # A NaN with a payload.
        self.write_model('m.safetensors', self.model + [('layers.9.q_proj.weight', 'BF16', [128, 128], bytes(data))])
        options = ('--bits-per-weight', '7')
        done = self.convert('m.safetensors', 'm.cdna', *options, code=ERRORS_LEFT)
        self.assert_refused(done, 'layers.9.q_proj.weight', 'row 77', 'column 13')
        self.assertEqual(self.names(), ['m.safetensors'])
        _, tensors = self.convert_json(*options, '--nonfinite', 'exact')
        self.assertNotIn(tensors['layers.9.q_proj.weight']['preset'], ('exact', 'exact-z'))
        self.export('m.cdna', 'back.safetensors')
        restored = runner.read_safetensors(self.read('back.safetensors'))[0]['layers.9.q_proj.weight'][2]
        self.assertEqual(restored[at : at + 2], b'\xc1\x7f')

    def test_the_budget_is_recorded(self):
        self.convert_json('--target-size', '0.8MB')
        recorded = self.inspect('m.cdna')['metadata']['cdna.options']
        self.assertEqual(recorded['target_bytes'], 800000)
        self.assertEqual(
            recorded['candidates'], ['cb4g32', 'cb5g32', 'cb6g64', 'cb8', 'cb8g64', 'exact-z', 'exact']
        )
        self.assertNotIn('encoding', recorded)
