/* SPDX-License-Identifier: MIT */
/*
 * libm4client: talk to m4d, the service that runs the device's one foundation
 * model. This is the only header an app includes; link with -lm4client
 * (pkg-config m4client, or CMake package m4client, target m4::client).
 *
 * Threads: an m4_client and everything made from it is used by one thread at a
 * time; different clients are independent. No call starts a thread, installs
 * a signal handler or raises SIGPIPE. Every descriptor is close-on-exec.
 *
 * Errors: a call returns 0 or more on success, else a negative M4_E_* code.
 * Outputs come last and are untouched on failure (m4_adapter_add() has the one
 * exception). m4_client_error() tells the last failure of a client in words.
 *
 * Structs that cross the boundary begin with `size`, set by the caller to
 * sizeof the struct (M4_INIT does it): fields may be added at the end in later
 * versions, and an older caller keeps working. Zero means "the default" for
 * every option.
 *
 * Text is UTF-8 with an explicit length, or SIZE_MAX for NUL-terminated.
 */
#ifndef M4CLIENT_H
#define M4CLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __GNUC__
/* m4_status and m4_model_info each name a struct and a function, as stat does;
 * in C++ write `struct m4_status` for the struct.
 */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC visibility push(default)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* struct m4_generate_options options = M4_INIT(struct m4_generate_options); */
#ifdef __cplusplus
#define M4_INIT(type) (m4_init_struct<type>())
#else
#define M4_INIT(type) ((type){.size = sizeof(type)})
#endif

enum m4_error {
	M4_OK = 0,
	M4_E_INVALID = -1, /* an argument is not what the contract says */
	M4_E_NO_MEMORY = -2, /* this process or the service is out of memory */
	M4_E_SYSTEM = -3, /* a system call failed; the text names it */
	M4_E_UNAVAILABLE = -4, /* no service at this socket, or it went away */
	M4_E_VERSION = -5, /* service and library share no protocol version */
	M4_E_PROTOCOL = -6, /* the peer broke the protocol */
	M4_E_WOULD_BLOCK = -7, /* nothing yet: poll and dispatch, then again */
	M4_E_TIMEOUT = -8, /* the caller's time limit passed */
	M4_E_CANCELLED = -9, /* the request was cancelled */
	M4_E_BUSY = -10, /* try again after retry_after_ms */
	M4_E_QUOTA = -11, /* the caller holds all it may hold */
	M4_E_CONTEXT_FULL = -12, /* does not fit the context; nothing changed */
	M4_E_NOT_FOUND = -13, /* no such session or request */
	M4_E_TOO_LARGE = -14, /* over a documented limit */
	M4_E_PERMISSION = -15, /* the caller may not do this */
	M4_E_VERIFY = -16, /* the image failed verification */
	M4_E_GPU_LOST = -17, /* the device was lost; the service restarts */
	M4_E_INTERNAL = -18, /* a defect of the service; please report */
	M4_E_UNSUPPORTED = -19, /* the image has no part that does this */
	M4_E_ADAPTER = -20, /* the adapter does not fit or is broken; the report tells */
};

/* A short English text for a code; never NULL. */
const char *m4_strerror(int code);

/* "0.1.0": the library's version. */
const char *m4_version(void);

/* ---- connection --------------------------------------------------------- */

typedef struct m4_client m4_client;

struct m4_connect_options {
	size_t size;
	const char *socket_path; /* NULL: $M4_SOCKET, else /run/m4/m4d.sock */
	const char *client_name; /* for m4ctl ps; NULL: the program's name */
	int timeout_ms; /* of connecting and of every blocking call; 0: none */
};

/*
 * Connect and say hello. options may be NULL. Starting a socket-activated
 * service is part of the wait.
 * M4_E_UNAVAILABLE, M4_E_PERMISSION, M4_E_VERSION, M4_E_TIMEOUT, M4_E_BUSY,
 * M4_E_PROTOCOL, M4_E_SYSTEM; m4_client_error(NULL, ...) tells more.
 */
int m4_client_connect(const struct m4_connect_options *options, m4_client **client);

