# SPDX-License-Identifier: MIT
"""Samples into medians, rows, JSON, Markdown and pictures. Runs nothing."""
import html
import json
import math
import os
import statistics

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"
QUIET_LOAD = 0.5  # load average up to which nothing else counts


class ReportError(Exception):
    """What is wrong with the samples or the page."""


def median(samples):
    return statistics.median(samples) if samples else None


def ratio(ours, peer, better):
    """How many times better ours is; None where one is not known or is 0."""
    if not ours or not peer:
        return None
    return peer / ours if better == "lower" else ours / peer


def make_row(name, unit, ours, peer, better="lower", ours_cpu=(), peer_cpu=(), note=""):
    """A row from samples; empty ones are n/a. CPU time is always in ms, lower is better."""
    if better not in ("lower", "higher"):
        raise ReportError(f"row {name}: better is {better!r}")
    for side, samples in (("ours", ours), ("peer", peer), ("ours_cpu", ours_cpu),
                          ("peer_cpu", peer_cpu)):
        if not all(isinstance(s, (int, float)) and math.isfinite(s) for s in samples):
            raise ReportError(f"row {name}: {side} has a sample that is no number")
    row = {"name": name, "unit": unit, "better": better,
           "ours": median(ours), "peer": median(peer),
           "ours_cpu_ms": median(ours_cpu), "peer_cpu_ms": median(peer_cpu)}
    row["ratio"] = ratio(row["ours"], row["peer"], better)
    row["cpu_ratio"] = ratio(row["ours_cpu_ms"], row["peer_cpu_ms"], "lower")
    row["samples"] = {"ours": list(ours), "peer": list(peer), "ours_cpu_ms": list(ours_cpu),
                      "peer_cpu_ms": list(peer_cpu)}
    row["note"] = note
    return row


def number(value):
    """Three digits, as a person would write them."""
    if value is None:
        return "n/a"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 3 - len(str(int(abs(value)))) if abs(value) >= 1 else 2
    return f"{value:.{digits}f}"


def times(value):
    return "n/a" if value is None else number(value) + "x"


def table(rows):
    lines = ["| row | unit | ours | peer | ratio | CPU ms, ours | CPU ms, peer | ratio |",
             "|---|---|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        lines.append("| " + " | ".join([
            f"`{row['name']}`", row["unit"], number(row["ours"]), number(row["peer"]),
            times(row["ratio"]), number(row["ours_cpu_ms"]), number(row["peer_cpu_ms"]),
            times(row["cpu_ratio"])]) + " |")
    return "\n".join(lines)


def rows_of(result, peer):
    """Rows against one of the peers: "vulkan", "cpu", or "encoder"."""
    def kind(name):
        return "cpu" if name.startswith("cpu/") else (
            "encoder" if name.startswith("encode_") else "vulkan")
    return [row for row in result["rows"] if kind(row["name"]) == peer]


def markdown(result):
    """The tables of a result, with what they were measured on."""
    about = result["about"]
    peers = "; ".join(filter(None, (about["peer"], about.get("encoder_peer"))))
    parts = [f"{about['date']}, {about['device']}, driver {about['driver']}; {about['cpu']}, "
             f"{about['cores']} cores, load {about['load_before']:.1f} before and "
             f"{about['load_after']:.1f} after. "
             f"m4d {about['version']}; peer: {peers or 'none, so its columns are n/a'}."]
    if about["load_before"] > QUIET_LOAD:
        parts[0] += " Other work ran meanwhile: CPU time tells more than wall time here."
    vulkan, cpu = rows_of(result, "vulkan"), rows_of(result, "cpu")
    if vulkan:
        parts.append(table(vulkan))
    if cpu:
        parts.append("Against the peer's CPU backend (int8 SIMD, not Vulkan; ours as above):")
        parts.append(table(cpu))
    encoders = rows_of(result, "encoder")
    if encoders:
        parts.append("Encoders, against ONNX Runtime (F32 on the CPU, not Vulkan; ours F16 weights):")
        parts.append(table(encoders))
    if result["numerics"]:
        parts.append("Greedy tokens, ours against the peer's on the same weights: " + "; ".join(
            f"{n['model']}: {n['equal']} of {n['compared']} equal" for n in result["numerics"])
            + ".")
    notes = {}
    for row in result["rows"]:
        if row["note"]:
            notes.setdefault(row["note"], []).append(f"`{row['name']}`")
    parts += [", ".join(names) + f": {note}." for note, names in notes.items()]
    return "\n\n".join(parts) + "\n"


def pictures_text(names, folder):
    """Markdown that shows them, from a page that sees them in `folder`."""
    return "\n".join(f"![{PICTURES[name]}]({folder}/{name})" for name in names)


