#!/usr/bin/env python3
"""benchmark_qwen3 and tessera bench: every flag does what it says, reports parse, and say the path taken.

usage: benchmark_test.py TOOLS_DIR GOLDEN_DIR MPIEXEC ROOT; nothing is asserted of a timing.
"""
import csv
import glob
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from tally import check, end

tools, golden, mpiexec, root = sys.argv[1:]
BENCHMARK = os.path.join(tools, 'benchmark_qwen3')
TESSERA = os.path.join(tools, 'tessera')
MODEL = os.path.join(golden, 'qwen3-tiny')
SMALL = {'--model': MODEL, '--prompt-len': '16', '--gen-len': '3', '--iters': '2', '--warmup': '0', '--peak-mib': '8',
         '--threads': '1'}


def run(*arguments, ranks=1, program=BENCHMARK):
    start = [mpiexec, '-n', str(ranks)] if ranks > 1 else []
    return subprocess.run(start + [program, *arguments], capture_output=True, text=True, timeout=300)


def small(*arguments):
    """The arguments, and of the options of a short run those that they do not have."""
    return [word for option, value in SMALL.items() if option not in arguments for word in (option, value)] + [*arguments]


def rows(*arguments, ranks=1):
    result = run(*small('--format', 'json', *arguments), ranks=ranks)
    if result.returncode != 0:
        check(f'{arguments}', False, result.stderr)
        return [{}]
    return json.loads(result.stdout)


def path(row, *names):
    return tuple(row.get(name) for name in names)


FIELDS = ['phase', 'prompt_len', 'gen_len', 'world_size', 'threads', 'parallel_strategy', 'attention_algo',
          'tokens_per_second', 'seconds_median', 'seconds_min', 'seconds_max', 'bytes_private', 'percent_of_peak']

both = rows('--prompt-len', '8,16')
check('a row for each phase and length', [path(r, 'phase', 'prompt_len') for r in both] ==
      [('prefill', 8), ('decode', 8), ('prefill', 16), ('decode', 16)], both)
check('every field is there', all(field in row for row in both for field in FIELDS), both[0].keys())
check('tok/s is tokens over the median', all(
    abs(r['tokens_per_second'] * r['seconds_median'] / (r['prompt_len'] if r['phase'] == 'prefill' else 3) - 1) < 1e-3
    for r in both), both)
check('the median lies between the extremes', all(r['seconds_min'] <= r['seconds_median'] <= r['seconds_max'] for r in both))
check('one phase', [r['phase'] for r in rows('--phase', 'decode')] == ['decode'])

check('--method baseline', path(rows('--method', 'baseline', '--phase', 'prefill')[0], 'method', 'simd', 'isa', 'world_size')
      == ('baseline', 'scalar', 'scalar', 1))
avx2 = rows('--method', 'avx2', '--mode', 'omp', '--threads', '2', '--phase', 'prefill')[0]
check('--method avx2 --mode omp', path(avx2, 'method', 'mode', 'simd', 'threads') == ('avx2', 'omp', 'native', 2), avx2)
mpi = rows('--method', 'mpi', '--threads', '1', '--phase', 'prefill', ranks=2)[0]
check('--method mpi', path(mpi, 'method', 'mode', 'simd', 'world_size') == ('mpi', 'mpi', 'scalar', 2), mpi)
both_of = rows('--method', 'mpi+avx2', '--mode', 'mpi', '--parallel-strategy', 'sequence', '--phase', 'prefill', ranks=2)[0]
check('--method mpi+avx2', path(both_of, 'method', 'simd', 'parallel_strategy') == ('mpi+avx2', 'native', 'sequence'), both_of)
check('--mode serial', path(rows('--mode', 'serial', '--phase', 'prefill')[0], 'mode', 'threads') == ('serial', 1))

