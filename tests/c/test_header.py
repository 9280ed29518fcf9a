"""Tests of cdna.h as compilers, generators of bindings and doxygen see it, and of the man page: test_header.py BUILD."""
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import c_header
import script

WARNINGS = ['-Wall', '-Wextra', '-pedantic', '-Wshadow', '-Wconversion', '-Wundef', '-Wstrict-overflow', '-Werror']
COMPILERS = [
    ['gcc', '-std=c99', '-Wstrict-prototypes', '-Wc++-compat'],
    ['gcc', '-std=c17'],
    ['clang-14', '-std=c99', '-Wstrict-prototypes', '-Wdocumentation'],
    ['g++', '-std=c++11', '-Wold-style-cast'],
    ['g++', '-std=c++20'],
    ['clang++-14', '-std=c++11'],
]
# Types of fixed width; `int` is a descriptor, as POSIX has it.
SCALARS = {'void', 'char', 'float', 'double', 'size_t', 'int', *(f'{sign}int{bits}_t' for sign in ('', 'u') for bits in (8, 16, 32, 64))}
DOXYFILE = c_header.ROOT / 'bindings/c/Doxyfile'
MAN_PAGE = c_header.ROOT / 'bindings/c/libcdna.3'


def compiled(compiler, text, folder, *options):
    """What the compiler says; fails if it says anything."""
    language = 'c++' if '++' in compiler[0] else 'c'
    return subprocess.run([*compiler, *options, '-x', language, '-c', '-', '-o', str(pathlib.Path(folder, 'out.o')),
                           f'-I{c_header.HEADER.parent}'], input=text, capture_output=True, text=True)


class Compilers(unittest.TestCase):
    def compile(self, text, compilers, *options):
        with tempfile.TemporaryDirectory() as folder:
            for compiler in compilers:
                with self.subTest(compiler=' '.join(compiler)):
                    result = compiled(compiler, text, folder, *WARNINGS, *options)
                    self.assertEqual((result.returncode, result.stderr), (0, ''))

    def test_header_compiles_alone_and_twice(self):
        for text in ('#include <cdna.h>\n', '#include <cdna.h>\n#include <cdna.h>\n'):
            self.compile(text + 'int used_by_c(void);\n', COMPILERS)

    def test_header_compiles_with_the_macro_of_static_libraries(self):
        self.compile('#include <cdna.h>\nint used_by_c(void);\n', COMPILERS[:1] + COMPILERS[3:4], '-DCDNA_STATIC')

    def test_initialisers_set_the_size_and_nothing_else(self):
        """Every field is listed, which -Wextra asks for, and no compiler warns of the macro in the program that uses it."""
        structs = c_header.initialisers()
        self.assertGreater(len(structs), 5)
        checks = ''.join(f'''
static int wrong_{struct}(void) {{
  {struct} made = {macro};
  const unsigned char* bytes = (const unsigned char*)&made;
  size_t i, bits = 0;
  for (i = sizeof made.struct_size; i < sizeof made; ++i) bits |= bytes[i];
  return made.struct_size != sizeof made || bits != 0;
}}''' for macro, struct in structs.items())
        calls = ' + '.join(f'wrong_{struct}()' for struct in structs.values())
        text = f'#include <cdna.h>\n{checks}\nint main(void) {{ return {calls}; }}\n'
        self.compile(text, [compiler for compiler in COMPILERS if '-Wold-style-cast' not in compiler])
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, 'program')
            subprocess.run(['cc', '-x', 'c', '-', '-o', program, f'-I{c_header.HEADER.parent}'], input=text, text=True, check=True)
            self.assertEqual(subprocess.run([program], check=False).returncode, 0)

    def test_every_options_struct_has_an_initialiser(self):
        options = {name for name in c_header.parse().structs if name.endswith(('_options', '_source', '_sink', '_spec'))}
        self.assertLessEqual(options, set(c_header.initialisers().values()))


