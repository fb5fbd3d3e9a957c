"""The sweep of docs/scaling.md: its rows, its tables and its pictures. Run by tools/simulate --report."""
import concurrent.futures
import csv
import json
import math
import os
import subprocess
import sys

MODELS = ['qwen3-8b', 'llama2-70b', 'qwen3-0.6b', 'qwen3-32b', 'llama2-7b']
PLATFORMS = ['10gbe', '100g-fat-tree']
RANKS = [4, 16, 64]
PREFILL = ['headwise', 'headwise_scattered', 'ulysses', 'sequence', 'sequence_ring', 'sequence:Nxheadwise:2', 'sequence:Nxheadwise:4',
           'sequence:Nxheadwise:8']
DECODE = ['headwise', 'sequence', 'sequence:Nxheadwise:2', 'sequence:Nxheadwise:4', 'sequence:Nxheadwise:8']
# Copies that these make of a prompt of 128k tokens are made in this machine's memory.
LONG = [name for name in PREFILL if name not in ('ulysses', 'sequence_ring')]
SWEEPS = [('prefill', '512,8192', PREFILL), ('prefill', '131072', LONG), ('decode', '1024,32768,131072', DECODE)]
FIELDS = ['platform', 'model', 'phase', 'prompt_len', 'world_size', 'parallel_strategy', 'decode_strategy', 'tokens_per_second',
          'percent_of_peak', 'percent_communication', 'sent_bytes', 'bytes_of_rank', 'seconds_median', 'planned_seconds']
WITHIN = 1.10  # of the best: a choice that counts as right


def sweep(simulate, build, file, models):
    """Writes all rows of these models, with FIELDS, as many at a time as there are cores, beside those of the others that are
    there; what policies refuse is left out."""
    cells = [(model, platform, *each) for model in models for platform in PLATFORMS for each in SWEEPS]
    kept = [row for row in read_csv(file) if row['model'] not in models] if file.is_file() else []

    def run(cell):
        model, platform, phase, lengths, strategies = cell
        done = subprocess.run(
            [simulate, '--build', build, '--quiet', '--plan', '--model-preset', model, '--platform', platform, '--phase', phase,
             '--prompt-len', lengths, '--chunk', max(lengths.split(','), key=int), '--ranks', ','.join(map(str, RANKS)), '--strategy', ','.join(strategies)],
            capture_output=True, text=True)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        for row in rows:
            row['percent_communication'] = 100 * (row['seconds_communication'] + row['seconds_waiting']) / row['seconds_median']
        print(f'{model}, {platform}, {phase} of {lengths}: {len(rows)} rows', file=sys.stderr)
        return [{name: row.get(name) for name in FIELDS} for row in rows]

    with open(file, 'w', newline='') as out, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        writer = csv.DictWriter(out, FIELDS, lineterminator='\n')
        writer.writeheader()
        writer.writerows(kept)
        for rows in pool.map(run, cells):
            for row in rows:
                writer.writerow({k: f'{v:.4g}' if isinstance(v, float) else v for k, v in row.items()})
            out.flush()


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


def tables(rows):
    """A table for each platform, phase and length: tok/s, and the percent of the time in communication."""
    found = cells(rows)
    text = ''
    for platform in PLATFORMS:
        for phase, lengths, strategies in SWEEPS:
            for length in map(int, lengths.split(',')):
                text += (f'\n### {phase.capitalize()}, {length} tokens, `{platform}`\n\n| model | ranks | ' +
                         ' | '.join(f'`{name}`' for name in strategies) + ' | best: % of the limit |\n' +
                         '| --- ' * (len(strategies) + 3) + '|\n')
                for model in MODELS:
                    for ranks in RANKS:
                        cell = found.get((platform, model, phase, length, ranks))
                        if not cell:
                            continue
                        by = {form(row['parallel_strategy'], ranks): row for row in cell}
                        words = []
                        for name in strategies:
                            row = by.get(name)
                            figure = f'{row["tokens_per_second"]:.4g} ({row["percent_communication"]:.0f})' if row else ''
                            words.append(f'**{figure}**' if row is cell[0] else figure)
                        text += f'| {model} | {ranks} | ' + ' | '.join(words) + f' | {cell[0]["percent_of_peak"]:.0f} |\n'
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


def draw(rows, folder):
    """A picture for each platform: tok/s of Qwen3-8B over ranks, a panel for each phase and length."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    plt.rcParams.update({'font.family': 'DejaVu Sans', 'svg.hashsalt': 'tessera', 'svg.fonttype': 'none'})
    for platform in PLATFORMS:
        panels = [(phase, int(n), names) for phase, lengths, names in SWEEPS for n in lengths.split(',')]
        fig, axes = plt.subplots(2, 3, figsize=(13, 7))
        for axis, (phase, length, names) in zip(axes.flat, panels):
            for name in names:
                here = sorted((r['world_size'], r['tokens_per_second']) for r in rows if r['model'] == 'qwen3-8b' and
                              (r['platform'], r['phase'], r['prompt_len']) == (platform, phase, length) and
                              form(r['parallel_strategy'], r['world_size']) == name)
                if here:
                    axis.plot(*zip(*here), marker='o', markersize=3, label=name)
            axis.set_xscale('log', base=2)
            axis.set_yscale('log')
            axis.set_title(f'{phase}, {length} tokens', fontsize=10)
            axis.set_xlabel('ranks')
            axis.grid(True, alpha=0.3)
        axes[0][0].set_ylabel('tokens per second')
        axes[1][0].set_ylabel('tokens per second')
        axes[0][0].legend(fontsize=7, frameon=False)
        fig.suptitle(f'Qwen3-8B on {platform}, simulated')
        fig.tight_layout()
        fig.savefig(folder / f'{platform}.svg', metadata={'Date': None})
        plt.close(fig)


def write_report(simulate, build, page, again, model):
    """Writes rows, pictures, and the part of the page between its marks; `again`: of the rows that are there; of one model, or
    of all."""
    folder = page.parent / 'scaling'
    folder.mkdir(exist_ok=True)
    file = folder / 'rows.csv'
    if not again:
        sweep(simulate, build, file, [model] if model else MODELS)
    rows = read_csv(file)
    draw(rows, folder)
    begin, end = '<!-- tools/simulate --report writes from here -->\n', '<!-- to here -->\n'
    text = page.read_text()
    head, tail = text[:text.index(begin) + len(begin)], text[text.index(end):]
    pictures = ''.join(f'\n![Qwen3-8B on {platform}](scaling/{platform}.svg)\n' for platform in PLATFORMS)
    page.write_text(head + pictures + tables(rows) + '\n### The planner\n\n' + planner(rows) + tail)
