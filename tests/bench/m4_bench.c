// SPDX-License-Identifier: MIT
/*
 * The bench's own side: an app that linked libm4client and keeps time.
 *
 *	m4_bench SOCKET PID            orders on standard input, one a line
 *	m4_bench --first-token SOCKET ID...
 *
 * Orders; each is answered by one line of JSON:
 *
 *	prompt SESSIONS ID...   new sessions, each with these tokens, up to the
 *	                        first token of each
 *	generate COUNT          back to the prompt, then COUNT tokens a session
 *	                        behind the first; only those COUNT are timed
 *	encode COUNT            features of so many inputs, none of them seen before,
 *	                        through the first encoder that takes such
 *	status COUNT            m4_status() so many times
 *
 * CPU time is that of the threads of process PID, the service. Whatever fails
 * is one line {"error": "..."}, and the end.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <m4client.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	MOST_SESSIONS = 16,
	MOST_IDS = 65536,
	MOST_STATUS = 100000,
	MOST_INPUTS = 64,
	START_MS = 120000,
	ROOM = 64, /* of a session, behind its prompt */
};

struct lane {
	m4_session *session;
	m4_stream *stream;
	uint32_t seen; /* tokens of the stream that runs */
};

struct bench {
	m4_client *client;
	long pid;
	uint32_t lanes;
	struct lane lane[MOST_SESSIONS];
	uint32_t *ids;
	uint32_t id_count;
	uint32_t *first; /* what lane 0 generated */
	uint32_t first_count;
	double *arrivals; /* of lane 0's tokens */
	uint64_t random;
};

/* A text as JSON has it. */
static void print_text(const char *text)
{
	putchar('"');
	for (; *text; ++text) {
		if (*text == '"' || *text == '\\')
			putchar('\\');
		putchar((unsigned char)*text < 0x20 ? ' ' : *text);
	}
	putchar('"');
}

static void die(const char *format, ...)
{
	char text[1024];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	fputs("{\"error\": ", stdout);
	print_text(text);
	puts("}");
	exit(1);
}

static void check(const struct bench *bench, const char *what, int code)
{
	struct m4_error_info info = M4_INIT(struct m4_error_info);

	if (code >= 0)
		return;
	m4_client_error(bench->client, &info);
	die("%s: %s: %s", what, m4_strerror(code), info.message ? info.message : "");
}

