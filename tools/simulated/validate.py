"""Simulated steps beside measured ones, on the hosts of tools/netlab. Run by tools/simulate --validate, as root, on an idle machine.

Measured first are the parts: what a core reaches of this model while the other core does the same, what two hosts reach of
their link, and what a byte between hosts costs the cores where nothing limits the link. From these alone all cells follow.
What is measured is written down, a line each, and not measured again: an interrupted run goes on where it ended, and
--measured FILE holds the simulation against what another machine measured.
"""
import itertools
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HOSTS = [2, 3, 4]
MBITS = [1000, 100]
STRATEGIES = ['headwise', 'sequence', 'ulysses']
PHASES = ['prefill', 'decode']
LARGE = 4 << 20  # bytes that show what a link carries
SMALL = 256      # bytes that show how long a message takes
# A rank with a core of its own asks for a millisecond (comm/await.hpp), and on a host of the lab it thinks that it has one.
PATIENCE = 1e-3
DISTURBED = 2  # times as long as another repetition: one that took longer was disturbed, and another is measured in its place
MESSAGE_US = 2.0  # of either rank, within what a small message takes


def output(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f'simulate: error: {" ".join(command)}: {done.stderr.strip()}')
    return done.stdout


def is_idle():
    """Whether the cores do little for a third of a second."""
    def busy():
        return sum(map(int, open('/proc/stat').readline().split()[1:4])) / os.sysconf('SC_CLK_TCK')
    before = busy()
    time.sleep(0.33)
    return busy() - before < 0.1


def undisturbed(measure):
    """What `measure` returns while nothing else runs before it and after it."""
    for _ in range(20):
        if is_idle():
            value = measure()
            if is_idle():
                return value
        print('the machine is not idle: once more', file=sys.stderr)
    sys.exit('simulate: error: the machine is not idle')


class Notes:
    """What was measured, by its key, in a file of lines."""

    def __init__(self, file):
        self.file = file
        self.found = {}
        if file.is_file():
            for line in file.read_text().splitlines():
                entry = json.loads(line)
                self.found[tuple(entry['key'])] = entry['value']

    def get(self, key, measure):
        if key not in self.found:
            self.found[key] = undisturbed(measure)
            with open(self.file, 'a') as out:
                out.write(json.dumps({'key': key, 'value': self.found[key]}) + '\n')
        return self.found[key]


class Lab:
    """The hosts, up with the link that was asked for last."""

    def __init__(self, netlab):
        self.netlab, self.link = netlab, None

    def at(self, mbit):
        if self.link != mbit:
            self.down()
            limit = ['--mbit', str(mbit)] if mbit else []
            output([self.netlab, 'up', '--hosts', str(max(HOSTS)), *limit])
            self.link = mbit

    def down(self):
        if self.link is not None:
            output([self.netlab, 'down'])
            self.link = None

    def mpiexec(self, ranks):
        return [self.netlab, 'mpiexec', '-n', str(ranks)]


def launched(command):
    """What ranks on several hosts print. MPICH's launcher now and then loses one of its connections: then once more."""
    for _ in range(4):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout
        if 'PMI' not in done.stderr:
            break
    sys.exit(f'simulate: error: {" ".join(command)}: {done.stderr.strip()}')


def benchmark(tools, model, strategy, prompt_len, gen_len):
    return [str(tools / 'benchmark_qwen3'), '--model', model, '--threads', '1', '--parallel-strategy', strategy, '--prompt-len',
            str(prompt_len), '--gen-len', str(gen_len), '--iters', '3', '--overlap', 'off', '--collectives', 'mpi', '--chunk',
            str(prompt_len), '--peak-mib', '64', '--quiet', '--format', 'json']


def phases(text):
    """{phase: [median seconds, share of the peak of the ranks, that peak of flops, and of bytes]} of a report."""
    return {row['phase']: [row['seconds_median'], row['percent_of_peak'] / 100, row['peak_flops'],
                           max(row['peak_bytes_buffer'], row['peak_bytes_file'])] for row in json.loads(text)}


def both_cores(command):
    """Two of them at once, which compute and read at the same time: the slower of both, for each phase."""
    running = [subprocess.Popen(['taskset', '-c', str(core), *command], stdout=subprocess.PIPE, text=True) for core in (0, 1)]
    texts = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        sys.exit(f'simulate: error: {" ".join(command)} failed')
    first, second = map(phases, texts)
    return {phase: max(first[phase], second[phase]) for phase in first}