/*
 * Ends everything the client has open, cancels what runs, frees. NULL is fine.
 * Close its sessions and streams before: one left open only fails from here
 * on, with M4_E_UNAVAILABLE, and its memory waits for its own close.
 */
void m4_client_close(m4_client *client);

struct m4_error_info {
	size_t size;
	int code; /* of the last failure, 0: none yet */
	uint32_t retry_after_ms; /* with M4_E_BUSY and M4_E_QUOTA; 0: unknown */
	const char *message; /* owned by the client, until its next call */
};

/* client NULL: the last m4_client_connect() of this thread that failed. */
int m4_client_error(const m4_client *client, struct m4_error_info *info);

/*
 * For an event loop: poll `m4_client_fd` for the poll(2) events that
 * `m4_client_events` asks for, then call `m4_client_dispatch`, which moves
 * what has arrived to its streams and never blocks (0, or the error that ended
 * the connection: M4_E_UNAVAILABLE when the service is gone, M4_E_PROTOCOL).
 * Poll level-triggered, and ask for the events anew each time: while over
 * 256 KiB of a stream wait to be read, dispatch leaves the rest in the socket.
 */
int m4_client_fd(const m4_client *client);
short m4_client_events(const m4_client *client);
int m4_client_dispatch(m4_client *client);

/* ---- what serves us ------------------------------------------------------ */

enum m4_availability {
	M4_AVAILABLE = 0,
	M4_UNAVAILABLE_NO_SERVICE = 1, /* nothing listens */
	M4_UNAVAILABLE_VERSION = 2,
	M4_UNAVAILABLE_PERMISSION = 3, /* the socket refuses this user */
	M4_UNAVAILABLE_ERROR = 4, /* the service reports a fault */
};

/*
 * Can apps be served? Connects (which may start the service), asks, closes,
 * within 30 seconds. Returns an enum m4_availability; with `reason` not NULL and reason_bytes
 * > 0, a NUL-terminated sentence.
 */
int m4_availability(const char *socket_path, char *reason, size_t reason_bytes);

struct m4_model_info {
	size_t size;
	char name[32];
	char version[24];
	char architecture[24];
	char digest[65]; /* SHA-256 of the manifest, hex: names the image */
	char root[65]; /* Merkle root of the payload, hex */
	char source_digest[65]; /* of the checkpoint it came from, hex */
	char source[16]; /* "device" (kernel-verified) or "folder" */
	uint64_t rollback_index;
	uint64_t parameters;
	uint64_t payload_bytes;
	uint32_t context_length; /* tokens */
	uint32_t vocabulary;
	int32_t bos_id; /* -1: none */
	int32_t eos_id;
	char signer[128]; /* certificate that signed it, from the kernel; "": a folder */
	uint64_t generation; /* the kernel's count of images under this name; 0: a folder */
	uint32_t development; /* 1: signed by a key made for development; not for users */
	char state[16]; /* "ready"; "revoked": the kernel took it back, nothing runs;
			 * "draining": newer clients get a newer image */
};

int m4_model_info(m4_client *client, struct m4_model_info *info);

struct m4_status {
	size_t size;
	char server_version[24];
	char device_name[128]; /* Vulkan physical device */
	char driver_name[64];
	char driver_info[128];
	char weights_import[24]; /* "dma_buf", "host_pointer" or "staging" */
	char kv_cache_type[8]; /* "f16", "q8" or "f32" */
	uint64_t weight_bytes; /* mapped */
	uint64_t copied_bytes; /* of these, copied to reach the device */
	uint64_t kv_pool_bytes;
	uint64_t kv_used_bytes;
	uint64_t uptime_ms;
	uint64_t start_to_ready_ms;
	uint64_t tokens_prompt; /* since start */
	uint64_t tokens_generated;
	uint32_t clients;
	uint32_t sessions;
	uint32_t requests_active;
	uint32_t requests_queued;
	char model_state[16]; /* as m4_model_info.state */
	uint32_t development; /* as m4_model_info.development */
	char render_node[32]; /* of the Vulkan device; "": it has none */
	char drm_driver[64]; /* name and version of its kernel driver; "" likewise */
	uint32_t kv_pages; /* pages that kv_pool_bytes consists of; 0: not told */
	uint32_t kv_pages_used;
	uint32_t kv_pages_shared; /* of the used: by a session and its clones */
	uint32_t cold; /* preparations that the service does in quiet moments; 0: warm */
	uint64_t senses_bytes; /* held by encoders beside their weights */
	uint64_t inputs_encoded; /* by them, since start */
	uint64_t inputs_reused; /* known from before on the same connection */
	uint32_t adapters; /* that are kept */
	uint32_t adapters_resident; /* of these, in the device's memory */
	uint64_t adapter_pool_bytes; /* of that memory, for adapters */
	uint64_t adapter_used_bytes;
	uint64_t adapter_loads; /* into it, since start */
	uint64_t adapter_evictions; /* out of it, to make room */
	uint64_t adapter_load_us; /* all loads together */
};

