#!/usr/bin/env python3
"""`tessera plan` against what ranks then take, and a model that does not fit.

usage: plan_test.py MEASURES TESSERA GOLDEN_DIR MPIEXEC...        MEASURES: no under sanitizers, which take memory of their own
"""
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from tally import check, end

measures, tessera, golden, *mpiexec = sys.argv[1:]


def without_huge_pages():
    PR_SET_THP_DISABLE = 41
    assert ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0


def run(*words, ranks=1, before=None):
    launcher = [*mpiexec, '-n', str(ranks)] if ranks > 1 else []
    return subprocess.run([*launcher, tessera, *words], capture_output=True, text=True, timeout=120, preexec_fn=before)


def plan(*options):
    result = run('plan', *options, '--format', 'json')
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def own(memory):
    return memory['cache'] + memory['activations'] + memory['exchange']


def used_is_planned(model, prompt, strategy, ranks, *options, huge_pages=False):
    """What the rank that took the most was planned to take and took: the plan counts what is touched, which is what pages
    of 4 KiB show. A huge page is taken whole, at either end of what is touched."""
    if measures == 'no':
        return
    ids = ','.join(str(7 * i % 5000) for i in range(prompt))
    result = run('generate', '--model', model, '--input-ids', ids, '--max-new-tokens', '4', '--threads', '1',
                 '--parallel-strategy', strategy, '--chunk', '512', '--collectives', 'mpi', '--overlap', 'off',
                 *options, ranks=ranks, before=None if huge_pages else without_huge_pages)
    said = re.search(r'own memory of a rank: ([0-9.]+) MB planned, ([0-9.]+) MB used', result.stderr)
    if not said:
        return check(f'{strategy}: the memory is said', False, result.stderr)
    planned, used = map(float, said.groups())
    name = ' '.join([strategy, *options])
    if huge_pages:
        check(f'{name}, {ranks} ranks: {used} MB used on huge pages, {planned} MB planned',
              0.9 * planned <= used <= 1.1 * planned + 10)
        return
    check(f'{name}, {ranks} ranks: {used} MB used, {planned} MB planned', abs(used - planned) <= 0.1 * planned)
    if options:
        return
    figures = plan('--model', model, '-n', str(ranks), '--parallel-strategy', strategy, '--chunk', '512',
                   '--prompt-len', str(prompt), '--gen-len', '4')['ranks']
    check(f'{strategy}: tessera plan says the same', any(abs(own(r['memory']) / 1e6 - planned) < 0.1 for r in figures),
          planned, [own(r['memory']) for r in figures])


def main():
    with tempfile.TemporaryDirectory() as scratch:
        model = os.path.join(scratch, 'model')
        made = run('make-model', '--preset', 'qwen3-0.6b', '--layers', '2', '--out', model)
        assert made.returncode == 0, made.stderr
        for strategy in ('headwise', 'headwise_scattered', 'sequence', 'sequence_ring', 'ulysses'):
            used_is_planned(model, 2500, strategy, 2)
            used_is_planned(model, 2500, strategy, 2, huge_pages=True)
        used_is_planned(model, 2500, 'sequence:2xheadwise:2', 4)
        used_is_planned(model, 2500, 'sequence_ring', 2, '--attention-algo', 'standard')
        for strategy in ('headwise', 'sequence'):
            for options in (['--weights', 'int8'], ['--kv-cache', 'int8'], ['--copy-weights'], ['--attention-algo', 'standard']):
                used_is_planned(model, 2500, strategy, 2, *options)

        wide = os.path.join(scratch, 'wide')
        shutil.copytree(os.path.join(golden, 'qwen3-tiny'), wide)
        file = os.path.join(wide, 'config.json')
        os.chmod(file, 0o644)
        config = json.load(open(file))
        config['max_position_embeddings'] = (1 << 31) - 1
        json.dump(config, open(file, 'w'))
        result = run('generate', '--model', wide, '--input-ids', '1,2,3', '--max-new-tokens', str(1 << 30), ranks=2)
        check('a model that does not fit is refused', result.returncode == 1 and re.search(
            r'memory: expected [0-9.]+ GB of free memory .* for 2 ranks with \d+ positions of 1 sequence; found '
            r'[0-9.]+ GB, which has room for [1-9]\d* positions', result.stderr), result.stderr)
        room = re.search(r'room for (\d+) positions', result.stderr)
        result = run('generate', '--model', wide, '--input-ids', '1,2,3', '--max-new-tokens', '2', '--ignore-memory',
                     ranks=2)
        check('--ignore-memory is heard', result.returncode == 0, result.stderr)
        memory = plan('--model', wide, '-n', '2', '--prompt-len', '3', '--gen-len', str(int(room.group(1)) - 3))
        check('what is said to fit is what the plan has', memory['ranks'][0]['memory']['cache'] > 0)

    slow = plan('--preset', 'qwen3-8b', '-n', '4', '--bandwidth', '0.1', '--latency', '2000', '--gen-len', '1')
    fast = plan('--preset', 'qwen3-8b', '-n', '4', '--bandwidth', '100', '--latency', '5', '--gen-len', '512')
    check('a slow network and a long prompt: no sums of activations in prefill',
          slow['advice'][0]['parallel_strategy'] in ('sequence', 'sequence_ring', 'ulysses'), slow['advice'][0])
    check('a fast network and a long answer: decode by heads', fast['advice'][0]['decode_strategy'] == 'headwise',
          fast['advice'][0])
    weights = [plan('--preset', 'qwen3-8b', '-n', str(n))['chosen']['largest_rank']['weights'] for n in (1, 2, 4, 8)]
    check('weights of a rank fall as 1/P', all(abs(w * n / weights[0] - 1) < 0.01
                                               for w, n in zip(weights, (1, 2, 4, 8))), weights)
    text = run('plan', '--preset', 'llama3-70b', '-n', '16', '--parallel-strategy', 'sequence:2xheadwise:8')
    check('the text ends with advice', text.returncode == 0 and '\nadvice: --parallel-strategy ' in text.stdout, text)
    for words, expected in ((['--preset', 'qwen3-8b', '-n', '64'], 'at most as many ranks as query heads'),
                            (['--preset', 'gpt-5', '-n', '2'], 'preset: expected one of'),
                            (['-n', '2'], '--model DIR or --preset NAME'),
                            (['--preset', 'qwen3-8b', '-n', '2', '--context', '50000'], 'positions'),
                            (['--preset', 'qwen3-8b', '-n', '2', '--context', '4096', '--prompt-len', '5000'], 'positions or more')):
        result = run('plan', *words)
        check(f'plan {" ".join(words)} is refused', result.returncode != 0 and expected in result.stderr, result.stderr)
    end()


if __name__ == '__main__':
    main()
