/*
 * The sink "stdout": a line for each event.
 *
 * An event is confirmed when its line was written, and is on the disk if
 * standard output is a file.  A pipe is written to in pieces that never make
 * the program wait for a slow reader.
 */
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_WAITING	(1024 * 1024)	/* bytes that are taken ahead */
#define MOST_LINES		20000
#define FILE_PIECE		(64 * 1024)

typedef struct Line
{
	int64_t		ticket;
	size_t		end;			/* in the text */
} Line;

typedef struct Stdout
{
	ObxText text;				/* what was taken */
	size_t		written;		/* of it */
	size_t		line_start;		/* where the first line not confirmed begins */
	Line	   *lines;			/* those not confirmed */
	int			nlines;
	bool		is_file;
	bool		connecting;
	int64_t		confirmed;		/* to be told; 0: nothing */
	ObxSinkResult failure;		/* to be told, if it has a text */
} Stdout;

/* Did a former process end within a line?  It must not run into ours. */
static bool
ends_within_line(off_t size)
{
	int			file = open("/proc/self/fd/1", O_RDONLY | O_CLOEXEC);
	char		last = '\n';

	if (file < 0)
		return false;
	if (size == 0 || pread(file, &last, 1, size - 1) != 1)
		last = '\n';
	close(file);
	return last != '\n';
}

static void *
open_stdout(ObxConfig *config, ObxSinkTraits *traits)
{
	Stdout	   *sink = obx_allocate(sizeof(Stdout));
	struct stat state;

	(void) config;
	(void) traits;
	obx_text_init(&sink->text);
	sink->lines = obx_allocate(MOST_LINES * sizeof(Line));
	sink->is_file = fstat(STDOUT_FILENO, &state) == 0 && S_ISREG(state.st_mode);
	if (sink->is_file && ends_within_line(state.st_size))
		obx_text_append_char(&sink->text, '\n');
	sink->line_start = sink->text.length;
	return sink;
}

static void
connect_stdout(void *context)
{
	Stdout	   *sink = context;

	sink->connecting = true;
}

static bool
send_line(void *context, const ObxMessage *message)
{
	Stdout	   *sink = context;

	/* a line that is longer than the limit goes alone */
	if (sink->nlines == MOST_LINES ||
		(sink->nlines > 0 && sink->text.length + message->length >= MOST_WAITING))
		return false;
	obx_text_append(&sink->text, message->body, message->length);
	obx_text_append_char(&sink->text, '\n');
	sink->lines[sink->nlines].ticket = message->ticket;
	sink->lines[sink->nlines++].end = sink->text.length;
	return true;
}

static void
seal_stdout(void *context, const char *progress)
{
	(void) context;
	(void) progress;
}

static int
wait_for_stdout(void *context, struct pollfd *descriptors, int max, int64_t * until)
{
	Stdout	   *sink = context;

	if (sink->connecting || sink->confirmed > 0 || sink->failure.text[0] != '\0')
		*until = 0;
	if (sink->written == sink->text.length || max < 1)
		return 0;
	descriptors[0] = (struct pollfd)
	{
		.fd = STDOUT_FILENO,.events = POLLOUT
	};
	return 1;
}

static void
fail(Stdout *sink, int error)
{
	sink->failure.verdict = error == EPIPE || error == EBADF ? OBX_GONE : OBX_LATER;
	sink->failure.ticket = 0;
	snprintf(sink->failure.text, sizeof(sink->failure.text),
			 "could not write to standard output: %s", strerror(error));
}

