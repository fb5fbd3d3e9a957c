#!/usr/bin/env python3
"""tessera, llama.cpp and PyTorch on the same random weights, in turn, in one run.

  python3 -m venv /tmp/peers
  CMAKE_ARGS=-DGGML_NATIVE=ON /tmp/peers/bin/pip install --no-binary llama-cpp-python llama-cpp-python gguf torch transformers
  /tmp/peers/bin/python bench/compare_peers.py --preset qwen3-0.6b --threads 2

Writes random weights as a Hugging Face folder and as GGUF files, in blocks by `tessera quantize` and by llama.cpp's own
quantiser, sees that all engines choose the same next token, and times prefill and decode. Every measurement is a process
of its own; rounds go over all engines, and a table shows medians over rounds. Of llama.cpp's ways (flash attention on and
off, ubatch 512 and 2048) a first round finds the best for each type and length, and the other rounds measure that one.
"""
import argparse
import collections
import ctypes
import json
import os
import pathlib
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LLAMA_TYPES = ['f32', 'bf16', 'q8_0', 'q4_0']
TESSERA_TYPES = ['bf16', 'int8', 'int4']
COPIED = ', --copy-weights'  # of decode: prefill reads weights so seldom that it changes nothing there
IN_BF16 = ', --compute bf16'  # where the processor multiplies in bf16
PEER_OF = {'bf16': 'bf16', 'int8': 'q8_0', 'int4': 'q4_0'}  # what takes about as many bytes


def fail(text):
    sys.exit(f'compare_peers: error: {text}')


def random_ids(count, vocab):
    state, ids = 1, []
    for _ in range(count):
        state = state * 48271 % 2147483647
        ids.append(state % vocab)
    return ids


# ---- weights -------------------------------------------------------------------------------------------------------


def safetensors_of(folder):
    """Name, and array in f32, of every tensor of a checkpoint in bf16 or f32."""
    import numpy as np
    for file in sorted(folder.glob('*.safetensors')):
        with open(file, 'rb') as stream:
            size = int.from_bytes(stream.read(8), 'little')
            header = json.loads(stream.read(size))
        data = np.memmap(file, dtype=np.uint8, mode='r', offset=8 + size)
        for name, tensor in header.items():
            if name == '__metadata__':
                continue
            begin, end = tensor['data_offsets']
            raw = data[begin:end]
            if tensor['dtype'] == 'BF16':
                array = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
            elif tensor['dtype'] == 'F32':
                array = raw.view(np.float32)
            else:
                fail(f"{name}: expected BF16 or F32, found {tensor['dtype']}")
            yield name, array.reshape(tensor['shape'])


GGUF_NAMES = {
    'input_layernorm': 'attn_norm', 'self_attn.q_proj': 'attn_q', 'self_attn.k_proj': 'attn_k',
    'self_attn.v_proj': 'attn_v', 'self_attn.o_proj': 'attn_output', 'self_attn.q_norm': 'attn_q_norm',
    'self_attn.k_norm': 'attn_k_norm', 'post_attention_layernorm': 'ffn_norm', 'mlp.gate_proj': 'ffn_gate',
    'mlp.up_proj': 'ffn_up', 'mlp.down_proj': 'ffn_down',
}


def gguf_name(name):
    if name == 'model.embed_tokens.weight':
        return 'token_embd.weight'
    if name == 'model.norm.weight':
        return 'output_norm.weight'
    if name == 'lm_head.weight':
        return 'output.weight'
    _, _, layer, rest = name.split('.', 3)
    return f"blk.{layer}.{GGUF_NAMES[rest.removesuffix('.weight')]}.weight"


