#!/usr/bin/env python3
"""What people ask of `tessera generate` and its neighbours, on the demo model: the same text on any number of ranks.

usage: generate_test.py TESSERA EXAMPLE_GENERATE DEMO_DIR TOKENIZERS_DIR CHAT_DIR MPIEXEC [TEST...]
"""
import json
import os
import pty
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile

from tally import end, test

tessera, example, demo, tokenizers, chats, mpiexec = sys.argv[1:7]
CHOSEN = sys.argv[7:]  # names of tests; none: all
WORDS = ['tessera', 'mosaic', 'a small square', 'tile', 'glass and stone, or what else there is', 'river', 'oak']
SAMPLED = ['--temperature', '1.3', '--top-k', '40', '--top-p', '0.95', '--seed', '11']
PATIENCE = 60  # a machine under load is slow, a hang is for ever


def run(command, ranks=1, status=0):
    launcher = [mpiexec, '-n', str(ranks)] if ranks > 1 else []
    result = subprocess.run(launcher + command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == status, f'status {result.returncode}, expected {status}: {result.stderr}'
    return result


def generate(*options, model=demo, ranks=1, status=0):
    return run([tessera, 'generate', '--model', model, '--threads', '1', *options], ranks, status)


def equal(found, expected, of=''):
    assert found == expected, f'{of}: expected {expected!r}, found {found!r}'


def changed_demo(name, file, **changes):
    """A copy of the demo model with other values in one of its JSON files."""
    path = os.path.join(scratch, name)
    shutil.copytree(demo, path)
    file = os.path.join(path, file)
    os.chmod(file, 0o644)
    values = {**json.load(open(file)), **changes}
    json.dump(values, open(file, 'w'))
    return path


def seeds():
    """a seed gives the same text on 1, 2, 3 and 4 ranks, under both shardings"""
    options = ['--chat', '--prompt', 'nothing it knows', '--max-new-tokens', '40', '--ignore-eos', '--print-ids', '--quiet']
    expected = generate(*options, *SAMPLED).stdout
    for strategy in ('headwise', 'sequence'):
        for ranks in (1, 2, 3, 4):
            found = generate(*options, *SAMPLED, '--parallel-strategy', strategy, ranks=ranks).stdout
            equal(found, expected, f'{strategy}, {ranks} ranks')
    others = {generate(*options, *SAMPLED[:-1], str(seed)).stdout for seed in range(3)} | {generate(*options).stdout}
    equal(len(others | {expected}), 5, 'texts of four seeds and the greedy one')


def batches():
    """prompts in batches give what each gives alone, in their order"""
    file = os.path.join(scratch, 'prompts.txt')
    open(file, 'w').write('\n'.join(WORDS) + '\n')
    for sampling in ([], ['--temperature', '0.9', '--seed', '3']):
        common = ['--chat', '--max-new-tokens', '24', '--quiet', '--prompt-file', file, *sampling]
        alone = generate(*common).stdout
        texts = [json.loads(line) for line in alone.splitlines()]
        equal(len(texts), len(WORDS), 'texts')
        equal(texts[0], generate('--chat', '--prompt', WORDS[0], '--max-new-tokens', '24', '--quiet', *sampling).stdout[:-1])
        for size, ranks in (('2', 1), ('3', 2), ('8', 1), ('8', 3)):
            equal(generate(*common, '--batch-size', size, ranks=ranks).stdout, alone, f'batch of {size}, {ranks} ranks')
    open(file, 'wb').write('\ufeff'.encode() + '\r\n'.join(WORDS).encode())  # as Windows writes it
    equal(generate(*common, '--batch-size', '8').stdout, alone, 'lines of Windows')
    for line in (b'\n', b'a\xff\n'):
        open(file, 'wb').write('\n'.join(WORDS).encode() + b'\n' + line)
        assert 'prompts.txt, line 8' in generate('--prompt-file', file, status=1).stderr


def ends():
    """a text ends at a stop string, at any of the end-of-text ids, and at --max-new-tokens"""
    ask = ['--chat', '--prompt', 'tessera', '--quiet']
    whole = generate(*ask).stdout
    for stop in ('tile', 'are ti', 'glass used', 'e of s'):
        equal(generate(*ask, '--stop', 'nowhere', '--stop', stop).stdout, whole[:whole.index(stop)] + '\n', f'--stop {stop!r}')
    ids = json.loads(generate(*ask, '--print-ids').stdout.splitlines()[1])
    model = changed_demo('two-ends', 'generation_config.json', eos_token_id=[ids[-1], ids[5]])
    short = generate(*ask, '--print-ids', model=model).stdout.splitlines()
    equal(json.loads(short[1]), ids[:6], 'ids up to the second end-of-text id')
    assert whole.startswith(short[0]), short[0]
    equal(len(json.loads(generate(*ask, '--print-ids', '--max-new-tokens', '3').stdout.splitlines()[1])), 3, 'ids')
    assert '--stop needs a text' in generate('--input-ids', '1', '--stop', 'a', status=2).stderr


def defaults():
    """generation_config.json says how to sample, the options overrule it"""
    model = changed_demo('sampled', 'generation_config.json', do_sample=True, temperature=0.7, top_k=20, top_p=0.9)
    ask = ['--chat', '--prompt', 'tile', '--max-new-tokens', '4']
    assert 'sampling: temperature 0.7, top-k 20, top-p 0.9, seed 0' in generate(*ask, model=model).stderr
    assert 'sampling: temperature 1.5, top-k 20, top-p 0.9, seed 5' in generate(*ask, '--temperature', '1.5', '--seed', '5',
                                                                               model=model).stderr
    assert 'sampling: greedy' in generate(*ask, '--greedy', model=model).stderr
    assert 'sampling: greedy' in generate(*ask).stderr
    assert 'temperature' in generate(*ask, '--temperature', '-1', status=2).stderr


def useless():
    """an option that would change nothing is refused"""
    ask = ['--prompt', 'tessera']
    for option, needed in ((['--system', 'Be brief.'], '--chat'), (['--no-think'], '--chat'), (['--batch-size', '2'], '--prompt-file')):
        assert f'{option[0]} requires {needed}' in generate(*ask, *option, status=2).stderr
    for option in (['--no-think'], ['--date', '1 Jan 2025']):
        assert f'{option[0]}: expected a chat format with' in generate('--chat', *ask, *option, status=2).stderr
    assert '--input-ids excludes --chat' in generate('--chat', '--input-ids', '1', status=2).stderr


def says():
    """the closing line has tokens, seconds, rates and communication; --quiet leaves nothing on standard error"""
    found = generate('--chat', '--prompt', 'tessera', ranks=2)
    equal(found.stdout, '(noun) a small square tile of stone or glass used in making mosaics.\n')
    assert re.search(r'world_size: 2\ngenerated_tokens: 20\n20 new tokens in [\d.]+ s: prefill \d+ in [\d.]+ s '
                     r'\([\d.]+ tok/s\), decode 19 in [\d.]+ s \([\d.]+ tok/s\), first token after [\d.]+ s, '
                     r'communication [\d.]+ % of the time\n', found.stderr), found.stderr
    assert '\r' not in found.stderr and '\033' not in found.stderr, found.stderr
    equal(generate('--chat', '--prompt', 'tessera', '--quiet', ranks=2).stderr, '')
    shown = run([example, '--model', demo, '--chat', '--prompt', 'tessera'], 2)
    assert re.search(r'world_size: 2\ngenerated_tokens: 20\n', shown.stderr), shown.stderr
    equal(shown.stdout, found.stdout)


def progress():
    """a long prompt shows a bar on a terminal, which ends before the text begins"""
    command = [tessera, 'generate', '--model', demo, '--threads', '1', '--simd', 'scalar', '--chunk', '8', '--max-new-tokens', '2',
               '--prompt', 'tile ' * 300]
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    shown = b''
    try:
        while data := os.read(fd, 65536):
            shown += data
    except OSError:  # the terminal has no program any more
        pass
    equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, 'status')
    text = shown.decode()
    assert re.search(r'\rreading the prompt \[#+\.*\] .* tokens, \d+ tok/s', text), text
    assert re.search(r'\[#{24}\] 100.0 %.*\n[^\n]*\r\nown memory of a rank: ', text), text


