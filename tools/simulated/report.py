"""The sweep of docs/scaling.md: its rows, its tables and its pictures. Run by tools/simulate --report."""
import concurrent.futures
import csv
import hashlib
import itertools
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

MODELS = ['qwen3-0.6b', 'qwen3-8b', 'qwen3-32b', 'llama2-7b', 'llama2-70b']
NAMES = {'qwen3-0.6b': 'Qwen3-0.6B', 'qwen3-8b': 'Qwen3-8B', 'qwen3-32b': 'Qwen3-32B', 'llama2-7b': 'Llama-2-7B', 'llama2-70b': 'Llama-2-70B'}
PLATFORMS = ['10gbe', '100g-fat-tree']
RANKS = [4, 16, 64, 256]
# Hybrids of as many inner ranks as a power of two says, up to the root of the most ranks, and of two groups or more.
HYBRIDS = [f'sequence:Nxheadwise:{inner}' for inner in (2, 4, 8, 16)]
PREFILL = ['headwise', 'headwise_scattered', 'ulysses', 'sequence', 'sequence_ring', *HYBRIDS]
DECODE = ['headwise', 'sequence', *HYBRIDS]
# Copies that these make of a prompt of 128k tokens are made in this machine's memory.
LONG = [name for name in PREFILL if name not in ('ulysses', 'sequence_ring')]
SWEEPS = [('prefill', '512,8192', PREFILL), ('prefill', '131072', LONG), ('decode', '1024,32768,131072', DECODE)]
FIELDS = ['platform', 'model', 'phase', 'prompt_len', 'world_size', 'parallel_strategy', 'decode_strategy', 'tokens_per_second',
          'percent_of_peak', 'percent_communication', 'sent_bytes', 'bytes_of_rank', 'seconds_median', 'planned_seconds']
# What grows with what: one policy of each kind, Qwen3-8B's shape, prefill.
GROWTH_PLATFORM, GROWTH_MODEL = '10gbe', 'qwen3-8b'
GROWTH_STRATEGIES = ['headwise', 'sequence', 'ulysses']
GROWTH = {'ranks': ('--ranks', [2, 4, 8, 16, 32], ['--prompt-len', '2048']),
          'tokens': ('--prompt-len', [512, 1024, 2048, 4096, 8192, 16384], ['--ranks', '16', '--chunk', '16384']),
          'layers': ('--layers', [4, 8, 16, 32, 64], ['--ranks', '16', '--prompt-len', '2048'])}
# What the predecessor published of eight machines of two Xeon Gold 6230R, Qwen3-0.6B, 128 tokens: tok/s by machines.
PREDECESSOR = {2: 14.3, 8: 70.7}
PREDECESSOR_TEXT = """
Machines of two Xeon Gold 6230R, one rank each (`--platform 6230r`; 10 Gbit/s are assumed), Qwen3-0.6B, 128 tokens, in tok/s. This compares
programs; it says nothing of how good the model of that cluster is.
"""
PREDECESSOR_STRATEGIES = {'prefill': ['headwise', 'sequence', 'ulysses'], 'decode': ['headwise', 'sequence']}
LAYERS = '2'  # simulated: within 0.2 % of all of them
WITHIN = 1.10  # of the best: a choice that counts as right


def rows_of(simulate, build, words):
    """Rows of a sweep, with FIELDS, and the seconds of a processor that they took; what policies refuse is left out. What the
    same program has made of the same platforms and machines is kept in the build folder, so that an interrupted sweep goes on
    where it ended."""
    here = pathlib.Path(__file__).parent
    words = [*words, '--simulated-layers', LAYERS]
    inputs = [pathlib.Path(build) / 'tools/simulated/simulated_benchmark.so', pathlib.Path(simulate), *sorted(here.glob('*/*.json'))]
    digest = hashlib.sha256(' '.join(words).encode())
    for file in inputs:
        digest.update(file.read_bytes())
    kept = pathlib.Path(build) / 'simulated-rows' / f'{digest.hexdigest()[:16]}.json'
    if not kept.is_file():
        found = simulated_rows(simulate, build, words)
        kept.parent.mkdir(exist_ok=True)
        kept.with_suffix('.part').write_text(json.dumps(found))
        kept.with_suffix('.part').replace(kept)
    return json.loads(kept.read_text())


def simulated_rows(simulate, build, words):
    with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as said:
        running = subprocess.Popen([simulate, '--build', build, '--quiet', '--plan', *words], stdout=out, stderr=said)
        _, _, used = os.wait4(running.pid, 0)
        running.returncode = 0  # what went wrong is in what it said
        out.seek(0), said.seek(0)
        for line in said.read().splitlines():
            if 'expected' not in line and not line.endswith('runs failed'):  # not a policy's refusal
                sys.exit(f'simulate: error: {" ".join(words)}: {line}')
        rows = [json.loads(line) for line in out]
    for row in rows:
        row['percent_communication'] = 100 * (row['seconds_communication'] + row['seconds_waiting']) / row['seconds_median']
    return [{name: row.get(name) for name in FIELDS} for row in rows], used.ru_utime + used.ru_stime


