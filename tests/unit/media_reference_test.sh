#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# media_reference_test.sh BUILD: daemon/media against Pillow, torchvision and torchaudio
# (make deps-reference). The interpreter is Debian's, which has them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tool=$(realpath "${1:?usage: media_reference_test.sh BUILD}")/tests/media_features
[ -x "$tool" ] || {
	echo "skipped: media_features is not built"
	exit 77
}
/usr/bin/python3 -c 'import numpy, PIL, torchaudio, torchvision' 2>/dev/null || {
	echo "skipped: no numpy, Pillow, torchvision and torchaudio in Debian's python3"
	exit 77
}
exec /usr/bin/python3 "$here/media_reference.py" "$tool"