int m4_status(m4_client *client, struct m4_status *status);

struct m4_session_entry {
	uint64_t session_id;
	uint32_t uid;
	int32_t pid;
	uint32_t position; /* tokens held */
	uint32_t capacity;
	uint64_t tokens_generated;
	uint32_t active; /* 1 while a request of it runs or waits */
	char client_name[32];
	uint64_t reserved[4]; /* 0; an array of these cannot grow by size */
};

/* The sessions of every client the caller may see: its own uid's, all for
 * root. Free *entries with m4_free().
 */
int m4_session_list(m4_client *client, struct m4_session_entry **entries, size_t *count);

/* Frees arrays and texts this library returned. NULL is fine. */
void m4_free(void *memory);

/* ---- text and tokens ----------------------------------------------------- */

#define M4_ADD_SPECIAL 1u /* add BOS (EOS) where the model wants it */

int m4_tokenize(m4_client *client, const char *text, size_t bytes, uint32_t flags,
		uint32_t **ids, size_t *count);

/* *text is NUL-terminated as well; *bytes does not count the NUL. */
int m4_detokenize(m4_client *client, const uint32_t *ids, size_t count, char **text,
		  size_t *bytes);

/* ---- sessions ------------------------------------------------------------ */

/* A context: a sequence of tokens whose KV cache the service keeps. */
typedef struct m4_session m4_session;

/* Names an adapter: SHA-256 of its file. It never grows. */
struct m4_adapter_id {
	uint8_t sha256[32];
};

struct m4_session_options {
	size_t size;
	uint32_t capacity; /* tokens; 0: the model's context length */
	/* Of generations that name none, and loaded ahead; NULL: none. */
	const struct m4_adapter_id *adapter;
};

/*
 * Takes no KV memory yet: it comes as the context grows, and is taken back
 * from idle sessions where others need it, which costs only time.
 * M4_E_QUOTA, M4_E_BUSY (too many sessions), M4_E_TOO_LARGE (the capacity is
 * over the model's context, or all the KV memory there is). With an adapter also
 * M4_E_NOT_FOUND (the caller has none of that name), M4_E_ADAPTER (it fits the
 * image no more), M4_E_TOO_LARGE (it takes more than the device's memory for all
 * adapters), M4_E_NO_MEMORY (the device has none for them now), M4_E_VERSION (the service is older than adapters); so wherever one is
 * named.
 */
int m4_session_create(m4_client *client, const struct m4_session_options *options,
		      m4_session **session);
/* Frees the context at once; a running request of it is cancelled. */
void m4_session_close(m4_session *session);

/*
 * A second session, of the same client, that holds what this one holds; each
 * then goes its own way. Costs no computing, and memory only where they
 * differ. M4_E_BUSY while a stream of this session is open (or as for create),
 * M4_E_QUOTA, M4_E_VERSION (the service is older than this call).
 */
int m4_session_clone(m4_session *session, m4_session **clone);

/*
 * Append to the context. All or nothing: M4_E_CONTEXT_FULL leaves the session
 * as it was. M4_E_BUSY while a stream of this session is open, that is until
 * its last event (or error) was taken or it was closed; so for truncate and
 * generate.
 */
int m4_session_append_text(m4_session *session, const char *text, size_t bytes,
			   uint32_t flags);
int m4_session_append_tokens(m4_session *session, const uint32_t *ids, size_t count);