def with_section(page, text):
    """The page with its marked section replaced by `text`."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ReportError(f"the page has not one section from {BEGIN} to {END}")
    head, rest = page.split(BEGIN)
    tail = rest.split(END)[1]
    return f"{head}{BEGIN}\n{text.strip()}\n{END}{tail}"


def write_json(result, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    partial = path + ".partial"
    with open(partial, "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    os.replace(partial, path)


# ---- pictures: SVG by hand, small enough to read

PICTURES = {
    "ratios.svg": "m4d against llama.cpp, both on Vulkan: how many times better",
    "ratios-cpu.svg": "m4d on Vulkan against llama.cpp's CPU backend: how many times better",
    "context.svg": "CPU time a token while decoding, 134 M parameters, Q4",
}
INK, OURS, PEER, GRID = "#333", "#2b6cb0", "#c05621", "#ddd"


def _text(x, y, text, anchor="start", color=INK):
    return (f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{color}">'
            f"{html.escape(text)}</text>")


def _svg(width, height, title, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">\n'
            f"<title>{html.escape(title)}</title>\n"
            f'<rect width="{width}" height="{height}" fill="#fff"/>\n'
            + "\n".join(body) + "\n</svg>\n")


def ratio_bars(rows, title):
    """Bars on a scale of powers, one a row that has a ratio; None without any."""
    rows = [row for row in rows if row["ratio"]]
    if not rows:
        return None
    left, right, top, step = 190, 600, 50, 22
    low = math.floor(min(0.0, min(math.log10(row["ratio"]) for row in rows)))
    high = max(low + 1, math.ceil(max(math.log10(row["ratio"]) for row in rows)))

    def place(value):
        return left + (math.log10(value) - low) / (high - low) * (right - left)

    bottom = top + step * len(rows)
    body = [_text(10, 22, title)]
    for power in range(low, high + 1):
        x = place(10.0 ** power)
        body.append(f'<line x1="{x:.0f}" y1="{top - 6}" x2="{x:.0f}" y2="{bottom}" '
                    f'stroke="{INK if power == 0 else GRID}"/>')
        body.append(_text(x, top - 10, f"{10.0 ** power:g}x", "middle"))
    for i, row in enumerate(rows):
        y = top + i * step
        x0, x1 = sorted((place(1.0), place(row["ratio"])))
        color = OURS if row["ratio"] >= 1 else PEER
        body.append(_text(left - 8, y + 14, row["name"], "end"))
        body.append(f'<rect x="{x0:.1f}" y="{y + 3}" width="{max(x1 - x0, 1):.1f}" '
                    f'height="{step - 7}" fill="{color}"/>')
        body.append(_text(x1 + 6, y + 14, times(row["ratio"])))
    return _svg(right + 70, bottom + 14, title, body)


def context_lines(rows, title):
    """Decode by context: CPU time a token, ours and the peer's; None without."""
    points = []
    for row in rows:
        tail = row["name"].removeprefix("decode_ctx")
        if row["name"].startswith("decode_ctx") and tail.isdigit() and row["ours_cpu_ms"]:
            points.append((int(tail), row["ours_cpu_ms"], row["peer_cpu_ms"]))
    if not points:
        return None
    points.sort()
    left, right, top, bottom = 70, 560, 50, 300
    values = [v for point in points for v in point[1:] if v]
    low = math.floor(math.log10(min(values)))
    high = max(low + 1, math.ceil(math.log10(max(values))))

    def place(context, value):
        span = max(1, points[-1][0] - points[0][0])
        return (left + 20 + (context - points[0][0]) / span * (right - left - 40),
                bottom - (math.log10(value) - low) / (high - low) * (bottom - top))

    body = [_text(10, 22, title)]
    for power in range(low, high + 1):
        y = place(points[0][0], 10.0 ** power)[1]
        body.append(f'<line x1="{left}" y1="{y:.0f}" x2="{right}" y2="{y:.0f}" stroke="{GRID}"/>')
        body.append(_text(left - 8, y + 4, f"{10.0 ** power:g} ms", "end"))
    for context, _, _ in points:
        body.append(_text(place(context, 10.0 ** low)[0], bottom + 18, str(context), "middle"))
    body.append(_text((left + right) / 2, bottom + 36, "tokens of context", "middle"))
    for column, name, color in ((1, "ours", OURS), (2, "peer", PEER)):
        known = [(p[0], p[column]) for p in points if p[column]]
        if not known:
            continue
        places = [place(*point) for point in known]
        body.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="'
                    + " ".join(f"{x:.1f},{y:.1f}" for x, y in places) + '"/>')
        for (x, y), (_, value) in zip(places, known):
            body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>')
            body.append(_text(x, y - 8, number(value), "middle", color))
        body.append(_text(places[-1][0] + 10, places[-1][1] + 4, name, "start", color))
    return _svg(right + 50, bottom + 50, title, body)


def write_pictures(result, folder):
    """Writes what can be drawn; the names of the files."""
    os.makedirs(folder, exist_ok=True)
    vulkan, cpu = rows_of(result, "vulkan"), rows_of(result, "cpu")
    drawn = {"ratios.svg": ratio_bars(vulkan, PICTURES["ratios.svg"]),
             "ratios-cpu.svg": ratio_bars(cpu, PICTURES["ratios-cpu.svg"]),
             "context.svg": context_lines(vulkan, PICTURES["context.svg"])}
    written = [name for name, picture in drawn.items() if picture]
    for name in written:
        with open(os.path.join(folder, name), "w") as file:
            file.write(drawn[name])
    return written
