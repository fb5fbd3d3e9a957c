#!/usr/bin/env python3
"""`tessera quantize` on several ranks: the same files as from one, and one sentence where something is wrong.

usage: quantize_test.py TESSERA DEMO_DIR MPIEXEC...
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

from tally import check, end

tessera, demo, *mpiexec = sys.argv[1:]


def quantize(model, out, *options, ranks=1):
    launcher = [*mpiexec, '-n', str(ranks)] if ranks > 1 else []
    return subprocess.run([*launcher, tessera, 'quantize', model, '--format', 'int8', '--out', out, *options],
                          capture_output=True, text=True, timeout=120)


def files(folder):
    return {name: open(os.path.join(folder, name), 'rb').read() for name in sorted(os.listdir(folder))}


def with_nan(model, tensor):
    """Makes the first weight of a tensor no number; the name of its file."""
    file = os.path.join(model, 'model.safetensors')
    os.chmod(file, 0o644)
    with open(file, 'r+b') as f:
        length = struct.unpack('<Q', f.read(8))[0]
        f.seek(8 + length + json.loads(f.read(length))[tensor]['data_offsets'][0])
        f.write(b'\xC0\x7F')


def main():
    with tempfile.TemporaryDirectory() as scratch:
        out = lambda name: os.path.join(scratch, name)
        # Files of half a MB are more than ranks, one file is fewer.
        for size in ('0.0005', '1'):
            one = quantize(demo, out('one'), '--shard-size', size)
            check('one rank', one.returncode == 0, one.stderr)
            for ranks in (2, 3):
                several = quantize(demo, out(f'of-{ranks}'), '--shard-size', size, ranks=ranks)
                check(f'{ranks} ranks, one line', several.returncode == 0 and several.stdout.count('\n') == 1, several)
                check(f'{ranks} ranks, files of {size} GB: the same files as from one, and no other',
                      files(out('one')) == files(out(f'of-{ranks}')), files(out(f'of-{ranks}')).keys())
            for folder in ('one', 'of-2', 'of-3'):
                shutil.rmtree(out(folder))

        # What one rank cannot convert ends all, and complete files stay for the next run of the same task.
        damaged = out('damaged')
        shutil.copytree(demo, damaged)
        with_nan(damaged, 'model.norm.weight')
        good = quantize(damaged, out('good'), '--shard-size', '0.0005')  # norms stay as they are: no number is one
        check('norms are copied', good.returncode == 0, good.stderr)
        with_nan(damaged, 'model.layers.1.mlp.up_proj.weight')
        result = quantize(damaged, out('bad'), '--shard-size', '0.0005', ranks=3)
        check('a weight that is no number: one sentence, of the rank that found it',
              result.returncode == 1 and result.stderr.count('error:') == 1 and 'up_proj' in result.stderr
              and 'rank' in result.stderr, result)
        left = os.listdir(out('bad')) if os.path.exists(out('bad')) else []
        check('no file is in sight', left == ['.part'], left)
        kept = [name for name in os.listdir(os.path.join(out('bad'), '.part')) if name.endswith('.safetensors')]
        check('complete files are kept, parts are not', kept and not any(
            '.part-' in name for name in os.listdir(os.path.join(out('bad'), '.part'))), kept)

        # A folder that is another one on each rank, as on hosts that share none: here by the working folder.
        apart = [out('here'), out('there')]
        for folder in apart:
            os.mkdir(folder)
        words = [os.path.abspath(tessera), 'quantize', os.path.abspath(demo), '--format', 'int8', '--out', 'out']
        result = subprocess.run([*mpiexec, '-n', '1', 'sh', '-c', f'cd {apart[0]} && exec "$@"', 'sh', *words, ':',
                                 '-n', '1', 'sh', '-c', f'cd {apart[1]} && exec "$@"', 'sh', *words],
                                capture_output=True, text=True, timeout=120)
        check('ranks that do not see one folder', result.returncode == 1 and
              'folders of --out' in result.stderr and 'rank 1 of 2' in result.stderr, result)
        check('nothing is left in either', not any(os.listdir(folder) for folder in apart), apart)

        result = quantize(demo, out('x'), '--lm-head', 'int3', ranks=2)
        check('a wrong option: status 2, one sentence', result.returncode == 2 and result.stderr.count('error:') == 1, result)
    end()


if __name__ == '__main__':
    main()