/* Keep the first `position` tokens, drop the rest. */
int m4_session_truncate(m4_session *session, uint32_t position);

/* Tokens held and room in all; either pointer may be NULL. */
int m4_session_position(m4_session *session, uint32_t *position, uint32_t *capacity);

/* ---- generation ---------------------------------------------------------- */

typedef struct m4_stream m4_stream;

struct m4_generate_options {
	size_t size;
	uint32_t max_tokens; /* 0: until the context is full */
	float temperature; /* 0: greedy */
	uint32_t top_k; /* 0: off */
	float top_p; /* 0 to 1; 0 or 1: off */
	uint64_t seed; /* same seed, same text; 0: the service picks one */
	const char *const *stop; /* end before any of these texts appears */
	size_t stop_count; /* at most 16, each at most 256 bytes */
	uint32_t ignore_eos; /* 1: go on past the end token */
	/*
	 * Of this generation; NULL: the session's. A pointer to 32 bytes of zero
	 * means none: the bare model, whatever the session has.
	 */
	const struct m4_adapter_id *adapter;
};

/*
 * Continue the session's context, which must not be empty; what is generated
 * is appended to it. Returns at once; the text, or the service's refusal,
 * comes from m4_stream_next().
 */
int m4_generate(m4_session *session, const struct m4_generate_options *options,
		m4_stream **stream);

enum m4_finish {
	M4_FINISH_NONE = 0,
	M4_FINISH_EOS = 1,
	M4_FINISH_LENGTH = 2, /* max_tokens */
	M4_FINISH_STOP = 3, /* a stop text */
	M4_FINISH_CONTEXT = 4, /* the context is full */
	M4_FINISH_CANCELLED = 5,
};

struct m4_event {
	size_t size;
	const char *text; /* whole UTF-8 characters; until the next call */
	size_t text_bytes; /* may be 0 */
	const uint32_t *ids; /* tokens behind this event; until the next call */
	size_t id_count;
	int finish; /* enum m4_finish; not NONE: the last event */
};

/*
 * The next piece: all that has arrived. timeout_ms: -1 waits as long as the
 * client's timeout allows, then M4_E_TIMEOUT (the stream goes on); 0 never
 * waits. Returns 1 with an event, 0 after the last one, M4_E_WOULD_BLOCK when
 * timeout_ms ended with nothing, or the error that ended the stream.
 *
 * Other calls of the client may run between two of these; what arrives for
 * this stream meanwhile is kept. Beyond 4 MiB unread the stream is cancelled
 * and ends, after what was kept, with M4_E_TOO_LARGE.
 */
int m4_stream_next(m4_stream *stream, int timeout_ms, struct m4_event *event);

/* Ask the service to stop; the stream then ends with FINISH_CANCELLED. */
int m4_stream_cancel(m4_stream *stream);

struct m4_usage {
	size_t size;
	uint32_t prompt_tokens; /* in the context when it began */
	uint32_t cached_tokens; /* of these, not computed again */
	uint32_t output_tokens;
	uint64_t queue_us; /* waiting for its first step */
	uint64_t ttft_us; /* from request to first token */
	uint64_t total_us;
};

/* Valid once m4_stream_next() returned the last event; else M4_E_WOULD_BLOCK. */
int m4_stream_usage(const m4_stream *stream, struct m4_usage *usage);

/*
 * Closing an unfinished stream cancels it, without waiting; the session's next
 * call waits for its end. NULL is fine. A stream outlives its session: it then
 * ends with FINISH_CANCELLED or M4_E_NOT_FOUND.
 */
void m4_stream_close(m4_stream *stream);

/* ---- scoring ------------------------------------------------------------- */

struct m4_score_options {
	size_t size;
	uint32_t top_n; /* best tokens per position; 0: none; at most vocabulary */
	const struct m4_adapter_id *adapter; /* NULL: none */
};

/*
 * Row i tells what the model expected after tokens 0..i. Natural logarithms.
 * token_logprobs[i] is of token i+1 as given; the last row has none (NAN).
 * top_ids and top_logprobs have row_count x top_n entries, best first.
 */
