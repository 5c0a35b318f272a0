# SPDX-License-Identifier: MIT
"""What is measured: each function gives rows. Ours and the peers take turns."""
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field

from procs import BenchError, Overtime, ours_first_token, peer_first_token
from report import make_row

VULKAN, CPU = "vulkan", "cpu"
SHAPE_134M = "134 M parameters (dim 768, 12 layers, 12 heads, ffn 2048, vocabulary 32,000)"
SHAPE_9M = "9 M parameters (dim 288, 6 layers, vocabulary 10,000)"
FIRST_PROMPT = 8


def prompt_ids(count, vocabulary=10000):
    """BOS, then the same made-up words each time: past the special and byte pieces."""
    ids, state = [1], 12345
    while len(ids) < count:
        state = (state * 1103515245 + 12345) % 2 ** 31
        ids.append(300 + (state >> 8) % (vocabulary - 300))
    return ids


def row_prefix(backend):
    """Rows against the peer's CPU backend are a set of their own."""
    return "cpu/" if backend == CPU else ""


@dataclass
class Scenario:
    """A prompt, then decoding behind it: up to two rows."""
    image: str
    context: int
    sessions: int = 1
    prefill: str = ""  # name of the row that the prompt makes
    decode: str = ""
    per_second: bool = False  # decode row in tokens/s instead of ms a token
    ours_tokens: int = 16
    peer_tokens: dict = field(default_factory=lambda: {VULKAN: 3, CPU: 16})
    one_prompt: bool = False  # which is so long that the note says it

    def names(self):
        return [name for name in (self.prefill, self.decode) if name]


SCENARIOS = [
    Scenario("134m-q4", 16, decode="decode_ctx16"),
    Scenario("134m-q4", 64, prefill="prefill64"),
    Scenario("134m-q4", 512, prefill="prefill512", decode="decode_ctx512"),
    Scenario("134m-q4", 2048, decode="decode_ctx2048", one_prompt=True),
    Scenario("134m-q4", 8, sessions=1, decode="batch1", per_second=True),
    Scenario("134m-q4", 8, sessions=4, decode="batch4", per_second=True,
             peer_tokens={VULKAN: 2, CPU: 16}),
    Scenario("134m-q4", 8, sessions=8, decode="batch8", per_second=True,
             peer_tokens={VULKAN: 2, CPU: 16}),
    Scenario("134m-q8", 16, decode="decode_ctx16_q8"),
    Scenario("134m-f16", 16, decode="decode_ctx16_f16", ours_tokens=24,
             peer_tokens={VULKAN: 4, CPU: 16}),
]

FIRST_ROWS = ["first_token_cold_9m", "first_token_warm_9m", "first_token_cold_134m",
              "first_token_warm_134m", "memory_over_weights", "memory_anonymous"]
ENCODERS = {"vit_s": "vit-s-f16", "vit_b": "vit-b-f16"}  # by the rows' names, an image
ENCODE_BATCHES = [1, 8]
SERVICE_ROWS = ["socket_round_trip", "stream_overhead"]


class Samples:
    """Answers of one kind from one side, as long as the time for them lasts."""

    def __init__(self, budget_s):
        self.left_s, self.answers = budget_s, []

    def wanted(self):
        """At least one; no further one that would likely take longer than is left."""
        return not self.answers or self.answers[-1]["wall_us"] / 1e6 <= self.left_s

    def add(self, answer):
        self.left_s -= answer["wall_us"] / 1e6
        self.answers.append(answer)

    def per_token_ms(self, which):
        return [a[which + "_us"] / 1e3 / a["tokens"] for a in self.answers]

    def per_second(self):
        return [a["tokens"] * 1e6 / a["wall_us"] for a in self.answers]


