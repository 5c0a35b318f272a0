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
[ "$(find "$prefix" -path '*/include/*' -type f -printf '%f\n' | sort | xargs)" = \
	"m4client.h m4client_media.h" ] || {
	echo "other headers are installed"
	exit 1
}
for package in m4client m4client_media; do
	[ "$(pkg-config --modversion $package)" = "$("$prefix/bin/m4ctl" --version | cut -d' ' -f2)" ]
done

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
read -ra flags < <(pkg-config --cflags --libs m4client_media)
cc -std=c11 -Wall -Wextra -pedantic -Werror "${sanitize[@]}" "$examples/look.c" "${flags[@]}" \
	-o "$scratch/pc_look"

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

# A picture of one pixel is decoded before the service is asked; words are none.
base64 -d >"$scratch/pixel.png" <<'PNG'
iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC
PNG
echo words >"$scratch/words"
look() {
	echo "$1 $2"
	if M4_SOCKET=$scratch/none LD_LIBRARY_PATH=$library "$scratch/$1" "$scratch/$2" a b \
		2>"$scratch/err"; then
		echo "$1 succeeded"
		exit 1
	fi
	grep -q "$3" "$scratch/err" || { cat "$scratch/err"; exit 1; }
}
for program in pc_look build/look; do
	look "$program" pixel.png "the service is not available"
	look "$program" words "is neither a PNG nor a JPEG image"
done