struct m4_score {
	size_t size;
	size_t row_count;
	size_t top_n;
	float *token_logprobs;
	uint32_t *top_ids;
	float *top_logprobs;
};

/* ids as given: BOS is the caller's to add. Free with m4_score_free(). */
int m4_score_tokens(m4_client *client, const uint32_t *ids, size_t count,
		    const struct m4_score_options *options, struct m4_score **score);
void m4_score_free(struct m4_score *score);

/* ---- images, sounds, motion ----------------------------------------------- */

enum m4_media_kind {
	M4_MEDIA_GRAY8 = 1, /* a byte a pixel */
	M4_MEDIA_RGB8 = 2,
	M4_MEDIA_RGBA8 = 3, /* alpha is dropped */
	M4_MEDIA_NV12 = 4, /* BT.601, limited range; a plane of luma, one of chroma */
	M4_MEDIA_PCM16 = 5, /* sound, int16 */
	M4_MEDIA_PCM_F32 = 6, /* sound, float, -1 to 1 */
	M4_MEDIA_MOTION_F32 = 7, /* inertial sensors, in the units of the part; a row a sample */
	M4_MEDIA_FEATURES_F32 = 8, /* as the part takes them: m4_part.feature_rows, _columns */
	M4_MEDIA_TEXT = 9, /* UTF-8 */
	M4_MEDIA_TOKENS_U32 = 10, /* token ids; the largest of them stands for the text */
};

/*
 * One input, described. The service prepares it as the model's image declares:
 * sizes, rates and normalisation are its business, and no decoder runs in it.
 * Samples are little-endian. `data` may go when the call returns.
 */
struct m4_media {
	size_t size;
	uint32_t kind; /* enum m4_media_kind */
	uint32_t in_fd; /* 1: the bytes are those of `fd`, and data is NULL */
	const void *data;
	size_t bytes;
	int32_t fd; /* a memfd sealed against shrinking, growing and writing; stays the caller's */
	uint32_t width; /* images: pixels */
	uint32_t height;
	uint32_t stride; /* bytes a row; 0: rows lie side by side */
	uint64_t chroma_offset; /* NV12: of the second plane; 0: behind the first */
	uint64_t samples; /* of each channel, or rows of features; 0: as many as there are */
	uint32_t channels; /* of sound and motion, interleaved; columns of features */
	float rate_hz; /* of sound; of motion too, where it is not the part's */
};

struct m4_encode_options {
	size_t size;
	const char *part; /* by name; NULL: the first that takes such inputs */
};

/* Floats, input by input. Embeddings of parts of one space may be compared. */
struct m4_embedding {
	size_t size;
	size_t count; /* inputs */
	size_t dim; /* floats of each */
	const float *values; /* count x dim */
	char part[64 + 8]; /* that made them */
};

/*
 * Inputs into the latent space of their part, several in one pass of the
 * device. All inputs are of one kind, 1024 and 256 MiB at most, a text 64 KiB.
 * The same input is not computed twice on one connection.
 * M4_E_INVALID (the description and the bytes do not agree, or the part does
 * not take them; the text names field and cause), M4_E_NOT_FOUND (no such
 * part), M4_E_UNSUPPORTED (no part does this), M4_E_QUOTA, M4_E_BUSY,
 * M4_E_TOO_LARGE, M4_E_VERSION. Free with m4_embedding_free().
 */
int m4_embed(m4_client *client, const struct m4_media *const *inputs, size_t count,
	     const struct m4_encode_options *options, struct m4_embedding **embedding);
/* The same for the states of all rows, as m4_part tells them: dim is rows x columns. */
int m4_encode_hidden(m4_client *client, const struct m4_media *const *inputs, size_t count,
		     const struct m4_encode_options *options, struct m4_embedding **hidden);
void m4_embedding_free(struct m4_embedding *embedding);

struct m4_classify_options {
	size_t size;
	const char *part; /* as for m4_embed() */
	/*
	 * Texts to choose from: the input's and the texts' embeddings are compared, by
	 * the scales that the model was published with. NULL: the part's own labels.
	 */
	const char *const *labels;
	size_t label_count;
	const char *text_part; /* that embeds labels; NULL: the one of the same space */
	uint32_t top_n; /* best classes to tell; 0: all */
	/* Its head makes the scores, and labels are NULL; NULL: no adapter. */
	const struct m4_adapter_id *adapter;
};