class Side:
    """Who is measured: what is asked of him, and what came."""

    def __init__(self, source, tokens, budget_s, goes_on, prompt_limit_s=None):
        self.source, self.tokens, self.goes_on = source, tokens, goes_on
        self.prompts, self.decodes = Samples(budget_s), Samples(budget_s)
        self.prompt_limit_s, self.given_up = prompt_limit_s, False

    def turn(self, scenario, ids):
        if self.given_up:
            return
        if not self.prompts.answers or (scenario.prefill and self.prompts.wanted()):
            try:
                self.prompts.add(self.source.prompt(scenario.sessions, ids, self.prompt_limit_s))
            except Overtime:
                self.given_up = True
                self.source.restart()
                return
        if scenario.decode and self.decodes.wanted():
            self.decodes.add(self.source.generate(self.tokens))

    def ids(self):
        """The first token, and those behind it: the peer's turns go on where the last
        one ended, ours from the prompt again."""
        turns = self.decodes.answers if self.goes_on else self.decodes.answers[:1]
        return [i for answer in self.prompts.answers[:1] + turns for i in answer["ids"]]


def few(samples, repeat):
    """A note where a row has fewer samples than were asked for."""
    if 0 < len(samples) < repeat:
        return f"the peer's figure is of {len(samples)} run" + "s" * (len(samples) > 1)
    return ""


def side_note(side, samples, bench, one_prompt=False):
    """What is to be said of a peer's samples."""
    if side.given_up:
        return (f"the peer's prompt took more than {bench.prompt_limit_s:g} s: "
                "BENCH_FULL=1 waits for it")
    count = len(samples.answers)
    if one_prompt and count:
        return f"the peer's figure is of {count} run" + "s" * (count > 1) + " behind one prompt"
    return few(samples.answers, bench.repeat)


def run_scenario(scenario, ours, peers, bench, progress):
    """Rows of a scenario, and the greedy ids that each side gave."""
    ids = prompt_ids(scenario.context)
    sides = {"ours": Side(ours, scenario.ours_tokens, bench.budget_s, False)}
    for backend, peer in peers.items():
        sides[backend] = Side(peer, scenario.peer_tokens[backend], bench.budget_s,
                              not scenario.prefill, bench.prompt_limit_s)
    title = "/".join(scenario.names())
    # A prompt and a token each, not counted: pipelines are compiled, pages touched.
    for name, side in sides.items():
        progress(f"{title}: warming up, {name}")
        side.source.prompt(scenario.sessions, ids[:16 if scenario.sessions == 1 else 4])
        side.source.generate(1)
        side.source.settle()
    for turn in range(bench.repeat):
        for name, side in sides.items():
            progress(f"{title}: {turn + 1} of {bench.repeat}, {name}")
            side.turn(scenario, ids)
    rows = []
    own = sides["ours"]
    for backend in peers or {VULKAN: None}:
        side = sides.get(backend, Side(None, 0, 0, False))
        prefix = row_prefix(backend)
        if scenario.prefill:
            rows.append(make_row(
                prefix + scenario.prefill, "ms/token",
                own.prompts.per_token_ms("wall"), side.prompts.per_token_ms("wall"),
                ours_cpu=own.prompts.per_token_ms("cpu"), peer_cpu=side.prompts.per_token_ms("cpu"),
                note=side_note(side, side.prompts, bench)))
        if scenario.decode:
            rate = scenario.per_second
            rows.append(make_row(
                prefix + scenario.decode, "tokens/s" if rate else "ms/token",
                own.decodes.per_second() if rate else own.decodes.per_token_ms("wall"),
                side.decodes.per_second() if rate else side.decodes.per_token_ms("wall"),
                better="higher" if rate else "lower",
                ours_cpu=own.decodes.per_token_ms("cpu"), peer_cpu=side.decodes.per_token_ms("cpu"),
                note=side_note(side, side.decodes, bench, scenario.one_prompt)))
    return rows, {name: side.ids() for name, side in sides.items()}