static double now_us(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

/* Time on a CPU of all threads that process `pid` has. */
static double cpu_us(long pid)
{
	char path[320];
	double sum = 0;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%ld/task", pid);
	tasks = opendir(path);
	if (!tasks)
		die("%s: %s", path, strerror(errno));
	for (const struct dirent *entry; (entry = readdir(tasks));) {
		unsigned long long on_cpu_ns = 0;
		FILE *file;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%ld/task/%s/schedstat", pid, entry->d_name);
		file = fopen(path, "re");
		if (!file) /* the thread has just ended */
			continue;
		if (fscanf(file, "%llu", &on_cpu_ns) != 1)
			die("%s: no time on CPU", path);
		fclose(file);
		sum += (double)on_cpu_ns / 1e3;
	}
	closedir(tasks);
	return sum;
}

static int by_value(const void *a, const void *b)
{
	const double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

static double median(double *values, size_t count)
{
	if (count == 0)
		return 0;
	qsort(values, count, sizeof(*values), by_value);
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static void close_lanes(struct bench *bench)
{
	for (uint32_t i = 0; i < bench->lanes; ++i)
		m4_session_close(bench->lane[i].session);
	bench->lanes = 0;
}

static void open_lanes(struct bench *bench, uint32_t lanes)
{
	struct m4_session_options options = M4_INIT(struct m4_session_options);

	close_lanes(bench);
	options.capacity = bench->id_count + ROOM;
	for (; bench->lanes < lanes; ++bench->lanes) {
		struct lane *lane = &bench->lane[bench->lanes];

		check(bench, "session", m4_session_create(bench->client, &options, &lane->session));
		check(bench, "append",
		      m4_session_append_tokens(lane->session, bench->ids, bench->id_count));
	}
}

/* What has arrived for a lane; true after its last event. */
static bool drain(struct bench *bench, struct lane *lane)
{
	struct m4_event event = M4_INIT(struct m4_event);
	int code;

	while ((code = m4_stream_next(lane->stream, 0, &event)) == 1) {
		for (size_t i = 0; lane == bench->lane && i < event.id_count; ++i) {
			if (bench->first_count == MOST_IDS)
				die("more tokens than asked for");
			bench->arrivals[bench->first_count] = now_us();
			bench->first[bench->first_count++] = event.ids[i];
		}
		lane->seen += (uint32_t)event.id_count;
	}
	if (code == M4_E_WOULD_BLOCK)
		return false;
	check(bench, "stream", code);
	return true;
}

struct taken {
	double prompt_us; /* to the first token of the last lane */
	double prompt_cpu_us;
	double wall_us; /* from there to the end */
	double cpu_us;
	uint32_t tokens; /* in that time, of all lanes */
};

/* Each lane generates `count` tokens, all at once. */
static struct taken generate(struct bench *bench, uint32_t count)
{
	struct m4_generate_options options = M4_INIT(struct m4_generate_options);
	const double cpu_before = cpu_us(bench->pid), before = now_us();
	struct taken taken = {0};
	uint32_t open = bench->lanes;
	double cpu_first = 0;

	options.max_tokens = count;
	options.ignore_eos = 1;
	bench->first_count = 0;
	for (uint32_t i = 0; i < bench->lanes; ++i) {
		bench->lane[i].seen = 0;
		check(bench, "generate",
		      m4_generate(bench->lane[i].session, &options, &bench->lane[i].stream));
	}
	while (open != 0) {
		struct pollfd wait = {.fd = m4_client_fd(bench->client),
				      .events = m4_client_events(bench->client)};
		uint32_t started = 0, seen = 0;

		for (uint32_t i = 0; i < bench->lanes; ++i) {
			struct lane *lane = &bench->lane[i];

			if (lane->stream && drain(bench, lane)) {
				m4_stream_close(lane->stream);
				lane->stream = NULL;
				--open;
			}
			started += lane->seen != 0;
			seen += lane->seen;
		}
		if (taken.prompt_us == 0 && started == bench->lanes) {
			taken.prompt_us = now_us() - before;
			cpu_first = cpu_us(bench->pid);
			taken.prompt_cpu_us = cpu_first - cpu_before;
			taken.tokens = bench->lanes * count - seen;
		}
		if (open == 0)
			break;
		if (poll(&wait, 1, START_MS) == 0)
			die("nothing came in %d s", START_MS / 1000);
		check(bench, "dispatch", m4_client_dispatch(bench->client));
	}
	taken.wall_us = now_us() - before - taken.prompt_us;
	taken.cpu_us = cpu_us(bench->pid) - cpu_first;
	return taken;
}

static void print_ids(const struct bench *bench)
{
	printf("\"ids\": [");
	for (uint32_t i = 0; i < bench->first_count; ++i)
		printf("%s%" PRIu32, i ? ", " : "", bench->first[i]);
	printf("]}\n");
}

static void order_prompt(struct bench *bench, uint32_t lanes)
{
	struct taken taken;

	open_lanes(bench, lanes);
	taken = generate(bench, 1);
	printf("{\"wall_us\": %.1f, \"cpu_us\": %.1f, \"tokens\": %" PRIu32 ", ", taken.prompt_us,
	       taken.prompt_cpu_us, bench->id_count * bench->lanes);
	print_ids(bench);
}

static void order_generate(struct bench *bench, uint32_t count)
{
	struct taken taken;

	for (uint32_t i = 0; i < bench->lanes; ++i)
		check(bench, "truncate",
		      m4_session_truncate(bench->lane[i].session, bench->id_count));
	taken = generate(bench, count + 1);
	for (uint32_t i = 0; i + 1 < bench->first_count; ++i)
		bench->arrivals[i] = bench->arrivals[i + 1] - bench->arrivals[i];
	printf("{\"wall_us\": %.1f, \"cpu_us\": %.1f, \"tokens\": %" PRIu32 ", \"gap_us\": %.1f, ",
	       taken.wall_us, taken.cpu_us, taken.tokens,
	       median(bench->arrivals, bench->first_count - 1));
	print_ids(bench);
}

/* Uniform in [-1, 1): xorshift (Marsaglia 2003), and its upper bits. */
static void fill(struct bench *bench, float *values, size_t count)
{
	for (size_t i = 0; i < count; ++i) {
		bench->random ^= bench->random << 13;
		bench->random ^= bench->random >> 7;
		bench->random ^= bench->random << 17;
		values[i] = (float)(int32_t)(bench->random >> 32) / 2147483648.0f;
	}
}

/* Floats of an input of the first encoder that takes features, and its name. */
static size_t find_encoder(struct bench *bench, struct m4_part *found)
{
	struct m4_part *parts = NULL;
	size_t count = 0;

	check(bench, "parts", m4_parts(bench->client, &parts, &count));
	memset(found, 0, sizeof(*found));
	for (size_t i = 0; i < count && found->feature_rows == 0; ++i) {
		if (strcmp(parts[i].kind, "encoder") == 0)
			*found = parts[i];
	}
	m4_free(parts);
	if (found->feature_rows == 0)
		die("the image has no encoder of features");
	return (size_t)found->feature_rows * found->feature_columns;
}

static void order_encode(struct bench *bench, uint32_t count)
{
	struct m4_encode_options options = M4_INIT(struct m4_encode_options);
	struct m4_media media[MOST_INPUTS];
	const struct m4_media *inputs[MOST_INPUTS];
	struct m4_embedding *embedding = NULL;
	struct m4_part part;
	const size_t floats = find_encoder(bench, &part);
	float *values = calloc(count, floats * sizeof(*values));
	double before, cpu_before, wall;

	if (!values)
		die("out of memory");
	fill(bench, values, count * floats);
	for (uint32_t i = 0; i < count; ++i) {
		media[i] = (struct m4_media)M4_INIT(struct m4_media);
		media[i].kind = M4_MEDIA_FEATURES_F32;
		media[i].data = values + i * floats;
		media[i].bytes = floats * sizeof(*values);
		media[i].channels = part.feature_columns;
		inputs[i] = &media[i];
	}
	options.part = part.name;
	cpu_before = cpu_us(bench->pid);
	before = now_us();
	check(bench, "embed", m4_embed(bench->client, inputs, count, &options, &embedding));
	wall = now_us() - before;
	printf("{\"wall_us\": %.1f, \"cpu_us\": %.1f, \"tokens\": %" PRIu32 ", \"dim\": %zu}\n",
	       wall, cpu_us(bench->pid) - cpu_before, count, embedding->dim);
	m4_embedding_free(embedding);
	free(values);
}

static void order_status(struct bench *bench, uint32_t count)
{
	struct m4_status status = M4_INIT(struct m4_status);
	double *times = calloc(count, sizeof(*times));
	const double cpu_before = cpu_us(bench->pid);
	double cpu;

	if (!times)
		die("out of memory");
	for (uint32_t i = 0; i < count; ++i) {
		const double before = now_us();

		check(bench, "status", m4_status(bench->client, &status));
		times[i] = now_us() - before;
	}
	cpu = cpu_us(bench->pid) - cpu_before;
	printf("{\"wall_us\": %.2f, \"cpu_us\": %.2f, \"tokens\": 1, \"kv_used_bytes\": %" PRIu64
	       ", \"weight_bytes\": %" PRIu64 ", \"copied_bytes\": %" PRIu64 ", \"device\": ",
	       median(times, count), cpu / count, status.kv_used_bytes, status.weight_bytes,
	       status.copied_bytes);
	print_text(status.device_name);
	fputs(", \"driver\": ", stdout);
	print_text(status.driver_name);
	fputs(", \"driver_info\": ", stdout);
	print_text(status.driver_info);
	puts("}");
	free(times);
}

static uint32_t number(const char *text, uint32_t least, uint32_t most)
{
	char *end = NULL;
	unsigned long value;

	errno = 0;
	value = text ? strtoul(text, &end, 10) : 0;
	if (!text || end == text || *end || errno || value < least || value > most)
		die("'%s' is no number from %" PRIu32 " to %" PRIu32, text ? text : "", least,
		    most);
	return (uint32_t)value;
}

static void obey(struct bench *bench, char *line)
{
	const char *order = strtok(line, " \n");

	if (!order)
		die("an empty order");
	if (strcmp(order, "prompt") == 0) {
		const uint32_t lanes = number(strtok(NULL, " \n"), 1, MOST_SESSIONS);

		bench->id_count = 0;
		for (const char *id; (id = strtok(NULL, " \n"));) {
			if (bench->id_count == MOST_IDS)
				die("more than %d tokens", MOST_IDS);
			bench->ids[bench->id_count++] = number(id, 0, UINT32_MAX);
		}
		if (bench->id_count == 0)
			die("a prompt without tokens");
		order_prompt(bench, lanes);
	} else if (strcmp(order, "generate") == 0) {
		if (bench->lanes == 0)
			die("generate before prompt");
		order_generate(bench, number(strtok(NULL, " \n"), 1, ROOM - 1));
	} else if (strcmp(order, "encode") == 0) {
		order_encode(bench, number(strtok(NULL, " \n"), 1, MOST_INPUTS));
	} else if (strcmp(order, "status") == 0) {
		order_status(bench, number(strtok(NULL, " \n"), 1, MOST_STATUS));
	} else {
		die("no order '%s'", order);
	}
	fflush(stdout);
}

static void *array(size_t size)
{
	void *memory = calloc(MOST_IDS, size);

	if (!memory)
		die("out of memory");
	return memory;
}

static int connect_to(const char *socket, m4_client **client)
{
	struct m4_connect_options options = M4_INIT(struct m4_connect_options);

	options.socket_path = socket;
	options.client_name = "bench";
	return m4_client_connect(&options, client);
}

/* From the moment the service can be asked to its first token; who started it
 * keeps the time.
 */
static void first_token(struct bench *bench, const char *socket)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	const double end = now_us() + START_MS * 1e3;
	int code;

	while ((code = connect_to(socket, &bench->client)) == M4_E_UNAVAILABLE && now_us() < end)
		nanosleep(&pause, NULL);
	check(bench, "connect", code);
	open_lanes(bench, 1);
	bench->pid = (long)getpid(); /* nobody reads it */
	generate(bench, 1);
	printf("{");
	print_ids(bench);
}

int main(int argc, char **argv)
{
	const bool first = argc > 3 && strcmp(argv[1], "--first-token") == 0;
	struct bench bench = {.ids = array(sizeof(uint32_t)),
			      .first = array(sizeof(uint32_t)),
			      .arrivals = array(sizeof(double)),
			      .random = 88172645463325252ULL};
	char *line = NULL;
	size_t room = 0;

	if (!first && argc != 3) {
		fputs("usage: m4_bench SOCKET PID | m4_bench --first-token SOCKET ID...\n", stderr);
		return 2;
	}
	if (first) {
		for (int i = 3; i < argc && bench.id_count < MOST_IDS; ++i)
			bench.ids[bench.id_count++] = number(argv[i], 0, UINT32_MAX);
		first_token(&bench, argv[2]);
	} else {
		bench.pid = (long)number(argv[2], 1, INT32_MAX);
		check(&bench, "connect", connect_to(argv[1], &bench.client));
		while (getline(&line, &room, stdin) > 0)
			obey(&bench, line);
		free(line);
	}
	close_lanes(&bench);
	m4_client_close(bench.client);
	free(bench.ids);
	free(bench.first);
	free(bench.arrivals);
	return 0;
}
