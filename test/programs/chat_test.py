#!/usr/bin/env python3
"""A person at a terminal talks with the demo model: `tessera chat` on a pseudo-terminal.

usage: chat_test.py TESSERA DEMO_DIR RANKS EDITING MPIEXEC [TEST...]        EDITING: yes when the build has libedit
"""
import functools
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time

from tally import end, test

tessera, demo, ranks, editing, mpiexec = sys.argv[1:6]
tessera = os.path.abspath(tessera)  # as the ranks are started: processes are found by it
CHOSEN = sys.argv[6:]  # names of tests; none: all
PATIENCE = 60  # a machine under load is slow, a hang is for ever
ANSWERS = {'tessera': 'a small square tile of stone or glass used in making mosaics.',
           'mosaic': 'art consisting of a design made of small pieces of colored stone or glass.'}
CTRL_C, CTRL_D, UP, LEFT, BACKSPACE = '\x03', '\x04', '\x1b[A', '\x1b[D', '\x7f'


class Terminal:
    """A chat on a terminal of its own."""

    def __init__(self, *options, model=None, **environment):
        command = [tessera, 'chat', '--model', model or demo, '--ranks', ranks, '--threads', '1', *options]
        variables = {**os.environ, 'HOME': scratch, 'TERM': 'xterm', 'LC_ALL': 'C.UTF-8', **environment}
        variables.pop('XDG_STATE_HOME', None)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):  # a login gives these; nohup and `&` ignore them
                signal.signal(number, signal.SIG_DFL)
            os.execve(command[0], command, variables)
        self.seen = ''

    def expect(self, pattern):
        """Waits for a text (a regular expression) and drops all up to its end."""
        end = time.time() + PATIENCE
        while not (found := re.search(pattern, self.seen)):
            if not select.select([self.fd], [], [], max(0, end - time.time()))[0]:
                raise AssertionError(f'expected /{pattern}/, found {self.seen[-300:]!r}')
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # the terminal has no program any more
                data = b''
            if not data:
                raise AssertionError(f'expected /{pattern}/, the program ended after {self.seen[-300:]!r}')
            self.seen += data.decode(errors='replace')
        self.seen = self.seen[found.end():]

    def type(self, text):
        os.write(self.fd, text.encode())

    def status(self):
        """The exit status, when the program ends by itself; negative for a signal."""
        end = time.time() + PATIENCE
        while time.time() < end:
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors='replace')
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError(f'it does not end after {self.seen[-300:]!r}')


def ranks_alive():
    return subprocess.run(['pgrep', '-f', f'^{re.escape(tessera)} chat-ranks'], capture_output=True, text=True).stdout.split()


def expect_no_ranks():
    end = time.time() + 20
    while ranks_alive():
        assert time.time() < end, 'ranks were left behind'
        time.sleep(0.1)


def alone(act):
    """The test, after which no rank may be left."""
    @functools.wraps(act)
    def and_no_ranks():
        act()
        expect_no_ranks()
    return and_no_ranks


def endless_model():
    """The demo model without an end-of-text token, and with more positions: an answer that goes on."""
    path = os.path.join(scratch, 'endless')
    if not os.path.exists(path):
        shutil.copytree(demo, path)
        for name, changes in (('config.json', {'max_position_embeddings': 200000, 'eos_token_id': None}),
                              ('generation_config.json', {'eos_token_id': 0})):
            file = os.path.join(path, name)
            os.chmod(file, 0o644)
            config = {**json.load(open(file)), **changes}
            json.dump({key: value for key, value in config.items() if value is not None}, open(file, 'w'))
    return path


def answers():
    """questions are answered, and Ctrl-D ends the program"""
    chat = Terminal()
    chat.expect('context of 2048 tokens')
    for word in ('tessera', 'mosaic', 'tessera'):
        chat.expect('> ')
        chat.type(word + '\r')
        chat.expect(re.escape(ANSWERS[word]))
        chat.expect(r'tok/s')
    chat.expect('> ')
    chat.type(CTRL_D)
    assert chat.status() == 0, chat.seen
    assert chat.seen.endswith('\n'), repr(chat.seen)  # the shell's prompt begins a line


def edits():
    """a line is edited, and an earlier one is found again, also by the next chat"""
    chat = Terminal()
    chat.expect('> ')
    chat.type('tesseraX' + BACKSPACE + '\r')
    chat.expect(re.escape(ANSWERS['tessera']))
    chat.expect('> ')
    chat.type('mosic' + LEFT * 2 + 'a' + '\r')
    chat.expect(re.escape(ANSWERS['mosaic']))
    chat.expect('> ')
    chat.type(UP + UP + '\r')
    chat.expect(re.escape(ANSWERS['tessera']))
    chat.expect('> ')
    chat.type('/exit\r')
    assert chat.status() == 0, chat.seen
    later = Terminal()
    later.expect('> ')
    later.type(UP + UP + UP + '\r')  # /exit, tessera, mosaic
    later.expect(re.escape(ANSWERS['mosaic']))
    later.type('/exit\r')
    assert later.status() == 0, later.seen