def compare_ids(model, ours, peer):
    """How many leading tokens agree, of those that both gave."""
    compared = min(len(ours), len(peer))
    equal = 0
    while equal < compared and ours[equal] == peer[equal]:
        equal += 1
    return {"model": model, "compared": compared, "equal": equal,
            "ours": ours[:compared], "peer": peer[:compared]}


def first_token(bench, side, image, cache, ids):
    """Seconds, CPU ms, and what is resident without the KV cache: all, anonymous."""
    if side == "ours":
        taken, cpu, held = ours_first_token(bench.build, bench.image(image), bench.scratch, cache,
                                            ids, bench.device)
        kv = bench.kv_bytes_a_token(image) * (len(ids) + 1)
    else:
        taken, cpu, held, kv = peer_first_token(bench.module, bench.gguf(image), VULKAN,
                                                bench.threads[VULKAN], cache, ids)
    return taken, cpu, (held[0] - kv, held[1] - kv)


def measure_first(bench, wanted, progress):
    """Start of the process to first token, cold and warm, and what is resident then."""
    rows, weights = [], {}
    for shape, image in (("9m", "9m-q4"), ("134m", "134m-q4")):
        names = [f"first_token_{state}_{shape}" for state in ("cold", "warm")]
        if shape == "134m":
            names += ["memory_over_weights", "memory_anonymous"]
        if not any(wanted(name) for name in names):
            continue
        ids = prompt_ids(FIRST_PROMPT)
        samples = {(side, state): [] for side in ("ours", "peer") for state in ("cold", "warm")}
        cpus = {key: [] for key in samples}
        memory = {"ours": [], "peer": []}
        weights[shape] = bench.weight_bytes(image)
        left_s = {key: bench.budget_s for key in samples}
        for turn in range(bench.repeat):
            for side in ("ours", "peer"):
                if side == "peer" and VULKAN not in bench.backends:
                    continue
                cache = os.path.join(bench.scratch, f"first-{shape}-{side}")
                for state in ("cold", "warm"):
                    if left_s[side, state] <= 0:
                        continue
                    if state == "cold":
                        shutil.rmtree(cache, ignore_errors=True)
                        os.makedirs(cache)
                    progress(f"first token, {shape}: {turn + 1} of {bench.repeat}, {side}, {state}")
                    taken, cpu, held = first_token(bench, side, image, cache, ids)
                    samples[side, state].append(taken)
                    cpus[side, state].append(cpu)
                    left_s[side, state] -= taken
                    if state == "warm":
                        memory[side].append(held)
        for state in ("cold", "warm"):
            rows.append(make_row(f"first_token_{state}_{shape}", "s", samples["ours", state],
                                 samples["peer", state], ours_cpu=cpus["ours", state],
                                 peer_cpu=cpus["peer", state],
                                 note=few(samples["peer", state], bench.repeat)))
        if shape == "134m":
            mib = 2 ** 20
            over = {side: [(total - weights[shape]) / mib for total, _ in held]
                    for side, held in memory.items()}
            anonymous = {side: [held / mib for _, held in values]
                         for side, values in memory.items()}
            rows.append(make_row("memory_over_weights", "MiB", over["ours"], over["peer"],
                                 note="resident, less the weights once and the KV cache"))
            rows.append(make_row("memory_anonymous", "MiB", anonymous["ours"], anonymous["peer"],
                                 note="anonymous, less the KV cache"))
    return [row for row in rows if wanted(row["name"])]


def encode_names(shape):
    return [f"encode_{shape}_batch{batch}" for batch in ENCODE_BATCHES]


def encode_row(name, own, other, bench):
    return make_row(name, "images/s", own.per_second(), other.per_second(), better="higher",
                    ours_cpu=own.per_token_ms("cpu"), peer_cpu=other.per_token_ms("cpu"),
                    note=few(other.answers, bench.repeat))


