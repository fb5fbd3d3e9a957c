#!/usr/bin/env python3
"""A benchmark program starts, finds its answers right, and prints JSON: smoke_bench.py MIN_ROWS COMMAND...

Nothing is asserted of a timing.
"""
import json
import subprocess
import sys

result = subprocess.run(sys.argv[2:] + ['--benchmark_format=json', '--benchmark_min_time=0.001'], capture_output=True, text=True)
if result.returncode != 0:
    sys.exit(f'status {result.returncode}: {result.stderr}')
report = json.loads(result.stdout)
rows = report['benchmarks']
wrong = [row['name'] for row in rows if row.get('error_occurred')]
names = {row['name'] for row in rows}
print(f'{len(rows)} rows, context {report["context"]}')
if wrong or len(names) < int(sys.argv[1]):
    sys.exit(f'expected {sys.argv[1]} rows, found {sorted(names)}; wrong answers in {wrong}')
