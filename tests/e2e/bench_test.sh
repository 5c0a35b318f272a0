#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The bench's runner and client against a service, without the peers: two quick
# rows and one of an encoder come out as numbers, the peers' as n/a; what cannot be
# measured is said.
set -uo pipefail
build=$(realpath "${1:?usage: bench_test.sh BUILD}")
cd "$(dirname "$0")/../.." || exit 1
for needed in python3 firmware/nano/image/manifest.m4m "$build/bin/m4_bench" "$build/bin/bench_step" \
	"$build/bin/m4fw"; do
	command -v "$needed" >/dev/null || [ -e "$needed" ] || {
		echo "no $needed"
		exit 77
	}
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONDONTWRITEBYTECODE=1
device=()
[ -z "${M4_TEST_DEVICE:-}" ] || device=(--device "$M4_TEST_DEVICE")
bench=(python3 tests/bench/run.py --build "$build" --out "$scratch/out" --repeat 2 "${device[@]}")

"${bench[@]}" --rows 's*' >"$scratch/page" || exit 1
grep -q "peer: none" "$scratch/page" || exit 1
python3 - "$scratch/out/results.json" <<'CHECK' || exit 1
import json, sys
result = json.load(open(sys.argv[1]))
rows = {row["name"]: row for row in result["rows"]}
assert sorted(rows) == ["socket_round_trip", "stream_overhead"], sorted(rows)
for row in rows.values():
    assert len(row["samples"]["ours"]) == 2 and row["peer"] is None, row
assert 0 < rows["socket_round_trip"]["ours"] < 1e5, rows["socket_round_trip"]
assert result["about"]["device"], result["about"]
CHECK

"${bench[@]}" --rows encode_vit_s_batch1 >"$scratch/page" || exit 1
python3 - "$scratch/out/results.json" <<'CHECK' || exit 1
import json, sys
rows = json.load(open(sys.argv[1]))["rows"]
assert [row["name"] for row in rows] == ["encode_vit_s_batch1"], rows
assert len(rows[0]["samples"]["ours"]) == 2 and rows[0]["peer"] is None, rows
# Each picture was computed, none found among those known.
assert min(rows[0]["samples"]["ours_cpu_ms"]) > 0.2 * max(rows[0]["samples"]["ours_cpu_ms"]), rows
assert 0 < rows[0]["ours"] < 1e5, rows
CHECK

refused() {
	local part=$1
	shift
	"$@" >"$scratch/out.txt" 2>&1 && { echo "accepted: $*"; return 1; }
	grep -qF -- "$part" "$scratch/out.txt" || { cat "$scratch/out.txt"; return 1; }
}
refused "no row is named like 'nothing'" "${bench[@]}" --rows nothing &&
	refused "a whole run is published" "${bench[@]}" --publish &&
	refused "--repeat: at least 1" "${bench[@]}" --repeat 0 &&
	refused '"error": "connect' "$build/bin/m4_bench" "$scratch/nobody.sock" 1
