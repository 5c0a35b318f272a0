# SPDX-License-Identifier: MIT
"""The bench's arithmetic and pages, on samples that nobody measured."""
import math
import json
import os
import tempfile
import types
import unittest
import xml.etree.ElementTree as ElementTree

import measure
import onnx_vit
import procs
import report
import run


def canned(name="decode_ctx16", **changes):
    arguments = {"unit": "ms/token", "ours": [2.0, 1.0, 9.0], "peer": [40.0, 20.0],
                 "ours_cpu": [4.0], "peer_cpu": [60.0]}
    arguments.update(changes)
    return report.make_row(name, **arguments)


def result(rows, **about):
    return {"about": {"date": "2001-02-03", "device": "a device", "driver": "a driver",
                      "cpu": "a CPU", "cores": 2, "version": "0", "peer": "a peer", "rows": "*",
                      "load_before": 0.25, "load_after": 1.5} | about,
            "rows": rows, "numerics": [{"model": "m", "compared": 20, "equal": 19}]}


class Rows(unittest.TestCase):
    def test_medians_and_ratios(self):
        row = canned()
        self.assertEqual((row["ours"], row["peer"], row["ratio"]), (2.0, 30.0, 15.0))
        self.assertEqual((row["ours_cpu_ms"], row["peer_cpu_ms"], row["cpu_ratio"]),
                         (4.0, 60.0, 15.0))
        self.assertEqual(row["samples"]["ours"], [2.0, 1.0, 9.0])

    def test_more_is_better_turns_the_ratio(self):
        row = canned(unit="tokens/s", better="higher", ours=[80.0], peer=[20.0])
        self.assertEqual(row["ratio"], 4.0)
        self.assertEqual(row["cpu_ratio"], 15.0)  # CPU time stays better when lower

    def test_absent_is_not_zero(self):
        row = canned(peer=[], peer_cpu=[])
        self.assertIsNone(row["peer"])
        self.assertIsNone(row["ratio"])
        self.assertIn("| 2.00 | n/a | n/a | 4.00 | n/a | n/a |", report.table([row]))

    def test_what_is_no_number_is_refused(self):
        for wrong in (float("nan"), float("inf"), None, "3"):
            with self.assertRaisesRegex(report.ReportError, "row x: peer has a sample"):
                canned("x", peer=[1.0, wrong])
        with self.assertRaisesRegex(report.ReportError, "better is 'faster'"):
            canned(better="faster")

    def test_digits(self):
        for value, text in ((None, "n/a"), (0.0123, "0.01"), (1.234, "1.23"), (12.345, "12.3"),
                            (123.4, "123"), (12345.6, "12,346"), (-2.5, "-2.50")):
            self.assertEqual(report.number(value), text)
        self.assertEqual(report.times(20.44), "20.4x")


