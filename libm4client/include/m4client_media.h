/* SPDX-License-Identifier: MIT */
/*
 * libm4client_media: files of images, sound and tensors as the inputs that the
 * calls of m4client.h take; link with -lm4client_media (pkg-config
 * m4client_media, or CMake package m4client, target m4::client_media). For apps
 * that have files: whoever has pixels or samples needs libm4client alone, which
 * brings no decoder.
 *
 * Decoding happens in the caller's process, with his rights. No call prints,
 * exits, starts a thread or keeps anything between calls; any thread may make
 * any of them at any time.
 *
 * Each call that decodes fills `*media`, whose size is set before (M4_INIT), and
 * returns M4_OK: the bytes lie in a memfd, sealed and close-on-exec, that
 * m4_embed() and its like take as it is, one input a call. The descriptor is
 * the caller's: m4_media_close() it, whatever became of the request. For several
 * inputs in one call map it, and put the address into `data` and 0 into `in_fd`.
 *
 * On failure `*media` is untouched. With `reason` not NULL and reason_bytes > 0
 * a NUL-terminated sentence tells which file and why, cut where there is no room.
 * M4_E_INVALID: the bytes are not what they should be, or an argument is not.
 * M4_E_SYSTEM: the file cannot be read. M4_E_TOO_LARGE: over 16384 pixels a side,
 * 2^26 in all, a file of 256 MiB, or 256 MiB decoded. M4_E_NO_MEMORY.
 */
#ifndef M4CLIENT_MEDIA_H
#define M4CLIENT_MEDIA_H

#include <m4client.h>

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * PNG or JPEG; a path may be that of a pipe, and is read to its end. Gray becomes
 * M4_MEDIA_GRAY8, all else M4_MEDIA_RGB8: 16 bits become 8, alpha is dropped, no
 * colour profile and no orientation is applied.
 */
int m4_media_load_image(const char *path, struct m4_media *media, char *reason,
			size_t reason_bytes);
int m4_media_decode_image(const void *file, size_t bytes, struct m4_media *media, char *reason,
			  size_t reason_bytes);

/*
 * WAV or FLAC, of 1 to 8 channels and any rate. 16 bits are M4_MEDIA_PCM16, all
 * else M4_MEDIA_PCM_F32.
 */
int m4_media_load_audio(const char *path, struct m4_media *media, char *reason,
			size_t reason_bytes);
int m4_media_decode_audio(const void *file, size_t bytes, struct m4_media *media, char *reason,
			  size_t reason_bytes);

#define M4_MEDIA_MOTION 1u /* floats are samples of an inertial sensor, a row each */

/*
 * A tensor of a safetensors file by its name; NAME[i]: what is at i of its first
 * dimension. F32 and F16 are rows of features, or with M4_MEDIA_MOTION of motion at
 * the part's rate. U8 of h x w, or with 1 or 3 channels before or behind these, is an
 * image. I32 and I64 of one dimension are tokens. `flags`: of M4_MEDIA_MOTION.
 * The file of a path must not shrink meanwhile.
 */
int m4_media_load_tensor(const char *path, const char *tensor, uint32_t flags,
			 struct m4_media *media, char *reason, size_t reason_bytes);
int m4_media_decode_tensor(const void *file, size_t bytes, const char *tensor, uint32_t flags,
			   struct m4_media *media, char *reason, size_t reason_bytes);

/*
 * Closes the descriptor of what was decoded and makes an empty input of it; of
 * others (in_fd 0) it leaves all as it is. NULL is fine.
 */
void m4_media_close(struct m4_media *media);

#ifdef __cplusplus
} /* extern "C" */
#endif

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#endif /* M4CLIENT_MEDIA_H */