def write_csv(file, rows):
    with open(file, 'w', newline='') as out:
        fields = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(out, fields, lineterminator='\n')
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f'{v:.4g}' if isinstance(v, float) else v for k, v in row.items()})


def possible(strategy, ranks):
    """Whether a hybrid has two groups or more: with one it is its inner half."""
    inner = strategy.rpartition(':')[2]
    return not inner.isdigit() or 2 * int(inner) <= ranks


def sweep(simulate, build, folder, models):
    """Writes rows.csv of these models, beside what is there of the others, growth.csv and predecessor.csv, as many runs at a
    time as there are cores."""
    file = folder / 'rows.csv'
    kept = [row for row in read_csv(file) if row['model'] not in models] if file.is_file() else []

    def cell(model, platform, ranks, phase, lengths, strategies):
        return ['--model-preset', model, '--platform', platform, '--phase', phase, '--prompt-len', lengths, '--chunk',
                max(lengths.split(','), key=int), '--ranks', str(ranks), '--strategy',
                ','.join(name for name in strategies if possible(name, ranks))]

    def growth(what, value):
        option, _, others = GROWTH[what]
        return ['--model-preset', GROWTH_MODEL, '--platform', GROWTH_PLATFORM, '--strategy', ','.join(GROWTH_STRATEGIES), *others,
                option, str(value)]

    def predecessor(phase):
        return ['--model-preset', 'qwen3-0.6b', '--platform', '6230r', '--ranks', ','.join(map(str, PREDECESSOR)), '--strategy',
                ','.join(PREDECESSOR_STRATEGIES[phase]), '--prompt-len', '128', '--phase', phase]

    # Those of most ranks take longest, and come first.
    parts = {('rows', model, platform, ranks, phase, lengths): cell(model, platform, ranks, phase, lengths, strategies)
             for ranks in sorted(RANKS, reverse=True) for model in models for platform in PLATFORMS for phase, lengths, strategies in SWEEPS}
    parts |= {('growth', what, value): growth(what, value) for what, (_, values, _) in GROWTH.items() for value in values}
    parts |= {('predecessor', phase): predecessor(phase) for phase in PREDECESSOR_STRATEGIES}
    begin, seconds, made = time.monotonic(), 0, {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = {pool.submit(rows_of, simulate, build, words): part for part, words in parts.items()}
        for i, future in enumerate(concurrent.futures.as_completed(waiting)):
            try:
                made[waiting[future]], used = future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            seconds += used
            print(f'{i + 1} of {len(parts)} parts, {time.monotonic() - begin:.0f} s; {seconds:.0f} s of a processor in all, with '
                  'what was there', file=sys.stderr)
    rows = [row for model in models for platform in PLATFORMS for phase, lengths, _ in SWEEPS for ranks in RANKS
            for row in made['rows', model, platform, ranks, phase, lengths]]
    write_csv(file, sorted(kept + rows, key=lambda row: MODELS.index(row['model'])))
    write_csv(folder / 'growth.csv', [{'what': part[1], 'value': part[2], **row} for part in parts if part[0] == 'growth' for row in made[part]])
    write_csv(folder / 'predecessor.csv', [row for part in parts if part[0] == 'predecessor' for row in made[part]])


def read_csv(file):
    def value(text):
        try:
            return float(text) if '.' in text or 'e' in text else int(text)
        except ValueError:
            return text
    with open(file, newline='') as source:
        return [{k: value(v) for k, v in row.items()} for row in csv.DictReader(source)]


def cells(rows):
    """{(platform, model, phase, prompt, ranks): rows of one cell, the fastest first}."""
    found = {}
    for row in rows:
        found.setdefault((row['platform'], row['model'], row['phase'], row['prompt_len'], row['world_size']), []).append(row)
    return {key: sorted(each, key=lambda r: r['seconds_median']) for key, each in found.items()}


def form(strategy, ranks):
    """sequence:8xheadwise:2 as it was asked for."""
    outer, cross, inner = strategy.partition('xheadwise')
    return f'{outer.partition(":")[0]}:Nxheadwise{inner}' if cross and ':' in outer else strategy


def row_of_table(first, strategies, by, best, words_of):
    words = []
    for name in strategies:
        row = by.get(name)
        words.append(f'**{words_of(row)}**' if row is not None and row is best else words_of(row) if row else '')
    return '| ' + ' | '.join([*map(str, first), *words]) + ' |\n'


def head(first, strategies):
    return '| ' + ' | '.join([*first, *(f'`{name}`' for name in strategies)]) + ' |\n' + '| --- ' * (len(first) + len(strategies)) + '|\n'


def tables(rows):
    """A table for each platform, phase and length: tok/s, percent of the limit, percent of the time in communication."""
    found = cells(rows)
    text = ''
    for platform, (phase, lengths, strategies) in itertools.product(PLATFORMS, SWEEPS):
        for length in map(int, lengths.split(',')):
            text += f'\n### {phase.capitalize()}, {length} tokens, `{platform}`\n\n' + head(['model', 'ranks'], strategies)
            for model, ranks in itertools.product(MODELS, RANKS):
                cell = found.get((platform, model, phase, length, ranks))
                if cell:
                    by = {form(row['parallel_strategy'], ranks): row for row in cell}
                    text += row_of_table([model, ranks], strategies, by, cell[0], lambda row: (
                        f'{row["tokens_per_second"]:.4g} ({row["percent_of_peak"]:.0f}, {row["percent_communication"]:.0f})'))
    return text


def holdings(rows):
    """What a rank sends in a step and what it holds, which is the same on every network."""
    found = cells(rows)
    text = ''
    for phase, lengths, strategies in SWEEPS:
        for length in map(int, lengths.split(',')):
            text += f'\n### {phase.capitalize()}, {length} tokens: MB sent, GB held\n\n' + head(['model', 'ranks'], strategies)
            for model, ranks in itertools.product(MODELS, RANKS):
                cell = [row for row in found.get((PLATFORMS[0], model, phase, length, ranks), []) if row['sent_bytes'] != '']
                by = {form(row['parallel_strategy'], ranks): row for row in cell}
                if cell:
                    text += row_of_table([model, ranks], strategies, by, None, lambda row: (
                        f'{row["sent_bytes"] / 1e6:.3g}, {row["bytes_of_rank"] / 1e9:.3g}'))
    return text


def winners(rows):
    """Which policy is the fastest where: a line for each platform, phase and length, of all models."""
    found = cells(rows)
    text = ('\n| platform | phase | tokens | ' + ' | '.join(f'{n} ranks' for n in RANKS) + ' |\n' + '| --- ' * (3 + len(RANKS)) + '|\n')
    for platform, (phase, lengths, _) in itertools.product(PLATFORMS, SWEEPS):
        for length in map(int, lengths.split(',')):
            words = []
            for ranks in RANKS:
                won = [form(found[key][0]['parallel_strategy'], ranks) for model in MODELS
                       if (key := (platform, model, phase, length, ranks)) in found]
                words.append(', '.join(f'`{name}` {won.count(name)}' for name in sorted(set(won), key=won.count, reverse=True)))
            text += f'| {platform} | {phase} | {length} | ' + ' | '.join(words) + ' |\n'
    return text


def predecessor(rows):
    text = ('\n| machines | published | ' + ' | '.join(f'{phase}, `{name}`' for phase, names in PREDECESSOR_STRATEGIES.items()
                                                      for name in names) + ' |\n' +
            '| --- ' * (2 + sum(map(len, PREDECESSOR_STRATEGIES.values()))) + '|\n')
    by = {(row['world_size'], row['phase'], row['parallel_strategy']): row['tokens_per_second'] for row in rows}
    for ranks, published in PREDECESSOR.items():
        text += f'| {ranks} | {published} | ' + ' | '.join(f'{by[ranks, phase, name]:.4g}' for phase, names in PREDECESSOR_STRATEGIES.items()
                                                          for name in names) + ' |\n'
    return text


def planner(rows):
    """How often the policy that the planner expects to be the fastest is within WITHIN of the fastest, and where not."""
    found = cells(rows)
    wrong = []
    for key, cell in found.items():
        # Not planned: a hybrid of one group, which is its inner half.
        picked = min(cell, key=lambda r: r['planned_seconds'] or math.inf)
        if picked['seconds_median'] > WITHIN * cell[0]['seconds_median']:
            wrong.append((key, picked, cell[0]))
    text = (f'In {len(found) - len(wrong)} of {len(found)} cells ({100 * (1 - len(wrong) / len(found)):.0f} %) the policy that '
            f'`tessera plan` expects to be the fastest is within {100 * WITHIN - 100:.0f} % of the fastest that was simulated.')
    if wrong:
        text += ' The others:\n\n| platform | model | phase | tokens | ranks | picked | best | times as long |\n' + '| --- ' * 8 + '|\n'
        for key, picked, best in wrong:
            text += '| ' + ' | '.join(map(str, key)) + (f' | `{picked["parallel_strategy"]}` | `{best["parallel_strategy"]}` | '
                                                        f'{picked["seconds_median"] / best["seconds_median"]:.2f} |\n')
    return text + '\n'


def draw(rows, growth, folder):
    """A picture for each platform and model: tok/s over ranks, a panel for each phase and length; and one of what grows how."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
    plt.rcParams.update({'font.family': 'DejaVu Sans', 'svg.hashsalt': 'tessera', 'svg.fonttype': 'none'})
    colors = {name: f'C{i}' for i, name in enumerate(PREFILL)}
    panels = [(phase, int(n), names) for phase, lengths, names in SWEEPS for n in lengths.split(',')]

    def save(fig, name, legend=0):
        fig.tight_layout(rect=(0, legend, 1, 1))
        fig.savefig(folder / f'{name}.svg', metadata={'Date': None})
        plt.close(fig)

    for platform, model in itertools.product(PLATFORMS, MODELS):
        mine = [row for row in rows if (row['platform'], row['model']) == (platform, model)]
        if not mine:
            continue
        fig, axes = plt.subplots(2, 3, figsize=(12, 6.5))
        for axis, (phase, length, names) in zip(axes.flat, panels):
            for name in names:
                here = sorted((r['world_size'], r['tokens_per_second']) for r in mine if (r['phase'], r['prompt_len']) == (phase, length)
                              and form(r['parallel_strategy'], r['world_size']) == name)
                if here:
                    axis.plot(*zip(*here), marker='o', markersize=3, color=colors[name], label=name)
            axis.set_xscale('log', base=2)
            axis.set_yscale('log')
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
            axis.yaxis.set_minor_formatter(NullFormatter())
            axis.set_xticks(RANKS, map(str, RANKS))
            axis.set_title(f'{phase}, {length} tokens', fontsize=10)
            axis.grid(True, alpha=0.3)
        for axis in axes[1]:
            axis.set_xlabel('ranks')
        for axis in axes[:, 0]:
            axis.set_ylabel('tokens per second')
        lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
        fig.legend(lines.values(), lines.keys(), loc='lower center', ncols=5, fontsize=8, frameon=False)
        fig.suptitle(f'{NAMES[model]} on {platform}, simulated')
        save(fig, f'{platform}-{model}', legend=0.06)

    fig, axes = plt.subplots(1, 3, figsize=(12, 4))
    for axis, what in zip(axes, GROWTH):
        for i, name in enumerate(GROWTH_STRATEGIES):
            here = sorted((r['value'], r['seconds_median'], r['planned_seconds']) for r in growth
                          if r['what'] == what and r['parallel_strategy'] == name)
            axis.plot([v for v, _, _ in here], [s for _, s, _ in here], 'o', color=f'C{i}', label=name)
            axis.plot([v for v, _, _ in here], [p for _, _, p in here], '-', color=f'C{i}')
        axis.set_xscale('log', base=2)
        axis.set_yscale('log')
        values = GROWTH[what][1]
        axis.set_xticks(values, map(str, values))
        axis.set_xlabel(what)
        axis.grid(True, which='both', alpha=0.2)
    axes[0].set_ylabel('seconds of a prompt')
    axes[0].legend(fontsize=8, frameon=False)
    fig.suptitle(f'{NAMES[GROWTH_MODEL]} on {GROWTH_PLATFORM}: simulated (points), and what tessera plan says by its formula (lines)')
    save(fig, 'growth')


def write_report(simulate, build, page, again, model):
    """Writes rows, pictures, and the part of the page between its marks; `again`: of the rows that are there; of one model, or
    of all."""
    folder = page.parent / 'scaling'
    folder.mkdir(exist_ok=True)
    if not again:
        sweep(simulate, build, folder, [model] if model else MODELS)
    rows, growth, published = (read_csv(folder / f'{name}.csv') for name in ('rows', 'growth', 'predecessor'))
    draw(rows, growth, folder)
    begin, end = '<!-- tools/simulate --report writes from here -->\n', '<!-- to here -->\n'
    text = page.read_text()
    above, below = text[:text.index(begin) + len(begin)], text[text.index(end):]
    pictures = ''.join(f'\n![{NAMES[model]} on {platform}](scaling/{platform}-{model}.svg)\n' for platform in PLATFORMS for model in MODELS
                       if any(row['model'] == model for row in rows))
    page.write_text(above + '\n### The fastest policy\n\nOf the models below, how many have it where; from then on each by itself.\n' +
                    winners(rows) + '\n### The planner\n\n' + planner(rows) + "\n### The predecessor's cluster\n" + PREDECESSOR_TEXT + predecessor(published) +
                    '\n### Ranks, tokens and layers\n\n![What a prompt costs](scaling/growth.svg)\n' + pictures + tables(rows) + holdings(rows) + below)