struct m4_class {
	uint32_t id; /* its place among the labels */
	float score; /* before the softmax */
	float probability;
	uint32_t reserved; /* 0 */
	const char *label; /* "" where the model has none */
};

/* Of each input its classes, most probable first. */
struct m4_classes {
	size_t size;
	size_t count; /* inputs */
	size_t top_n; /* classes of each */
	size_t class_count; /* that there are */
	const struct m4_class *classes; /* count x top_n */
};

/* Errors as of m4_embed(). Free with m4_classes_free(). */
int m4_classify(m4_client *client, const struct m4_media *const *inputs, size_t count,
		const struct m4_classify_options *options, struct m4_classes **classes);
void m4_classes_free(struct m4_classes *classes);

/*
 * Cosines of `query_count` inputs with `item_count` others, each group of one
 * kind, row by row: a pass over the items, whatever the number of queries.
 * Their parts are of one space, else M4_E_INVALID. `cosines` has room for
 * query_count x item_count. Errors as of m4_embed().
 */
int m4_similarity(m4_client *client, const struct m4_media *const *queries, size_t query_count,
		  const struct m4_media *const *items, size_t item_count, float *cosines);

/*
 * Put an input behind the session's tokens: it goes through the encoder of its
 * kind and the model's projector, and takes the place of one token or several.
 * As m4_session_append_text() otherwise; errors as of m4_embed(), too.
 */
int m4_session_append_media(m4_session *session, const struct m4_media *input,
			    const struct m4_encode_options *options);

struct m4_transcribe_options {
	size_t size;
	const char *part; /* a decoder or its encoder; NULL: the first */
	const char *language; /* that is spoken: "de"; NULL: the model hears which */
	uint32_t translate; /* 1: into English */
	uint32_t timestamps; /* 1: segments with the times that the model tells */
	uint32_t beam; /* ways to go on that are kept; 0: 1, at most 5 */
	uint32_t max_tokens; /* of a window; 0: as many as fit */
	const uint32_t *prompt; /* tokens that begin each window instead of what the model says */
	size_t prompt_count;
};

/* A piece of a transcript. An array of these cannot grow by size. */
struct m4_segment {
	uint64_t start_ms; /* from the recording's begin on */
	uint64_t end_ms;
	const char *text; /* "" where the model was packed without its tokeniser */
	const uint32_t *ids; /* without those of times */
	size_t id_count;
	uint64_t reserved[2]; /* 0 */
};

struct m4_transcript {
	size_t size;
	size_t segment_count;
	const struct m4_segment *segments; /* in order */
	const char *text; /* of all of them */
	uint32_t windows; /* that were listened to */
	char language[64 + 8]; /* given or heard; "": the model knows one */
	char part[64 + 8]; /* that wrote it down */
};

/*
 * Write a recording of speech down: sound of any length, window by window (30
 * seconds of Whisper), or features of windows. Without timestamps a window is one
 * segment (a silent one none); with them the next begins where the last whole segment ended.
 * The client's time limit is for each segment, not for all.
 * M4_E_INVALID, M4_E_NOT_FOUND, M4_E_UNSUPPORTED (no part writes speech down; it
 * knows no such language, no times, no translation, or not by which token to begin),
 * M4_E_TOO_LARGE, M4_E_QUOTA, M4_E_BUSY, M4_E_VERSION. Free with
 * m4_transcript_free().
 */
int m4_transcribe(m4_client *client, const struct m4_media *input,
		  const struct m4_transcribe_options *options, struct m4_transcript **transcript);
void m4_transcript_free(struct m4_transcript *transcript);