result = run(*small('--phase', 'prefill', '--format', 'json', '--attention', 'standard'))
check('--attention standard, and that it is deprecated',
      path(json.loads(result.stdout)[0], 'parallel_strategy', 'attention_algo') == ('headwise', 'standard')
      and result.stderr.count('deprecated') == 1, result.stderr)
streaming = rows('--phase', 'prefill', '--attention', 'standard', '--attention-algo', 'online_softmax')[0]
check('new options win over --attention', streaming.get('attention_algo') == 'online_softmax')

said = run('--model', MODEL, '--phase', 'prefill', '--gen-len', '3', '--prompt-len', '8', '--iters', '1', '--peak-mib', '8').stderr
check('--gen-len under --phase prefill is said to change nothing', said.count('--gen-len is about decode') == 1, said)

blocks = rows('--phase', 'prefill', '--q-block-size', '16', '--kv-block-size', '5')[0]
check('block sizes', path(blocks, 'q_block_size', 'kv_block_size') == (16, 5), blocks)
batch = rows('--phase', 'decode', '--batch-size', '3')[0]
check('--batch-size counts the tokens of all sequences',
      abs(batch['tokens_per_second'] * batch['seconds_median'] / 9 - 1) < 1e-3, batch)
check('--compare-kv-cache', [r['kv_cache'] for r in rows('--phase', 'decode', '--compare-kv-cache')] == [True, False])
check('--compare-kv-cache says how many times as fast',
      'times as fast with a KV cache' in run(*small('--phase', 'decode', '--compare-kv-cache')).stdout)
check('--no-kv-cache', [r['kv_cache'] for r in rows('--phase', 'decode', '--no-kv-cache')] == [False])
check('--use-kv-cache', [r['kv_cache'] for r in rows('--phase', 'decode', '--use-kv-cache')] == [True])

result = run('--model', MODEL, '--verify', '1,2,3', '--threads', '1', ranks=2)
check('--verify IDS', result.returncode == 0 and '3 ids' in result.stdout and 'verified' in result.stdout, result.stdout)
result = run('--model', MODEL, '--verify', '1,2,3', '--weights', 'int8', '--threads', '1')
check('--verify of weights in blocks', result.returncode == 0 and 'root mean square' in result.stdout, result.stdout)
result = run('--model', os.path.join(MODEL, 'model.safetensors'), '--verify')
check('--verify of its own ids, and the file itself as the model', result.returncode == 0 and '18 ids' in result.stdout,
      result.stdout + result.stderr)
check('--verbose says more', 'timing prefill' in run(*small('--phase', 'prefill', '--verbose')).stderr)

table = run(*small('--format', 'csv')).stdout
lines = list(csv.DictReader(io.StringIO(table)))
check('CSV', len(lines) == 2 and float(lines[0]['tokens_per_second']) > 0 and lines[1]['phase'] == 'decode', table)
table = run(*small()).stdout
lines = [line for line in table.splitlines() if line.startswith('|')]
check('markdown', len(lines) == 4 and len({line.count('|') for line in lines}) == 1, table)
check('markdown says path and peak', 'mode ' in table and 'GFLOP/s' in table and 'MPI_Init' in table, table)


def refused(name, text, *arguments, ranks=1):
    result = run(*small(*arguments), ranks=ranks)
    check(name, result.returncode == 2 and text in result.stderr, f'{result.returncode}: {result.stderr}')


refused('a method of one rank on two', 'is one rank, found 2', '--method', 'avx2', ranks=2)
refused('a mode of one rank on two', 'is one rank, found 2', '--mode', 'omp', ranks=2)
refused('serial with threads', 'is one thread', '--mode', 'serial', '--threads', '2')
refused('a mode against a method', 'contradict', '--mode', 'mpi', '--method', 'avx2')
refused('--simd against a method', 'contradict', '--simd', 'native', '--method', 'baseline')
refused('key blocks of standard attention', 'all keys at once', '--attention-algo', 'standard', '--kv-block-size', '8')
refused('with and without a cache', 'excludes', '--use-kv-cache', '--no-kv-cache')
refused('a comparison of caches without decode', 'about decode', '--phase', 'prefill', '--compare-kv-cache')
refused('no cache without decode', 'about decode', '--phase', 'prefill', '--no-kv-cache')
refused('ids that are none', '--verify: expected ids', '--verify', '1,x')
refused('a trace of what is not timed', 'excludes', '--verify', '--trace', 'trace.json')
refused('more words and none', 'excludes', '--verbose', '--quiet')
check('no model', 'DIR or --preset' in run('--phase', 'prefill').stderr)