def deepseek():
    """a folder laid out as DeepSeek-R1-Distill-Qwen-1.5B is published loads, and its template and tokenizer agree"""
    path = os.path.join(scratch, 'deepseek')
    os.mkdir(path)
    tokenizer = json.load(open(os.path.join(tokenizers, 'qwen', 'tokenizer.json')))
    begin = len(tokenizer['model']['vocab'])
    names = ['<｜end▁of▁sentence｜>', '<｜User｜>', '<｜Assistant｜>', '<｜begin▁of▁sentence｜>', '<|EOT|>', '<think>', '</think>']
    special = {'<｜end▁of▁sentence｜>', '<｜begin▁of▁sentence｜>'}
    tokenizer['added_tokens'] = [dict(id=begin + i, content=name, single_word=False, lstrip=False, rstrip=False, normalized=False,
                                      special=name in special) for i, name in enumerate(names)]
    end, user, assistant, start, _, think, _ = range(begin, begin + len(names))
    token = dict(lstrip=False, normalized=True, rstrip=False, single_word=False, __type='AddedToken')
    write = lambda name, value: json.dump(value, open(os.path.join(path, name), 'w'))
    write('tokenizer.json', tokenizer)
    write('tokenizer_config.json', dict(
        add_bos_token=True, add_eos_token=False, bos_token=dict(token, content=names[3]), clean_up_tokenization_spaces=False,
        eos_token=dict(token, content=names[0]), legacy=True, model_max_length=16384, pad_token=dict(token, content=names[0]),
        sp_model_kwargs={}, unk_token=None, tokenizer_class='LlamaTokenizerFast',
        chat_template=open(os.path.join(chats, 'deepseek-r1-distill.jinja')).read()))
    hidden, ffn, heads, kv_heads, layers, vocab = 32, 64, 4, 2, 2, begin + 40  # the vocabulary is padded
    write('config.json', dict(
        architectures=['Qwen2ForCausalLM'], attention_dropout=0.0, bos_token_id=start, eos_token_id=end, hidden_act='silu',
        hidden_size=hidden, initializer_range=0.02, intermediate_size=ffn, max_position_embeddings=256, max_window_layers=21,
        model_type='qwen2', num_attention_heads=heads, num_hidden_layers=layers, num_key_value_heads=kv_heads,
        rms_norm_eps=1e-06, rope_theta=10000, sliding_window=4096, tie_word_embeddings=False, torch_dtype='bfloat16',
        transformers_version='4.44.0', use_cache=True, use_mrope=False, use_sliding_window=False, vocab_size=vocab))
    write('generation_config.json', dict(_from_model_config=True, bos_token_id=start, eos_token_id=end, do_sample=True,
                                         temperature=0.6, top_p=0.95, transformers_version='4.39.3'))
    kv = hidden // heads * kv_heads
    shapes = {'model.embed_tokens.weight': [vocab, hidden], 'lm_head.weight': [vocab, hidden], 'model.norm.weight': [hidden]}
    for layer in range(layers):
        parts = {'self_attn.q_proj.weight': [hidden, hidden], 'self_attn.k_proj.weight': [kv, hidden],
                 'self_attn.v_proj.weight': [kv, hidden], 'self_attn.o_proj.weight': [hidden, hidden],
                 'self_attn.q_proj.bias': [hidden], 'self_attn.k_proj.bias': [kv], 'self_attn.v_proj.bias': [kv],
                 'mlp.gate_proj.weight': [ffn, hidden], 'mlp.up_proj.weight': [ffn, hidden], 'mlp.down_proj.weight': [hidden, ffn],
                 'input_layernorm.weight': [hidden], 'post_attention_layernorm.weight': [hidden]}
        shapes |= {f'model.layers.{layer}.{name}': shape for name, shape in parts.items()}
    header, data, drawn = {}, bytearray(), random.Random(5)
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = struct.pack(f'<{count}f', *(drawn.gauss(0, 0.2) for _ in range(count)))
        bits = b''.join(values[i + 2:i + 4] for i in range(0, len(values), 4))  # the upper half of a float is its bf16
        header[name] = dict(dtype='BF16', shape=shape, data_offsets=[len(data), len(data) + len(bits)])
        data += bits
    head = json.dumps(header).encode()
    open(os.path.join(path, 'model.safetensors'), 'wb').write(struct.pack('<Q', len(head)) + head + data)

    prompt = '<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜><think>\n'
    tokenized = subprocess.run([tessera, 'tokenize', '--model', path], input=json.dumps(prompt) + '\n"Hi"\n', capture_output=True,
                               text=True, timeout=PATIENCE)
    equal(tokenized.returncode, 0, tokenized.stderr)
    chat_ids, hi_ids = [json.loads(line) for line in tokenized.stdout.splitlines()]
    equal(hi_ids[0], start, 'the first id of a text')
    newline = tokenizer['model']['vocab']['Ċ']
    equal(chat_ids, [start, start, user, *hi_ids[1:], assistant, think, newline], 'a rendered chat as a text')
    ids = chat_ids[1:]  # a chat is encoded without a second beginning
    common = ['--max-new-tokens', '12', '--print-ids']
    for ranks in (1, 2, 3):
        chat = generate('--chat', '--prompt', 'Hi', *common, model=path, ranks=ranks)
        assert 'sampling: temperature 0.6, top-p 0.95' in chat.stderr.replace(', top-k 50', ''), chat.stderr
        plain = generate('--input-ids', ','.join(map(str, ids)), *common, model=path, ranks=ranks)
        equal(chat.stdout.splitlines()[-1], plain.stdout.splitlines()[-1], f'ids on {ranks} ranks')