def write_gguf(folder, file, kind):
    """A Qwen3 checkpoint without a vocabulary. Norms stay f32, as in every GGUF file."""
    import gguf
    config = json.loads((folder / 'config.json').read_text())
    if config['model_type'] != 'qwen3':
        fail(f"expected a Qwen3 model, found {config['model_type']}")
    rope = config.get('rope_parameters') or {}
    writer = gguf.GGUFWriter(str(file), 'qwen3')
    writer.add_block_count(config['num_hidden_layers'])
    writer.add_context_length(config['max_position_embeddings'])
    writer.add_embedding_length(config['hidden_size'])
    writer.add_feed_forward_length(config['intermediate_size'])
    writer.add_head_count(config['num_attention_heads'])
    writer.add_head_count_kv(config['num_key_value_heads'])
    writer.add_key_length(config['head_dim'])
    writer.add_value_length(config['head_dim'])
    writer.add_rope_freq_base(rope.get('rope_theta') or config['rope_theta'])
    writer.add_layer_norm_rms_eps(config['rms_norm_eps'])
    writer.add_vocab_size(config['vocab_size'])
    writer.add_tokenizer_model('no_vocab')
    quantization = {'f32': gguf.GGMLQuantizationType.F32, 'bf16': gguf.GGMLQuantizationType.BF16}[kind]
    for name, array in safetensors_of(folder):
        if config.get('tie_word_embeddings') and name == 'lm_head.weight':
            continue
        if array.ndim == 1 or kind == 'f32':
            writer.add_tensor(gguf_name(name), array)
        else:
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(array, quantization), raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantise_gguf(source, file, kind):
    """Blocks as llama.cpp makes them: with Q4_0 lm_head is Q6_K."""
    import llama_cpp
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = {'q8_0': llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, 'q4_0': llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}[kind]
    if llama_cpp.llama_model_quantize(str(source).encode(), str(file).encode(), parameters) != 0:
        fail(f"llama.cpp's quantiser refuses {source}")


# ---- one measurement, in a process of its own -----------------------------------------------------------------------


class Llama:
    def __init__(self, o, job):
        import llama_cpp
        self.module = llama_cpp
        context = max(job['prompt_len'] + job['gen_len'] + 8, 512)
        self.model = llama_cpp.Llama(
            model_path=job['file'], n_ctx=context, n_batch=job['ubatch'], n_ubatch=job['ubatch'],
            n_threads=o.threads, n_threads_batch=o.threads, flash_attn=bool(job['flash']), logits_all=False, verbose=False)
        self.vocab = self.model.n_vocab()

    def prefill(self, ids):
        self.model.reset()
        self.model.eval(ids)
        return self.logits()

    def decode(self, token):
        self.model.eval([token])
        return self.logits()

    def logits(self):
        import numpy as np
        pointer = self.module.llama_get_logits_ith(self.model._ctx.ctx, -1)
        return int(np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (self.vocab,)).argmax())


class Torch:
    def __init__(self, o, job):
        import torch
        import transformers
        torch.set_num_threads(o.threads)
        self.torch = torch
        self.model = transformers.AutoModelForCausalLM.from_pretrained(job['file'], dtype=torch.float32)
        self.model.eval()
        self.vocab = self.model.config.vocab_size

    def step(self, ids, past):
        with self.torch.inference_mode():
            out = self.model(self.torch.tensor([ids]), past_key_values=past, use_cache=True, logits_to_keep=1)
        self.past = out.past_key_values
        return int(out.logits[0, -1].argmax())

    def prefill(self, ids):
        return self.step(ids, None)

    def decode(self, token):
        return self.step([token], self.past)


def measure(o, job):
    """Seconds of each iteration of one phase, and the token chosen after the prompt."""
    engine = (Llama if job['engine'] == 'llama' else Torch)(o, job)
    ids = random_ids(job['prompt_len'], engine.vocab)
    seconds = []
    engine.prefill(ids[:min(len(ids), 128)])  # pages are touched, threads started
    if job['phase'] == 'prefill':
        for _ in range(job['iters']):
            begin = time.perf_counter()
            chosen = engine.prefill(ids)
            seconds.append(time.perf_counter() - begin)
    else:
        chosen = token = engine.prefill(ids)
        for _ in range(job['iters'] + 1):
            begin = time.perf_counter()
            for _ in range(job['gen_len']):
                token = engine.decode(token)
            seconds.append(time.perf_counter() - begin)
        seconds = seconds[1:]
    return {'seconds': seconds, 'chosen': chosen}