/* A part of the model. */
struct m4_part {
	char name[64 + 8];
	char kind[16]; /* "backbone", "encoder", "projector", "decoder" */
	char architecture[64 + 8];
	char modality[16]; /* "image", "audio", "motion", "text", "features"; "": no encoder */
	char space[64 + 8]; /* embeddings of one space may be compared; "": of none */
	uint64_t parameters;
	uint32_t embedding; /* floats; 0: it gives none */
	uint32_t scores; /* classes; 0: it gives none */
	uint32_t labels; /* that are known of the classes */
	uint32_t hidden_rows; /* 0: it gives none */
	uint32_t hidden_columns;
	uint32_t feature_rows; /* of M4_MEDIA_FEATURES_F32 */
	uint32_t feature_columns;
	float rate_hz; /* of sound and motion that need no resampling */
	uint64_t reserved[4]; /* 0; an array of these cannot grow by size */
};

/* All parts, in the image's order. Free *parts with m4_free(). */
int m4_parts(m4_client *client, struct m4_part **parts, size_t *count);

/* ---- adapters ------------------------------------------------------------ */

/*
 * An adapter is a file that an app brings: low-rank changes of the model's
 * matrices, a head over what an encoder gives, or both. m4ctl(1) makes them of
 * what training leaves. The weights stay shared: any number of adapters, and none,
 * run beside each other. A KV cache is of the adapter it was computed with; a
 * session whose adapter changes computes its tokens again.
 */
struct m4_adapter_add_options {
	size_t size;
	/*
	 * 1: kept for the caller's uid, whatever connection of his asks for it, until
	 * it is removed or the service ends; 0: it is the connection's, and goes with
	 * it. Either counts for what a uid may have.
	 */
	uint32_t keep;
};

/* What the service found. Texts are never NULL. */
struct m4_adapter_report {
	size_t size;
	struct m4_adapter_id id; /* of the file; its name in every call */
	uint32_t accepted;
	uint32_t kept;
	uint32_t head; /* 1: it has one */
	uint32_t labels; /* of its head */
	uint32_t pairs; /* matrices that it changes */
	uint32_t matched; /* of these, that the image has */
	uint32_t acting; /* of these, that are changed by anything but zero */
	uint32_t rank; /* the largest */
	uint64_t bytes; /* of the file */
	uint64_t device_bytes; /* while it is used */
	const char *reason; /* why it is not accepted; else what it does, one sentence */
	const char *name;
	const char *task;
	const char *prompt_template; /* has "{prompt}" once, or is "" */
	const char *base_name; /* this and the next two are for people */
	const char *architecture;
	const char *source;
	const char *part; /* of the image, that it is for; "": none */
	const struct m4_adapter_id *base; /* source digest it wants; NULL: it names none */
	const struct m4_adapter_id *present; /* source digest of the part held against; NULL: none */
	const struct m4_adapter_id *probed; /* image that it was tried with; NULL: none */
	const struct m4_adapter_id *image; /* image that it was held against */
	const char *const *unmatched; /* "tensor: why", the first 16 */
	size_t unmatched_count;
};

/*
 * Bring an adapter file: the service checks every byte of it, whether it fits the
 * image, and whether it does anything. `fd` is a memfd sealed against shrinking,
 * growing and writing, or a regular file, which the library copies into one; it
 * stays the caller's, at the place where it was. At most 256 MiB.
 * M4_E_ADAPTER: it was refused, and *report tells why, the one output that a
 * failure gives. M4_E_INVALID (no such file), M4_E_TOO_LARGE, M4_E_QUOTA (more than
 * a uid may keep, or a connection have without), M4_E_VERSION (the service is older
 * than this call, as for all of these), without a report. Free with
 * m4_adapter_report_free().
 */
int m4_adapter_add(m4_client *client, int fd, const struct m4_adapter_add_options *options,
		   struct m4_adapter_report **report);
void m4_adapter_report_free(struct m4_adapter_report *report);

struct m4_adapter_entry {
	struct m4_adapter_id id;
	char name[64 + 8];
	char task[64 + 8];
	char part[64 + 8]; /* "": it fits this image no more */
	uint64_t bytes; /* of its file */
	uint64_t unused_s; /* since it was last asked for */
	uint32_t uid; /* who brought it */
	uint32_t rank; /* the largest */
	uint32_t pairs;
	uint32_t head; /* 1: it has one */
	uint32_t published; /* 1: everybody may use it */
	uint32_t sessions; /* that use it now */
	uint32_t resident; /* 1: in the device's memory */
	uint32_t reserved0; /* 0 */
	uint64_t reserved[4]; /* 0; an array of these cannot grow by size */
};

