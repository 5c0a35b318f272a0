# SPDX-License-Identifier: MIT
"""The processes that the bench runs: m4d, its client, the peer."""
import json
import os
import select
import socket
import subprocess
import time

START_S = 180
ANSWER_S = 3600


class BenchError(Exception):
    """What went wrong, in one sentence."""


class Overtime(BenchError):
    """No answer in the time there was for it."""


class Worker:
    """A process that answers each line of orders with a line of JSON."""

    def __init__(self, name, argv, env=None, log=None):
        self.name = name
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log or subprocess.DEVNULL,
            env=env, text=True, bufsize=1)

    @property
    def pid(self):
        return self.process.pid

    def read(self, limit_s=ANSWER_S):
        ready, _, _ = select.select([self.process.stdout], [], [], limit_s)
        if not ready:
            raise Overtime(f"{self.name} gave no answer in {limit_s} s")
        line = self.process.stdout.readline()
        if not line:
            raise BenchError(f"{self.name} ended")
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise BenchError(f"{self.name} said {line.strip()!r}") from error
        if "error" in answer:
            raise BenchError(f"{self.name}: {answer['error']}")
        return answer

    def ask(self, line, limit_s=ANSWER_S):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise BenchError(f"{self.name} ended") from error
        return self.read(limit_s)

    def kill(self):
        """In the middle of an order."""
        self.process.kill()
        self.close()

    def close(self):
        """End by the end of orders; by force where that does not do."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.stdout.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Ours:
    """A private m4d on an image, and m4_bench connected to it."""

    def __init__(self, build, image, scratch, cache, device=None):
        self.socket = os.path.join(scratch, "m4d.sock")
        self.daemon = start_m4d(build, image, self.socket, cache, device, scratch)
        self.client = None
        try:
            wait_for_socket(self.daemon, self.socket, scratch)
            self.client = Worker("m4_bench", [os.path.join(build, "bin/m4_bench"), self.socket,
                                              str(self.daemon.pid)])
        except BaseException:
            self.close()
            raise

    def prompt(self, sessions, ids, limit_s=ANSWER_S):
        return self.client.ask(f"prompt {sessions} " + " ".join(map(str, ids)), limit_s)

    def generate(self, count):
        answer = self.client.ask(f"generate {count}")
        return dict(answer, ids=answer["ids"][1:])  # the first is the prompt's

    def settle(self):
        """Until m4d rests: it goes on compiling kernels when it has nothing else to do."""
        limit = time.monotonic() + START_S
        before = cpu_ms(self.daemon.pid)
        while True:
            time.sleep(0.25)
            now = cpu_ms(self.daemon.pid)
            if now - before <= 10:
                return
            if time.monotonic() > limit:
                raise BenchError(f"m4d did not come to rest in {START_S} s")
            before = now

    def encode(self, count):
        return self.client.ask(f"encode {count}")

    def status(self, count):
        return self.client.ask(f"status {count}")

    def close(self):
        if self.client:
            self.client.close()
        end(self.daemon)


class Peer:
    """llama.cpp in a Node process on a GGUF file."""

    def __init__(self, module, gguf, backend, threads, cache, log_path=os.devnull):
        self.backend, self.log_path = backend, log_path
        self.command = peer_command(module, gguf, backend, threads, cache)
        self.open()

    def open(self):
        argv, env = self.command
        with open(self.log_path, "a") as log:
            self.worker = Worker(f"the peer ({self.backend})", argv, env, log)
        try:
            self.info = self.worker.ask('{"order": "info"}', START_S)
        except BaseException:
            self.close()
            raise

    def settle(self):
        """It has nothing to do between orders."""

    def prompt(self, sessions, ids, limit_s=ANSWER_S):
        order = {"order": "prompt", "sessions": sessions, "ids": ids}
        return self.worker.ask(json.dumps(order), limit_s)

    def restart(self):
        """It still works on what nobody waits for any more."""
        self.worker.kill()
        self.open()

    def generate(self, count):
        return self.worker.ask(json.dumps({"order": "generate", "count": count}))

    def close(self):
        self.worker.close()


class OnnxPeer:
    """ONNX Runtime in a Node process on an encoder."""

    def __init__(self, module, model, threads):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_onnx.mjs")
        self.worker = Worker("the peer (ONNX Runtime)",
                             ["node", script, module, model, str(threads)])
        try:
            self.info = self.worker.ask('{"order": "info"}', START_S)
        except BaseException:
            self.close()
            raise

    def settle(self):
        """It has nothing to do between orders."""

    def encode(self, count):
        return self.worker.ask(json.dumps({"order": "encode", "count": count}))

    def close(self):
        self.worker.close()


def peer_command(module, gguf, backend, threads, cache):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer.mjs")
    env = dict(os.environ, MESA_SHADER_CACHE_DIR=cache, GGML_VK_VISIBLE_DEVICES="0")
    return ["node", script, module, gguf, backend, str(threads)], env


def start_m4d(build, image, socket, cache, device, scratch):
    if os.path.exists(socket):
        os.remove(socket)
    argv = [os.path.join(build, "bin/m4d"), "--image", image, "--socket", socket,
            "--cache-dir", cache]
    if device:
        argv += ["--gpu", device]
    with open(os.path.join(scratch, "m4d.log"), "w") as log:
        return subprocess.Popen(argv, env=dict(os.environ, MESA_SHADER_CACHE_DIR=cache),
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)


def answers(path):
    """Whether someone listens there; the file alone comes a moment before."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


def wait_for_socket(daemon, path, scratch):
    limit = time.monotonic() + START_S
    while not answers(path):
        if daemon.poll() is not None or time.monotonic() > limit:
            with open(os.path.join(scratch, "m4d.log")) as log:
                raise BenchError("m4d did not come up: " + log.read().strip())
        time.sleep(0.01)


def end(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def resident(pid):
    """Bytes: resident in all, and of these anonymous."""
    sizes = {}
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            fields = line.split()
            if len(fields) == 3 and fields[2] == "kB":
                sizes[fields[0].rstrip(":")] = int(fields[1]) * 1024
    return sizes["Rss"], sizes["Anonymous"]


def cpu_ms(pid):
    """CPU time of a process since its start."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1e3 / os.sysconf("SC_CLK_TCK")


def ours_first_token(build, image, scratch, cache, ids, device=None):
    """From the start of m4d to the first token: seconds, m4d's CPU ms, and what it holds then."""
    socket = os.path.join(scratch, "first.sock")
    began = time.monotonic()
    daemon = start_m4d(build, image, socket, cache, device, scratch)
    try:
        client = Worker("m4_bench", [os.path.join(build, "bin/m4_bench"), "--first-token", socket]
                        + [str(i) for i in ids])
        try:
            client.read(START_S)
            taken = time.monotonic() - began
            return taken, cpu_ms(daemon.pid), resident(daemon.pid)
        finally:
            client.close()
    finally:
        end(daemon)


def peer_first_token(module, gguf, backend, threads, cache, ids):
    """The same of the peer, and the bytes of its KV cache."""
    argv, env = peer_command(module, gguf, backend, threads, cache)
    worker = Worker(f"the peer ({backend})", argv + [str(i) for i in ids], env)
    try:
        answer = worker.read()
        taken = time.monotonic() - worker.began
        return taken, cpu_ms(worker.pid), resident(worker.pid), answer["kv_bytes"]
    finally:
        worker.close()
