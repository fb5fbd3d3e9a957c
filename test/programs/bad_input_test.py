#!/usr/bin/env python3
"""Bad input gets one sentence, the same status on all ranks, and leaves nobody behind.

usage: bad_input_test.py EXAMPLES_DIR TOOLS_DIR GOLDEN_DIR DEMO_DIR RANKS MPIEXEC...
"""
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

import tally

examples, tools, golden, demo, ranks, *MPIEXEC = sys.argv[1:]
GENERATE = os.path.join(examples, 'example_generate')
PREFILL = os.path.join(examples, 'example_qwen3_prefill')
TESSERA = os.path.join(tools, 'tessera')
PATIENCE = 60  # a machine under load is slow, a hang is for ever


def run(command, stdin=''):
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=PATIENCE)


def left_behind(program):
    found = subprocess.run(['pgrep', '-f', f'^{re.escape(program)}'], capture_output=True, text=True)
    return found.stdout.split()


def check(name, command, status, text, program=GENERATE, stdin=''):
    """The command ends with `status`, and one line of standard error says `text` (a regular expression)."""
    problems = []
    try:
        result = run(command, stdin)
        errors = [line for line in result.stderr.splitlines() if ': error: ' in line]
        if result.returncode != status:
            problems.append(f'status {result.returncode}, expected {status}')
        if status != 0 and len(errors) != 1:
            problems.append(f'{len(errors)} lines with an error, expected one')
        if status != 0 and not any(re.search(text, line) for line in errors):
            problems.append(f'expected /{text}/')
        if problems:
            problems.append(result.stderr)
    except subprocess.TimeoutExpired:
        problems.append('it hangs')
    if left_behind(program):
        problems.append('a rank was left behind')
    tally.check(name, not problems, *problems)


def folder(change):
    """A copy of a golden checkpoint that `change` has damaged."""
    path = tempfile.mkdtemp(dir=scratch)
    shutil.copytree(os.path.join(golden, 'qwen3-tiny'), path, dirs_exist_ok=True)
    for name in os.listdir(path):
        os.chmod(os.path.join(path, name), 0o644)
    change(path)
    return path


def edit_config(**changes):
    def change(path):
        file = os.path.join(path, 'config.json')
        config = json.load(open(file))
        for key, value in changes.items():
            if value is None:
                del config[key]
            else:
                config[key] = value
        json.dump(config, open(file, 'w'))
    return change


def edit_header(edit):
    """Damages the header of model.safetensors, keeping its data."""
    def change(path):
        file = os.path.join(path, 'model.safetensors')
        data = open(file, 'rb').read()
        size = struct.unpack('<Q', data[:8])[0]
        header = json.loads(data[8:8 + size])
        edit(header)
        text = json.dumps(header).encode()
        text += b' ' * (-len(text) % 8)
        open(file, 'wb').write(struct.pack('<Q', len(text)) + text + data[8 + size:])
    return change


def cut(bytes_kept):
    return lambda path: os.truncate(os.path.join(path, 'model.safetensors'), bytes_kept)


def lfs_pointer(path):
    with open(os.path.join(path, 'model.safetensors'), 'w') as file:
        file.write('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 100000\n')


def lie_about_offsets(header):
    header['model.norm.weight']['data_offsets'] = [0, 1 << 62]


def lie_about_shape(header):
    header['model.layers.1.self_attn.k_proj.weight']['shape'] = [32, 128]


def drop_tensor(header):
    # Its bytes go to a tensor that nobody asks for: the file itself stays sound.
    header['unused'] = header.pop('model.layers.2.mlp.up_proj.weight')


