#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures m4d against llama.cpp on the same weights: docs/bench.md."""
import argparse
import datetime
import fnmatch
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time

import measure
import onnx_vit
import report
from procs import BenchError, OnnxPeer, Ours, Peer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NANO = os.path.join(ROOT, "firmware/nano/image")
SYNTH = {
    "134m-q4": ["--like", "134m", "--quantize", "q4"],
    "134m-q8": ["--like", "134m", "--quantize", "q8"],
    "134m-f16": ["--like", "134m", "--quantize", "f16"],
    "vit-s-f16": ["--like", "vit-s"],
    "vit-b-f16": ["--like", "vit-b"],
    "9m-q4": ["--like", "15m", "--vocabulary", "10000", "--tied", "--quantize", "q4"],
}
ONNX_SHAPES = {"vit_s": (384, 12), "vit_b": (768, 12)}  # width and layers
PEER_VERSION = "3.22.1"


class Bench:
    """Images, GGUF files and processes of one run."""

    def __init__(self, options, scratch):
        self.build = os.path.abspath(options.build)
        self.folder = options.out
        self.scratch = scratch
        self.device = options.device
        self.repeat = options.repeat
        self.full = options.full
        self.budget_s = math.inf if options.full else options.budget
        self.prompt_limit_s = None if options.full else options.prompt_limit
        self.module = options.peer and os.path.join(
            options.peer, "node_modules/node-llama-cpp/dist/index.js")
        self.onnx_module = options.onnx_peer and os.path.join(
            options.onnx_peer, "node_modules/onnxruntime-node/dist/index.js")
        # The CPU backend's threads wait for one another by spinning. Where cores are
        # shared they mostly wait for one that does not run: then one is fair.
        self.busy = os.getloadavg()[0] > report.QUIET_LOAD
        cores = len(os.sched_getaffinity(0))
        self.threads = {measure.VULKAN: cores, measure.CPU: 1 if self.busy else cores}
        self.backends = [measure.VULKAN, measure.CPU] if self.module else []
        # Shaders compiled in an earlier run are not compiled again.
        self.cache = os.path.join(self.folder, "cache")
        os.makedirs(self.cache, exist_ok=True)

    def m4fw(self, *arguments):
        ran = subprocess.run([os.path.join(self.build, "bin/m4fw"), *arguments],
                             capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise BenchError(ran.stderr.strip())
        return ran.stdout

    def _made(self, path, make):
        """Made anew when m4fw is newer: it may write other bytes now."""
        tool = os.path.getmtime(os.path.join(self.build, "bin/m4fw"))
        inside = os.path.join(path, "manifest.m4m") if os.path.isdir(path) else path
        if not os.path.exists(inside) or os.path.getmtime(inside) < tool:
            make()
        return path

    def image(self, name):
        if name == "nano":
            return NANO
        path = os.path.join(self.folder, name)
        return self._made(path, lambda: self.m4fw("synth", "--out", path, "--force", *SYNTH[name]))

    def gguf(self, name):
        image = self.image(name)
        path = os.path.join(self.folder, name + ".gguf")
        return self._made(path, lambda: self.m4fw("extract", image, "--gguf", path, "--force"))

    def onnx_model(self, shape):
        path = os.path.join(self.folder, shape + ".onnx")
        if not os.path.exists(path) or (os.path.getmtime(path)
                                        < os.path.getmtime(onnx_vit.__file__)):
            with open(path + ".partial", "wb") as file:
                file.write(onnx_vit.model(*ONNX_SHAPES[shape]))
            os.replace(path + ".partial", path)
        return path

    def _part(self, name):
        return json.loads(self.m4fw("inspect", "--json", "--tensors", self.image(name)))

    def weight_bytes(self, name):
        return self._part(name)["parts"][0]["bytes"]

    def kv_bytes_a_token(self, name):
        """Of F16 keys and values: a K and a V matrix a layer tell their widths."""
        rows = sum(tensor["shape"][0] for tensor in self._part(name)["tensors"]
                   if tensor["name"].endswith(("k_proj.weight", "v_proj.weight")))
        return 2 * rows

    def open_ours(self, name):
        return Ours(self.build, self.image(name), self.scratch, self.cache, self.device)

    def open_onnx_peer(self, shape):
        try:
            return OnnxPeer(self.onnx_module, self.onnx_model(shape), self.threads[measure.CPU])
        except BenchError as error:
            raise BenchError(f"{error} (BENCH_NO_PEER=1 measures ours alone)") from error

    def open_peer(self, name, backend):
        try:
            return Peer(self.module, self.gguf(name), backend, self.threads[backend], self.cache,
                        os.path.join(self.folder, "peer.log"))
        except BenchError as error:
            raise BenchError(f"{error} (BENCH_NO_PEER=1 measures ours alone)") from error


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help="build tree")
    parser.add_argument("--out", help="folder of results and images, default BUILD/bench")
    parser.add_argument("--peer", help="folder that node-llama-cpp was installed into; none: n/a")
    parser.add_argument("--onnx-peer", help="folder that onnxruntime-node was installed into")
    parser.add_argument("--rows", default="*", help="names to measure, as a shell pattern")
    parser.add_argument("--repeat", type=int, default=5, help="samples a row, default 5")
    parser.add_argument("--budget", type=float, default=60,
                        help="seconds for one side's samples of a row; at least one is taken")
    parser.add_argument("--prompt-limit", type=float, default=1200,
                        help="seconds for one prompt; what takes longer is left out")
    parser.add_argument("--full", action="store_true", help="no limits on time")
    parser.add_argument("--device", help="Vulkan device of m4d, default its choice")
    parser.add_argument("--publish", action="store_true",
                        help="write the last result into README.md and docs/bench, measure nothing")
    options = parser.parse_args(arguments)
    if options.repeat < 1:
        parser.error("--repeat: at least 1")
    options.out = os.path.abspath(options.out or os.path.join(options.build, "bench"))
    return options