def lost():
    """output that does not arrive is an error, wherever it was printed"""
    told = r'error: (standard output: |cannot write to file: )'
    for code in ('generate --model "$1" --threads 1 --quiet --chat --prompt tessera', 'plan --preset qwen3-8b -n 1', 'completion',
                 'tokenize --model "$1" <<<\'"a"\'', 'chat --model "$1" --threads 1 <<<tessera'):
        for lost in ('>/dev/full', '>&-'):
            result = subprocess.run(['bash', '-c', f'"$0" {code} {lost}', tessera, demo], stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
            assert result.returncode == 1 and len(re.findall(told, result.stderr)) == 1, f'{code} {lost}: status {result.returncode}: {result.stderr}'
    # The first file that a program opens gets the first number that is free: nothing of the text may go there.
    dump = os.path.join(scratch, 'without output.safetensors')
    subprocess.run(['bash', '-c', '"$0" generate --model "$1" --threads 1 --quiet --input-ids 1,2 --dump-logits "$2" >&-', tessera, demo, dump],
                   stderr=subprocess.PIPE, timeout=PATIENCE)
    head = open(dump, 'rb').read(8)
    assert struct.unpack('<Q', head)[0] < 1000, head


def damaged():
    """a weight that is no number ends the program, whichever rank has it"""
    path = changed_demo('damaged', 'config.json')
    data = bytearray(open(os.path.join(path, 'model.safetensors'), 'rb').read())
    length = struct.unpack('<Q', data[:8])[0]
    embedding = json.loads(data[8:8 + length])['model.embed_tokens.weight']
    row = 8 + length + embedding['data_offsets'][0] + 4000 * 2 * embedding['shape'][1]
    data[row:row + 2] = b'\xC0\x7F'
    os.remove(os.path.join(path, 'model.safetensors'))
    open(os.path.join(path, 'model.safetensors'), 'wb').write(data)
    for ranks in (1, 2, 3):
        for options in (['--greedy'], ['--temperature', '1'], ['--wire', 'q8', '--greedy']):
            result = generate('--chat', '--prompt', 'tessera', '--quiet', *options, model=path, ranks=ranks, status=1)
            assert 'are not numbers: the weights are damaged' in result.stderr, f'{ranks} ranks, {options}: {result.stderr}'


def pipes():
    """one rank reads the prompts, which may come out of a pipe, and gives them to the others"""
    pipe = os.path.join(scratch, 'pipe')
    os.mkfifo(pipe)
    writer = subprocess.Popen(['bash', '-c', 'printf "tessera\nmosaic\n" >"$0"', pipe])
    options = ['--quiet', '--max-new-tokens', '5', '--batch-size', '2']
    found = generate('--prompt-file', pipe, *options, ranks=3).stdout
    writer.wait()
    file = os.path.join(scratch, 'prompts')
    open(file, 'w').write('tessera\nmosaic\n')
    equal(found, generate('--prompt-file', file, *options).stdout)
    result = generate('--prompt-file', file + ' that is not there', ranks=2, status=1)
    assert 'expected a file that can be read' in result.stderr and '(rank ' not in result.stderr, result.stderr


def info():
    """tessera info shows every rank, and warns of more threads than cores"""
    shown = run([tessera, 'info', '--threads', '1000'], 3).stdout
    assert re.search(r'3 ranks \(mpi\) on 1 host', shown), shown
    equal(len(re.findall(r'^ +[012]  \S+ +\d+ +1000 ', shown, re.MULTILINE)), 3, shown)
    assert re.search(r'^slow: .*(ranks|threads) share', shown, re.MULTILINE), shown
    assert 'instruction set: compiled for' in shown, shown


def completion():
    """bash completes subcommands, options and their values"""
    def completed(*words):
        line = ' '.join(f"'{word}'" for word in words)
        code = f'source <({tessera} completion); COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _tessera; echo "${{COMPREPLY[@]}}"'
        return subprocess.run(['bash', '-c', code], capture_output=True, text=True, timeout=PATIENCE).stdout.split()
    equal(completed('tessera', 'gen'), ['generate'])
    equal(completed('tessera', 'generate', '--top'), ['--top-k', '--top-p'])
    equal(completed('tessera', 'chat', '--attention-algo', 'o'), ['online_softmax'])
    assert 'chat-ranks' not in completed('tessera', '')


scratch = tempfile.mkdtemp()
try:
    for act in (seeds, batches, ends, defaults, useless, says, progress, deepseek, lost, damaged, pipes, info, completion):
        if not CHOSEN or act.__name__ in CHOSEN:
            test(act)
finally:
    shutil.rmtree(scratch)
end()