scratch = tempfile.mkdtemp()
try:
    good = os.path.join(golden, 'qwen3-tiny')
    mpi = [*MPIEXEC, '-n', ranks]
    ids = ['--input-ids', '1,2,3', '--max-new-tokens', '4']
    faults = [
        ('a missing folder', os.path.join(scratch, 'none'), 'none'),
        ('a missing checkpoint', folder(lambda p: os.remove(os.path.join(p, 'model.safetensors'))), 'expected model.safetensors'),
        ('a missing config', folder(lambda p: os.remove(os.path.join(p, 'config.json'))), 'expected config.json'),
        ('a truncated safetensors', folder(cut(100000)), 'model.safetensors.*get it again'),
        ('a safetensors cut in its header', folder(cut(100)), 'model.safetensors'),
        ('a pointer of Git LFS', folder(lfs_pointer), 'git lfs pull'),
        ('an empty safetensors', folder(cut(0)), 'model.safetensors'),
        ('a header that lies about offsets', folder(edit_header(lie_about_offsets)), 'data_offsets'),
        ('a header that lies about a shape', folder(edit_header(lie_about_shape)), 'k_proj'),
        ('a missing tensor', folder(edit_header(drop_tensor)), r'layers\.2\.mlp\.up_proj\.weight'),
        ('a tensor of another shape', folder(edit_config(intermediate_size=128)), r'gate_proj.*expected \[128, 64\]'),
        ('a config without a field', folder(edit_config(hidden_size=None)), 'hidden_size is missing'),
        ('a config with a word for a number', folder(edit_config(hidden_size='many')), 'hidden_size'),
        ('an unsupported model_type', folder(edit_config(model_type='gpt2')), 'model_type.*gpt2'),
        ('an unsupported activation', folder(edit_config(hidden_act='gelu')), 'hidden_act.*gelu'),
        ('an unsupported rope', folder(edit_config(rope_parameters={'rope_type': 'yarn', 'rope_theta': 1e6})), 'yarn'),
        ('a quantised checkpoint', folder(edit_config(quantization_config={'quant_method': 'gptq'})), 'quantization_config'),
    ]
    for name, path, text in faults:
        check(name, mpi + [GENERATE, '--model', path] + ids, 1, text)
        if int(ranks) > 1:  # one rank alone sees the fault
            check(name + ', seen by the last rank',
                  [*MPIEXEC, '-n', str(int(ranks) - 1), GENERATE, '--model', good] + ids +
                  [':', '-n', '1', GENERATE, '--model', path] + ids, 1, text + f'.*rank {int(ranks) - 1} of {ranks}')

    def options(name, arguments, status, text):
        check(name, mpi + [GENERATE] + arguments, status, text)

    options('an id beyond the vocabulary', ['--model', good, '--input-ids', '1,320'], 1, 'expected 0 to 319, found 320')
    options('a negative id', ['--model', good, '--input-ids=-1'], 1, 'expected 0 to 319, found -1')
    options('ids that are none', ['--model', good, '--input-ids', '1,x'], 2, 'found "x"')
    options('no ids', ['--model', good, '--input-ids', ''], 2, 'found ""')
    options('an empty prompt', ['--model', demo, '--prompt', ''], 1, 'at least one token')
    options('neither prompt nor ids', ['--model', demo], 2, '--prompt TEXT or --input-ids')
    options('prompt and ids', ['--model', demo, '--prompt', 'a', '--input-ids', '1'], 2, '--input-ids')
    options('a prompt without a tokenizer', ['--model', good, '--prompt', 'a'], 1, 'expected tokenizer.json.*--input-ids')
    options('more positions than the model has', ['--model', good, '--input-ids', '1', '--max-new-tokens', '512'], 1,
            '512 positions')
    options('a misspelt option', ['--model', demo, '--promt', 'a'], 2, 'no option --promt')
    options('an unknown option', ['--model', good, '--input-ids', '1', '--nonsense'], 2, 'nonsense')
    options('an unknown strategy', ['--model', good, '--input-ids', '1', '--parallel-strategy', 'best'], 2,
            'best is not among')
    options('groups whose product is no number', ['--model', good, '--input-ids', '1', '--parallel-strategy',
            'sequence:9223372036854775807xheadwise:9223372036854775807'], 2, 'expected OUTER:NxINNER:M')
    options('no model', ['--input-ids', '1'], 2, '--model')
    options('a full disk under --dump-logits', ['--model', good, '--input-ids', '1', '--dump-logits', '/dev/full'], 1,
            '/dev/full')
    check('more ranks than heads', [*MPIEXEC, '-n', '9', GENERATE, '--model', good] + ids, 1, 'found 9 ranks')
    check('the prefill example, too', mpi + [PREFILL, '--model', good, '--input-ids', '400'], 1, 'found 400', PREFILL)
    check('an unknown subcommand', [TESSERA, 'chatt'], 2, 'completion, generate.*found chatt', TESSERA)
    check('tessera without a subcommand', [TESSERA], 2, 'subcommand', TESSERA)
    check('tokenize of what is no JSON', [TESSERA, 'tokenize', '--model', demo], 1, 'line 1', TESSERA, 'hello\n')
    check('tokenize under mpiexec', [*MPIEXEC, '-n', '2', TESSERA, 'tokenize', '--model', demo], 2, 'without mpiexec', TESSERA)
    # What is not a number, or makes infinities, is refused at the door and not met in the middle of the work.
    ask = [TESSERA, 'generate', '--model', good, '--input-ids', '1']
    for option, value, text in (('--timeout-collective', 'nan', '0 to 1e.09, found nan'),
                                ('--timeout-collective', 'inf', '0 to 1e.09, found inf'),
                                ('--temperature', 'nan', '0 to 1000, found nan'),
                                ('--top-p', 'nan', '0 to 1, found nan'),
                                ('--min-p', 'nan', '0 to 1, found nan'),
                                ('--repetition-penalty', 'nan', '0.001 to 1000, found nan'),
                                ('--repetition-penalty', '1e-300', '0.001 to 1000, found 1e-300')):
        check(f'{option} {value}', mpi + ask + [option, value], 2, f'{option}: expected a number from {text}', TESSERA)
    check('--shard-size nan', [TESSERA, 'quantize', good, '--format', 'int8', '--out', os.path.join(scratch, 'q'),
          '--shard-size', 'nan'], 2, '--shard-size: expected a number from 1e-06 to 1e.06, found nan', TESSERA)
    for option in ('--bandwidth', '--latency', '--flops', '--memory-bandwidth'):
        check(f'plan {option} nan', [TESSERA, 'plan', '--model', good, '-n', '2', '--format', 'json', option, 'nan'], 2,
              f'{option}: expected a number from .*, found nan', TESSERA)
    for value in ('abc', '-3', '100000'):
        text = f'OMP_NUM_THREADS: expected a number of threads from 1 to 1024, found "{value}"$'
        check(f'OMP_NUM_THREADS={value}', ['env', f'OMP_NUM_THREADS={value}'] + mpi + ask, 1, text, TESSERA)
    check('OMP_NUM_THREADS=2,1', ['env', 'OMP_NUM_THREADS=2,1'] + mpi + ask + ['--max-new-tokens', '1'], 0, '', TESSERA)
    check('good input', mpi + [GENERATE, '--model', good] + ids, 0, '')
finally:
    shutil.rmtree(scratch)
tally.end()