def cpu_name():
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown CPU"


def measure_scenarios(bench, wanted, progress):
    """Image by image, so that a process is started once."""
    rows, numerics, infos = [], [], {}

    def asked(scenario, backend):
        return any(wanted(measure.row_prefix(backend) + name) for name in scenario.names())

    backends = bench.backends or [measure.VULKAN]
    for image in dict.fromkeys(s.image for s in measure.SCENARIOS):
        scenarios = [s for s in measure.SCENARIOS if s.image == image
                     and any(asked(s, backend) for backend in backends)]
        if not scenarios:
            continue
        progress(f"{image}: starting")
        opened, peers = [], {}
        try:
            ours = bench.open_ours(image)
            opened.append(ours)
            for backend in bench.backends:
                if any(asked(scenario, backend) for scenario in scenarios):
                    peers[backend] = bench.open_peer(image, backend)
                    opened.append(peers[backend])
                    infos[backend] = peers[backend].info
            for scenario in scenarios:
                some = {b: peer for b, peer in peers.items() if asked(scenario, b)}
                made, ids = measure.run_scenario(scenario, ours, some, bench, progress)
                rows += [row for row in made if wanted(row["name"])]
                if measure.VULKAN in ids and scenario.decode == "decode_ctx16_f16":
                    numerics.append(measure.compare_ids("134 M random weights, F16", ids["ours"],
                                                        ids[measure.VULKAN]))
        finally:
            for side in opened:
                side.close()
    return rows, numerics, infos


def onnx_text(info):
    threads = info["threads"]
    return f"ONNX Runtime {info['version']} on the CPU, {threads} thread" + "s" * (threads > 1)


def peer_text(infos):
    if not infos:
        return None
    text = f"llama.cpp {next(iter(infos.values()))['release']} by node-llama-cpp {PEER_VERSION}"
    if measure.VULKAN in infos:
        text += ", Vulkan on " + ", ".join(infos[measure.VULKAN]["devices"])
    if measure.CPU in infos:
        count = infos[measure.CPU]["threads"]
        text += f", CPU backend with {count} thread" + "s" * (count > 1)
    return text


def run(options, bench, progress):
    def wanted(name):
        return fnmatch.fnmatch(name, options.rows)

    load_before = os.getloadavg()[0]
    began = time.monotonic()
    rows, numerics, infos = measure_scenarios(bench, wanted, progress)
    encoders, onnx_info = measure.measure_encoders(bench, wanted, progress)
    rows += encoders
    if any(wanted(name) for name in measure.FIRST_ROWS):
        rows += measure.measure_first(bench, wanted, progress)
    if any(wanted(name) for name in measure.SERVICE_ROWS):
        rows += measure.measure_service(bench, wanted, progress)
    if not rows:
        raise BenchError(f"no row is named like '{options.rows}'")
    if bench.backends and not all(row["name"].startswith("encode_") for row in rows):
        compared, infos[measure.VULKAN] = measure.measure_numerics(bench, progress)
        numerics.insert(0, compared)
    ours = bench.open_ours("nano")
    try:
        status = ours.status(1)
    finally:
        ours.close()
    version = subprocess.run([os.path.join(bench.build, "bin/m4d"), "--version"],
                             capture_output=True, text=True, check=True).stdout.strip()
    return {
        "about": {
            "date": datetime.date.today().isoformat(),
            "device": status["device"],
            "driver": f"{status['driver']} {status['driver_info']}",
            "cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)),
            "version": version.split()[-1],
            "peer": peer_text(infos), "peer_info": infos,
            "encoder_peer": onnx_info and onnx_text(onnx_info),
            "repeat": options.repeat, "full": options.full, "rows": options.rows,
            "load_before": load_before, "load_after": os.getloadavg()[0],
            "seconds": round(time.monotonic() - began),
            "shapes": {"134m": measure.SHAPE_134M, "9m": measure.SHAPE_9M},
        },
        "rows": rows,
        "numerics": numerics,
    }


def publish(path):
    if not os.path.exists(path):
        raise BenchError(f"{path}: no result yet: make bench")
    with open(path) as file:
        result = json.load(file)
    if result["about"]["rows"] != "*" or not result["about"]["peer"]:
        raise BenchError(f"{path}: is of some rows or without a peer; a whole run is published")
    names = report.write_pictures(result, os.path.join(ROOT, "docs/bench"))
    readme = os.path.join(ROOT, "README.md")
    with open(readme) as file:
        page = report.with_section(file.read(), report.markdown(result) + "\n"
                                   + report.pictures_text(names, "docs/bench"))
    with open(readme, "w") as file:
        file.write(page)


def main():
    options = parse(sys.argv[1:])
    path = os.path.join(options.out, "results.json")
    began = time.monotonic()

    def progress(text):
        seconds = int(time.monotonic() - began)
        print(f"bench {seconds // 60:3d}:{seconds % 60:02d}  {text}", file=sys.stderr, flush=True)

    scratch = tempfile.mkdtemp(prefix="m4-bench-")
    try:
        if options.publish:
            publish(path)
            return 0
        if not options.peer:
            progress("no peer: its columns are n/a")
        result = run(options, Bench(options, scratch), progress)
        report.write_json(result, path)
        report.write_pictures(result, options.out)
        text = report.markdown(result)
        with open(os.path.join(options.out, "results.md"), "w") as file:
            file.write(text)
        print(text)
        progress(f"written: {path}, and results.md and pictures beside it")
        return 0
    except (BenchError, report.ReportError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted, no result was written", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
