#!/usr/bin/env python3
"""What carries data between ranks leaves no trace in a program's logits, and the program says what it chose.

usage: rank_options_test.py TESSERA GOLDEN_DIR MPIEXEC...
"""
import json
import os
import re
import struct
import subprocess
import sys
import tempfile

from tally import check, end

tessera, golden, *mpiexec = sys.argv[1:]
model = os.path.join(golden, 'qwen3-tiny')
prompt = ','.join(str(7 * i % 300) for i in range(150))


def logits_of(path):
    """The bytes of the tensor `logits`."""
    with open(path, 'rb') as file:
        data = file.read()
    length = struct.unpack('<Q', data[:8])[0]
    begin, end = json.loads(data[8:8 + length])['logits']['data_offsets']
    return data[8 + length + begin:8 + length + end]


def run(ranks, *options):
    """Logits and what was said on standard error."""
    with tempfile.NamedTemporaryFile() as file:
        command = [*mpiexec, '-n', str(ranks), tessera, 'generate', '--model', model, '--input-ids', prompt,
                   '--max-new-tokens', '3', '--dump-logits', file.name, *options]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        return logits_of(file.name), result.stderr


def error_of(logits, exact):
    """The largest difference, in standard deviations of all logits."""
    a = struct.unpack(f'<{len(logits) // 4}f', logits)
    b = struct.unpack(f'<{len(exact) // 4}f', exact)
    mean = sum(b) / len(b)
    deviation = (sum((x - mean)**2 for x in b) / len(b))**0.5
    return max(abs(x - y) for x, y in zip(a, b)) / deviation


for ranks, strategy in ((2, 'headwise'), (3, 'headwise_scattered'), (2, 'sequence_ring')):
    exact, said = run(ranks, '--parallel-strategy', strategy, '--collectives', 'mpi', '--overlap', 'off')
    check(f'{strategy}: --collectives mpi is what is said', 'collectives: mpi\n' in said, said)
    for options, expected in ((('--collectives', 'shm'), 'collectives: shared memory\n'),
                              (('--collectives', 'auto'), r'collectives: .*\(measured\)\n'),
                              (('--collectives', 'mpi', '--overlap', 'on'), 'transfers hidden behind prefill'),
                              (('--collectives', 'shm', '--overlap', 'on'), 'transfers hidden behind prefill'),
                              (('--binding', 'none'), r'threads \d+ each \(.*not bound')):
        logits, said = run(ranks, '--parallel-strategy', strategy, *options)
        name = f'{strategy}, {ranks} ranks, {" ".join(options)}'
        if '--overlap' in options:  # a kernel may group its sums by the number of rows
            check(name + ': the same logits', error_of(logits, exact) < 1e-4)
        else:
            check(name + ': the same bits', logits == exact)
        check(name + ': the report says so', re.search(expected, said), said)

exact, _ = run(3)
for wire, least, most in (('bf16', 1e-6, 0.15), ('q8', 1e-6, 0.4)):
    for strategy in ('headwise', 'headwise_scattered'):
        logits, said = run(3, '--parallel-strategy', strategy, '--wire', wire)
        error = error_of(logits, exact)
        check(f'--wire {wire}, {strategy}: near, and not the same', least < error < most, error)
        check(f'--wire {wire}, {strategy}: the error is said',
              re.search(rf'sent as {wire} with a relative error of 0\.00\d+ ', said), said)
own, said = run(2, '--collectives', 'mpi-own')
check('--collectives mpi-own: near', error_of(own, exact) < 1e-3)
check('--collectives mpi-own: the report says so', 'an order of its own' in said, said)

for collectives, expected in (('mpi', 'mpi'), ('shm', 'shared memory'), ('auto', 'mpi or shared memory')):
    result = subprocess.run([*mpiexec, '-n', '2', tessera, 'verify', model, '--collectives', collectives],
                            capture_output=True, text=True, timeout=120)
    check(f'verify --collectives {collectives}: every combination is right', result.returncode == 0, result.stdout)
    check(f'verify --collectives {collectives}: is what ranks talk through',
          f'2 ranks; collectives: {expected}\n' in result.stderr, result.stderr)
end()