def measure_encoders(bench, wanted, progress):
    """Pictures through vision transformers, and what the peer says of itself."""
    rows, info = [], None
    for shape, image in ENCODERS.items():
        if not any(wanted(name) for name in encode_names(shape)):
            continue
        progress(f"{image}: starting")
        sides = {}
        try:
            sides["ours"] = bench.open_ours(image)
            if bench.onnx_module:
                sides["peer"] = bench.open_onnx_peer(shape)
                info = sides["peer"].info
            for batch, name in zip(ENCODE_BATCHES, encode_names(shape)):
                if not wanted(name):
                    continue
                samples = {"ours": Samples(bench.budget_s), "peer": Samples(bench.budget_s)}
                for side in sides.values():  # kernels are compiled, pages touched
                    side.encode(batch)
                    side.settle()
                for turn in range(bench.repeat):
                    for side, source in sides.items():
                        if samples[side].wanted():
                            progress(f"{name}: {turn + 1} of {bench.repeat}, {side}")
                            samples[side].add(source.encode(batch))
                rows.append(encode_row(name, samples["ours"], samples["peer"], bench))
        finally:
            for side in sides.values():
                side.close()
    return rows, info


def engine_step_us(build, image, device):
    """A step of one row behind 16, of the engine alone: medians of wall and CPU time."""
    env = dict(os.environ)
    if device:
        env["M4_TEST_DEVICE"] = device
    ran = subprocess.run([os.path.join(build, "bin/bench_step"), image, "1", "16", "200"],
                         env=env, capture_output=True, text=True, check=False)
    found = re.search(r"past +16 rows +1: wall median +(\d+) us,.*CPU median +(\d+) us",
                      ran.stdout)
    if not found:
        raise BenchError("bench_step: no step of one row behind 16: " + ran.stderr.strip()[-200:])
    return float(found.group(1)), float(found.group(2))


def measure_service(bench, wanted, progress):
    """What the socket and the stream cost, on the smallest model there is."""
    rows = []
    ours = bench.open_ours("nano")
    try:
        if wanted("socket_round_trip"):
            trips = []
            for turn in range(bench.repeat):
                progress(f"socket round trip: {turn + 1} of {bench.repeat}")
                trips.append(ours.status(1000))
            rows.append(make_row(
                "socket_round_trip", "us", [t["wall_us"] for t in trips], [],
                ours_cpu=[t["cpu_us"] / 1e3 for t in trips],
                note="m4_status(); the peer is a library in its app's process"))
        if wanted("stream_overhead"):
            over, over_cpu = [], []
            ours.prompt(1, prompt_ids(16, 512))
            ours.settle()
            for turn in range(bench.repeat):
                progress(f"stream overhead: {turn + 1} of {bench.repeat}")
                wall, cpu = engine_step_us(bench.build, bench.image("nano"), bench.device)
                answer = ours.generate(48)
                over.append(answer["gap_us"] - wall)
                over_cpu.append((answer["cpu_us"] / answer["tokens"] - cpu) / 1e3)
            rows.append(make_row(
                "stream_overhead", "us/token", over, [], ours_cpu=over_cpu,
                note="time between two tokens at the client less the engine's step, default "
                     f"image; samples from {min(over):.0f} to {max(over):.0f}"))
    finally:
        ours.close()
    return rows


def measure_numerics(bench, progress, count=20):
    """Greedy tokens of the default image, whose choices are not near ties; the peer's info."""
    progress(f"numerics: {count} greedy tokens of the default image")
    ids = [1] + [300 + 7 * i % 200 for i in range(7)]
    ours = bench.open_ours("nano")
    try:
        mine = ours.prompt(1, ids)["ids"] + ours.generate(count)["ids"]
    finally:
        ours.close()
    peer = bench.open_peer("nano", VULKAN)
    try:
        theirs = peer.prompt(1, ids)["ids"] + peer.generate(count)["ids"]
    finally:
        peer.close()
    return compare_ids("default image, F16", mine, theirs), peer.info