class Pages(unittest.TestCase):
    def test_markdown(self):
        text = report.markdown(result([canned(), canned("cpu/decode_ctx16", peer=[1.0],
                                                        note="of 1 run")]))
        self.assertIn("load 0.2 before and 1.5 after", text)
        self.assertIn("| `decode_ctx16` | ms/token | 2.00 | 30.0 | 15.0x | 4.00 | 60.0 | 15.0x |",
                      text)
        self.assertIn("| `cpu/decode_ctx16` | ms/token | 2.00 | 1.00 | 0.50x |", text)
        self.assertLess(text.index("`decode_ctx16`"), text.index("CPU backend"))
        self.assertIn("m: 19 of 20 equal", text)
        self.assertIn("\n\n`cpu/decode_ctx16`: of 1 run.\n", text)

    def test_a_busy_machine_is_said(self):
        self.assertNotIn("Other work", report.markdown(result([canned()])))
        self.assertIn("Other work ran meanwhile",
                      report.markdown(result([canned()], load_before=0.75)))

    def test_rows_share_a_note(self):
        text = report.markdown(result([canned("a", note="n"), canned("b", note="n"), canned("c")]))
        self.assertTrue(text.endswith("\n\n`a`, `b`: n.\n"))

    def test_markdown_without_a_peer(self):
        text = report.markdown(result([canned(peer=[])], peer=None))
        self.assertIn("peer: none, so its columns are n/a", text)

    def test_section(self):
        page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
        once = report.with_section(page, "new\n")
        self.assertEqual(once, f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n")
        self.assertEqual(report.with_section(once, "new"), once)
        for broken in ("", report.BEGIN, page + page, f"{report.END}\n{report.BEGIN}"):
            with self.assertRaises(report.ReportError):
                report.with_section(broken, "new")

    def test_readme_has_the_section(self):
        with open(os.path.join(run.ROOT, "README.md")) as file:
            report.with_section(file.read(), "new")

    def test_json_is_read_back(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "deep", "results.json")
            report.write_json(result([canned()]), path)
            with open(path) as file:
                self.assertEqual(json.load(file)["rows"][0]["ratio"], 15.0)
            self.assertEqual(os.listdir(os.path.dirname(path)), ["results.json"])


class Pictures(unittest.TestCase):
    def rows(self):
        return [canned(f"decode_ctx{n}", ours_cpu=[n / 10.0],
                       peer_cpu=[n * 3.0] if n < 2000 else []) for n in (2048, 16, 512)] + [
                           canned("cpu/decode_ctx16", peer=[1.0]), canned("a<b", peer=[0.5])]

    def test_they_are_svg_and_small(self):
        with tempfile.TemporaryDirectory() as folder:
            names = report.write_pictures(result(self.rows()), folder)
            self.assertEqual(names, ["ratios.svg", "ratios-cpu.svg", "context.svg"])
            text = report.pictures_text(names, "docs/bench")
            self.assertEqual(text.count("]("), 3)
            self.assertIn("](docs/bench/context.svg)", text)
            for name in names:
                with open(os.path.join(folder, name)) as file:
                    text = file.read()
                self.assertEqual(ElementTree.fromstring(text).tag,
                                 "{http://www.w3.org/2000/svg}svg")
                self.assertLess(len(text), 16384)

    def test_bars_grow_with_the_ratio(self):
        def width(ratio):
            picture = report.ratio_bars([canned(ours=[1.0], peer=[ratio]),
                                         canned(ours=[1.0], peer=[100.0])], "t")
            bar = ElementTree.fromstring(picture).findall("{*}rect")[1]
            return float(bar.get("width"))
        self.assertLess(width(2.0), width(20.0))
        self.assertIsNone(report.ratio_bars([canned(peer=[])], "t"))

    def test_lines_are_in_order_and_have_gaps(self):
        picture = ElementTree.fromstring(report.context_lines(self.rows(), "t"))
        ours, peer = picture.findall("{*}polyline")
        places = [float(point.split(",")[0]) for point in ours.get("points").split()]
        self.assertEqual(len(places), 3)
        self.assertEqual(places, sorted(places))
        self.assertEqual(len(peer.get("points").split()), 2)  # the peer's 2048 is n/a
        self.assertIsNone(report.context_lines([], "t"))


class Scripted:
    """A side of the bench that answers from a list."""

    def __init__(self, wall_us):
        self.wall_us, self.asked = wall_us, []

    def _answer(self, tokens, ids):
        return {"wall_us": self.wall_us * tokens, "cpu_us": 2 * self.wall_us * tokens,
                "tokens": tokens, "ids": ids}

    def settle(self):
        self.asked.append(("settle",))

    def restart(self):
        self.asked.append(("restart",))

    def prompt(self, sessions, ids, limit_s=None):
        if limit_s is not None and self.wall_us * sessions * len(ids) > limit_s * 1e6:
            raise procs.Overtime("too long")
        self.asked.append(("prompt", sessions, len(ids)))
        return self._answer(sessions * len(ids), [7])

    def generate(self, count):
        self.asked.append(("generate", count))
        return self._answer(count, list(range(count)))


class ScriptedEncoder:
    def __init__(self, image_us):
        self.image_us, self.asked, self.info = image_us, [], {"version": "9", "threads": 2}

    def encode(self, count):
        self.asked.append(count)
        return {"wall_us": self.image_us * count, "cpu_us": 2 * self.image_us * count,
                "tokens": count}

    def settle(self):
        self.asked.append("settle")

    def close(self):
        self.asked.append("close")


class Encoders(unittest.TestCase):
    def measured(self, pattern, ours, peer, budget_s=60):
        opened = []

        def opening(side):
            def start(name):
                opened.append(name)
                return side
            return start
        bench = types.SimpleNamespace(repeat=3, budget_s=budget_s, onnx_module=peer and "module",
                                      open_ours=opening(ours), open_onnx_peer=opening(peer))
        rows, info = measure.measure_encoders(bench, lambda name: pattern in name, lambda text: None)
        return rows, info, opened

    def test_rates_of_both(self):
        ours, peer = ScriptedEncoder(1e5), ScriptedEncoder(2e5)
        rows, info, opened = self.measured("vit_s", ours, peer)
        self.assertEqual([row["name"] for row in rows],
                         ["encode_vit_s_batch1", "encode_vit_s_batch8"])
        for row in rows:
            self.assertEqual((row["ours"], row["peer"], row["ratio"]), (10.0, 5.0, 2.0))
            self.assertEqual((row["ours_cpu_ms"], row["peer_cpu_ms"]), (200.0, 400.0))
            self.assertEqual((len(row["samples"]["ours"]), row["note"]), (3, ""))
        self.assertEqual((info["threads"], opened), (2, ["vit-s-f16", "vit_s"]))
        # What warmed up is no sample.
        self.assertEqual(ours.asked, [1, "settle", 1, 1, 1, 8, "settle", 8, 8, 8, "close"])

    def test_a_slow_peer_says_so_and_no_peer_is_no_number(self):
        rows, _, _ = self.measured("vit_b_batch8", ScriptedEncoder(1.0), ScriptedEncoder(1e7), 90)
        self.assertEqual([(len(row["samples"]["peer"]), row["note"]) for row in rows],
                         [(1, "the peer's figure is of 1 run")])
        rows, info, _ = self.measured("vit_b_batch8", ScriptedEncoder(1.0), None)
        self.assertEqual((rows[0]["peer"], rows[0]["ratio"], info), (None, None, None))
        self.assertEqual(self.measured("decode", ScriptedEncoder(1.0), None)[0], [])

    def test_they_have_a_table_of_their_own(self):
        rows = [canned(), canned("encode_vit_s_batch1", unit="images/s", better="higher")]
        text = report.markdown(result(rows, encoder_peer="ONNX Runtime 9 on the CPU, 1 thread"))
        self.assertIn("peer: a peer; ONNX Runtime 9 on the CPU, 1 thread.", text)
        self.assertLess(text.index("`decode_ctx16`"), text.index("Encoders, against"))
        self.assertLess(text.index("Encoders, against"), text.index("`encode_vit_s_batch1`"))
        self.assertIsNone(report.ratio_bars(report.rows_of(result(rows[1:]), "vulkan"), "t"))

    def test_the_model_is_a_message_with_all_its_weights(self):
        data = onnx_vit.model(64, 1)
        graph = dict(fields_of(data))[7]
        kinds = [dict(fields_of(node))[4] for number, node in fields_of(graph) if number == 1]
        self.assertEqual(kinds.count(b"LayerNormalization"), 3)
        self.assertEqual(kinds.count(b"MatMul"), 4 + 2 + 1)
        made = set()
        for number, part in fields_of(graph):
            if number == 5:
                shape = [n for field, n in fields_of(part) if field == 1]
                tensor = dict(fields_of(part))
                size = {onnx_vit.FLOAT: 4, onnx_vit.INT64: 8}[tensor[2]]
                self.assertEqual(len(tensor[9]), math.prod(shape) * size)
                made.add(tensor[8])
        made.add(b"pictures")
        for number, part in fields_of(graph):
            if number == 1:  # in order: each input is made before
                self.assertLessEqual({n for field, n in fields_of(part) if field == 1}, made)
                made |= {n for field, n in fields_of(part) if field == 2}
        self.assertLessEqual({b"embedding", b"scores"}, made)


def fields_of(message):
    """(number, value) of each field of a protobuf message."""
    at = 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value
    found = []
    while at < len(message):
        key = number()
        if key & 7 == 0:
            found.append((key >> 3, number()))
        else:
            size = 4 if key & 7 == 5 else number()
            found.append((key >> 3, message[at:at + size]))
            at += size
    return found


class Measuring(unittest.TestCase):
    def scenario(self, **changes):
        return measure.Scenario("image", 64, prefill="prefill64", decode="decode_ctx64", **changes)

    def run_scenario(self, scenario, ours, peers, repeat=3, full=False, budget_s=60):
        bench = types.SimpleNamespace(repeat=repeat, budget_s=budget_s,
                                      prompt_limit_s=None if full else 1200)
        return measure.run_scenario(scenario, ours, peers, bench, lambda text: None)

    def test_sides_take_turns(self):
        ours, peer = Scripted(1000.0), Scripted(5000.0)
        (prefill, decode), ids = self.run_scenario(self.scenario(), ours, {"vulkan": peer})
        self.assertEqual((prefill["ours"], prefill["peer"], prefill["ratio"]), (1.0, 5.0, 5.0))
        self.assertEqual((decode["ours_cpu_ms"], decode["peer_cpu_ms"]), (2.0, 10.0))
        self.assertEqual(len(prefill["samples"]["peer"]), 3)
        self.assertEqual(prefill["note"], "")
        self.assertEqual(ids["ours"], [7] + list(range(16)))
        self.assertEqual(ids["vulkan"], [7, 0, 1, 2])  # prompted anew at each turn
        # What warmed up is no sample.
        self.assertEqual(ours.asked[:3], [("prompt", 1, 16), ("generate", 1), ("settle",)])

    def test_a_slow_side_gives_fewer_samples_and_says_so(self):
        slow = Scripted(500000.0)  # 32 s a prompt, 1.5 s for three tokens
        (prefill, decode), _ = self.run_scenario(self.scenario(), Scripted(1.0), {"vulkan": slow},
                                                 budget_s=40)
        self.assertEqual(len(prefill["samples"]["peer"]), 1)
        self.assertEqual(len(prefill["samples"]["ours"]), 3)
        self.assertEqual(prefill["note"], "the peer's figure is of 1 run")
        self.assertEqual(len(decode["samples"]["peer"]), 3)
        (prefill, _), _ = self.run_scenario(self.scenario(), Scripted(1.0), {"vulkan": slow},
                                            budget_s=64)
        self.assertEqual(prefill["note"], "the peer's figure is of 2 runs")

    def test_what_takes_the_peer_too_long_says_so(self):
        slow = Scripted(2e7)  # 1280 s a prompt
        rows, _ = self.run_scenario(self.scenario(), Scripted(1.0), {"vulkan": slow})
        # Warmed up; then given up once, and ready for what comes next.
        self.assertEqual([order[0] for order in slow.asked],
                         ["prompt", "generate", "settle", "restart"])
        for row in rows:
            self.assertIsNone(row["peer"])
            self.assertIsNotNone(row["ours"])
            self.assertIn("more than 1200 s: BENCH_FULL=1", row["note"])
        rows, _ = self.run_scenario(self.scenario(), Scripted(1.0), {"vulkan": Scripted(1e7)},
                                    full=True, budget_s=math.inf)
        self.assertEqual((rows[0]["peer"], rows[0]["note"]), (1e4, ""))

    def test_one_long_prompt_serves_all_samples(self):
        scenario = measure.Scenario("image", 64, decode="decode_ctx64", one_prompt=True)
        peer = Scripted(1e6)  # 64 s a prompt, 3 s a sample
        rows, _ = self.run_scenario(scenario, Scripted(1.0), {"vulkan": peer})
        self.assertEqual([order[0] for order in peer.asked[3:]],
                         ["prompt", "generate", "generate", "generate"])
        self.assertEqual(rows[0]["peer"], 1e3)
        self.assertEqual(rows[0]["note"], "the peer's figure is of 3 runs behind one prompt")
        rows, _ = self.run_scenario(scenario, Scripted(1.0), {})
        self.assertEqual(rows[0]["note"], "")

    def test_the_peer_goes_on(self):
        scenario = measure.Scenario("image", 16, decode="decode_ctx16")
        _, ids = self.run_scenario(scenario, Scripted(1.0), {"vulkan": Scripted(1.0)})
        self.assertEqual(ids["ours"], [7] + list(range(16)))
        self.assertEqual(ids["vulkan"], [7] + 3 * [0, 1, 2])

    def test_rates_and_no_peer(self):
        rows, _ = self.run_scenario(
            measure.Scenario("image", 8, sessions=4, decode="batch4", per_second=True),
            Scripted(500.0), {}, 1)
        self.assertEqual((rows[0]["ours"], rows[0]["unit"]), (2000.0, "tokens/s"))
        self.assertIsNone(rows[0]["ratio"])

    def test_ids(self):
        self.assertEqual(measure.compare_ids("m", [1, 2, 3, 4], [1, 2, 5])["equal"], 2)
        ids = measure.prompt_ids(500)
        self.assertEqual((len(ids), ids[0]), (500, 1))
        self.assertTrue(all(300 <= i < 10000 for i in ids[1:]))
        self.assertEqual(ids[:16], measure.prompt_ids(16))


if __name__ == "__main__":
    unittest.main()
