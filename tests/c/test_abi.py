"""Tests that the ABI of libcdna.so is the recorded one, and what the library shows and needs.

    python3 test_abi.py BUILD       compares cdna.h and BUILD/bindings/c/libcdna.so with bindings/c/abi
    python3 test_abi.py --refresh   records cdna.h as it is now

A change that breaks compiled programs needs another major version (CDNA_ABI_VERSION, the soname, the node in exports.map); a
compatible one the next minor version. Both are recorded by --refresh. Ends with "N passed, N failed".
"""
import pathlib
import re
import sys
import tempfile
import unittest

import abi_record
import c_header
import script

REFRESH = 'compatible, and not recorded: add 1 to CDNA_ABI_VERSION if it was released, and run ' \
          'python3 tests/c/test_abi.py --refresh'


def compare(header_path):
    """(what breaks compiled programs, whether anything else differs from the record)."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        new_layout = abi_record.layout(header_path, folder)
        old_layout = abi_record.LAYOUT.read_text()
        library = abi_record.empty_library(header_path, folder)
        breaks = [*abi_record.layout_breaks(old_layout, new_layout), *abi_record.function_breaks(library)]
        return breaks, new_layout != old_layout or abi_record.functions_differ(library)


class Record(unittest.TestCase):
    def test_header_is_as_recorded(self):
        breaks, differs = compare(c_header.HEADER)
        self.assertFalse(breaks, '\n'.join(breaks))
        self.assertFalse(differs, REFRESH)

    def changed(self, old, new):
        """compare() of the header with one passage replaced."""
        text = c_header.HEADER.read_text('utf-8')
        self.assertEqual(text.count(old), 1, old)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, 'cdna.h')
            path.write_text(text.replace(old, new), 'utf-8')
            return compare(path)

    def test_what_breaks_programs_is_found(self):
        for old, new in (
                ('CDNA_API uint32_t cdna_dtype_bits(uint32_t dtype);', ''),
                ('CDNA_API uint32_t cdna_dtype_bits(uint32_t dtype);', 'CDNA_API uint32_t cdna_dtype_bits(uint64_t dtype);'),
                ('CDNA_API uint32_t cdna_dtype_bits(', 'CDNA_API uint64_t cdna_dtype_bits('),
                ('  uint64_t items_max;', '  uint32_t more;\n  uint64_t items_max;'),
                ('  uint64_t items_max;', '  uint64_t limit_of_items;'),
                ('  char message[512];', '  char message[256];'),
                ('} cdna_error;', '  uint64_t more;\n} cdna_error;'),
                ('  CDNA_EXISTS = 34,', '  CDNA_EXISTS = 39,')):
            with self.subTest(old=old, new=new):
                breaks, _ = self.changed(old, new)
                self.assertTrue(breaks)

    def test_what_is_new_does_not_break_programs(self):
        for old, new in (
                ('CDNA_API uint32_t cdna_dtype_bits(', 'CDNA_API uint32_t cdna_new(void);\nCDNA_API uint32_t cdna_dtype_bits('),
                ('} cdna_open_options;', '  uint64_t more;\n} cdna_open_options;'),
                ('  CDNA_CANCELLED = 37', '  CDNA_CANCELLED = 37,\n  CDNA_NEW = 38')):
            with self.subTest(old=old, new=new):
                breaks, differs = self.changed(old, new)
                self.assertFalse(breaks, '\n'.join(breaks))
                self.assertTrue(differs)


class Library(unittest.TestCase):
    def setUp(self):
        self.library = script.build / 'bindings/c/libcdna.so'

    def test_exports_are_the_functions_of_the_header_in_one_version(self):
        result = abi_record.run([sys.executable, c_header.ROOT / 'tests/exports.py', self.library, c_header.HEADER])
        self.assertEqual(result.returncode, 0, result.stdout)
        names = re.findall(r' T (\S+)', abi_record.run(['nm', '-D', '--defined-only', self.library], check=True).stdout)
        self.assertEqual(set(names), {f'{name}@@CDNA_1' for name in c_header.parse().functions})

    def test_it_needs_the_compressors_libcrypto_and_the_languages_only(self):
        lines = abi_record.run(['readelf', '-dW', self.library], check=True).stdout
        needed = {name.split('.so')[0] for name in re.findall(r'\(NEEDED\).*\[(.*)\]', lines)}
        self.assertEqual(needed - {'ld-linux-x86-64', 'ld-linux-aarch64'},
                         {'libzstd', 'libbrotlienc', 'libbrotlidec', 'libz', 'liblz4', 'libcrypto', 'libstdc++', 'libm', 'libgcc_s',
                          'libc'})
        self.assertNotRegex(lines, r'\((TEXTREL|RPATH)\)')

    def test_the_soname_and_the_node_have_the_major_version(self):
        major = int(re.search(r'#define CDNA_ABI_VERSION (0x[0-9a-f]+)u', c_header.HEADER.read_text())[1], 16) >> 16
        lines = abi_record.run(['readelf', '-dW', self.library], check=True).stdout
        self.assertIn(f'[libcdna.so.{major}]', lines)
        self.assertIn(f'CDNA_{major} {{', (c_header.ROOT / 'bindings/c/exports.map').read_text())

    def test_it_can_be_unloaded(self):
        """STB_GNU_UNIQUE symbols would keep it."""
        lines = abi_record.run(['readelf', '-sW', '--dyn-syms', self.library], check=True).stdout
        self.assertNotIn(' UNIQUE ', lines.split("Symbol table '.symtab'")[0])


if __name__ == '__main__':
    if sys.argv[1:] == ['--refresh']:
        with tempfile.TemporaryDirectory() as place:
            abi_record.write(pathlib.Path(place))
    else:
        script.main(__name__)