# ---- the comparison -------------------------------------------------------------------------------------------------


class Comparison:
    def __init__(self, options):
        self.o = options
        self.work = pathlib.Path(options.work or tempfile.mkdtemp(prefix='compare-peers-'))
        self.seconds = collections.defaultdict(list)  # (row, phase, prompt_len, variant) -> seconds
        self.prefix = shlex.split(options.prefix_command)

    def prepare(self):
        self.work.mkdir(parents=True, exist_ok=True)
        self.folder = self.work / 'model'
        tessera = self.o.build_dir / 'tools' / 'tessera'
        if not (self.folder / 'config.json').exists():
            command = [tessera, 'make-model', '--preset', self.o.preset, '--out', self.folder]
            subprocess.run(command + (['--layers', str(self.o.layers)] if self.o.layers else []), check=True)
        self.folders = {'bf16': self.folder}
        for kind in self.o.tessera_types:
            self.folders[kind] = self.work / f'model-{kind}' if kind != 'bf16' else self.folder
            if not self.folders[kind].exists():
                subprocess.run([tessera, 'quantize', self.folder, '--format', kind, '--out', self.folders[kind]], check=True)
        self.files = {}
        # All engines are held together in f32, and blocks are made from it.
        for kind in dict.fromkeys(['f32', *self.o.llama_types]) if 'llama' in self.o.engines else []:
            self.files[kind] = self.work / f'model-{kind}.gguf'
            if not self.files[kind].exists():
                print(f'writing {self.files[kind]}', file=sys.stderr)
                if kind in ('f32', 'bf16'):
                    write_gguf(self.folder, self.work / 'part', kind)
                else:
                    quantise_gguf(self.files['f32'], self.work / 'part', kind)
                (self.work / 'part').rename(self.files[kind])

    def run(self, command):
        result = subprocess.run(self.prefix + [str(word) for word in command], capture_output=True, text=True)
        if result.returncode != 0:
            fail(f'{command} ended with status {result.returncode}: {result.stderr[-2000:]}')
        return result.stdout

    def tessera(self, kind, phase, prompt_len, iters, *more):
        o = self.o
        output = self.run([o.build_dir / 'tools' / 'benchmark_qwen3', '--model', self.folders[kind], '--threads', o.threads,
                           '--phase', phase, '--prompt-len', prompt_len, '--gen-len', o.gen_len, '--iters', iters,
                           '--warmup', 1, '--format', 'json', '--peak-mib', 64, '--kv-cache', o.kv_cache, *more])
        return [json.loads(output)[0]['seconds_median']]

    def peer(self, job):
        output = self.run([sys.executable, __file__, '--threads', self.o.threads, '--measure', json.dumps(job)])
        return json.loads(output.splitlines()[-1])

    def job(self, engine, file, phase, prompt_len, iters, **more):
        return {'engine': engine, 'file': str(file), 'phase': phase, 'prompt_len': prompt_len,
                'gen_len': self.o.gen_len, 'iters': iters, 'flash': 1, 'ubatch': 512, **more}

    def check_agreement(self):
        """The next token after 64 random ones, by every engine in f32: the weights are the same."""
        vocab = json.loads((self.folder / 'config.json').read_text())['vocab_size']
        ids = ','.join(map(str, random_ids(64, vocab)))
        output = self.run([self.o.build_dir / 'examples' / 'example_generate', '--model', self.folder, '--input-ids', ids,
                           '--max-new-tokens', 1, '--print-ids', '--threads', self.o.threads])
        chosen = {'tessera': json.loads(output.splitlines()[-1])[0]}
        if 'llama' in self.o.engines:
            chosen['llama.cpp'] = self.peer(self.job('llama', self.files['f32'], 'prefill', 64, 1))['chosen']
        if 'torch' in self.o.engines:
            chosen['PyTorch'] = self.peer(self.job('torch', self.folder, 'prefill', 64, 1))['chosen']
        print(f'next token after 64 random ones: {chosen}', file=sys.stderr)
        if len(set(chosen.values())) != 1:
            fail(f'the engines disagree about the next token: {chosen}')

    def ways(self, phase, prompt_len):
        """llama.cpp's settings that can matter: an ubatch beyond the prompt is the same as the next smaller one."""
        ubatches = [512, 2048] if phase == 'prefill' and prompt_len > 512 else [512]
        return [{'flash': flash, 'ubatch': ubatch} for flash in (0, 1) for ubatch in ubatches]

    def round(self, number, phase, prompt_len):
        iters = self.o.iters
        def note(row, way, seconds):
            self.seconds[row, phase, prompt_len, way] += seconds
            print(f'round {number}: {row} {way} {phase} {prompt_len}: {[round(s, 3) for s in seconds]}', file=sys.stderr)
        for kind in self.o.tessera_types:
            note(f'tessera {kind}', '', self.tessera(kind, phase, prompt_len, iters))
            if kind == 'bf16' and self.o.compute_bf16:
                note(f'tessera {kind}{IN_BF16}', '', self.tessera(kind, phase, prompt_len, iters, '--compute', 'bf16'))
            if phase == 'decode':
                note(f'tessera {kind}{COPIED}', '', self.tessera(kind, phase, prompt_len, iters, '--copy-weights'))
        if 'llama' in self.o.engines:
            for kind in self.o.llama_types:
                row = f'llama.cpp {kind}'
                ways = self.ways(phase, prompt_len)
                if number > 0:
                    best = self.best(row, phase, prompt_len)[0]
                    ways = [way for way in ways if self.way_name(way) == best]
                for way in ways:
                    job = self.job('llama', self.files[kind], phase, prompt_len, iters, **way)
                    note(row, self.way_name(way), self.peer(job)['seconds'])
        if 'torch' in self.o.engines:
            job = self.job('torch', self.folder, phase, prompt_len, iters)
            note('PyTorch f32', '', self.peer(job)['seconds'])

    @staticmethod
    def way_name(way):
        return f"fa {'on' if way['flash'] else 'off'}, ubatch {way['ubatch']}"

    def best(self, row, phase, prompt_len):
        """The way with the least median, and that median."""
        found = [(statistics.median(seconds), way) for (r, p, n, way), seconds in self.seconds.items()
                 if (r, p, n) == (row, phase, prompt_len)]
        return (min(found)[1], min(found)[0]) if found else ('', float('nan'))

    def measure(self):
        phases = [('prefill', n) for n in self.o.prompt_len] + [('decode', n) for n in self.o.context]
        for number in range(self.o.rounds):
            for phase, prompt_len in phases:
                if number > 0 and phase == 'prefill' and prompt_len > self.o.once_from:
                    continue
                self.round(number, phase, prompt_len)
        return phases

    def table(self, phases):
        o = self.o
        tokens = {phase: o.gen_len if phase[0] == 'decode' else phase[1] for phase in phases}
        rows = list(dict.fromkeys(key[0] for key in self.seconds))
        speed = {(row, phase): tokens[phase] / self.best(row, *phase)[1] for row in rows for phase in phases}
        cell = lambda number, digits: '' if number != number else f'{number:.{digits}f}'  # nothing where not measured
        heads = [f'prefill {n}' if p == 'prefill' else f'decode at {n}' for p, n in phases]
        lines = ['| tok/s | ' + ' | '.join(heads) + ' |', '| --- |' + ' --- |' * len(heads)]
        for row in rows:
            lines.append(f'| {row} | ' + ' | '.join(cell(speed[row, phase], 1) for phase in phases) + ' |')
        for kind in o.tessera_types:
            peer = f'llama.cpp {PEER_OF[kind]}'
            for row in (f'tessera {kind}', f'tessera {kind}{IN_BF16}', f'tessera {kind}{COPIED}'):
                if peer in rows and row in rows:
                    ratios = [cell(speed[row, phase] / speed[peer, phase], 2) for phase in phases]
                    lines.append(f'| {row} over {peer} | ' + ' | '.join(ratios) + ' |')
        of_bf16 = [row for row in rows if row in ('llama.cpp f32', 'llama.cpp bf16', 'llama.cpp q8_0')]
        if of_bf16 and 'tessera bf16' in rows:
            ratios = [cell(speed['tessera bf16', phase] / max(speed[row, phase] for row in of_bf16), 2) for phase in phases]
            lines.append(f"| tessera bf16 over the fastest of {', '.join(row.split()[1] for row in of_bf16)} | " + ' | '.join(ratios) + ' |')
        versions = ', '.join(f'{name} {version_of(name)}' for name in ['llama-cpp-python', 'torch', 'transformers']
                             if version_of(name))
        layers = f', {o.layers} layers' if o.layers else ''
        lines += ['', f'{o.preset}{layers}, random weights, {o.threads} threads; medians of up to {o.rounds} alternating rounds; '
                  f"tessera's cache in {o.kv_cache}, llama.cpp's in f16; "
                  f'{cpu_name()}, {os.cpu_count()} cores; {versions}. Command: bench/compare_peers.py '
                  f"{' '.join(o.command)}"]
        return '\n'.join(lines)


