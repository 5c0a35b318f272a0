#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# installed_test.sh BUILD: install the library, then build the installed
# examples against it as an app does, through pkg-config and through
# find_package, and run them.
set -euo pipefail
build=$(realpath "${1:?usage: installed_test.sh BUILD}")
command -v pkg-config >/dev/null || { echo "no pkg-config"; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
prefix=$scratch/prefix

for component in library development tools; do
	cmake --install "$build" --prefix "$prefix" --component "$component" >/dev/null
done
find "$prefix" -type f -printf '%P\n' | sort
library=$(dirname "$(find "$prefix" -name libm4client.so)")
examples=$(dirname "$(find "$prefix" -name story.c)")
export PKG_CONFIG_PATH=$library/pkgconfig
[ "$(find "$prefix" -path '*/include/*' -type f | wc -l)" -eq 1 ] || {
	echo "more than one header is installed"
	exit 1
}
[ "$(pkg-config --modversion m4client)" = "$("$prefix/bin/m4ctl" --version | cut -d' ' -f2)" ]

sanitize=()
if grep -q '^M4_SANITIZE:STRING=address' "$build/CMakeCache.txt"; then
	sanitize=(-fsanitize=address)
elif grep -q '^M4_SANITIZE:STRING=thread' "$build/CMakeCache.txt"; then
	sanitize=(-fsanitize=thread)
fi
read -ra flags < <(pkg-config --cflags --libs m4client)
cc -std=c11 -Wall -Wextra -pedantic -Werror "${sanitize[@]}" "$examples/story.c" "${flags[@]}" \
	-o "$scratch/pc_c"
c++ -std=c++17 -Wall -Wextra -pedantic -Werror "${sanitize[@]}" "$examples/story.cpp" \
	"${flags[@]}" -o "$scratch/pc_cpp"

cmake -S "$examples" -B "$scratch/build" -DCMAKE_PREFIX_PATH="$prefix" \
	-DCMAKE_C_FLAGS="${sanitize[*]}" -DCMAKE_CXX_FLAGS="${sanitize[*]}" >/dev/null
cmake --build "$scratch/build" >/dev/null
grep -q "m4client_DIR:PATH=$library" "$scratch/build/CMakeCache.txt"

# Nobody serves here: each says so and fails.
for program in pc_c pc_cpp build/story_c build/story_cpp; do
	echo "$program"
	if M4_SOCKET=$scratch/none LD_LIBRARY_PATH=$library "$scratch/$program" 2>"$scratch/err"; then
		echo "$program succeeded without a service"
		exit 1
	fi
	grep -q "the service is not available" "$scratch/err" || { cat "$scratch/err"; exit 1; }
done
