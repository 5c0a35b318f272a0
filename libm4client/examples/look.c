/* SPDX-License-Identifier: MIT */
/* Say which of the texts describes a picture best.
 *
 *	cc look.c $(pkg-config --cflags --libs m4client_media) -o look
 *	./look cat.jpg "a photo of a cat" "a photo of a dog"
 */
#include <m4client_media.h>
#include <stdio.h>

static int look(m4_client *client, const struct m4_media *picture, const char *const *texts,
		size_t count)
{
	struct m4_classify_options options = M4_INIT(struct m4_classify_options);
	struct m4_error_info info = M4_INIT(struct m4_error_info);
	struct m4_classes *classes;
	size_t i;

	options.labels = texts;
	options.label_count = count;
	if (m4_classify(client, &picture, 1, &options, &classes) != 0) {
		m4_client_error(client, &info);
		fprintf(stderr, "look: %s\n", info.message);
		return 1;
	}
	for (i = 0; i < classes->top_n; i++)
		printf("%5.1f %%  %s\n", 100 * (double)classes->classes[i].probability,
		       classes->classes[i].label);
	m4_classes_free(classes);
	return 0;
}

int main(int argc, char **argv)
{
	struct m4_media picture = M4_INIT(struct m4_media);
	char reason[256];
	m4_client *client;
	int code, status;

	if (argc < 3) {
		fprintf(stderr, "usage: look PICTURE TEXT...\n");
		return 2;
	}
	if (m4_media_load_image(argv[1], &picture, reason, sizeof(reason)) != 0) {
		fprintf(stderr, "look: %s\n", reason);
		return 1;
	}
	code = m4_client_connect(NULL, &client);
	if (code != 0) {
		fprintf(stderr, "look: %s\n", m4_strerror(code));
		m4_media_close(&picture);
		return 1;
	}
	status = look(client, &picture, (const char *const *)argv + 2, (size_t)argc - 2);
	m4_media_close(&picture);
	m4_client_close(client);
	return status;
}