def other_characters():
    """characters beyond ASCII are typed and deleted whole, whatever the locale"""
    for locale in ('C.UTF-8', 'C'):
        chat = Terminal(LC_ALL=locale)
        chat.expect('> ')
        chat.type('tessera日ö' + BACKSPACE * 2 + '\r')
        chat.expect(re.escape(ANSWERS['tessera']))
        chat.type('/exit\r')
        assert chat.status() == 0, chat.seen


def commands():
    """/clear begins anew, an unknown command is named, a line goes on after a backslash"""
    chat = Terminal()
    chat.expect('> ')
    chat.type('/clear\r')
    chat.expect('new conversation')
    chat.type('/nonsense\r')
    chat.expect('/nonsense is no command: expected /clear')
    chat.type('tessera\\\r')
    chat.expect(r'\.\.\. ')
    chat.type('tile\r')
    chat.expect('tok/s')
    chat.type('/quit\r')
    assert chat.status() == 0, chat.seen


def stopped():
    """after Ctrl-Z and fg the line is there again, and is edited as before"""
    chat = Terminal()
    chat.expect('> ')
    chat.type('tess')
    chat.expect('tess')
    os.kill(chat.pid, signal.SIGSTOP)
    modes = termios.tcgetattr(chat.fd)
    modes[3] |= termios.ICANON | termios.ECHO  # as a shell has them
    termios.tcsetattr(chat.fd, termios.TCSANOW, modes)
    os.kill(chat.pid, signal.SIGCONT)
    chat.expect('> tess')
    chat.type('eraX' + BACKSPACE + '\r')
    chat.expect(re.escape(ANSWERS['tessera']))
    chat.expect('> ')
    chat.type(CTRL_D)
    assert chat.status() == 0, chat.seen


def interrupts():
    """Ctrl-C interrupts an answer; at the prompt it drops the line, then ends the program"""
    chat = Terminal('--context', '150000', '--simd', 'scalar', model=endless_model())
    chat.expect('> ')
    chat.type('tessera\r')
    chat.expect('mosaics')
    if editing == 'yes':  # what is typed now is the next line's, Ctrl-D too: the terminal must not make anything of it
        assert not termios.tcgetattr(chat.fd)[3] & (termios.ICANON | termios.ECHO), 'the terminal edits between lines'
    chat.type(CTRL_C)
    chat.expect('interrupted')
    chat.expect('> ')
    chat.type('/clear\r')
    chat.expect('> ')
    chat.type('mosaic\r')
    chat.expect(re.escape(ANSWERS['mosaic']))
    chat.type(CTRL_C)
    chat.expect('interrupted')
    chat.expect('> ')
    chat.type('half a line')
    chat.expect('line')
    chat.type(CTRL_C)
    chat.expect('> ')
    chat.type(CTRL_C)
    assert chat.status() == 0, chat.seen


def full():
    """a full context says so and offers /clear"""
    chat = Terminal('--context', '40')
    chat.expect('context of 40 tokens')
    chat.expect('> ')
    chat.type('tessera\r')
    chat.expect('tok/s')
    chat.type('mosaic\r')
    chat.expect('no room.*/clear|full: /clear')
    chat.type('/clear\r')
    chat.type('mosaic\r')
    chat.expect(re.escape(ANSWERS['mosaic']))
    chat.type(CTRL_D)
    assert chat.status() == 0, chat.seen


def foreign_token():
    """a message with a token that the model does not have is refused, and the chat goes on"""
    path = os.path.join(scratch, 'foreign')
    shutil.copytree(demo, path)
    file = os.path.join(path, 'tokenizer.json')
    os.chmod(file, 0o644)
    fields = json.load(open(file))
    fields['added_tokens'].append({**fields['added_tokens'][0], 'id': 5000, 'content': '[PAD]'})
    json.dump(fields, open(file, 'w'))
    chat = Terminal(model=path)
    chat.expect('> ')
    chat.type('a [PAD] b\r')
    chat.expect('token ids: expected 0 to 4095, found 5000')
    chat.expect('> ')
    chat.type('tessera\r')
    chat.expect(re.escape(ANSWERS['tessera']))
    chat.expect('> ')
    chat.type(CTRL_D)
    assert chat.status() == 0, chat.seen