with tempfile.TemporaryDirectory() as folder:
    trace = os.path.join(folder, 'trace.json')
    rows('--trace', trace, '--threads', '1', ranks=2)
    events = json.load(open(trace))['traceEvents']
    lanes = {(e['pid'], e['tid']) for e in events if e['ph'] == 'X'}
    check('--trace has a lane for each rank', lanes == {(0, 0), (1, 0)}, lanes)
    check('--trace has layers, kernels and collectives with bytes',
          {'layer', 'kernel', 'collective'} <= {e.get('cat') for e in events}
          and any(e.get('args', {}).get('bytes', 0) > 0 for e in events))

    out = os.path.join(folder, 'bench.jsonl')
    result = run('bench', '--model', MODEL, '--ranks', '1,2', '--threads', '1', '--parallel-strategy', 'headwise,sequence',
                 '--prompt-len', '8,16', '--gen-len', '2', '--iters', '1', '--oversubscribe', '--mpiexec', mpiexec, '--out', out,
                 program=TESSERA)
    lines = [json.loads(line) for line in open(out)] if os.path.exists(out) else []
    check('tessera bench sweeps', result.returncode == 0 and len(lines) == 2 * 2 * 2 * 2, result.stderr)
    check('its lines say where', all(line['machine']['cpu'] and line['compiler'] and line['commit'] for line in lines))
    result = run('bench', '--model', MODEL, '--ranks', '1', '--threads', '1', '--parallel-strategy', 'none', program=TESSERA)
    check('a run that fails is said', result.returncode == 1 and 'none is not among' in result.stderr, result.stderr)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print('skipped - plot_bench: no matplotlib')
    else:
        result = subprocess.run([sys.executable, os.path.join(root, 'tools', 'plot_bench'), out, '--out', folder],
                                capture_output=True, text=True)
        names = ['scaling', 'prefill_roofline', 'decode_context', 'time_split']
        check('plot_bench draws four pictures', result.returncode == 0 and
              all(os.path.getsize(os.path.join(folder, f'{name}.svg')) > 1000 for name in names), result.stderr)


def left_by(number, *command):
    """What is left of random weights when a signal ends a program, and all that it started, while it uses them."""
    with tempfile.TemporaryDirectory() as folder:
        def within(seconds, holds):
            end = time.time() + seconds
            while not holds() and time.time() < end:
                time.sleep(0.05)
            return holds()

        process = subprocess.Popen([*command, '--preset', 'qwen2-0.5b', '--layers', '1', '--threads', '1', '--phase', 'prefill',
                                    '--prompt-len', '64', '--iters', '100000'], start_new_session=True,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, 'TMPDIR': folder})
        made = within(120, lambda: glob.glob(os.path.join(folder, 'tessera-random-*', 'config.json')))
        os.killpg(process.pid, number)
        status = process.wait()
        within(60, lambda: not os.listdir(folder))
        return (bool(made), status, os.listdir(folder))


for number in (signal.SIGINT, signal.SIGKILL):
    found = left_by(number, BENCHMARK)
    check(f'{number.name} leaves no weights of --preset', found == (True, -number, []), found)
found = left_by(signal.SIGTERM, TESSERA, 'bench', '--ranks', '1')
check('nor does SIGTERM of tessera bench', found == (True, -signal.SIGTERM, []), found)

end()
