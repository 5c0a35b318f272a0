#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# header_test.sh BUILD: m4client.h and m4client_media.h compile alone in every
# language standard an app may use, without a warning, and each struct has the size
# apps were built with.
set -euo pipefail
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
warnings=(-Wall -Wextra -pedantic -pedantic-errors -Wshadow -Wconversion -Werror)

cat >"$scratch/use.c" <<'CODE'
#include <m4client.h>
#include <m4client.h>

/* The layout of 0.1 on 64-bit machines: growth adds at the end only. */
#if defined(__LP64__)
#define LAYOUT(type, bytes) typedef char type##_layout[sizeof(struct type) == (bytes) ? 1 : -1]
LAYOUT(m4_connect_options, 32);
LAYOUT(m4_error_info, 24);
LAYOUT(m4_model_info, 504);
LAYOUT(m4_status, 672);
LAYOUT(m4_session_entry, 104);
LAYOUT(m4_session_options, 24);
LAYOUT(m4_generate_options, 64);
LAYOUT(m4_event, 48);
LAYOUT(m4_usage, 48);
LAYOUT(m4_score_options, 24);
LAYOUT(m4_score, 48);
LAYOUT(m4_media, 72);
LAYOUT(m4_encode_options, 16);
LAYOUT(m4_embedding, 104);
LAYOUT(m4_classify_options, 56);
LAYOUT(m4_class, 24);
LAYOUT(m4_classes, 40);
LAYOUT(m4_part, 320);
LAYOUT(m4_adapter_id, 32);
LAYOUT(m4_adapter_add_options, 16);
LAYOUT(m4_adapter_report, 200);
LAYOUT(m4_adapter_entry, 328);
LAYOUT(m4_adapter_usage, 32);
LAYOUT(m4_bench_options, 40);
LAYOUT(m4_bench_kernel, 160);
LAYOUT(m4_bench, 88);
#endif

int use(m4_client *client);
int use(m4_client *client)
{
	struct m4_status status = M4_INIT(struct m4_status);

	return m4_status(client, &status);
}
CODE
cat >"$scratch/media.c" <<'CODE'
#include <m4client_media.h>
#include <m4client_media.h>

int use(const char *path, const void *file, size_t bytes);
int use(const char *path, const void *file, size_t bytes)
{
	struct m4_media media = M4_INIT(struct m4_media);
	char reason[80];

	if (m4_media_load_image(path, &media, reason, sizeof(reason)) == M4_OK)
		m4_media_close(&media);
	return m4_media_decode_tensor(file, bytes, "x[0]", M4_MEDIA_MOTION, &media, NULL, 0);
}
CODE
cp "$scratch/use.c" "$scratch/use.cpp"
cp "$scratch/media.c" "$scratch/media.cpp"
for standard in c99 c11 c17 gnu11; do
	echo "C: $standard"
	for use in use media; do
		cc -std="$standard" "${warnings[@]}" -Ilibm4client/include -c "$scratch/$use.c" \
			-o "$scratch/use.o"
	done
done
for standard in c++11 c++17 c++20; do
	echo "C++: $standard"
	for use in use media; do
		c++ -std="$standard" "${warnings[@]}" -Ilibm4client/include -c "$scratch/$use.cpp" \
			-o "$scratch/use.o"
	done
done