struct m4_adapter_usage {
	size_t size;
	uint64_t used_bytes; /* kept for the caller's uid; for root: for all */
	uint64_t quota_bytes; /* that may be kept for one uid */
	uint32_t truncated; /* 1: there are more than the entries */
};

/*
 * The adapters that the caller may use: those of its uid and the published ones;
 * all for root. `usage` may be NULL. Free *entries with m4_free().
 */
int m4_adapter_list(m4_client *client, struct m4_adapter_entry **entries, size_t *count,
		    struct m4_adapter_usage *usage);

/*
 * Keep it no more. Who uses it goes on. The caller's uid's own, any for root; of
 * others M4_E_NOT_FOUND.
 */
int m4_adapter_remove(m4_client *client, const struct m4_adapter_id *id);

/*
 * 1: everybody may use a kept adapter; 0: who brought it alone. For root and the
 * service's own user, else M4_E_PERMISSION; M4_E_NOT_FOUND.
 */
int m4_adapter_publish(m4_client *client, const struct m4_adapter_id *id, uint32_t published);

/*
 * Remove those that fit no part of the image any more, and those not asked for
 * in `unused_s` seconds (0: all that nobody uses; UINT64_MAX: none by age); the
 * caller's uid's, all for root, and no published one. Either output may be NULL.
 */
int m4_adapter_collect(m4_client *client, uint64_t unused_s, uint32_t *removed, uint64_t *bytes);

/* ---- measuring ----------------------------------------------------------- */

struct m4_bench_options {
	size_t size;
	uint32_t context; /* tokens before those that are decoded; 0: 16 */
	uint32_t tokens; /* to decode; 0: 32, at most 1024 */
	uint32_t prefill; /* tokens of a prompt; 0: 64 */
	/* NULL, or called as it goes on, by the thread that waits. It makes no call of this client.
	 */
	void (*progress)(unsigned percent, void *user);
	void *user;
};

/* A kernel's part of one decode step, all its places in the model together. */
struct m4_bench_kernel {
	char name[32]; /* of its operator, or of the group of them that runs as one */
	char operators[96]; /* what it does: "rms_norm, 3 linear, 2 rope" */
	double time_us; /* each waiting for the one before; 0 without timestamps */
	uint32_t dispatches;
	uint32_t reserved0; /* 0; an array of these cannot grow by size */
	uint64_t reserved[2];
};

/* Times are medians of samples, of one client alone. */
struct m4_bench {
	size_t size;
	uint32_t context;
	uint32_t tokens; /* decoded and timed */
	uint32_t passes; /* tokens of one submission to the device */
	uint32_t prefill;
	double token_us; /* of a decoded token */
	double prefill_us; /* of the whole prompt */
	uint64_t step_bytes; /* weights that a decoded token reads */
	uint64_t copy_bytes; /* read and written in copy_us; 0: there was no memory for it */
	double copy_us;
	uint32_t timestamps; /* 0: the device has none, so kernels have no time_us */
	uint32_t cut_short; /* 1: fewer samples than wanted, as they took too long */
	size_t kernel_count;
	const struct m4_bench_kernel *kernels;
};

/*
 * Measure what the service's device does with its model. Takes the device's
 * time from everybody, in slices between their steps, for some 20 seconds at
 * most: for root and the service's own user, else M4_E_PERMISSION.
 * M4_E_BUSY (another runs; no room in the KV cache), M4_E_TOO_LARGE (over the
 * model's context), M4_E_TIMEOUT, M4_E_VERSION (the service is older than this
 * call). Free with m4_bench_free().
 */
int m4_bench_run(m4_client *client, const struct m4_bench_options *options,
		 struct m4_bench **bench);
void m4_bench_free(struct m4_bench *bench);

#ifdef __cplusplus
} /* extern "C" */

template <typename T>
inline T m4_init_struct() {
	T value = T();
	value.size = sizeof(T);
	return value;
}
#endif

#ifdef __GNUC__
#pragma GCC visibility pop
#pragma GCC diagnostic pop
#endif

#endif /* M4CLIENT_H */