/* Writes as much as goes without waiting; false at an error. */
static bool
write_pieces(Stdout *sink)
{
	while (sink->written < sink->text.length)
	{
		struct pollfd ready = {.fd = STDOUT_FILENO,.events = POLLOUT};
		size_t		piece = sink->text.length - sink->written;
		ssize_t		done;

		if (!sink->is_file && (poll(&ready, 1, 0) <= 0 || ready.revents == 0))
			return true;
		/* poll promises that so much can be written at once */
		if (piece > (sink->is_file ? FILE_PIECE : PIPE_BUF))
			piece = sink->is_file ? FILE_PIECE : PIPE_BUF;
		done = write(STDOUT_FILENO, sink->text.data + sink->written, piece);
		if (done < 0 && (errno == EINTR || errno == EAGAIN))
			return true;
		if (done < 0)
		{
			fail(sink, errno);
			return false;
		}
		sink->written += done;
	}
	return !sink->is_file || fdatasync(STDOUT_FILENO) == 0 || errno == EINVAL || errno == EROFS ||
		(fail(sink, errno), false);
}

/* Throws away lines that were written, once they are much, or all. */
static void
shift_text(Stdout *sink)
{
	size_t		gone = sink->line_start < sink->written ? sink->line_start : sink->written;

	if (gone < sink->text.length && gone < MOST_WAITING / 2)
		return;
	sink->text.length -= gone;
	memmove(sink->text.data, sink->text.data + gone, sink->text.length + 1);
	for (int i = 0; i < sink->nlines; i++)
		sink->lines[i].end -= gone;
	sink->written -= gone;
	sink->line_start -= gone;
}

static void
confirm_lines(Stdout *sink)
{
	int			done = 0;

	/* of a file, all or nothing is on the disk */
	if (sink->is_file && sink->written < sink->text.length)
		return;
	while (done < sink->nlines && sink->lines[done].end <= sink->written)
	{
		sink->confirmed = sink->lines[done].ticket;
		sink->line_start = sink->lines[done++].end;
	}
	sink->nlines -= done;
	memmove(sink->lines, sink->lines + done, sink->nlines * sizeof(Line));
	shift_text(sink);
}

static void
work_stdout(void *context)
{
	Stdout	   *sink = context;

	if (sink->written == sink->text.length || sink->failure.text[0] != '\0')
		return;
	if (write_pieces(sink))
		confirm_lines(sink);
}

static bool
tell_result(void *context, ObxSinkResult *result)
{
	Stdout	   *sink = context;

	if (sink->confirmed > 0)
	{
		*result = (ObxSinkResult)
		{
			OBX_CONFIRMED, sink->confirmed, ""
		};
		sink->confirmed = 0;
		return true;
	}
	if (sink->failure.text[0] != '\0')
	{
		*result = sink->failure;
		sink->failure.text[0] = '\0';
		return true;
	}
	if (sink->connecting)
	{
		*result = (ObxSinkResult)
		{
			OBX_CONNECTED, 0, ""
		};
		sink->connecting = false;
		return true;
	}
	return false;
}

/* A line that was begun must be finished, or it would run into the next. */
static void
forget_lines(void *context)
{
	Stdout	   *sink = context;
	size_t		start = sink->line_start;
	size_t		end = sink->nlines > 0 ? sink->written : sink->text.length;
	int			i = 0;

	while (i < sink->nlines && sink->lines[i].end <= sink->written)
		start = sink->lines[i++].end;
	if (i < sink->nlines && sink->written > start)
		end = sink->lines[i].end;
	if (end < sink->line_start)
		end = sink->line_start;
	sink->text.length = end;
	sink->text.data[end] = '\0';
	sink->line_start = end;
	sink->nlines = 0;
	sink->confirmed = 0;
}

static void
close_stdout(void *context)
{
	Stdout	   *sink = context;

	obx_text_free(&sink->text);
	free(sink->lines);
	free(sink);
}

const ObxSinkModule obx_sink = {
	.interface = OBX_SINK_INTERFACE,
	.name = "stdout",
	.open = open_stdout,
	.connect = connect_stdout,
	.send = send_line,
	.seal = seal_stdout,
	.wait_for = wait_for_stdout,
	.work = work_stdout,
	.result = tell_result,
	.forget = forget_lines,
	.close = close_stdout
};
