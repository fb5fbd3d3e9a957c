#!/usr/bin/env python3
"""The loops of the micro-kernels multiply with FMA, or as bytes, and leave the stack alone: check_kernels.py OBJDUMP ARCHIVE MARCH

Looks at the innermost loops that contain vector arithmetic.
"""
import re
import subprocess
import sys

KERNEL = re.compile(r'multiply_tile<|multiply_group<')
BYTES = re.compile(r'vpdpbusd|vpmaddubsw')
LINE = re.compile(r'^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$')
JUMP = re.compile(r'^j[a-z]+$')


def functions(text):
    """Name and [(address, mnemonic, operands)] of every function of a listing."""
    name, body = None, []
    for line in text.splitlines():
        head = re.match(r'^[0-9a-f]+ <(.*)>:$', line)
        if head:
            if name:
                yield name, body
            name, body = head.group(1), []
        elif (found := LINE.match(line)) and name:
            body.append((int(found.group(1), 16), found.group(2), found.group(3)))
    if name:
        yield name, body


def innermost_loops(body):
    """Bodies of loops that contain no other loop."""
    spans = []
    for address, mnemonic, operands in body:
        target = re.match(r'([0-9a-f]+)', operands) if JUMP.match(mnemonic) else None
        if target and int(target.group(1), 16) <= address:
            spans.append((int(target.group(1), 16), address))
    for begin, end in spans:
        if not any((b, e) != (begin, end) and begin <= b and e <= end for b, e in spans):
            yield [row for row in body if begin <= row[0] <= end]


def faults(name, body):
    """What is wrong with a kernel, in sentences."""
    framed = any(mnemonic == 'mov' and operands == '%rsp,%rbp' for _, mnemonic, operands in body)
    stack = re.compile(r'\(%rsp|\(%rbp' if framed else r'\(%rsp')
    if 'multiply_group<' in name:
        loops = [loop for loop in innermost_loops(body) if any(BYTES.match(m) for _, m, _ in loop)]
        if not loops:
            return [f'{name}: no loop of products of bytes']
        return [f'{name}: the stack is used in the loop at {loop[0][0]:x}: {m} {operands}'
                for loop in loops for _, m, operands in loop if stack.search(operands)]
    loops = [loop for loop in innermost_loops(body) if any(re.match(r'vfm?n?m(add|sub)|vmulps|vaddps', m) for _, m, _ in loop)]
    if not loops:
        return [f'{name}: no loop of vector arithmetic']
    wrong = []
    if not any(m.startswith('vfmadd') and m.endswith('ps') for loop in loops for _, m, _ in loop):
        wrong.append(f'{name}: no FMA in its loops')
    for loop in loops:
        if not any(m.startswith('vfmadd') for _, m, _ in loop):
            continue  # a remainder that only adds is not the loop that matters
        if any(m in ('vmulps', 'vaddps') for _, m, _ in loop):
            wrong.append(f'{name}: a product and a sum that are not fused, in the loop at {loop[0][0]:x}')
        used = [row for row in loop if stack.search(row[2])]
        if used:
            address, mnemonic, operands = used[0]
            wrong.append(f'{name}: the stack is used {len(used)} times in the loop at {loop[0][0]:x}, first at {address:x}: '
                         f'{mnemonic} {operands}')
    return wrong


def check(text):
    kernels = [(name, body) for name, body in functions(text) if KERNEL.search(name)]
    return len(kernels), [fault for name, body in kernels for fault in faults(name, body)]


def listing(*instructions, kernel='multiply_tile'):
    lines = [f'0000000000000000 <void {kernel}<B>(float)>:']
    return '\n'.join(lines + [f'  {4 * i:x}:\t{text}' for i, text in enumerate(instructions)])


def self_test():
    good = ['xor    %eax,%eax', 'vmovaps (%rdi),%zmm0', 'vfmadd231ps (%rsi){1to16},%zmm0,%zmm1', 'jne    4 <x>', 'ret']
    assert check(listing(*good)) == (1, [])
    for change, text in {1: ('vmovaps 0x40(%rsp),%zmm0', 'the stack'), 2: ('vmulps %zmm0,%zmm1,%zmm1', 'no FMA')}.items():
        bad = good[:change] + [text[0]] + good[change + 1:]
        assert any(text[1] in fault for fault in check(listing(*bad))[1]), (change, check(listing(*bad)))
    outside = ['vmovaps %zmm1,(%rsp)'] + good[1:]
    assert check(listing(*outside)) == (1, [])
    assert 'no loop' in check(listing('ret'))[1][0]
    of_bytes = ['vpdpbusd (%rdi),%zmm0,%zmm1', 'jne    0 <x>', 'ret']
    assert check(listing(*of_bytes, kernel='multiply_group')) == (1, [])
    assert 'the stack' in check(listing('vmovaps (%rsp),%zmm0', *of_bytes, kernel='multiply_group'))[1][0]
    assert 'no loop' in check(listing('ret', kernel='multiply_group'))[1][0]


self_test()
objdump, archive, march = sys.argv[1:]
text = subprocess.run([objdump, '-d', '-C', '--no-show-raw-insn', archive], capture_output=True, text=True, check=True).stdout
count, wrong = check(text)
print(f'{march}: {count} kernels', *wrong, sep='\n')
sys.exit(1 if wrong or count < 4 else 0)
