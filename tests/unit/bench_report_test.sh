#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The bench's tables, JSON and pictures on canned samples: tests/bench.
set -uo pipefail
cd "$(dirname "$0")/../bench" || exit 1
command -v python3 >/dev/null || {
	echo "no python3 on this machine"
	exit 77
}
PYTHONDONTWRITEBYTECODE=1 exec python3 report_test.py