def ended_from_outside():
    """the ranks end with the chat, however it ends"""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        for busy in (False, True):
            chat = Terminal('--context', '150000', '--simd', 'scalar', model=endless_model())
            chat.expect('> ')
            if busy:
                chat.type('tessera\r')
                chat.expect('mosaics')
            os.kill(chat.pid, number)
            status = chat.status()
            assert status in (-number, 128 + number), f'status {status} after signal {number}'
            expect_no_ranks()


def ranks_killed():
    """a chat whose ranks are gone ends with an error, whatever is being typed"""
    chat = Terminal()
    chat.expect('> ')
    chat.type('half a line')
    chat.expect('line')
    for pid in ranks_alive():
        os.kill(int(pid), signal.SIGKILL)
    chat.expect('error: the ranks have ended')
    assert chat.status() == 1


def bad_model():
    """a folder without a model is one error"""
    chat = Terminal(model=scratch)
    assert chat.status() == 1
    assert chat.seen.count('error: ') == 1 and 'config.json' in chat.seen, chat.seen


def changed_weights():
    """weights that are written to are named behind the answer, and end the chat"""
    path = os.path.join(scratch, 'changed')
    shutil.copytree(demo, path)
    chat = Terminal(model=path)
    chat.expect('> ')
    chat.type('tessera\r')
    chat.expect(re.escape(ANSWERS['tessera']))
    chat.expect('> ')
    os.utime(os.path.join(path, 'model.safetensors'))
    chat.type('mosaic\r')
    chat.expect(re.escape(ANSWERS['mosaic']))
    chat.expect('error: .*model.safetensors: was written to while in use')
    assert chat.status() == 1, chat.seen


def pipes():
    """without a terminal only answers go to standard output"""
    result = subprocess.run([tessera, 'chat', '--model', demo, '--ranks', ranks, '--threads', '1'], input='tessera\n/clear\nmosaic',
                            capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, 'HOME': scratch})
    assert result.returncode == 0, result.stderr
    assert result.stdout == ''.join(f'(noun) {answer}\n' for answer in ANSWERS.values()), result.stdout
    windows = subprocess.run([tessera, 'chat', '--model', demo, '--threads', '1', '--stop', ' tile'], input='tessera\r\n',
                             capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, 'HOME': scratch})
    assert windows.stdout == '(noun) a small square\n', windows.stdout


def words_of_the_launcher():
    """a value that mpiexec would take for a word to itself reaches the ranks"""
    for options in (['--stop', ':'], ['--system', ':'], ['--stop', ':', '--stop', ' tile'], ['--stop=:', '--kv-cache', 'f32', '--quiet']):
        result = subprocess.run([tessera, 'chat', '--model', demo, '--ranks', ranks, '--threads', '1', *options], input='tessera\n',
                                capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, 'HOME': scratch})
        answer = 'a small square' if ' tile' in options else ANSWERS['tessera']
        assert (result.returncode, result.stdout) == (0, f'(noun) {answer}\n'), result


def other_names():
    """the name of a model's folder may be of any bytes"""
    path = os.path.join(os.fsencode(scratch), b'mod\xe9le')
    shutil.copytree(os.fsencode(demo), path)
    result = subprocess.run([tessera, 'chat', '--model', path, '--ranks', ranks, '--threads', '1'], input='tessera\n',
                            capture_output=True, text=True, errors='replace', timeout=PATIENCE, env={**os.environ, 'HOME': scratch})
    assert (result.returncode, result.stdout) == (0, f'(noun) {ANSWERS["tessera"]}\n'), result
    assert 'mod\N{REPLACEMENT CHARACTER}le, ' in result.stderr, result.stderr


def errors_in_a_file():
    """what the ranks say is not written over by what is said later in the same file"""
    with tempfile.TemporaryFile('w+') as errors:
        for _ in range(2):
            subprocess.run([tessera, 'chat', '--model', scratch, '--ranks', ranks], stdin=subprocess.DEVNULL, stderr=errors, timeout=PATIENCE)
        errors.seek(0)
        assert errors.read().count('tessera: error: ') == 2



def under_mpiexec():
    """under mpiexec it is refused: it starts its ranks itself"""
    result = subprocess.run([mpiexec, '-n', '2', tessera, 'chat', '--model', demo], stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 2 and 'start it without mpiexec' in result.stderr, result.stderr


scratch = tempfile.mkdtemp()
try:
    for act in (answers, *((edits, other_characters, stopped) if editing == 'yes' else ()), commands, interrupts, full, foreign_token,
                ended_from_outside, *((ranks_killed,) if int(ranks) > 1 else ()), bad_model, changed_weights, pipes, words_of_the_launcher,
                other_names, errors_in_a_file, under_mpiexec):
        if not CHOSEN or act.__name__ in CHOSEN:
            test(alone(act))
finally:
    shutil.rmtree(scratch)
end()