def version_of(package):
    from importlib import metadata
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ''


def cpu_name():
    for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            return line.split(':', 1)[1].strip()
    return platform.processor()


def main():
    numbers = lambda text: [int(n) for n in text.split(',')]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=__doc__.split('\n', 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--preset', default='qwen3-0.6b', help='whose shape (default: qwen3-0.6b)')
    parser.add_argument('--layers', type=int, default=0, help='so many layers of it (default: as published)')
    parser.add_argument('--threads', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--prompt-len', type=numbers, default=[128, 512, 2048], metavar='LIST')
    parser.add_argument('--context', type=numbers, default=[128], metavar='LIST', help='decode goes on behind so many tokens (default: 128)')
    parser.add_argument('--kv-cache', default='bf16', choices=['f32', 'bf16', 'int8'],
                        help="what tessera's cache holds; llama.cpp's is f16 (default: bf16)")
    parser.add_argument('--gen-len', type=int, default=32)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--iters', type=int, default=1, help='iterations of a measurement (default: 1)')
    parser.add_argument('--once-from', type=int, default=1 << 30, help='prompts beyond this are measured in the first round only')
    parser.add_argument('--engines', default='llama,torch', help='peers: llama, torch (default: both)')
    names = lambda allowed: lambda text: [kind for kind in allowed if kind in text.split(',')] or parser.error(
        f"expected some of {','.join(allowed)}, found {text}")
    parser.add_argument('--tessera-types', type=names(TESSERA_TYPES), default=TESSERA_TYPES, metavar='LIST',
                        help='weights of tessera: bf16, int8, int4 (default: all)')
    parser.add_argument('--llama-types', type=names(LLAMA_TYPES), default=LLAMA_TYPES[1:], metavar='LIST',
                        help='weights of llama.cpp: f32, bf16, q8_0, q4_0 (default: all but f32)')
    parser.add_argument('--build-dir', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--work', help='folder for the weights, kept for the next time (default: temporary, removed)')
    parser.add_argument('--prefix-command', default='', help='what every measurement is started with, e.g. "taskset -c 0,1"')
    parser.add_argument('--out', type=pathlib.Path, help='where the table goes, too')
    parser.add_argument('--measure', help=argparse.SUPPRESS)
    o = parser.parse_args()
    o.engines = o.engines.split(',')
    o.command = [word for word in sys.argv[1:] if '/' not in word]
    if o.measure:
        print(json.dumps(measure(o, json.loads(o.measure))))
        return
    o.compute_bf16 = 'avx512_bf16' in pathlib.Path('/proc/cpuinfo').read_text()
    comparison = Comparison(o)
    try:
        comparison.prepare()
        comparison.check_agreement()
        table = comparison.table(comparison.measure())
    finally:
        if not o.work:
            shutil.rmtree(comparison.work, ignore_errors=True)
    print(table)
    if o.out:
        o.out.write_text(table + '\n')


if __name__ == '__main__':
    main()