class Bindings(unittest.TestCase):
    """What generators of bindings (bindgen, cffi, ctypes) translate without loss."""

    def setUp(self):
        self.header = c_header.parse()

    def declarations(self):
        """Every (where, field or parameter), those of callbacks as well."""
        def of_function(function):
            yield function.name, c_header.Variable(function.returns, 'return')
            for parameter in function.parameters:
                yield from of_variable(function.name, parameter)

        def of_variable(where, variable):
            if variable.callback:
                yield from of_function(variable.callback)
            else:
                yield f'{where}.{variable.name}', variable

        for function in [*self.header.functions.values(), *self.header.callbacks.values()]:
            yield from of_function(function)
        for name, fields in self.header.structs.items():
            for field in fields or []:
                yield from of_variable(name, field)

    def test_types_have_a_fixed_width_or_are_ours(self):
        ours = {*self.header.structs, *self.header.aliases, *self.header.callbacks}
        for where, variable in self.declarations():
            name = re.sub(r'\bconst\b|\*', '', variable.type).strip()
            self.assertIn(name, SCALARS | ours, where)
            if name == 'int':
                self.assertEqual(variable.name, 'descriptor', where)
        self.assertLessEqual(set(self.header.aliases.values()), SCALARS)

    def test_no_bit_fields_enum_types_unions_or_inline_functions(self):
        self.assertNotRegex(self.header.text, r':\s*\d')
        self.assertNotRegex(self.header.text, r'\benum\s+\w|\bunion\b|\binline\b|\.\.\.')
        self.assertNotRegex(self.header.text, r'\)\s*\{')

    def test_structs_have_no_holes(self):
        """A hole would be copied uninitialised, and a field put there would not be at the end."""
        with tempfile.TemporaryDirectory() as folder:
            result = compiled(['gcc', '-std=c99', '-Wpadded'], '#include <cdna.h>\n', folder)
        holes = re.findall(r'warning: .*padding.*', result.stderr)
        self.assertEqual(holes, [])

    def test_names_have_the_prefix(self):
        for name in (*self.header.functions, *self.header.structs, *self.header.aliases, *self.header.callbacks):
            self.assertTrue(name.startswith('cdna_'), name)
        macros = re.findall(r'^\s*#\s*define (\w+)', c_header.HEADER.read_text('utf-8'), re.MULTILINE)
        for name in (*self.header.constants, *macros):
            self.assertTrue(name.startswith('CDNA_'), name)

    def test_structs_begin_with_their_size_unless_they_cannot_grow(self):
        fixed = {name for name, fields in self.header.structs.items() if fields and fields[0].name != 'struct_size'}
        self.assertEqual(fixed, {'cdna_error', 'cdna_matrix', 'cdna_rows'})

    def test_an_error_comes_last_where_there_is_one(self):
        for function in self.header.functions.values():
            if function.returns == 'cdna_code':
                last = function.parameters[-1]
                self.assertEqual((last.type, last.name), ('cdna_error*', 'error'), function.name)


class Documents(unittest.TestCase):
    def test_doxygen_has_nothing_to_complain_about(self):
        with tempfile.TemporaryDirectory() as folder:
            result = subprocess.run(['doxygen', '-'], cwd=DOXYFILE.parent, capture_output=True, text=True,
                                    input=f'{DOXYFILE.read_text()}\nOUTPUT_DIRECTORY = {folder}\nWARN_AS_ERROR = YES\n')
            self.assertEqual((result.returncode, result.stderr), (0, ''))
            page = pathlib.Path(folder, 'html/cdna_8h.html').read_text('utf-8')
            header = c_header.parse()
            for name in header.functions:
                self.assertRegex(page, rf'\b{name}\b.*\(', name)
            # Comments have arrived: of a function, of a field, of a constant.
            self.assertIn('Asks the system to read what rows', page)
            self.assertIn('no more; not an error', page)
            fields = pathlib.Path(folder, 'html/structcdna__error.html').read_text('utf-8')
            self.assertIn('As the caller named it', fields)

    def test_man_page_is_well_formed(self):
        result = subprocess.run(['mandoc', '-T', 'lint', '-W', 'style', str(MAN_PAGE)], capture_output=True, text=True)
        # What it says on stderr is about the database of manuals.
        self.assertEqual(result.stdout, '')

    def test_man_page_has_every_function_and_error_and_no_other(self):
        text = MAN_PAGE.read_text('utf-8')
        header = c_header.parse()
        self.assertEqual(set(re.findall(r'\bFn (cdna_\w+)', text)), set(header.functions))
        codes = re.findall(r'\b(CDNA_\w+) =', codes_of(c_header.HEADER))
        self.assertGreater(len(codes), 10)
        for name in codes:
            self.assertRegex(text, rf'\b{name}\b', name)


def codes_of(path):
    """The enum of errors."""
    return re.search(r'typedef int32_t cdna_code;\s*enum \{(.*?)\};', path.read_text('utf-8'), re.DOTALL)[1]


if __name__ == '__main__':
    script.main(__name__)