def allgather(lab, build, bytes_):
    """Seconds of an allgather on two hosts."""
    text = launched([*lab.mpiexec(2), str(build / 'bench' / 'collectives_bench'), '--json', '--kinds', 'allgather', '--carriers',
                   'ours over MPI', '--bytes', str(bytes_)])
    return next(row['seconds'] for row in json.loads(text) if row['carrier'] == 'ours over MPI')


def keys_of(repetitions):
    """Of all that is measured, and in this order: repetitions are rounds over all cells of a link."""
    return [*(('cores', i) for i in range(repetitions)), *(('link', mbit, bytes_) for mbit in [0, *MBITS] for bytes_ in (SMALL, LARGE)),
            *((mbit, hosts, strategy, i) for mbit in MBITS for i in range(repetitions) for hosts in HOSTS for strategy in STRATEGIES)]


def is_disturbed(rounds):
    return max(rounds) > DISTURBED * min(rounds)


def rounds_of(notes, cell, phase, repetitions):
    """Seconds of a cell's repetitions. Of a disturbed one the slowest does not count, once another is there for it."""
    rounds = [notes.found[(*cell, i)][phase][0] for i in range(repetitions + 1) if (*cell, i) in notes.found]
    return sorted(rounds)[:-1] if len(rounds) > repetitions and is_disturbed(rounds) else rounds


def once_more(notes, repetitions):
    """Keys of what is to be measured in place of repetitions that were disturbed."""
    cells = itertools.product(MBITS, HOSTS, STRATEGIES)
    return [(*cell, repetitions) for cell in cells if (*cell, repetitions) not in notes.found and
            any(is_disturbed(rounds_of(notes, cell, phase, repetitions)) for phase in PHASES)]


def measure_all(simulate, build, notes, model, prompt_len, gen_len, repetitions):
    """Everything that is not in the notes yet."""
    build = pathlib.Path(build)
    tools = build / 'tools'
    lab = Lab(str(pathlib.Path(simulate).parent / 'netlab'))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of what takes the lab down
    try:
        def measure(key):
            if key[0] == 'cores':
                return both_cores(benchmark(tools, model, 'headwise', prompt_len, gen_len))
            if key[0] == 'link':
                lab.at(key[1])
                return allgather(lab, build, key[2])
            mbit, hosts, strategy, _ = key
            lab.at(mbit)
            return phases(launched([*lab.mpiexec(hosts), *benchmark(tools, model, strategy, prompt_len, gen_len)]))

        for key in keys_of(repetitions):
            notes.get(key, lambda: measure(key))
        for key in once_more(notes, repetitions):
            notes.get(key, lambda: measure(key))
    finally:
        lab.down()


