/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints, system m4. Each names the image; generation 0 is one that was
 * not current yet.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM m4

#if !defined(M4_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define M4_TRACE_H

#include <linux/device.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include "m4.h"

TRACE_EVENT(m4_state,
	TP_PROTO(const struct m4_image *image, const char *state),
	TP_ARGS(image, state),
	TP_STRUCT__entry(
		__array(char, name, M4_IMAGE_NAME_BYTES)
		__array(char, state, 16)
	),
	TP_fast_assign(
		memcpy(__entry->name, image->name, sizeof(__entry->name));
		strscpy(__entry->state, state, sizeof(__entry->state));
	),
	TP_printk("%s: %s", __entry->name, __entry->state)
);

TRACE_EVENT(m4_load,
	TP_PROTO(const struct m4_image *image, u64 bytes, u64 ns, int rc),
	TP_ARGS(image, bytes, ns, rc),
	TP_STRUCT__entry(
		__array(char, name, M4_IMAGE_NAME_BYTES)
		__field(u64, bytes)
		__field(u64, ns)
		__field(int, rc)
	),
	TP_fast_assign(
		memcpy(__entry->name, image->name, sizeof(__entry->name));
		__entry->bytes = bytes;
		__entry->ns = ns;
		__entry->rc = rc;
	),
	TP_printk("%s: bytes=%llu ns=%llu rc=%d", __entry->name,
		  __entry->bytes, __entry->ns, __entry->rc)
);

DECLARE_EVENT_CLASS(m4_chunk,
	TP_PROTO(const struct m4_generation *gen, u32 chunk, int rc),
	TP_ARGS(gen, chunk, rc),
	TP_STRUCT__entry(
		__array(char, name, M4_IMAGE_NAME_BYTES)
		__field(u64, generation)
		__field(u32, chunk)
		__field(int, rc)
	),
	TP_fast_assign(
		memcpy(__entry->name, gen->image->name, sizeof(__entry->name));
		__entry->generation = gen->number;
		__entry->chunk = chunk;
		__entry->rc = rc;
	),
	TP_printk("%s: generation=%llu chunk=%u rc=%d", __entry->name,
		  __entry->generation, __entry->chunk, __entry->rc)
);

/* A payload chunk was hashed: while loading, and while re-hashing. */
#define M4_CHUNK_EVENT(_event)						\
DEFINE_EVENT(m4_chunk, _event,						\
	TP_PROTO(const struct m4_generation *gen, u32 chunk, int rc),	\
	TP_ARGS(gen, chunk, rc))
M4_CHUNK_EVENT(m4_chunk_verify);
M4_CHUNK_EVENT(m4_scrub);

DECLARE_EVENT_CLASS(m4_window,
	TP_PROTO(const struct m4_generation *gen, u64 offset, u64 bytes),
	TP_ARGS(gen, offset, bytes),
	TP_STRUCT__entry(
		__array(char, name, M4_IMAGE_NAME_BYTES)
		__field(u64, generation)
		__field(u64, offset)
		__field(u64, bytes)
	),
	TP_fast_assign(
		memcpy(__entry->name, gen->image->name, sizeof(__entry->name));
		__entry->generation = gen->number;
		__entry->offset = offset;
		__entry->bytes = bytes;
	),
	TP_printk("%s: generation=%llu offset=%llu bytes=%llu", __entry->name,
		  __entry->generation, __entry->offset, __entry->bytes)
);

#define M4_WINDOW_EVENT(_event)						\
DEFINE_EVENT(m4_window, _event,						\
	TP_PROTO(const struct m4_generation *gen, u64 offset, u64 bytes), \
	TP_ARGS(gen, offset, bytes))
M4_WINDOW_EVENT(m4_open); /* the whole node, as one who opened it may map it */
M4_WINDOW_EVENT(m4_mmap);
M4_WINDOW_EVENT(m4_export);
M4_WINDOW_EVENT(m4_revoke);

TRACE_EVENT(m4_dma_map,
	TP_PROTO(const struct m4_generation *gen, struct device *dev, u64 bytes,
		 int rc),
	TP_ARGS(gen, dev, bytes, rc),
	TP_STRUCT__entry(
		__array(char, name, M4_IMAGE_NAME_BYTES)
		__array(char, device, 32)
		__field(u64, generation)
		__field(u64, bytes)
		__field(int, rc)
	),
	TP_fast_assign(
		memcpy(__entry->name, gen->image->name, sizeof(__entry->name));
		strscpy(__entry->device, dev_name(dev),
			sizeof(__entry->device));
		__entry->generation = gen->number;
		__entry->bytes = bytes;
		__entry->rc = rc;
	),
	TP_printk("%s: generation=%llu device=%s bytes=%llu rc=%d",
		  __entry->name, __entry->generation, __entry->device,
		  __entry->bytes, __entry->rc)
);

#endif /* M4_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE m4_trace
#include <trace/define_trace.h>
