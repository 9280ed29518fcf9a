"""Checks that a shared library exports the functions of its C header and nothing else.

    exports.py LIBRARY HEADER
"""
import re
import subprocess
import sys

library, header = sys.argv[1:]
lines = subprocess.run(['nm', '-D', '--defined-only', library], check=True, capture_output=True, text=True).stdout
exported = {line.split()[-1].split('@')[0] for line in lines.splitlines() if line.split()[-2] not in 'A'}
with open(header, encoding='utf-8') as file:
    declared = set(re.findall(r'^CDNA_(?:CUDA_)?API .*?\b(cdna_\w+)\(', file.read(), re.MULTILINE))
wrong = sorted(exported ^ declared)
for name in wrong:
    print(f'{name}: {"exported, and not in the header" if name in exported else "in the header, and not exported"}')
print(f'{len(declared & exported)} passed, {len(wrong)} failed')
sys.exit(1 if wrong or not declared else 0)
