"""Simulated steps beside measured ones, on the hosts of tools/netlab. Run by tools/simulate --validate, on an idle machine, as root."""
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

HOSTS = [2, 3, 4]
MBITS = [1000, 100]
STRATEGIES = ['headwise', 'sequence', 'ulysses']


def measured(tools, model, launcher, strategy, prompt_len, gen_len):
    """Rows of benchmark_qwen3, one for each phase."""
    command = [*launcher, str(tools / 'benchmark_qwen3'), '--model', model, '--threads', '1', '--parallel-strategy', strategy,
               '--prompt-len', str(prompt_len), '--gen-len', str(gen_len), '--iters', '3', '--overlap', 'off', '--collectives', 'mpi',
               '--chunk', str(prompt_len), '--peak-mib', '256', '--quiet', '--format', 'json']
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f'simulate: error: {" ".join(command)}: {done.stderr.strip()}')
    return {row['phase']: row for row in json.loads(done.stdout)}


def write_machine(folder, alone):
    """A core as it was alone: its peaks, and the shares of them that prefill and decode reached."""
    (folder / 'kernels').mkdir(exist_ok=True)
    (folder / 'machines').mkdir(exist_ok=True)
    share = {phase: min(1.0, row['percent_of_peak'] / 100) for phase, row in alone.items()}
    prefill = alone['prefill']
    (folder / 'kernels' / 'here.json').write_text(json.dumps({
        'products': [[1, share['prefill']]], 'attention': [[1, share['prefill']]], 'reading': share['decode'],
        'reading_keys': share['decode']}))
    machine = folder / 'machines' / 'here.json'
    machine.write_text(json.dumps({
        'name': 'here', 'threads': 1, 'flops': prefill['peak_flops'], 'kernels': 'here', 'start': 1e-6,
        'memory': max(prefill['peak_bytes_buffer'], prefill['peak_bytes_file']),
        'copy': max(prefill['peak_bytes_buffer'], prefill['peak_bytes_file']) / 2}))
    return machine


def simulated(simulate, build, folder, machine, preset, layers, hosts, mbit, strategy, phase, prompt_len, gen_len):
    platform = folder / 'platform.json'
    platform.write_text(json.dumps({'name': f'netlab-{mbit}', 'nodes': hosts, 'network': {
        'topology': 'switch', 'gbit': mbit / 1000, 'us': 30, 'message_us': 2}}))
    done = subprocess.run([simulate, '--build', build, '--quiet', '--model-preset', preset, '--layers', str(layers), '--platform',
                           str(platform), '--machine', str(machine), '--ranks', str(hosts), '--strategy', strategy, '--phase', phase,
                           '--prompt-len', str(prompt_len), '--gen-len', str(gen_len), '--chunk', str(prompt_len)],
                          capture_output=True, text=True)
    if done.returncode:
        sys.exit(f'simulate: error: {done.stderr.strip()}')
    return json.loads(done.stdout)


def validate(simulate, build, preset, layers, prompt_len, gen_len):
    """Prints a line for each cell; returns whether the median error is under 15 % and every cell has its policies in order."""
    tools = pathlib.Path(build) / 'tools'
    netlab = str(pathlib.Path(simulate).parent / 'netlab')
    errors, disordered = [], []
    with tempfile.TemporaryDirectory(prefix='tessera-validate-') as name:
        folder = pathlib.Path(name)
        model = str(folder / 'model')
        subprocess.run([str(tools / 'tessera'), 'make-model', '--preset', preset, '--layers', str(layers), '--out', model], check=True,
                       stdout=subprocess.DEVNULL)
        machine = write_machine(folder, measured(tools, model, [], 'headwise', prompt_len, gen_len))
        print('| Mbit/s | hosts | phase | policy | measured s | simulated s | error % |\n' + '| --- ' * 7 + '|')
        for mbit in MBITS:
            subprocess.run([netlab, 'up', '--hosts', str(max(HOSTS)), '--mbit', str(mbit)], check=True)
            try:
                for hosts in HOSTS:
                    cells = {'prefill': [], 'decode': []}
                    for strategy in STRATEGIES:
                        rows = measured(tools, model, [netlab, 'mpiexec', '-n', str(hosts)], strategy, prompt_len, gen_len)
                        for phase, cell in cells.items():
                            real = rows[phase]['seconds_median']
                            here = simulated(simulate, build, folder, machine, preset, layers, hosts, mbit, strategy, phase,
                                             prompt_len, gen_len)['seconds_median']
                            cell.append((real, here, strategy))
                            errors.append(abs(here / real - 1))
                            print(f'| {mbit} | {hosts} | {phase} | {strategy} | {real:.4f} | {here:.4f} | {100 * (here / real - 1):+.0f} |',
                                  flush=True)
                    for phase, cell in cells.items():
                        if [s for _, _, s in sorted(cell)] != [s for _, s in sorted((h, s) for _, h, s in cell)]:
                            disordered.append(f'{mbit} Mbit/s, {hosts} hosts, {phase}')
            finally:
                subprocess.run([netlab, 'down'], check=True)
    print(f'\nmedian error {100 * statistics.median(errors):.0f} %; policies in another order in: {", ".join(disordered) or "no cell"}')
    return statistics.median(errors) < 0.15 and not disordered