def write_machine(folder, notes, repetitions):
    """A core as it is while the other one is busy, too: the seconds of prefill and decode on it, as shares of its peaks."""
    (folder / 'kernels').mkdir(exist_ok=True)
    (folder / 'machines').mkdir(exist_ok=True)
    rounds = [notes.found['cores', i] for i in range(repetitions) if ('cores', i) in notes.found]
    middle = {phase: sorted(each[phase] for each in rounds)[len(rounds) // 2] for phase in PHASES}
    flops, memory = middle['prefill'][1] * middle['prefill'][2], middle['decode'][1] * middle['decode'][3]
    (folder / 'kernels' / 'here.json').write_text(json.dumps({
        'products': [[1, 1]], 'attention': [[1, 1]], 'reading': 1, 'reading_keys': 1}))
    machine = folder / 'machines' / 'here.json'
    machine.write_text(json.dumps({'name': 'here', 'threads': 1, 'flops': flops, 'kernels': 'here', 'start': 1e-8,
                                   'memory': memory, 'copy': memory / 2}))
    return machine


def platform_of(notes, hosts, mbit):
    """A link as two hosts found it, and cores that all share."""
    small, large = notes.found['link', mbit, SMALL], notes.found['link', mbit, LARGE]
    rate = LARGE / 2 / (large - small)
    free = notes.found['link', 0, LARGE]
    return {'name': f'netlab-{mbit}', 'nodes': hosts,
            # Both hosts' cores carry both ways of what limits nothing: LARGE bytes in, LARGE bytes out in all.
            'shared_cores': {'cores': 2, 'of_a_byte': 2 * free / (2 * LARGE), 'patience': PATIENCE},
            'network': {'topology': 'switch', 'gbit': rate * 8 / 1e9, 'share': 1, 'us': max(1.0, small * 1e6 - 2 * MESSAGE_US),
                        'message_us': MESSAGE_US}}


def simulated(simulate, build, folder, machine, platform, preset, layers, strategy, phase, prompt_len, gen_len):
    file = folder / 'platform.json'
    file.write_text(json.dumps(platform))
    text = output([simulate, '--build', str(build), '--quiet', '--model-preset', preset, '--layers', str(layers), '--platform', str(file),
                   '--machine', str(machine), '--ranks', str(platform['nodes']), '--strategy', strategy, '--phase', phase,
                   '--prompt-len', str(prompt_len), '--gen-len', str(gen_len), '--chunk', str(prompt_len)])
    return json.loads(text)['seconds_median']


def disordered(cell):
    """Pairs of policies of {policy: (measured median, range of the repetitions, simulated)} that the simulation has the other way
    round. Two that differ by less than the larger of their ranges are measured equal, in whichever order they are simulated; two
    that take the very same time simulated do the same, as headwise and ulysses in decode."""
    wrong = []
    for a, b in itertools.combinations(cell, 2):
        (real_a, _, here_a), (real_b, _, here_b) = cell[a], cell[b]
        if not are_equal(cell, a, b) and here_a != here_b and (real_a < real_b) != (here_a < here_b):
            wrong.append(f'{a} and {b}')
    return wrong


def are_equal(cell, a, b):
    """Whether two policies were measured to differ by no more than the repetitions of one of them."""
    return abs(cell[a][0] - cell[b][0]) <= max(cell[a][1], cell[b][1])


def validate(simulate, build, preset, layers, prompt_len, gen_len, file, repetitions):
    """Prints a line for each cell; returns whether the median error is under 15 % and every cell has its policies in order."""
    errors, wrong, equal, pairs = [], [], 0, 0
    with tempfile.TemporaryDirectory(prefix='tessera-validate-') as name:
        folder = pathlib.Path(name)
        notes = Notes(file if file else folder / 'measured.jsonl')
        if any(key not in notes.found for key in keys_of(repetitions)) or once_more(notes, repetitions):
            model = str(folder / 'model')
            output([str(pathlib.Path(build) / 'tools' / 'tessera'), 'make-model', '--preset', preset, '--layers', str(layers), '--out', model])
            measure_all(simulate, build, notes, model, prompt_len, gen_len, repetitions)
        machine = write_machine(folder, notes, repetitions)
        print('| Mbit/s | hosts | phase | policy | measured s | least to most | simulated s | error % |\n' + '| --- ' * 8 + '|')
        for mbit, hosts, phase in itertools.product(MBITS, HOSTS, PHASES):
            cell, measured = {}, {}
            for strategy in STRATEGIES:
                measured[strategy] = rounds = rounds_of(notes, (mbit, hosts, strategy), phase, repetitions)
                real = statistics.median(rounds)
                here = simulated(simulate, build, folder, machine, platform_of(notes, hosts, mbit), preset, layers, strategy, phase,
                                 prompt_len, gen_len)
                cell[strategy] = (real, max(rounds) - min(rounds), here)
                errors.append(abs(here / real - 1))
                print(f'| {mbit} | {hosts} | {phase} | {strategy} | {real:.4f} | {min(rounds):.4f} to {max(rounds):.4f} | {here:.4f} | '
                      f'{100 * (here / real - 1):+.0f} |', flush=True)
            # Those that take the very same time simulated do the same: what they measure are repetitions of one thing.
            for strategy, (real, _, here) in cell.items():
                alike = [x for other in STRATEGIES if cell[other][2] == here for x in measured[other]]
                cell[strategy] = (real, max(alike) - min(alike), here)
            pairs += 3
            equal += sum(are_equal(cell, a, b) for a, b in itertools.combinations(cell, 2))
            wrong += [f'{pair} ({mbit} Mbit/s, {hosts} hosts, {phase})' for pair in disordered(cell)]
    print(f'\nmedian error {100 * statistics.median(errors):.0f} % of {len(errors)} cells, largest {100 * max(errors):.0f} %; of {pairs} pairs '
          f'of policies {equal} are equal within what repetitions differ; in another order: {", ".join(wrong) or "no pair"}')
    return statistics.median(errors) < 0.15 and not wrong
