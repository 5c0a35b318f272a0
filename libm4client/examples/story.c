/* SPDX-License-Identifier: MIT */
/* Print a continuation of the first argument as it is generated.
 *
 *	cc story.c $(pkg-config --cflags --libs m4client) -o story
 */
#include <m4client.h>
#include <stdio.h>

static int fail(const m4_client *client, const char *what, int code)
{
	struct m4_error_info info = M4_INIT(struct m4_error_info);

	m4_client_error(client, &info);
	fprintf(stderr, "story: %s: %s: %s\n", what, m4_strerror(code), info.message);
	return 1;
}

static int tell(m4_client *client, m4_session *session)
{
	struct m4_generate_options options = M4_INIT(struct m4_generate_options);
	struct m4_event event = M4_INIT(struct m4_event);
	m4_stream *stream;
	int code;

	options.max_tokens = 100;
	options.temperature = 0.8f;
	code = m4_generate(session, &options, &stream);
	if (code != 0)
		return fail(client, "generate", code);
	while ((code = m4_stream_next(stream, -1, &event)) == 1) {
		fwrite(event.text, 1, event.text_bytes, stdout);
		fflush(stdout);
	}
	putchar('\n');
	m4_stream_close(stream);
	return code < 0 ? fail(client, "stream", code) : 0;
}

int main(int argc, char **argv)
{
	const char *prompt = argc > 1 ? argv[1] : "Once upon a time";
	m4_client *client;
	m4_session *session;
	int code, status;

	code = m4_client_connect(NULL, &client);
	if (code != 0)
		return fail(NULL, "connect", code);
	code = m4_session_create(client, NULL, &session);
	if (code == 0) {
		code = m4_session_append_text(session, prompt, SIZE_MAX, M4_ADD_SPECIAL);
		status = code == 0 ? tell(client, session) : fail(client, "append", code);
		m4_session_close(session);
	} else {
		status = fail(client, "session", code);
	}
	m4_client_close(client);
	return status;
}
