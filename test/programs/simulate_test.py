#!/usr/bin/env python3
"""tools/simulate: rows of a sweep, the same twice, the same from few layers as from all, and refusals in a sentence.

usage: simulate_test.py ROOT BUILD. Status 77 (skipped) where the build has no simulation (-Dsimulate=smpi).
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from tally import check, end

root, build = sys.argv[1:]
if shutil.which('smpirun') is None or not os.path.exists(os.path.join(build, 'tools/simulated/simulated_benchmark.so')):
    print('skipped: smpirun, or a build with -Dsimulate=smpi, is missing')
    sys.exit(77)


def simulate(*words):
    return subprocess.run([os.path.join(root, 'tools/simulate'), '--build', build, '--quiet', *words], capture_output=True,
                          text=True, timeout=120)


def rows(*words):
    result = simulate(*words)
    check(f'{" ".join(words)} succeeds', result.returncode == 0, result.stderr)
    return [json.loads(line) for line in result.stdout.splitlines()]


sweep = ['--platform', '10gbe', '--ranks', '2,16', '--strategy', 'headwise,sequence', '--prompt-len', '2048']
for preset in ['qwen3-0.6b', 'qwen3-8b']:
    for phase in ['prefill', 'decode']:
        found = rows('--model-preset', preset, '--phase', phase, *sweep)
        check(f'{preset}, {phase}: a row for each', [(r['world_size'], r['parallel_strategy'], r['phase']) for r in found] ==
              [(n, s, phase) for n in (2, 16) for s in ('headwise', 'sequence')], found)
        check(f'{preset}, {phase}: marked as simulated', all(r['simulated'] is True and r['platform'] == '10gbe' for r in found))
        check(f'{preset}, {phase}: under the limit of the machines', all(0 < r['percent_of_peak'] < 100 for r in found),
              [r['percent_of_peak'] for r in found])
        check(f'{preset}, {phase}: the parts are the whole', all(
            abs(r['seconds_compute'] + r['seconds_communication'] + r['seconds_waiting'] - r['seconds_median'])
            < 0.02 * r['seconds_median'] for r in found), found)

one = ['--model-preset', 'qwen3-0.6b', '--platform', '100g-fat-tree', '--ranks', '8', '--strategy', 'sequence',
       '--prompt-len', '1000']
first, again, all_layers = rows(*one), rows(*one), rows(*one, '--simulated-layers', '0')
check('two runs are the same', first == again)
few, whole = first[0]['seconds_median'], all_layers[0]['seconds_median']
check('layers that are left out are like those that are simulated', abs(few / whole - 1) < 1e-3, few, whole)
token = ['--model-preset', 'qwen3-0.6b', '--platform', '10gbe', '--ranks', '16', '--strategy', 'sequence:Nxheadwise:4', '--phase', 'decode',
         '--prompt-len', '1000', '--simulated-layers']
few, whole = rows(*token, '2')[0], rows(*token, '0')[0]
for part in ['seconds_median', 'seconds_compute', 'seconds_communication']:
    check(f'of two layers follow those of all: {part}', abs(few[part] / whole[part] - 1) < 5e-3, few[part], whole[part])

# Twice the bandwidth of a network that is all that counts: half the time.
allreduce = 2 * 2 * 7 / 8 * 512 * 1024 * 4 * 28  # bytes that leave a rank: slices out and in, two sums in each of 28 layers
home = rows('--model-preset', 'qwen3-0.6b', '--platform', 'home', '--ranks', '8', '--prompt-len', '512')[0]
wire = allreduce / (0.94e9 / 8)
check('what travels takes its bytes over the bandwidth, and some latency',
      wire <= home['seconds_communication'] <= 1.2 * wire + 28 * 2 * 12 * 3e-4, home['seconds_communication'], wire)

# The planner knows how many messages of a large gather wait for one another.
ring = rows('--model-preset', 'qwen3-8b', '--platform', '10gbe', '--ranks', '32', '--strategy', 'sequence', '--prompt-len', '512', '--plan')[0]
check('what is planned of a gather among many is near what is simulated', abs(ring['planned_seconds'] / ring['seconds_median'] - 1) < 0.15,
      ring['planned_seconds'], ring['seconds_median'])

# What a platform and a machine say counts: latencies, what a message keeps a rank busy for, links within a machine, machines
# that differ, and how fast one thread adds what has come.
layers, hidden = 28, 1024
with tempfile.TemporaryDirectory() as folder:
    def run(phase, network, ranks=8, machine='zen4-16', **more):
        platform = os.path.join(folder, 'platform.json')
        with open(platform, 'w') as out:
            json.dump({'name': 'lab', 'nodes': ranks, 'network': {'topology': 'switch', 'gbit': 10, 'us': 10, **network}, **more}, out)
        return rows('--model-preset', 'qwen3-0.6b', '--platform', platform, '--machine', machine, '--ranks', str(ranks), '--phase', phase,
                    '--prompt-len', '512')[0]['seconds_median']
    near = run('decode', {})
    sums = 2 * layers  # of a row: each waits for a latency at least, and for seven at most
    slower = run('decode', {'us': 110}) - near
    check('a sum waits for latencies', sums * 100e-6 <= slower <= 1.1 * 7 * sums * 100e-6, slower)
    slower = run('decode', {'message_us': 5.5}) - near
    check('a message keeps both ranks busy', 2 * sums * 5e-6 <= slower <= 1.1 * 2 * 7 * sums * 5e-6, slower)
    prompt = run('prefill', {}, ranks=2)
    within = run('prefill', {}, ranks=2, ranks_per_node=2, inside={'gbit': 160, 'us': 1})
    wire = 2 * layers * 512 * hidden * 4 / (0.94e10 / 8)  # of two ranks each sends half a sum twice
    check('ranks of a machine have its inner link', 0.8 * wire < prompt - within < 1.1 * wire, prompt - within, wire)
    for kind, name in [('kernels', 'avx512.json'), ('machines', 'zen4-16.json')]:
        os.mkdir(os.path.join(folder, kind))
        shutil.copy(os.path.join(root, 'tools/simulated', kind, name), os.path.join(folder, kind, name))
    file = os.path.join(folder, 'machines', 'zen4-16.json')
    with open(file) as source:
        machine = json.load(source)
    fast = machine['copy']
    for name, factor, bound in [('copy', 0.1, layers * 2 * 4.5 * 512 / 8 * hidden * 4 * 9 / fast), ('memory', 0.1, 0), ('flops', 0.1, 0)]:
        with open(file, 'w') as out:
            json.dump({**machine, name: machine[name] * factor}, out)
        slower = run('prefill', {}, machine=file) - run('prefill', {})
        check(f'a machine of less {name} takes longer', slower > bound, slower, bound)
    both = run('prefill', {}, machine='zen4-16,zen4-8')
    check('of machines that differ the slower one counts', run('prefill', {}) < both < 1.01 * run('prefill', {}, machine='zen4-8'), both)

# The examples' own text, on ranks and kernels that are simulated: their seconds are simulated ones.
for program in ['example_generate', 'example_qwen3_prefill']:
    if not os.path.exists(os.path.join(build, 'tools/simulated', program + '.so')):
        continue
    seconds = []
    for platform in ['home', '10gbe']:
        ran = simulate('--program', program, '--platform', platform, '--ranks', '4', '--', '--model',
                       os.path.join(root, 'test/golden/qwen3-tiny'), '--input-ids', '1,2,3,4,5', '--parallel-strategy', 'sequence',
                       *(['--max-new-tokens', '3'] if program == 'example_generate' else []))
        check(f'{program} on {platform} ends well', ran.returncode == 0, ran.stderr)
        found = re.search(r'(?:seconds|prefill): ([0-9.]+)', ran.stderr)
        seconds.append(float(found.group(1)) if found else 0)
    check(f'{program}: a faster network takes less time', 0 < seconds[1] < seconds[0], seconds)

# tessera bench writes the rows of a simulation as it does those of a measurement.
bench = os.path.join(build, 'tools/tessera')
if os.path.exists(bench):
    ran = subprocess.run([bench, 'bench', '--simulate', '10gbe', '--preset', 'qwen3-0.6b', '--ranks', '4,16', '--parallel-strategy',
                          'sequence', '--prompt-len', '512', '--gen-len', '1'], capture_output=True, text=True, timeout=120)
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    check('tessera bench --simulate: a row for each', ran.returncode == 0 and [(r['world_size'], r['phase']) for r in found] ==
          [(4, 'prefill'), (4, 'decode'), (16, 'prefill'), (16, 'decode')], ran.stderr, found)
    check('tessera bench --simulate: rows say what they are', all(
        r['simulated'] is True and r['machine']['host'] == '10gbe' and r['commit'] and r['version'] for r in found), found)
    ran = subprocess.run([bench, 'bench', '--simulate', '10gbe', '--preset', 'qwen3-0.6b', '--attention-algo', 'standard'],
                         capture_output=True, text=True, timeout=120)
    check('tessera bench --simulate: refuses the softmax that is not simulated', ran.returncode == 1 and
          'expected --attention-algo online_softmax, found standard' in ran.stderr, ran.stderr)

# Ranks that share a core take their turns on it; one that waits does not stop the other for longer than its patience.
machine = os.path.join(root, 'tools/simulated/machines/zen4-2.json')
with tempfile.TemporaryDirectory() as folder:
    def seconds(ranks, cores):
        platform = os.path.join(folder, 'platform.json')
        shared = {'shared_cores': {'cores': cores, 'of_a_byte': 1e-10, 'patience': 1e-3}} if cores else {}
        with open(platform, 'w') as out:
            json.dump({'name': 'lab', 'nodes': 4, 'network': {'topology': 'switch', 'gbit': 1000, 'us': 1}, **shared}, out)
        return rows('--model-preset', 'qwen3-0.6b', '--platform', platform, '--machine', machine, '--ranks', str(ranks), '--strategy',
                    'sequence', '--prompt-len', '512')[0]['seconds_median']
    alone = seconds(4, 0)
    check('a core for each rank is as cores of their own', abs(seconds(4, 4) / alone - 1) < 0.05, alone)
    check('two ranks to a core take twice as long', 1.9 < seconds(4, 2) / alone < 2.3, alone)

# What --validate counts as the wrong order: not what repetitions differ by.
sys.path.insert(0, os.path.join(root, 'tools/simulated'))
sys.dont_write_bytecode = True
from validate import disordered, keys_of, once_more, rounds_of  # noqa: E402
check('validate: pairs in another order', disordered({'a': (1.0, 0.1, 2.0), 'b': (1.2, 0.1, 1.0)}) == ['a and b'])
check('validate: in the same order', disordered({'a': (1.0, 0.1, 1.0), 'b': (1.2, 0.1, 2.0)}) == [])
check('validate: the same policy', disordered({'a': (1.0, 0.1, 1.5), 'b': (1.2, 0.1, 1.5)}) == [])
check('validate: measured equal', disordered({'a': (1.0, 0.1, 2.0), 'b': (1.2, 0.3, 1.0)}) == [])

# A repetition that was disturbed is measured once more, and does not count then.
class Measured:
    found = {key: {'prefill': [1.0], 'decode': [1.0]} for key in keys_of(2)}


cell = (1000, 4, 'headwise')
check('validate: nothing was disturbed', once_more(Measured, 2) == [])
Measured.found[(*cell, 1)] = {'prefill': [1.9], 'decode': [2.1]}
check('validate: a disturbed repetition is measured again', once_more(Measured, 2) == [(*cell, 2)], once_more(Measured, 2))
Measured.found[(*cell, 2)] = {'prefill': [1.5], 'decode': [1.2]}
check('validate: and does not count then', once_more(Measured, 2) == [] and rounds_of(Measured, cell, 'decode', 2) == [1.0, 1.2] and
      rounds_of(Measured, cell, 'prefill', 2) == [1.0, 1.9, 1.5], rounds_of(Measured, cell, 'decode', 2))

for words, said, status in [
        (['--platform', 'nowhere'], 'platform nowhere: expected one of 100g-fat-tree, 10gbe,', 2),
        (['--platform', '10gbe', '--machine', 'abacus'], 'machine abacus: expected one of', 2),
        (['--platform', '10gbe', '--ranks', '64'], 'expected at most as many ranks as query heads (16), found 64 ranks', 1),
        (['--platform', '10gbe', '--ranks', '2', '--strategy', 'sideways'], 'sideways is not among headwise', 1),
        (['--platform', 'home', '--ranks', '17'], 'home: expected at most 16 ranks, found 17', 1)]:
    result = simulate('--model-preset', 'qwen3-0.6b', *words)
    check(f'{words}: refused in a sentence', result.returncode == status and said in result.stderr
          and result.stderr.count('error') <= 1, result.returncode, result.stderr)
end()
